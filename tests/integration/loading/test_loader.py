"""The loader against a real spool and a real PostgreSQL."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Form
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

DAY_US = 86_400_000_000
GATED = ORDERS + "quality: {suite: orders}\n"


def test_events_become_rows_samples_series_and_dirty_buckets(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make()
    bench.send([order(n) for n in range(100)])
    bench.send(json.dumps([order(n) for n in range(100, 110)]).encode(), form=Form.ARRAY)
    bench.send(json.dumps(order(110), indent=1).encode(), form=Form.OBJECT)
    bench.load()
    assert check_whole(database) == 111
    (row,) = query(database, "SELECT * FROM silver.orders WHERE event_id = 'o-5'")
    workspace, seq, event_id, at, received, batch, position, country, amount, items, note = row
    assert (workspace, seq, event_id, batch) == (1, 6, "o-5", 1)
    assert (at, received) == (datetime(2026, 11, 21, 0, 5, tzinfo=UTC), NOW)
    assert position.startswith("test/")
    assert position.endswith("/5")
    assert (country, amount, items, note) == (None, 1.25, 5, 'with "quotes", commas\nand lines')
    assert query(database, "SELECT count(*), count(DISTINCT dimensions) FROM silver.series") == [(6, 3)]
    found = query(
        database,
        "SELECT value, ts, x.seq FROM silver.samples x JOIN silver.series USING (series_id)"
        " WHERE metric = 'amount' AND dimensions = '{\"country\": \"DE\"}' ORDER BY ts LIMIT 2",
    )
    assert found == [
        (0.25, datetime(2026, 11, 21, 0, 1, tzinfo=UTC), 2),
        (1.0, datetime(2026, 11, 21, 0, 4, tzinfo=UTC), 5),
    ]
    levels = query(
        database, "SELECT level, count(DISTINCT bucket) FROM gold.dirty_buckets GROUP BY 1 ORDER BY 1"
    )
    assert levels == [("1d", 1), ("1h", 2), ("1m", 111)]
    assert query(database, "SELECT count(*) FROM silver.event_keys") == [(111,)]
    (batch_row,) = query(
        database, "SELECT events, rows, samples, origin, verdict, first_seq, last_seq FROM silver.batches"
    )
    assert batch_row == (111, 111, 222, "live", "pass", 1, 111)


def test_duplicates_count_and_are_no_error(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    bench.send([order(1), order(1, amount=99.0), order(2)])
    bench.load()
    bench.send([order(2), order(3)])
    bench.load()
    assert check_whole(database) == 3
    assert query(database, "SELECT amount FROM silver.orders WHERE event_id = 'o-1'") == [(0.25,)]
    assert query(database, "SELECT duplicates, dead_letters FROM app.pipeline_state") == [(2, 0)]


def test_duplicates_are_found_in_a_large_batch_too(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    for numbers in (range(100, 400), range(250, 600), range(50, 2_500), range(5_000, 5_200)):
        bench.send([order(n) for n in numbers])
        bench.load()
    assert check_whole(database) == 2_450 + 200
    assert query(database, "SELECT duplicates FROM app.pipeline_state") == [(150 + 500,)]


def test_an_id_may_come_again_after_the_window(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    bench.send([order(1)], received_us=NOW_US)
    bench.send([order(1)], received_us=NOW_US + 6 * DAY_US)
    bench.send([order(1)], received_us=NOW_US + 30 * DAY_US)
    for _ in range(3):
        bench.load()
    rows = query(database, "SELECT received_at FROM silver.orders ORDER BY seq")
    # One read is one batch: within it an id counts once.
    assert rows == [(NOW,)]
    bench.send([order(1)], received_us=NOW_US + 30 * DAY_US)
    bench.load()
    assert len(query(database, "SELECT 1 FROM silver.orders")) == 2


def test_bad_events_are_dead_letters_and_the_rest_loads(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make(source=ORDERS + "retention: {silver: 30d}\n")
    bodies = [
        (b"{broken", "parse", "malformed_json"),
        (b'{"id":"\xff\xfe"}', "parse", "invalid_utf8"),
        (b"[" * 100_000, "parse", "too_deep"),
        (b"42", "parse", "not_an_object"),
        (b'{"id":"big","pad":"' + b"x" * 1_100_000 + b'"}', "parse", "event_too_large"),
        (json.dumps({"at": "2026-11-21"}).encode(), "map", "missing_identity"),
        (json.dumps({"id": "x"}).encode(), "map", "missing_time"),
        (json.dumps(order(900, at="2100-01-01")).encode(), "map", "time_out_of_range"),
        (json.dumps(order(901, amount="many")).encode(), "map", "wrong_type"),
        (json.dumps(order(902, note="nul \0 inside")).encode(), "map", "nul_character"),
        (json.dumps(order(903, items=2**70)).encode(), "map", "out_of_range"),
        (b'{"id":"o-904","at":"2026-11-21","amount":1e999}', "map", "not_finite"),
        (json.dumps(order(905, at="2026-01-01")).encode(), "retention", "too_old"),
    ]
    for number, (body, _, _) in enumerate(bodies):
        bench.send([order(number)])
        bench.send(body, form=Form.OBJECT)
    bench.send(b'{"id":"keys",%s}' % b",".join(b'"k%d":%d' % (n, n) for n in range(60_000)), form=Form.OBJECT)
    bench.load()
    assert check_whole(database) == len(bodies)
    letters = query(
        database,
        "SELECT step, code, payload, reason, state FROM quality.dead_letters"
        " ORDER BY split_part(position, '/', 2)::bigint, split_part(position, '/', 3)::bigint",
    )
    assert [(step, code) for step, code, *_ in letters] == [b[1:] for b in bodies] + [("map", "missing_time")]
    assert [bytes(payload) for _, _, payload, _, _ in letters][:-1] == [body for body, _, _ in bodies]
    assert {state for *_, state in letters} == {"open"}
    reasons = {code: reason for _, code, _, reason, _ in letters}
    assert reasons["wrong_type"] == "Field 'amount' should be a number, but is the text 'many'."
    assert query(database, "SELECT dead_letters FROM app.pipeline_state") == [(len(bodies) + 1,)]


def test_the_gate_quarantines_rows(make: Callable[..., Bench], database: Database) -> None:
    bench = make(source=GATED, gate=RuleGate(quarantine_negative))
    bench.send([order(1), order(2, amount=-5.0), order(3)])
    bench.load()
    assert check_whole(database) == 2
    letters = query(database, "SELECT event_id, step, code, expectation, state FROM quality.dead_letters")
    assert letters == [("o-2", "gate", "quarantined", "amount-positive", "open")]
    bench.send([order(4)])
    bench.load()
    results = query(
        database,
        "SELECT suite, expectation, action, origin,"
        " sum(batches), sum(failed_batches), sum(evaluated), sum(unexpected)"
        " FROM quality.results GROUP BY 1, 2, 3, 4",
    )
    assert results == [("orders", "amount-positive", "quarantine", "live", 2, 1, 4, 1)]
    # What was quarantined may come again, mended, under the same id.
    bench.send([order(2)])
    bench.load()
    assert check_whole(database) == 4


def test_the_gate_holds_a_batch(make: Callable[..., Bench], database: Database) -> None:
    bench = make(source=GATED, gate=RuleGate(hold_everything))
    bench.send([order(1), order(2)])
    bench.load()
    assert check_whole(database) == 0
    held = query(database, "SELECT event_id, state, code, expectation FROM quality.dead_letters ORDER BY 1")
    assert held == [("o-1", "held", "held", "enough-rows"), ("o-2", "held", "held", "enough-rows")]
    assert query(database, "SELECT verdict, rows FROM silver.batches") == [("hold", 0)]
    assert query(database, "SELECT topic FROM app.outbox WHERE topic LIKE 'gate%'") == [("gate.held",)]


def test_a_restart_loses_and_doubles_nothing(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    for number in range(20):
        bench.send([order(number)])
        if number % 3 == 0:
            bench.load()
        if number % 4 == 0:
            bench.restart()
    bench.restart()
    bench.load()
    assert check_whole(database) == 20
    assert query(database, "SELECT sum(duplicates) FROM silver.batches") == [(0,)]
    # Even where the position of the whole spool is lost, each pipeline's cursor knows.
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("DELETE FROM app.spool_positions"))
    bench.restart()
    bench.load()
    assert check_whole(database) == 20
    assert query(database, "SELECT sum(duplicates) FROM silver.batches") == [(0,)]


def test_two_loaders_on_one_spool_do_each_event_once(make: Callable[..., Bench], database: Database) -> None:
    first = make()
    first.send([order(1)])
    first.load()
    second = Bench.__new__(Bench)
    second.__dict__.update(first.__dict__)
    second.loader = second._make_loader()
    try:
        first.send([order(2)])
        second.loader.step()
        first.send([order(3)])
        first.load()
        second.load()
    finally:
        second.loader.close()
        second.reader.close()
    assert check_whole(database) == 3
    assert query(database, "SELECT duplicates FROM app.pipeline_state") == [(0,)]


def test_several_pipelines_and_unknown_ones_in_one_read(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make()
    apply_pipeline(database, 1, ORDERS.replace("orders", "returns"))
    apply_pipeline(database, 1, ORDERS.replace("orders", "gone"))
    with database.transaction(Role.APP, workspace_id=1) as connection:
        Catalog().set_state(connection, 1, "gone", "archived")
    for number in range(6):
        bench.send([order(number)], pipeline_id=[1, 2, 3, 99, 2, 1][number])
    bench.load()
    assert (check_whole(database), check_whole(database, "returns", 2)) == (2, 2)
    assert query(database, "SELECT count(*) FROM silver.gone") == [(0,)]
    assert bench.loader.stats.unknown == 2
    position = bench.loader.position
    bench.send([order(9)], pipeline_id=99)
    bench.load()
    bench.restart()
    bench.load()
    assert position is not None
    assert bench.loader.position is not None
    assert bench.loader.position > position


def test_a_new_version_is_taken_up_at_once(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    bench.send([order(1, paid=True)])
    bench.load()
    apply_pipeline(database, 1, ORDERS + "  - {name: paid, type: boolean}\n")
    bench.send([order(2, paid=True)])
    bench.load()
    assert query(database, "SELECT paid FROM silver.orders ORDER BY seq") == [(None,), (True,)]
    assert query(database, "SELECT pipeline_version FROM silver.batches ORDER BY id") == [(1,), (2,)]


def test_what_the_database_refuses_is_a_dead_letter(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("CREATE DOMAIN small AS float8 CHECK (value < 1000)"))
        connection.execute(sa.text("ALTER TABLE silver.orders ALTER amount TYPE small"))
    # A domain's check is an IntegrityError; a text too long for its column a DataError.
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("ALTER TABLE silver.orders ALTER amount TYPE float8"))
        connection.execute(sa.text("ALTER TABLE silver.orders ALTER note TYPE varchar(40)"))
    bench.send([order(n, note="x" * 41 if n in (3, 17) else "ok") for n in range(40)])
    bench.load()
    assert check_whole(database) == 38
    letters = query(database, "SELECT event_id, step, code FROM quality.dead_letters ORDER BY 1")
    assert letters == [("o-17", "map", "refused_by_database"), ("o-3", "map", "refused_by_database")]


def test_a_gate_that_raises_does_not_block_the_pipeline(
    make: Callable[..., Bench], database: Database
) -> None:
    def broken(frame: Any) -> Any:
        raise ZeroDivisionError("a fault in the engine")

    gate = RuleGate(broken)
    bench = make(source=GATED, gate=gate)
    bench.send([order(1)])
    bench.load()
    assert query(database, "SELECT code, state FROM quality.dead_letters") == [("load_failed", "open")]
    gate.rule = quarantine_negative
    bench.send([order(2)])
    bench.load()
    assert check_whole(database) == 1


def test_events_over_months_and_a_lost_leaf(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    bench.send([order(n, at=f"2026-{n:02d}-15T00:00:00Z") for n in range(1, 12)])
    bench.load()
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("DROP TABLE silver.orders_p2026_03, silver.samples_p2026_03"))
    bench.send([order(50, at="2026-03-01T00:00:00Z")])
    bench.load()
    assert query(database, "SELECT count(*) FROM silver.orders") == [(11,)]
    assert query(database, "SELECT count(*) FROM silver.samples_p2026_03") == [(2,)]


def test_a_commit_is_announced(make: Callable[..., Bench], database: Database) -> None:
    bench = make()
    with database.connect(Role.APP, autocommit=True) as listening:
        listening.execute("LISTEN sluiceway_live")
        bench.send([order(1), order(2)])
        bench.load()
        (notice,) = list(listening.notifies(timeout=30, stop_after=1))
    found = json.loads(notice.payload)
    at = found.pop("at")
    assert datetime.fromisoformat(at) == NOW
    assert found == {
        "t": "batch", "w": 1, "p": 1, "s": "orders", "seq": [1, 2], "n": 2,
        "min": "2026-11-21T00:01:00Z", "max": "2026-11-21T00:02:00Z",
    }  # fmt: skip


def test_a_large_backlog_is_prepared_ahead(make: Callable[..., Bench], database: Database) -> None:
    gate = RuleGate(quarantine_negative)
    bench = make(source=GATED, gate=gate, max_batch_bytes=2 * 1024 * 1024)
    for begin in range(0, 30_000, 3000):
        bench.send([order(n) for n in range(begin, begin + 3000)])
    bench.send([order(n) for n in range(2000)])
    bench.load()
    assert check_whole(database) == 30_000
    assert query(database, "SELECT duplicates FROM app.pipeline_state") == [(2000,)]
    assert query(database, "SELECT sum(evaluated) FROM quality.results") == [(30_000,)]


def test_source_split_and_headers(make: Callable[..., Bench], database: Database) -> None:
    source = ORDERS.replace("event: {id: id, time: at}", "source: {split: data}\nevent: {id: id, time: at}")
    bench = make(source=source.replace("name: note,", 'name: note, path: "header:x-note",'))
    body = json.dumps({"data": [order(1), order(2, amount="x"), order(3)]}).encode()
    bench.send(body, form=Form.OBJECT, headers={"x-note": "from a header"})
    bench.load()
    rows = query(
        database, "SELECT event_id, note, split_part(position, '/', 4) FROM silver.orders ORDER BY seq"
    )
    assert rows == [("o-1", "from a header", "0.0"), ("o-3", "from a header", "0.2")]
    ((position, payload, headers),) = query(
        database, "SELECT position, payload, headers FROM quality.dead_letters"
    )
    assert position.endswith("/0.1")
    assert json.loads(bytes(payload))["id"] == "o-2"
    assert headers == {"x-note": "from a header"}


def test_without_leaves_rows_go_through_a_temporary_table(
    make: Callable[..., Bench], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    bench.send([order(1)])
    bench.load()
    from sluiceway.warehouse.leaves import Leaves

    # As on TimescaleDB, whose leaves are not ours.
    monkeypatch.setattr(Leaves, "direct", property(lambda self: False))
    bench.send([order(n) for n in range(1, 20)])
    bench.load()
    bench.send([order(30)])
    bench.load()
    assert check_whole(database) == 20
    assert query(database, "SELECT duplicates FROM app.pipeline_state") == [(1,)]


def test_the_database_may_go_away(make: Callable[..., Bench], database: Database, database_url: str) -> None:
    import threading

    bench = make()
    bench.send([order(0)])
    bench.load()
    stop = threading.Event()
    thread = threading.Thread(target=bench.loader.run, args=(stop,))
    thread.start()
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = :d AND pid <> pg_backend_pid()"
    )
    try:
        for number in range(1, 60):
            bench.send([order(number)])
            if number % 10 == 0:
                with database.engine(Role.OWNER).begin() as connection:
                    connection.execute(sa.text(end), {"d": name})
                database.dispose()
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while datetime.now(UTC) < deadline:
            if query(database, "SELECT count(*) FROM silver.orders") == [(60,)]:
                break
            stop.wait(0.05)
    finally:
        stop.set()
        thread.join(10)
    assert check_whole(database) == 60


def test_retention_follows_the_clock(make: Callable[..., Bench], database: Database) -> None:
    clock = FixedClock(NOW)
    bench = make(source=ORDERS + "retention: {silver: 1d}\n", clock=clock)
    bench.send([order(1)])
    bench.load()
    clock.at = NOW + timedelta(days=2)
    bench.send([order(2)])
    bench.load()
    assert query(database, "SELECT event_id FROM silver.orders") == [("o-1",)]
    assert query(database, "SELECT step FROM quality.dead_letters") == [("retention",)]
