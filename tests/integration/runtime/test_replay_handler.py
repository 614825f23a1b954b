"""A replay asked for through the API's service is run by the worker's handler against the real lake."""

from datetime import UTC, datetime

import sqlalchemy as sa

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbox import OutboxWorker
from sluiceway.infra.settings import Settings
from sluiceway.loading import jobs
from sluiceway.runtime.processes.worker import replay_handler
from sluiceway.warehouse.schema import apply_pipeline

PIPELINE = "kind: Pipeline\nname: orders\nfields:\n  - {name: amount, type: number, role: measure}\n"


def test_the_worker_runs_a_replay(database: Database, settings: Settings) -> None:
    apply_pipeline(database, 1, PIPELINE)
    now = datetime.now(UTC)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        pipeline = Catalog().get(conn, 1, "orders")
        asked = jobs.request_replay(conn, pipeline, now.date(), now.date(), requested_by="cli", now=now)
    worker = OutboxWorker(database, "test", {jobs.TOPIC: replay_handler(settings, database)})
    assert worker.work(limit=1) == 1
    with database.transaction(Role.APP, workspace_id=1) as conn:
        done = jobs.get_replay(conn, 1, asked.id)
        error = conn.execute(sa.text("SELECT last_error FROM app.outbox WHERE topic = 'replay'")).scalar_one()
    assert (done.state, done.days_done, done.error, error) == ("done", 1, None, None)
    assert worker.work(limit=1) == 0
