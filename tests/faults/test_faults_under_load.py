"""Disks that fill up, clocks that step, poison, duplicates, senders that hang: while the platform works.

Short by default; `FAULT_LONG=1` (`make faults`) has the lake away for 60 seconds and runs more seeds.
"""

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.infra.database import Database
from sluiceway.ingestion.spool import segments
from tests.support.faults.clients import POISON, order_event
from tests.support.faults.plugin import LONG, Record
from tests.support.faults.stage import Stage, wait_until
from tests.support.faults.world import Outcome, World, chance_of, clear, run_under_load
from tests.support.loading import query

STEP_S = 600

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def world(stage: Stage, orders_database: Database, orders_url: str, tmp_path: Path) -> Iterator[World]:
    home = tmp_path / "home"
    yield World(stage, orders_database, orders_url, home)
    clear(home)


def report(fault: Record, name: str, times: int, outcome: Outcome) -> None:
    verdict = outcome.verdict
    fault(
        name, times=times, acknowledged=verdict.acknowledged,
        lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.fine, str(verdict)


def test_the_disk_below_the_spool_is_full_for_a_while(world: World, tmp_path: Path, fault: Record) -> None:
    """Half of a write fits, then the disk is full: refused with 503 and Retry-After, then taken again."""
    flag = tmp_path / "full"
    world.options["web"]["spool_full"] = str(flag)
    times = 10 if LONG else 2

    def script(world: World) -> None:
        for _ in range(times):
            world.wait_for_more(40)
            before = world.broken()
            flag.touch()
            wait_until("refusals", lambda before=before: world.check_all() and world.broken() > before + 3)
            flag.unlink()
        world.wait_for_more(40)

    outcome = run_under_load(world, "full", script)
    assert outcome.ledger.refused > 0
    report(fault, "disk below the spool full and back", times, outcome)


def test_the_lake_cannot_be_written_for_a_while(world: World, tmp_path: Path, fault: Record) -> None:
    """The lake's disk is full: silver and acknowledging go on, bronze follows, no half object is seen."""
    flag = tmp_path / "full"
    world.options["loader"]["lake_full"] = str(flag)
    away_s = 60.0 if LONG else 0.0

    def script(world: World) -> None:
        world.wait_for_more(40)
        flag.touch()
        begun = time.monotonic()
        log = world.children["loader"].log
        wait_until("a failed write", lambda: "bronze cannot be written" in log.read_text())
        world.wait_for_more(40)
        wait_until("the time", lambda: world.check_all() and time.monotonic() - begun > away_s, pause_s=0.2)
        flag.unlink()

    outcome = run_under_load(world, "lakefull", script)
    report(fault, f"lake not writable{' for 60 s' if LONG else ''}", 1, outcome)


@pytest.mark.parametrize("seed", range(6 if LONG else 1))
def test_clocks_step_ten_minutes_either_way(seed: int, world: World, tmp_path: Path, fault: Record) -> None:
    """Each process's wall clock by itself, forth and back, with restarts in between."""
    chance = chance_of("clock", seed)
    clocks = {role: tmp_path / f"clock-{role}" for role in world.options}
    for role, path in clocks.items():
        path.write_text("0")
        world.options[role]["clock"] = str(path)
    steps = 6
    numbers: list[int] = []

    def script(world: World) -> None:
        for _ in range(steps):
            world.wait_for_more(30)
            role = chance.choice(["web", "web", "loader", "worker"])
            clocks[role].write_text(str(chance.choice([-STEP_S, 0, STEP_S])))
            if chance.random() < 0.4:
                world.restart(role)
            numbers.extend(segments.numbers(world.settings.spool_dir)[-1:])
        world.wait_for_more(30)

    outcome = run_under_load(world, f"clock{seed}", script)
    assert numbers == sorted(numbers), "segments only grow"
    report(fault, "clock stepped ten minutes", steps, outcome)


def poisonous(event_id: str, chance: random.Random) -> dict[str, Any]:
    """One event in five cannot be loaded, each for another reason; its neighbours must not notice."""
    event = order_event(event_id, chance)
    if chance.random() > 0.2:
        return event
    event["id"] = POISON + event_id
    kind = chance.randrange(7)
    if kind == 0:
        event["amount"] = "a lot"
    elif kind == 1:
        event["items"] = 10**30
    elif kind == 2:
        event["at"] = "the day after tomorrow"
    elif kind == 3:
        del event["at"]
    elif kind == 4:
        event["items"] = 2.5
    elif kind == 5:
        event["country"] = "C\0H"
    else:
        event["at"] = "2199-01-01T00:00:00Z"
    return event


def test_poison_among_good_events(world: World, fault: Record) -> None:
    """Good ones load, each bad one is one dead letter, nothing is held up."""

    def script(world: World) -> None:
        world.get("/healthz")
        for sender in world.senders:
            assert sender.is_alive()
        world.wait_for_more(300 if LONG else 150)

    outcome = run_under_load(
        world, "mixed", script, make=poisonous, dead=lambda ledger: ledger.poisonous,
        sender_options={"gives_up": 0.0, "again": 0.0},
    )  # fmt: skip
    assert outcome.ledger.poisonous > 0
    report(fault, "poison among good events", outcome.ledger.poisonous, outcome)


def test_what_is_sent_again_and_again_is_there_once(world: World, fault: Record) -> None:
    """Two senders with the same ids at the same time, each sending nearly everything again and shuffled."""

    def script(world: World) -> None:
        world.wait_for_more(200)

    outcome = run_under_load(
        world, "again", script, names=("twin", "twin"), sender_options={"again": 0.9, "plenty": 400}
    )
    times = sum(count - 1 for count in outcome.ledger.acknowledged.values())
    assert times > 0
    ((duplicates,),) = query(world.database, "SELECT duplicates FROM app.pipeline_state")
    assert duplicates >= times
    report(fault, "event delivered again or in another order", times, outcome)


def test_senders_that_hang_in_the_middle_of_a_body(world: World, fault: Record) -> None:
    """They hold nobody up, and nothing of what they began is kept."""
    hanging: list[socket.socket] = []
    count = 50 if LONG else 10

    def script(world: World) -> None:
        world.get("/healthz")
        head = (
            f"POST /v1/pipelines/orders/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.key}\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n"
        ).encode()
        for number in range(count):
            hanging.append(socket.create_connection(("127.0.0.1", world.port)))
            hanging[-1].sendall(head + b'{"id":"half-%d"}\n' % number)
        world.wait_for_more(100)
        for begun in hanging[::2]:
            begun.close()
        world.wait_for_more(50)

    try:
        outcome = run_under_load(world, "hang", script)
    finally:
        for begun in hanging:
            begun.close()
    report(fault, "sender hanging in the middle of a body", count, outcome)
