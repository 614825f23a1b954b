"""`kill -9` of every process at every step of the way: nothing acknowledged is lost, nothing is doubled.

`FAULT_SEEDS` says how many seeds are run (`make faults`: 1,000); `FAULT_SEED=n` runs the one seed n.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from sluiceway.kit.faults import POINTS
from tests.support.faults.kills import Kill, carry_out, plan, process_of
from tests.support.faults.plugin import Record, seeds
from tests.support.faults.stage import Stage, wait_until
from tests.support.faults.world import World, clear, run_under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def world(stage: Stage, orders_database: Database, orders_url: str, tmp_path: Path) -> Iterator[World]:
    home = tmp_path / "home"
    yield World(stage, orders_database, orders_url, home)
    clear(home)


@pytest.mark.parametrize("seed", seeds(12))
def test_every_acknowledged_event_survives_kills(seed: int, world: World, fault: Record) -> None:
    done: list[str] = []

    def script(world: World) -> None:
        for kill in plan(seed):
            done.append(carry_out(world, kill))

    verdict = run_under_load(world, f"s{seed}", script).verdict
    for line in done:
        process, _, where = line.partition(" ")
        moment = "a point" if where.startswith("at ") else "any moment"
        fault(f"kill -9 of {process} at {moment}", times=1, acknowledged=0)
    fault(
        "kill -9: seeds", times=1, acknowledged=verdict.acknowledged,
        lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.acknowledged > 0
    assert verdict.fine, (
        f"seed {seed} after {done}: {verdict}\n"
        f"Alone: FAULT_SEED={seed} pytest tests/faults/test_kill_everywhere.py"
    )


def test_every_point_is_reached_by_the_ordinary_way(world: World, tmp_path: Path) -> None:
    """A point that nothing reaches any more would make its seeds say nothing."""
    seen = tmp_path / "seen"
    seen.touch()
    for options in world.options.values():
        options["seen"] = str(seen)

    def missing() -> set[str]:
        return set(POINTS) - set(seen.read_text().split())

    def script(world: World) -> None:
        # A restart of the web process, so that the newest segment is recovered.
        carry_out(world, Kill("web", "spool.before_resolve", nth=3))
        with suppress(AssertionError):  # what is missing is told below
            wait_until("every point", lambda: not missing())

    outcome = run_under_load(world, "all", script)
    assert missing() == set()
    assert outcome.verdict.fine, str(outcome.verdict)


def test_a_run_of_seeds_passes_every_point() -> None:
    first = [plan(seed)[0] for seed in range(len(POINTS))]
    assert {kill.point for kill in first} == set(POINTS)
    assert all(kill.process == process_of(kill.point or "") for kill in first)
