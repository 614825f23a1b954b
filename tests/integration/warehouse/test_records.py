"""Old rows about batches and gates go; what still answers a question stays."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.records import Swept, sweep_records
from sluiceway.warehouse.schema import apply_pipeline

NOW = datetime(2026, 6, 15, tzinfo=UTC)


def batch(database: Database, name: str, days: int, origin: str = "live", verdict: str = "pass") -> None:
    at = NOW - timedelta(days=days)
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO silver.batches (workspace_id, pipeline_id, name, origin, pipeline_version,"
                " verdict, events, rows, samples, duplicates, dead_letters, size_bytes, min_event_time,"
                " max_event_time, min_received_at, max_received_at, loaded_at)"
                " VALUES (1, 1, :name, :origin, 1, :verdict, 1, 1, 1, 0, 0, 1, :at, :at, :at, :at, :at)"
            ),
            {"name": name, "origin": origin, "verdict": verdict, "at": at},
        )


def result(database: Database, days: int) -> None:
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO quality.results (workspace_id, pipeline_id, suite, expectation, origin, minute,"
                " action, batches, failed_batches, evaluated, unexpected)"
                " VALUES (1, 1, 's', 'e', 'live', :at, 'warn', 1, 0, 1, 0)"
            ),
            {"at": NOW - timedelta(days=days)},
        )


def test_old_records_go_and_those_that_answer_something_stay(database: Database) -> None:
    apply_pipeline(database, 1, "name: orders\nfields: [{name: amount, type: number, role: measure}]\n")
    batch(database, "spans", 900)
    batch(database, "long-held", 500, verdict="hold")
    batch(database, "held", 100, verdict="hold")
    batch(database, "corrected", 600, origin="retry")
    batch(database, "old", 31)
    batch(database, "young", 29)
    result(database, 91)
    result(database, 89)
    with database.transaction(Role.WRITER) as connection:
        pipelines = Catalog().all(connection)
    assert sweep_records(database, pipelines, NOW) == Swept(batches=2, results=1)
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        left = connection.execute(sa.text("SELECT name FROM silver.batches ORDER BY name")).scalars().all()
    assert left == ["corrected", "held", "spans", "young"]
    assert sweep_records(database, pipelines, NOW) == Swept(0, 0)
