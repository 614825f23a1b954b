"""A quiet pipeline behind a noisy one's backlog: counted in batches, on a real spool and PostgreSQL."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.spool.progress import load_progress
from sluiceway.loading.service import MAX_BATCH_BYTES
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import ORDERS, Bench, check_whole, order, query

QUIET = ORDERS.replace("orders", "quiet")
BODY_EVENTS = 6_000


@pytest.fixture
def bench(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # A turn looks ahead for a while: here to the end, so that a slow machine serves in the same order.
    monkeypatch.setattr("sluiceway.loading.service._SCAN_S", 300.0)
    made = Bench(database, tmp_path / "spool", max_batch_bytes=MAX_BATCH_BYTES)
    apply_pipeline(database, 1, QUIET)
    yield made
    made.close()


def body(number: int) -> bytes:
    begin = number * BODY_EVENTS
    return b"\n".join(json.dumps(order(n, note="x" * 60)).encode() for n in range(begin, begin + BODY_EVENTS))


def batches(database: Database) -> list[int]:
    """The pipelines of all batches in the order of their commits."""
    return [p for (p,) in query(database, "SELECT pipeline_id FROM silver.batches ORDER BY id")]


def test_a_quiet_event_waits_for_one_noisy_batch_however_long_the_backlog(
    bench: Bench, database: Database
) -> None:
    repeated = body(0)
    for _ in range(200):
        bench.send(repeated)
    noisy_bytes = 200 * len(repeated)
    assert noisy_bytes > 150_000_000
    bench.loader.step()
    bench.loader.step()
    for number in range(1, 5):
        bench.send([order(number)], pipeline_id=2)
        before = len(batches(database))
        while query(database, "SELECT count(*) FROM silver.quiet") == [(number - 1,)]:
            assert bench.loader.step()
        behind = batches(database)[before:]
        assert behind in ([2], [1, 2]), "one batch of a backlog may be at work, no more"
        bench.loader.step()
    assert bench.loader.position is not None
    (first,) = query(database, 'SELECT segment, "offset" FROM app.spool_positions')
    assert first < query(database, 'SELECT segment, "offset" FROM app.spool_cursors WHERE pipeline_id = 2')[0]


def test_a_restart_in_the_middle_of_a_backlog_loses_and_doubles_nothing(
    bench: Bench, database: Database
) -> None:
    for number in range(4):
        bench.send(body(number))
        bench.send([order(n) for n in range(10 * number, 10 * number + 10)], pipeline_id=2)
    bench.loader.step()
    bench.restart()
    for number in range(4, 6):
        bench.send(body(number))
        bench.send([order(number * 10)], pipeline_id=2)
        bench.loader.step()
        bench.restart()
    bench.load()
    assert check_whole(database) == 6 * BODY_EVENTS
    assert check_whole(database, "quiet", 2) == 42
    assert query(database, "SELECT sum(duplicates), sum(dead_letters) FROM silver.batches") == [(0, 0)]
    position = query(database, 'SELECT segment, "offset" FROM app.spool_positions')
    assert position == query(
        database, 'SELECT segment, "offset" FROM app.spool_cursors ORDER BY 1 DESC, 2 DESC LIMIT 1'
    )


def test_backlogs_are_loaded_side_by_side(bench: Bench, database: Database) -> None:
    for number in range(4):
        bench.send(body(number))
    for number in range(4):
        bench.send(body(number), pipeline_id=2)
    for _ in range(2):
        bench.loader.step()
    assert set(batches(database)) == {1, 2}
    bench.load()
    assert check_whole(database) == check_whole(database, "quiet", 2) == 4 * BODY_EVENTS


def test_what_waits_is_told_in_the_spool_s_folder(database: Database, tmp_path: Path) -> None:
    bench = Bench(database, tmp_path / "spool", progress=True)
    try:
        bench.send(body(0))
        bench.loader.step()
        told = load_progress(bench.folder)
        assert told is not None
        assert (told.node, list(told.pipelines)) == ("test", [1])
        assert told.waiting_bytes == told.pipelines[1].waiting_bytes >= len(body(0))
    finally:
        bench.close()


def test_a_database_that_lost_commits_is_given_them_again(
    bench: Bench, database: Database, database_url: str
) -> None:
    bench.send([order(n) for n in range(50)])
    bench.load()
    bench.send([order(n) for n in range(50, 80)])
    bench.load()
    # As after a failover to a server that had not heard of the second batch, and of no node position.
    with database.engine(Role.OWNER).begin() as connection:
        for table in ("silver.orders", "silver.event_keys", "silver.samples", "silver.batches"):
            connection.execute(sa.text(f"TRUNCATE {table}"))
        connection.execute(sa.text("DELETE FROM app.spool_cursors"))
        connection.execute(sa.text("DELETE FROM app.spool_positions"))
        connection.execute(sa.text("UPDATE app.pipeline_state SET last_seq = 0, events = 0"))
        name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = :d AND pid <> pg_backend_pid()"
            ),
            {"d": name},
        )
    database.dispose()
    bench.send([order(n) for n in range(80, 90)])
    for _ in range(50):
        try:
            bench.load()
        except psycopg.OperationalError:
            bench.loader._while_away()
            continue
        if query(database, "SELECT count(*) FROM silver.orders") == [(90,)]:
            break
    assert check_whole(database) == 90
