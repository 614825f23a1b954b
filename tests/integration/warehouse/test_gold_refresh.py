"""Refreshing on plain PostgreSQL: who waits for whom, what a window covers, whose rows a reader sees."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.gold import aggregates, refresh_aggregate, refresh_dirty, set_floor
from sluiceway.warehouse.schema import SAMPLES, ensure_partitions
from tests.support.gold_model import Model, add

AT = datetime(2025, 3, 4, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def model(gold_database: Database) -> Model:
    ensure_partitions(gold_database, SAMPLES, [AT])
    return Model(1)


def load(database: Database, model: Model, *rows: tuple[datetime, int, float]) -> None:
    with database.connect(Role.OWNER, autocommit=True) as connection:
        add(connection, model, list(rows))


def dirty(database: Database) -> int:
    with database.connect(Role.OWNER) as connection:
        row = connection.execute("SELECT count(*) FROM gold.dirty_buckets").fetchone()
    assert row is not None
    return int(row[0])


def check(database: Database, model: Model) -> None:
    with database.connect(Role.READER, autocommit=True) as connection:
        connection.execute("SELECT set_config('sluiceway.workspace_id', '1', false)")
        model.check(connection)


def test_three_levels_are_registered_lowest_first(gold_database: Database) -> None:
    found = aggregates(gold_database)
    assert [(a.name, a.level, a.source, a.rank) for a in found] == [
        ("gold.samples_1m", "1m", "silver.samples", 1),
        ("gold.samples_1h", "1h", "gold.samples_1m", 2),
        ("gold.samples_1d", "1d", "gold.samples_1h", 3),
    ]
    assert [a.bucket_width for a in found] == [timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)]


def test_refresh_counts_buckets_and_leaves_nothing_dirty(gold_database: Database, model: Model) -> None:
    load(gold_database, model, (AT, 1, 5.0), (AT, 2, 7.0), (AT + timedelta(minutes=1), 1, 1.0))
    load(gold_database, model, (AT, 1, 6.0))
    assert refresh_dirty(gold_database) == 4  # two minutes, an hour, a day
    assert dirty(gold_database) == 0
    assert refresh_dirty(gold_database) == 0
    check(gold_database, model)


def test_a_refresh_that_fills_an_aggregate_leaves_the_planner_knowing_it(
    gold_database: Database, model: Model
) -> None:
    """Else the level above compares each of its rows with each bucket that was dirty."""
    many = [(AT + timedelta(minutes=n), 1, float(n)) for n in range(1_500)]
    load(gold_database, model, *many)
    refresh_dirty(gold_database)
    assert known_rows(gold_database, "samples_1m_materialized") == 1_500
    load(gold_database, model, (AT, 1, 6.0))
    refresh_dirty(gold_database)
    assert known_rows(gold_database, "samples_1m_materialized") == 1_500
    check(gold_database, model)


def known_rows(database: Database, table: str) -> int:
    with database.connect(Role.OWNER) as connection:
        row = connection.execute(
            "SELECT reltuples FROM pg_class WHERE oid = to_regclass('gold.' || %s)", (table,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_load_under_way_neither_waits_for_a_refresh_nor_is_lost(
    gold_database: Database, model: Model
) -> None:
    load(gold_database, model, (AT, 1, 1.0))
    with gold_database.connect(Role.OWNER) as loading:
        loading.execute("SET lock_timeout = '2s'")
        other = Model(1, samples=model.samples, seq=model.seq)
        add(loading, other, [(AT, 1, 9.0)])
        assert refresh_dirty(gold_database) == 3  # does not wait either
        add(loading, other, [(AT + timedelta(hours=1), 1, 9.0)])
        loading.commit()
    check(gold_database, other)
    assert dirty(gold_database) == 3 + 3
    refresh_dirty(gold_database)
    check(gold_database, other)


def test_a_load_does_not_wait_for_a_refresh_that_holds_its_locks(
    gold_database: Database, model: Model
) -> None:
    load(gold_database, model, (AT, 1, 1.0))
    with gold_database.connect(Role.MODELER) as refreshing:
        refreshing.execute("CALL gold.refresh_dirty()")
        with gold_database.connect(Role.OWNER) as loading:
            loading.execute("SET lock_timeout = '1s'")
            add(loading, model, [(AT, 1, 2.0)])
            loading.commit()
        refreshing.commit()
    check(gold_database, model)


def test_a_window_refreshes_whole_buckets_only(gold_database: Database, model: Model) -> None:
    load(gold_database, model, (AT, 1, 1.0), (AT + timedelta(minutes=5), 1, 2.0))
    begin = AT.replace(second=0)
    refresh_aggregate(gold_database, "gold.samples_1m", begin, begin + timedelta(minutes=3))
    assert dirty(gold_database) == 3
    refresh_aggregate(gold_database, "gold.samples_1h", begin, begin + timedelta(minutes=90))
    assert dirty(gold_database) == 2
    check(gold_database, model)
    with pytest.raises(psycopg.Error, match="window too small"):
        refresh_aggregate(gold_database, "gold.samples_1h", begin, begin + timedelta(minutes=30))


def test_what_is_no_aggregate_is_refused(gold_database: Database) -> None:
    with pytest.raises(psycopg.Error, match="not a continuous aggregate"):
        refresh_aggregate(gold_database, "gold.dirty_buckets")


def test_a_refresh_needs_to_see_later_than_its_claim(gold_database: Database) -> None:
    with gold_database.connect(Role.MODELER) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(psycopg.Error, match="read committed"):
            connection.execute("CALL gold.refresh_dirty()")


def test_history_below_the_floor_survives_a_forced_refresh(gold_database: Database, model: Model) -> None:
    load(gold_database, model, (AT, 1, 1.0))
    set_floor(gold_database, "silver.samples", AT + timedelta(days=1))
    model.raise_floor(AT.replace(hour=0, minute=0, second=0) + timedelta(days=1))
    with gold_database.connect(Role.OWNER, autocommit=True) as connection:
        connection.execute("DELETE FROM silver.samples")
    for level in ("1m", "1h", "1d"):
        refresh_aggregate(gold_database, f"gold.samples_{level}", force=True)
    check(gold_database, model)


def test_roles_see_and_may_do_no_more_than_they_should(gold_database: Database, model: Model) -> None:
    load(gold_database, model, (AT, 1, 1.0))
    for refreshed in (False, True):
        if refreshed:
            refresh_dirty(gold_database)
        for workspace, rows in (("1", 1), ("2", 0), ("", 0)):
            with gold_database.connect(Role.READER, autocommit=True) as reader:
                reader.execute("SELECT set_config('sluiceway.workspace_id', %s, false)", (workspace,))
                for relation in ("samples_1m", "samples_1h", "samples_1d"):
                    found = reader.execute(f"SELECT count(*) FROM gold.{relation}").fetchone()
                    assert found == (rows,)
    with gold_database.connect(Role.READER, autocommit=True) as reader:
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("CALL gold.refresh_dirty()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM gold.samples_1m_materialized")
