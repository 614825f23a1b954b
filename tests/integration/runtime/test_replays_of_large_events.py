"""Events larger than the default allows: whoever replays them takes what the event route took."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest
import sqlalchemy as sa

from orchestration.build import build_definitions
from orchestration.resources import Platform
from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbox import OutboxWorker
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Form, Position, SpoolRecord
from sluiceway.lake.bronze import rows_of, to_parquet
from sluiceway.lake.contracts import BronzeName, prefix_of
from sluiceway.lake.service import Lake
from sluiceway.loading import jobs
from sluiceway.runtime.processes.worker import replay_handler
from sluiceway.transforms.service import DEFAULT_MAX_EVENT_BYTES
from sluiceway.transforms.split import split
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.command_line import Run

SOURCE = "kind: Pipeline\nname: orders\nfields:\n  - {name: amount, type: number}\n"
LARGE = 4 * DEFAULT_MAX_EVENT_BYTES
NOW = datetime.now(UTC)


@pytest.fixture
def roomy(database: Database, settings: Settings) -> Settings:
    """An installation that takes large events, with one of them in bronze."""
    apply_pipeline(database, 1, SOURCE)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "orders")
    body = json.dumps({"amount": 7, "text": "x" * (2 * DEFAULT_MAX_EVENT_BYTES)}).encode()
    received_us = int(NOW.timestamp() * 1e6)
    record = SpoolRecord(
        Position(1, 0), Position(1, len(body)), 1, pipeline.id, received_us, Form.OBJECT, {}, 1, body
    )
    name = BronzeName(prefix_of(pipeline), NOW.date(), "n", record.position, record.end)
    Lake(settings).put(name, to_parquet(rows_of("n", [record], split)))
    return replace(settings, max_event_bytes=LARGE)


def by_worker(settings: Settings, database: Database) -> None:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "orders")
        jobs.request_replay(connection, pipeline, NOW.date(), NOW.date(), requested_by="test", now=NOW)
    worker = OutboxWorker(database, "test", {jobs.TOPIC: replay_handler(settings, database)})
    assert worker.work(limit=1) == 1


def by_dagster(settings: Settings, database: Database) -> None:
    found = build_definitions(Platform(settings, database))
    done = found.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(["silver", "orders"])], partition_key=f"{NOW:%Y-%m-%d}"
    )
    assert done.success


@pytest.mark.parametrize("replay", [by_worker, by_dagster])
def test_a_replay_takes_what_was_accepted(
    replay: Callable[[Settings, Database], None], roomy: Settings, database: Database
) -> None:
    replay(roomy, database)
    assert amounts(database) == [7]


def test_a_replay_by_command_takes_what_was_accepted(
    run: Run, roomy: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEWAY_MAX_EVENT_BYTES", str(LARGE))
    code, out, err = run("replay", "orders", "--from", f"{NOW:%Y-%m-%d}")
    assert (code, "0 dead letters" in out) == (0, True), out + err
    assert amounts(database) == [7]


def amounts(database: Database) -> list[float]:
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        return list(connection.execute(sa.text("SELECT amount FROM silver.orders")).scalars())
