"""A damaged segment on the whole way: skipped, counted, told in words; everything else arrives."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from sluiceway.ingestion.contracts import Position, SpoolRecord
from sluiceway.ingestion.spool import SpoolReader, segments
from tests.support.faults.clients import Ledger, Sender
from tests.support.faults.plugin import LONG, Record
from tests.support.faults.stage import Stage, wait_until
from tests.support.faults.world import PROCESSES, World, chance_of, clear
from tests.support.loading import check_whole, query

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def world(stage: Stage, orders_database: Database, orders_url: str, tmp_path: Path) -> Iterator[World]:
    home = tmp_path / "home"
    found = World(stage, orders_database, orders_url, home)
    yield found
    found.stop()
    clear(home)


def waiting_records(world: World) -> list[SpoolRecord]:
    """What the loader has not committed."""
    found = query(world.database, 'SELECT segment, "offset" FROM app.spool_positions')
    start = Position(*found[0]) if found else Position(0, 0)
    with SpoolReader(world.settings.spool_dir) as reader:
        return reader.read(start, 1 << 30)


def ids_of(record: SpoolRecord) -> list[str]:
    body = record.body.strip()
    events = json.loads(body) if body.startswith(b"[") else [json.loads(x) for x in body.splitlines()]
    return [event["id"] for event in events]


def flip_bit(world: World, record: SpoolRecord, chance: random.Random) -> None:
    path = segments.path_of(world.settings.spool_dir, record.position.segment)
    data = bytearray(path.read_bytes())
    at = chance.randrange(record.position.offset, record.end.offset)
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def tear(world: World, record: SpoolRecord, chance: random.Random) -> None:
    """Half of a record behind the newest one, as a write that never came to its end leaves it."""
    folder = world.settings.spool_dir
    source = segments.path_of(folder, record.position.segment).read_bytes()
    whole = source[record.position.offset : record.end.offset]
    newest = segments.path_of(folder, segments.numbers(folder)[-1])
    with newest.open("ab") as file:
        file.write(whole[: chance.randrange(1, len(whole))])


def send(world: World, name: str, count: int) -> Ledger:
    """Until `count` ids are acknowledged."""
    sender = Sender(world.port, world.key, name, again=0.0, sizes=(1, 2, 5))
    sender.start()
    try:
        wait_until("events", lambda: sender.error is not None or len(sender.ledger.acknowledged) >= count)
        return sender.finish()
    finally:
        sender.give_up()


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_damage_is_skipped_counted_and_told(seed: int, world: World, fault: Record) -> None:
    chance = chance_of("damage", seed)
    for role in PROCESSES:
        world.start(role)
    world.get("/healthz")
    ledger = send(world, f"before{seed}", 40)
    wait_until("loading", lambda: world.check_all() and world.loaded() >= len(ledger.acknowledged))
    world.children["loader"].kill()
    ledger.absorb(send(world, f"meanwhile{seed}", 60))
    world.children["web"].kill()
    waiting = waiting_records(world)
    damaged = chance.choice(waiting[1:-1])
    flip_bit(world, damaged, chance)
    tear(world, chance.choice(waiting), chance)
    for role in ("web", "loader"):
        world.start(role)
    ledger.absorb(send(world, f"after{seed}", 30))
    lost = set(ids_of(damaged))
    wanted = set(ledger.acknowledged) - lost
    wait_until("the others", lambda: world.check_all() and world.loaded() >= len(wanted))
    found = {row[0] for row in query(world.database, "SELECT event_id FROM silver.orders")}
    assert found == wanted, "exactly the damaged record is missing"
    check_whole(world.database)
    name = segments.path_of(world.settings.spool_dir, damaged.position.segment).name
    assert f"{name} holds" in world.children["loader"].log.read_text()
    assert "of an unfinished record off" in world.children["web"].log.read_text()
    wait_until("the count", lambda: counted(world) >= 1, pause_s=0.2)
    wait_until("the words", lambda: "unreadable stretch" in world.get("/v1/health/stages").text, pause_s=0.2)
    fault(
        "torn tail and flipped bit: all other records", times=2, acknowledged=len(wanted),
        lost=len(wanted - found), doubled=0,
    )  # fmt: skip


def counted(world: World) -> float:
    """The counter as Prometheus would read it."""
    values = [
        float(line.rsplit(" ", 1)[1])
        for line in world.get("/metrics").text.splitlines()
        if line.startswith("sluiceway_corrupt_records_total")
    ]
    return sum(values)
