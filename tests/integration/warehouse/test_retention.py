"""What retention drops, and what keeps it from dropping."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.retention import apply_retention
from sluiceway.warehouse.schema import apply_pipeline, ensure_partitions, list_partitions

NOW = datetime(2026, 6, 15, tzinfo=UTC)
MONTHS = [datetime(2026, month, 10, tzinfo=UTC) for month in (1, 2, 3, 4, 5, 6)]


def applied(database: Database, name: str, retention: str = "", window: str = "14d") -> None:
    lines = [
        f"name: {name}",
        "fields: [{name: amount, type: number, role: measure}]",
        f"dedupe: {{window: {window}}}",
    ]
    if retention:
        lines.append(f"retention: {{silver: {retention}}}")
    apply_pipeline(database, 1, "\n".join(lines) + "\n")
    ensure_partitions(database, name, MONTHS)


def run(database: Database) -> set[str]:
    with database.transaction(Role.WRITER) as connection:
        pipelines = Catalog().all(connection)
    return set(apply_retention(database, pipelines, NOW))


def left(database: Database, parent: str) -> list[str]:
    return [p.name.rsplit("_p", 1)[-1] for p in list_partitions(database, parent)]


def dirty(database: Database, level: str, bucket: datetime) -> None:
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)"
                " VALUES (1, 1, :level, :bucket)"
            ),
            {"level": level, "bucket": bucket},
        )


def test_each_table_by_its_own_and_samples_by_the_longest(database: Database) -> None:
    applied(database, "short", "30d")
    applied(database, "long", "100d")
    ensure_partitions(database, "samples", MONTHS)
    ensure_partitions(database, "event_keys", MONTHS, "week")
    dropped = run(database)
    assert left(database, "short") == ["2026_05", "2026_06"]
    assert left(database, "long") == ["2026_03", "2026_04", "2026_05", "2026_06"]
    assert left(database, "samples") == ["2026_03", "2026_04", "2026_05", "2026_06"]
    assert left(database, "event_keys") == ["2026w24"]
    assert {"short_p2026_04", "long_p2026_02", "samples_p2026_02", "event_keys_p2026w02"} <= dropped
    assert len(dropped) == 4 + 2 + 2 + 5
    assert run(database) == set()


def test_gold_is_told_where_samples_begin_before_they_go(database: Database) -> None:
    applied(database, "only", "100d")
    ensure_partitions(database, "samples", MONTHS)
    run(database)
    with database.transaction(Role.MODELER) as connection:
        floors = connection.execute(sa.text("SELECT source, floor FROM gold.floors")).all()
    assert [tuple(row) for row in floors] == [("silver.samples", datetime(2026, 3, 1, tzinfo=UTC))]


def test_samples_stay_while_one_pipeline_keeps_everything(database: Database) -> None:
    applied(database, "short", "30d")
    applied(database, "forever")
    ensure_partitions(database, "samples", MONTHS)
    assert run(database) == {f"short_p2026_0{month}" for month in (1, 2, 3, 4)}
    assert len(left(database, "samples")) == 6 and len(left(database, "forever")) == 6


def test_what_gold_has_not_seen_yet_stays(database: Database) -> None:
    """No aggregate is built in this database, so nothing refreshes the bucket: it stays dirty."""
    applied(database, "only", "30d")
    ensure_partitions(database, "samples", MONTHS)
    dirty(database, "1h", datetime(2026, 3, 31, 23, tzinfo=UTC))
    assert run(database) == {
        "only_p2026_01", "only_p2026_02", "samples_p2026_01", "samples_p2026_02",
    }  # fmt: skip
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        connection.execute(sa.text("DELETE FROM gold.dirty_buckets"))
    assert run(database) == {
        "only_p2026_03", "only_p2026_04", "samples_p2026_03", "samples_p2026_04",
    }  # fmt: skip


def test_the_longest_window_of_any_pipeline_keeps_the_event_keys(database: Database) -> None:
    applied(database, "narrow", window="1d")
    applied(database, "wide", window="60d")
    ensure_partitions(database, "event_keys", MONTHS, "week")
    assert run(database) == {f"event_keys_p2026w{week}" for week in ("02", "07", "11", "15")}


@pytest.mark.slow
def test_on_timescaledb_chunks_go_and_event_keys_are_partitions(timescale: Database) -> None:
    """Samples are left alone here: a pipeline that keeps everything shares them."""
    applied(timescale, "chunks-short", "30d", window="1d")
    applied(timescale, "chunks-forever", window="14d")
    assert len(ensure_partitions(timescale, "event_keys", MONTHS, "week")) == 6
    times = [(at,) for at in MONTHS]
    with timescale.connect(Role.WRITER, autocommit=True) as writer, writer.cursor() as cursor:
        cursor.execute("SELECT set_config('sluiceway.workspace_id', '1', false)")
        cursor.executemany(
            "INSERT INTO silver.chunks_short (workspace_id, seq, event_id, event_time, received_at, batch_id,"
            " position, amount) VALUES (1, 1, 'a', %s, now(), 1, 'n/1/0/0', 5)",
            times,
        )
        cursor.executemany("INSERT INTO silver.event_keys VALUES (1, 999, 'a', %s)", times)
    with timescale.transaction(Role.WRITER) as connection:
        pipelines = [p for p in Catalog().all(connection) if p.slug.startswith("chunks-")]
    dropped = apply_retention(timescale, pipelines, NOW)
    assert len([name for name in dropped if "event_keys" in name]) == 5
    with timescale.connect(Role.OWNER, autocommit=True) as owner:
        kept = owner.execute("SELECT event_time FROM silver.chunks_short ORDER BY 1").fetchall()
        keys = owner.execute("SELECT seen_at FROM silver.event_keys WHERE pipeline_id = 999").fetchall()
        owner.execute("DELETE FROM silver.event_keys WHERE pipeline_id = 999")
    assert kept == [(MONTHS[-1],)] and keys == [(MONTHS[-1],)]
