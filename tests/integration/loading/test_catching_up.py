"""After a pause nothing is left out: what was passed over is noted, and the replay waits for the lake."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbox import OutboxWorker
from sluiceway.infra.settings import Settings
from sluiceway.lake.writer import BronzeWriter
from sluiceway.loading import catching_up, jobs
from sluiceway.runtime.processes.worker import replay_handler
from tests.support.loading import NOW, NOW_US, ORDERS, Bench, order, query

DAY_US = 86_400_000_000
SINCE = "SELECT unloaded_since FROM app.pipeline_state"
FOREVER = datetime(9000, 1, 1, tzinfo=UTC)


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Iterator[Bench]:
    found = Bench(database, tmp_path / "spool", source=ORDERS)
    yield found
    found.close()


def set_state(database: Database, state: Any) -> None:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        Catalog().set_state(conn, 1, "orders", state)


def catch_up(database: Database, now: datetime = NOW) -> jobs.Replay:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        pipeline = Catalog().get(conn, 1, "orders")
        return catching_up.request_catch_up(conn, pipeline, requested_by="test", now=now, flush_s=0)


def replay_of(database: Database, asked: jobs.Replay) -> jobs.Replay:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        return jobs.get_replay(conn, 1, asked.id)


def make_due(database: Database) -> None:
    with database.transaction(Role.OWNER, workspace_id=1) as conn:
        conn.execute(sa.text("UPDATE app.outbox SET available_at = now() - interval '1 second'"))


def test_the_oldest_event_passed_over_is_noted(bench: Bench, database: Database) -> None:
    bench.send([order(1)], received_us=NOW_US)
    bench.load()
    assert query(database, SINCE) == [(None,)]
    set_state(database, "paused")
    for days_ago in (3, 5, 1):
        bench.send([order(10 + days_ago)], received_us=NOW_US - days_ago * DAY_US)
        bench.load()
    assert query(database, SINCE) == [(NOW - timedelta(days=5),)]
    set_state(database, "active")
    asked = catch_up(database)
    assert (asked.from_day, asked.to_day) == (date(2026, 11, 15), NOW.date())


def test_it_waits_for_the_lake_of_every_node_and_says_so(bench: Bench, database: Database) -> None:
    bench.load()
    asked = catch_up(database)
    after = NOW + catching_up.EVERYWHERE_AFTER

    def ready() -> bool:
        return catching_up.is_ready(database, 1, asked.id, after, FixedClock(NOW))

    assert not ready()
    waiting = replay_of(database, asked)
    assert waiting.state == "queued" and "on: test" in str(waiting.error)
    catching_up.note_kept(database, "test", after - timedelta(seconds=1))
    assert not ready()
    again = query(database, "SELECT available_at, payload FROM app.outbox WHERE topic = 'replay' ORDER BY id")
    assert len(again) == 3 and again[2][0] == NOW + catching_up.LOOK_AGAIN and again[2][1] == again[0][1]
    catching_up.note_kept(database, "test", after)
    with database.connect(Role.WRITER) as connection:  # a loader lives that has not told of its spool yet
        connection.execute(
            "INSERT INTO app.loaders (id, host, pid, spools, started_at, beat_at, expires_at) VALUES"
            " (gen_random_uuid(), 'h', 1, '{\"other\": \"x\"}', now(), now(), now() + interval '1 day')"
        )
    assert not ready() and "on: other" in str(replay_of(database, asked).error)
    with database.connect(Role.WRITER) as connection:
        connection.execute("DELETE FROM app.loaders")
    assert ready()
    assert replay_of(database, asked).error is None


def test_what_is_passed_over_after_the_request_is_taken_up(bench: Bench, database: Database) -> None:
    bench.send([order(1)], received_us=NOW_US)
    bench.load()
    asked = catch_up(database)
    assert asked.from_day == NOW.date()
    set_state(database, "paused")
    bench.send([order(2)], received_us=NOW_US - 2 * DAY_US)
    bench.load()
    set_state(database, "active")
    catching_up.note_kept(database, "test", None)
    other = catch_up(database)
    assert catching_up.is_ready(database, 1, asked.id, NOW, FixedClock(NOW))
    assert replay_of(database, asked).from_day == date(2026, 11, 18)
    assert query(database, SINCE) == [(NOW - timedelta(days=2),)]  # `other` is still to come
    with database.transaction(Role.OWNER, workspace_id=1) as conn:
        conn.execute(sa.text("UPDATE app.replays SET state = 'done' WHERE id = :id"), {"id": asked.id})
    assert catching_up.is_ready(database, 1, other.id, NOW, FixedClock(NOW))
    assert query(database, SINCE) == [(None,)]


@pytest.mark.parametrize("state", ["paused", "archived"])
def test_a_pipeline_that_is_applied_again_gets_what_it_missed(
    bench: Bench, database: Database, settings: Settings, tmp_path: Path, state: str
) -> None:
    from sluiceway.ingestion.spool import SpoolReader
    from sluiceway.lake.service import Lake
    from sluiceway.transforms.service import split

    now = datetime.now(UTC)
    set_state(database, state)
    bench.send([order(1)], received_us=int(now.timestamp() * 1_000_000) - DAY_US)
    bench.load()
    source = ORDERS + "title: Again\n"
    done = catching_up.apply_pipeline(database, 1, source, None, now=now, flush_s=0)
    assert done.outcome == "updated"
    worker = OutboxWorker(database, "test", {jobs.TOPIC: replay_handler(settings, database)})
    make_due(database)
    assert worker.work(limit=1) == 1  # it waits: the lake has nothing yet
    assert query(database, "SELECT state FROM app.replays") == [("queued",)]
    with SpoolReader(tmp_path / "spool") as reader:
        lake = Lake(settings)
        bronze = BronzeWriter(reader, lake, tmp_path / "spool", "test", split, lambda _: "orders", flush_s=0)
        while bronze.step(force=True):
            pass
    catching_up.note_kept(database, "test", FOREVER)
    make_due(database)
    assert worker.work(limit=1) == 1
    assert query(database, "SELECT state, error FROM app.replays") == [("done", None)]
    assert query(database, "SELECT event_id FROM silver.orders") == [("o-1",)]
    assert catching_up.apply_pipeline(database, 1, source, None, now=now, flush_s=0).outcome == "unchanged"
    assert query(database, "SELECT count(*) FROM app.replays") == [(1,)]
