"""A replayed day equals the original, whatever happened to it in between; dead letters can be tried again."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolReader
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.loading.contracts import ReplayResult, RetryResult
from sluiceway.loading.replay import replay_day
from sluiceway.loading.retry import retry_dead_letters
from sluiceway.quality.contracts import Gate, NoGate
from sluiceway.transforms.service import split
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import (
    NOW,
    NOW_US,
    ORDERS,
    Bench,
    RuleGate,
    check_whole,
    hold_everything,
    order,
    quarantine_negative,
    query,
)

DAY = NOW.date()
DAY_US = 86_400_000_000
GATED = ORDERS + "quality: {suite: orders}\n"
ROWS = (
    "SELECT seq, event_id, event_time, received_at, position, country, amount, items, note"
    " FROM silver.orders ORDER BY seq"
)
SAMPLES = "SELECT series_id, ts, value, seq FROM silver.samples ORDER BY 4, 1"


class Whole(Bench):
    """Spool, loader and lake together."""

    def __init__(self, database: Database, folder: Path, settings: Settings, **options: Any) -> None:
        super().__init__(database, folder, **options)
        self.lake = Lake(settings)
        self.bronze = BronzeWriter(
            SpoolReader(folder), self.lake, folder, "test", split, lambda _: "orders", flush_s=0.01
        )

    def flush(self) -> None:
        while self.bronze.step(force=True):
            pass

    def replay(self, day: date = DAY, gate: Gate | None = None) -> ReplayResult:
        with self.database.transaction(Role.WRITER, workspace_id=1) as connection:
            pipeline = Catalog().get(connection, 1, "orders")
        return replay_day(self.database, self.lake, gate or self.gate, pipeline, day, clock=self.clock)

    def retry(self, *event_ids: str, payloads: dict[str, bytes] | None = None) -> RetryResult:
        found = query(self.database, "SELECT id, event_id FROM quality.dead_letters")
        ids = [id_ for id_, event_id in found if not event_ids or event_id in event_ids]
        mended = {id_: (payloads or {})[event_id] for id_, event_id in found if event_id in (payloads or {})}
        return retry_dead_letters(self.database, self.gate, 1, ids, payloads=mended, clock=self.clock)


@pytest.fixture
def make(database: Database, tmp_path: Path, settings: Settings) -> Iterator[Callable[..., Whole]]:
    made: list[Whole] = []

    def whole(**options: Any) -> Whole:
        made.append(Whole(database, tmp_path / "spool", settings, **options))
        return made[-1]

    yield whole
    for item in made:
        item.close()


def test_replay_equals_the_original(make: Callable[..., Whole], database: Database) -> None:
    bench = make(source=GATED, gate=RuleGate(quarantine_negative))
    for begin in range(0, 60, 20):
        bench.send([order(n, amount=-1.0 if n % 10 == 7 else n / 4) for n in range(begin, begin + 20)])
        bench.send([order(begin), order(begin + 1)])
        bench.send(b"{broken", form=Form.OBJECT)
        bench.load()
    bench.send([order(5), order(100)], received_us=NOW_US + DAY_US)
    bench.load()
    bench.flush()
    rows, samples = query(database, ROWS), query(database, SAMPLES)
    letters = query(database, "SELECT position, code, state FROM quality.dead_letters ORDER BY 1")
    result = bench.replay()
    assert (result.events, result.removed, result.rows, result.duplicates) == (69, 54, 54, 6)
    assert (result.verdict, result.dead_letters) == ("quarantine", 9)
    assert query(database, ROWS) == rows
    assert query(database, SAMPLES) == samples
    assert query(database, "SELECT position, code, state FROM quality.dead_letters ORDER BY 1") == letters
    assert query(database, "SELECT count(*) FROM silver.event_keys") == [(55,)]
    again = bench.replay(DAY + timedelta(days=1))
    assert (again.removed, again.rows, again.duplicates) == (1, 1, 1)
    assert query(database, ROWS) == rows
    bench.send([order(5), order(101)])
    bench.load()
    assert query(database, "SELECT count(*), max(seq) FROM silver.orders") == [(56, 56)]


def test_replay_brings_back_what_was_lost_and_takes_up_a_new_version(
    make: Callable[..., Whole], database: Database
) -> None:
    bench = make()
    bench.send([order(n, paid=n % 2 == 0) for n in range(10)])
    bench.load()
    bench.flush()
    before = query(database, "SELECT seq, event_id, amount FROM silver.orders ORDER BY seq")
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("DELETE FROM silver.orders WHERE seq > 7"))
        connection.execute(sa.text("UPDATE silver.orders SET amount = 0"))
        connection.execute(sa.text("DELETE FROM gold.dirty_buckets"))
    apply_pipeline(database, 1, ORDERS + "  - {name: paid, type: boolean}\n")
    result = bench.replay()
    assert (result.removed, result.rows) == (7, 10)
    after = query(database, "SELECT event_id, amount, paid FROM silver.orders ORDER BY seq")
    assert [(e, a) for e, a, _ in after] == [(e, a) for _, e, a in before]
    assert [paid for *_, paid in after] == [n % 2 == 0 for n in range(10)]
    levels = query(
        database, "SELECT level, count(DISTINCT bucket) FROM gold.dirty_buckets GROUP BY 1 ORDER BY 1"
    )
    assert levels == [("1d", 1), ("1h", 1), ("1m", 10)]


def test_replay_leaves_alone_what_bronze_does_not_have_yet(
    make: Callable[..., Whole], database: Database
) -> None:
    bench = make()
    bench.send([order(1), order(2)])
    bench.load()
    bench.flush()
    bench.send([order(2), order(3)])
    bench.load()
    rows = query(database, ROWS)
    assert bench.replay().removed == 2
    assert query(database, ROWS) == rows
    assert bench.replay(DAY - timedelta(days=3)) == ReplayResult(
        "orders", DAY - timedelta(days=3), 0, 0, 0, 0, 0, 0, "pass", None
    )


def test_replay_that_is_held_changes_nothing(make: Callable[..., Whole], database: Database) -> None:
    bench = make(source=GATED)
    bench.send([order(1), order(2)])
    bench.load()
    bench.flush()
    rows = query(database, ROWS)
    result = bench.replay(gate=RuleGate(hold_everything))
    assert (result.verdict, result.removed, result.batch_id) == ("hold", 0, None)
    assert query(database, ROWS) == rows
    assert query(database, "SELECT origin, failed_batches FROM quality.results") == [("replay", 1)]


def test_replay_ends_dead_letters_that_a_mended_pipeline_can_take(
    make: Callable[..., Whole], database: Database
) -> None:
    bench = make()
    bench.send([order(1), order(2, items="two"), order(3, items="three")])
    bench.load()
    bench.flush()
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text("UPDATE quality.dead_letters SET state = 'discarded' WHERE event_id = 'o-3'")
        )
    apply_pipeline(database, 1, ORDERS.replace("items, type", "items, path: number_of_items, type"))
    result = bench.replay()
    assert (result.removed, result.rows) == (1, 2)
    assert query(database, "SELECT seq, event_id FROM silver.orders ORDER BY 1") == [(1, "o-1"), (2, "o-2")]
    letters = query(database, "SELECT event_id, state FROM quality.dead_letters ORDER BY 1")
    assert letters == [("o-2", "retried"), ("o-3", "discarded")]
    assert query(database, "SELECT last_seq, events FROM app.pipeline_state") == [(2, 2)]


def test_retry_with_corrected_bytes(make: Callable[..., Whole], database: Database) -> None:
    bench = make()
    bench.send([order(1, amount="x"), order(2, amount="y"), order(3)])
    bench.load()
    bench.flush()
    mended = json.dumps(order(1, amount=7.5)).encode()
    assert bench.retry(payloads={"o-1": mended}) == RetryResult(tried=2, loaded=1, duplicates=0, failed=1)
    assert check_whole(database) == 2
    assert query(database, "SELECT amount, position FROM silver.orders WHERE event_id = 'o-1'")[0][0] == 7.5
    states = query(database, "SELECT event_id, state, payload FROM quality.dead_letters ORDER BY 1")
    assert [(e, s) for e, s, _ in states] == [("o-1", "retried"), ("o-2", "open")]
    assert json.loads(bytes(states[0][2]))["amount"] == "x"
    assert query(database, "SELECT dead_letters FROM app.pipeline_state") == [(2,)]
    # What is done with is not tried again, and a replay keeps the correction.
    assert bench.retry("o-1").tried == 0
    rows = query(database, ROWS)
    bench.replay()
    assert query(database, ROWS) == rows
    assert query(database, "SELECT state FROM quality.dead_letters ORDER BY event_id") == [
        ("retried",),
        ("open",),
    ]


def test_retry_lets_held_rows_go_and_keeps_bad_ones(make: Callable[..., Whole], database: Database) -> None:
    gate = RuleGate(hold_everything)
    bench = make(source=GATED, gate=gate)
    bench.send([order(1), order(2, amount=-1.0)])
    bench.load()
    assert bench.retry() == RetryResult(tried=2, loaded=2, duplicates=0, failed=0)
    assert check_whole(database) == 2
    bench.send([order(3), order(4, amount=-1.0)])
    bench.load()
    gate.rule = quarantine_negative
    assert bench.retry("o-3", "o-4") == RetryResult(tried=2, loaded=1, duplicates=0, failed=1)
    letters = query(database, "SELECT event_id, state, expectation FROM quality.dead_letters ORDER BY 1")
    assert letters[-1] == ("o-4", "open", "amount-positive")


def test_retry_of_an_event_that_came_again_meanwhile_is_a_duplicate(
    make: Callable[..., Whole], database: Database
) -> None:
    bench = make()
    bench.send([order(1, amount="x")])
    bench.load()
    bench.send([order(1, amount=3)])
    bench.load()
    mended = json.dumps(order(1, amount=9)).encode()
    assert bench.retry(payloads={"o-1": mended}) == RetryResult(tried=1, loaded=1, duplicates=1, failed=0)
    assert query(database, "SELECT amount FROM silver.orders") == [(3.0,)]


def test_retry_of_items_and_headers(make: Callable[..., Whole], database: Database) -> None:
    source = ORDERS.replace("event: {id: id, time: at}", "source: {split: data}\nevent: {id: id, time: at}")
    bench = make(source=source.replace("name: note,", 'name: note, path: "header:x-note",'))
    bench.send(
        json.dumps({"data": [order(1, items="x")]}).encode(), form=Form.OBJECT, headers={"x-note": "h"}
    )
    bench.send(b"{}", form=Form.OBJECT)
    bench.load()
    mended = {"o-1": json.dumps(order(1)).encode()}
    assert bench.retry("o-1", payloads=mended).loaded == 1
    assert query(database, "SELECT note FROM silver.orders") == [("h",)]
    ((whole,),) = query(database, "SELECT id FROM quality.dead_letters WHERE code = 'split_missing'")
    payload = json.dumps({"data": [order(5), order(6)]}).encode()
    result = retry_dead_letters(database, NoGate(), 1, [whole], payloads={whole: payload}, clock=bench.clock)
    assert (result.loaded, result.failed) == (1, 0)
    assert check_whole(database) == 3


def test_replay_does_not_touch_what_is_older_than_silver_is_kept(
    make: Callable[..., Whole], database: Database
) -> None:
    clock = FixedClock(NOW)
    bench = make(source=ORDERS + "retention: {silver: 30d}\n", clock=clock)
    bench.send([order(1, at="2026-11-01T00:00:00Z"), order(2)])
    bench.load()
    bench.flush()
    clock.at = NOW + timedelta(days=20)
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("DELETE FROM gold.dirty_buckets"))
    result = bench.replay()
    assert (result.removed, result.rows, result.dead_letters) == (1, 1, 0)
    assert check_whole_rows(database) == ["o-1", "o-2"]
    oldest = query(database, "SELECT min(bucket) FROM gold.dirty_buckets WHERE level = '1d'")
    assert oldest == [(datetime(2026, 11, 21, tzinfo=UTC),)]


def check_whole_rows(database: Database) -> list[str]:
    return [row[0] for row in query(database, "SELECT event_id FROM silver.orders ORDER BY seq")]
