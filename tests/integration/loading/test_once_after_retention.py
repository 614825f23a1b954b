"""No event twice, and none's key lost, where keys of the window are gone, few, or of another row."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.spool import SpoolReader
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.loading.replay import replay_day
from sluiceway.loading.retry import retry_dead_letters
from sluiceway.transforms.service import split
from sluiceway.warehouse.retention import apply_retention
from sluiceway.warehouse.schema import EVENT_KEYS, ensure_partitions, partition_of
from tests.support.loading import NOW, NOW_US, ORDERS, Bench, RuleGate, order, quarantine_negative, query

DAY_US = 86_400_000_000
GATED = ORDERS + "quality: {suite: orders}\n"
SHORT = ORDERS + "dedupe: {window: 6h}\n"
KEYS = "SELECT event_id, day FROM silver.event_keys ORDER BY 1, 2"
ROWS = "SELECT event_id, received_at::date FROM silver.orders ORDER BY 1, 2"


def send(bench: Bench, number: int, days_ago: int, amount: float = 5) -> None:
    event = order(number, amount=amount, at="2026-10-30T00:00:00Z")
    bench.send([event], received_us=NOW_US - days_ago * DAY_US)
    bench.load()


def drop_old_keys(database: Database) -> list[str]:
    with database.transaction(Role.WRITER) as connection:
        pipelines = Catalog().all(connection)
    return apply_retention(database, pipelines, NOW)


def retry(bench: Bench, database: Database) -> tuple[int, int]:
    ids = [row[0] for row in query(database, "SELECT id FROM quality.dead_letters")]
    bench.gate.rule = lambda frame: quarantine_negative(frame.assign(amount=1))  # type: ignore[attr-defined]
    done = retry_dead_letters(database, bench.gate, 1, ids, clock=bench.clock)
    return done.loaded, done.duplicates


def test_a_retry_asks_silver_when_the_keys_are_gone(make: Callable[..., Bench], database: Database) -> None:
    bench = make(GATED, RuleGate(quarantine_negative))
    send(bench, 1, 21, amount=-1)
    send(bench, 1, 20)
    assert drop_old_keys(database) and query(database, KEYS) == []
    assert retry(bench, database) == (1, 1)
    assert len(query(database, ROWS)) == 1


def test_an_event_loaded_late_asks_silver(make: Callable[..., Bench], database: Database) -> None:
    bench = make(ORDERS)
    send(bench, 1, 20)
    assert drop_old_keys(database) and query(database, KEYS) == []
    send(bench, 1, 19)
    send(bench, 2, 19)
    assert [event_id for event_id, _ in query(database, ROWS)] == ["o-1", "o-2"]


def test_keys_outlive_the_window_by_what_may_wait(make: Callable[..., Bench], database: Database) -> None:
    # NOW is a Saturday: the week before the last ended 13 days ago, and with it a window of 12 days.
    bench = make(ORDERS + "dedupe: {window: 12d}\n")
    send(bench, 1, 14)
    assert drop_old_keys(database) == []
    send(bench, 1, 2)
    assert len(query(database, ROWS)) == 1


def old_index(database: Database, columns: str, *days_ago: int) -> None:
    """The leaves of these days with the index of an earlier release."""
    for at in [NOW - timedelta(days=days) for days in days_ago]:
        ensure_partitions(database, EVENT_KEYS, [at], "week")
        leaf = partition_of(EVENT_KEYS, at, "week").name
        with database.connect(Role.OWNER) as connection:
            connection.execute(f"DROP INDEX silver.{leaf}_pipeline_id_day_slot_event_id_idx")
            connection.execute(f"CREATE UNIQUE INDEX ON silver.{leaf} ({columns})")


@pytest.mark.parametrize("columns", ["pipeline_id, event_id", "pipeline_id, day, event_id"])
def test_a_short_window_over_a_leaf_with_an_id_once_a_week_or_day(
    make: Callable[..., Bench], database: Database, columns: str
) -> None:
    old_index(database, columns, 4)
    bench = make(GATED + "dedupe: {window: 1h}\n", RuleGate(quarantine_negative))
    send(bench, 1, 4, amount=-1)
    send(bench, 1, 1)
    assert retry(bench, database) == (1, 1)
    assert len(query(database, ROWS)) == 1


def replay(bench: Bench, database: Database, settings: Settings, folder: Path, day: date) -> None:
    lake = Lake(settings)
    with SpoolReader(folder) as reader:
        bronze = BronzeWriter(reader, lake, folder, "test", split, lambda _: "orders", flush_s=0.01)
        while bronze.step(force=True):
            pass
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "orders")
    replay_day(database, lake, bench.gate, pipeline, day, clock=bench.clock)


@pytest.mark.parametrize("first", [7, 6, 4])
def test_a_replay_leaves_the_keys_of_rows_that_it_does_not_replace(
    make: Callable[..., Bench], database: Database, settings: Settings, tmp_path: Path, first: int
) -> None:
    bench = make(SHORT)
    for days_ago in (first, first - 3):
        send(bench, 1, days_ago)
    rows, keys = query(database, ROWS), query(database, KEYS)
    assert len(rows) == len(keys) == (1 if first == 4 else 2)
    for day in sorted({row[1] for row in rows}):
        replay(bench, database, settings, tmp_path / "spool", day)
        assert (query(database, ROWS), query(database, KEYS)) == (rows, keys)
    send(bench, 1, first - 3)
    assert query(database, ROWS) == rows


@pytest.mark.parametrize("columns", ["pipeline_id, event_id", "pipeline_id, day, event_id"])
def test_a_replay_of_a_day_whose_key_is_another_rows(
    make: Callable[..., Bench], database: Database, settings: Settings, tmp_path: Path, columns: str
) -> None:
    old_index(database, columns, 4)
    bench = make(SHORT)
    send(bench, 1, 4)
    send(bench, 2, 1)
    with database.connect(Role.OWNER) as connection:  # as an earlier release's replay left it
        connection.execute("UPDATE silver.orders SET event_id = 'o-1'")
        connection.execute("DELETE FROM silver.event_keys WHERE event_id = 'o-1'")
        connection.execute("UPDATE silver.event_keys SET event_id = 'o-1'")
    rows, keys = query(database, ROWS), query(database, KEYS)
    replay(bench, database, settings, tmp_path / "spool", (NOW - timedelta(days=4)).date())
    assert (query(database, ROWS), query(database, KEYS)) == (rows, keys)


def test_an_id_is_known_whatever_the_hour_it_came_in(make: Callable[..., Bench], database: Database) -> None:
    bench = make(SHORT)
    ensure_partitions(database, EVENT_KEYS, [NOW], "week")
    with database.connect(Role.OWNER) as connection:
        for hour in range(24):
            for half, at in enumerate((f"{hour:02d}:00:00", f"{hour:02d}:59:59.999999")):
                connection.execute(
                    "INSERT INTO silver.event_keys (workspace_id, pipeline_id, event_id, seen_at)"
                    " SELECT 1, id, %s, %s FROM app.pipelines",
                    (f"o-{2 * hour + half}", f"{NOW.date()} {at}+00"),
                )
    assert query(database, "SELECT slot, count(*) FROM silver.event_keys GROUP BY 1 ORDER BY 1") == [
        (slot, 6) for slot in range(8)
    ]
    for number in range(49):
        send(bench, number, 0)
    assert [event_id for event_id, _ in query(database, ROWS)] == ["o-48"]
