"""`kill -9` of every process at every step of the way: nothing acknowledged is lost, nothing is doubled.

`FAULT_SEEDS` says how many seeds are run (`make faults`: 1,000); `FAULT_SEED=n` runs the one seed n.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from sluiceway.kit.faults import POINTS
from tests.support.faults.kills import Kill, World, clear, plan, process_of, run_seed
from tests.support.faults.plugin import Record
from tests.support.faults.stage import Stage

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SEEDS = (
    [int(os.environ["FAULT_SEED"])]
    if "FAULT_SEED" in os.environ
    else list(range(int(os.environ.get("FAULT_SEEDS", "8"))))
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "home"
    yield found
    clear(found)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_acknowledged_event_survives_kills(
    seed: int, stage: Stage, orders_database: Database, orders_url: str, home: Path, fault: Record
) -> None:
    outcome = run_seed(seed, stage, orders_database, orders_url, home)
    verdict = outcome.verdict
    for line in outcome.kills:
        process, _, where = line.partition(" ")
        moment = "at a point" if where.startswith("at ") else "at a moment"
        fault(f"kill -9 of {process} {moment}", times=1, acknowledged=0)
    fault(
        "kill -9: seeds", times=1, acknowledged=verdict.acknowledged,
        lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.acknowledged > 0
    assert verdict.fine, (
        f"seed {seed} after {outcome.kills}: {verdict}\n"
        f"Alone: FAULT_SEED={seed} pytest tests/faults/test_kill_everywhere.py"
    )


def test_every_point_is_reached_by_the_ordinary_way(
    stage: Stage, orders_database: Database, orders_url: str, home: Path, tmp_path: Path
) -> None:
    """A point that nothing reaches any more would make its seeds say nothing."""
    seen = tmp_path / "seen"
    seen.touch()

    def options(world: World) -> None:
        world.options["seen"] = str(seen)

    # A restart of the web process, so that the newest segment is recovered.
    kills = [Kill("web", "spool.before_resolve", nth=3)]
    outcome = run_seed(
        0, stage, orders_database, orders_url, home, kills=kills, before_start=options,
        until=lambda: set(POINTS) <= set(seen.read_text().split()),
    )  # fmt: skip
    assert outcome.verdict.fine, str(outcome.verdict)
    assert set(seen.read_text().split()) == set(POINTS)


def test_a_run_of_seeds_passes_every_point() -> None:
    first = [plan(seed)[0] for seed in range(len(POINTS))]
    assert {kill.point for kill in first} == set(POINTS)
    assert all(kill.process == process_of(kill.point or "") for kill in first)
