"""Events straight into silver through the real transform and warehouse, without a spool."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.quality.contracts import NoGate
from sluiceway.transforms.contracts import Arrivals
from sluiceway.transforms.service import Transform
from sluiceway.warehouse.contracts import CommittedBatch, PreparedBatch
from sluiceway.warehouse.schema import apply_pipeline
from sluiceway.warehouse.service import Warehouse


class Loader:
    """Loads lists of events into one pipeline, a batch each."""

    def __init__(self, database: Database, source: str, workspace_id: int = 1) -> None:
        self.database, self.workspace_id = database, workspace_id
        self.warehouse = Warehouse(database, NoGate(), SystemClock())
        self._batches = 0
        self.apply(source)

    def apply(self, source: str) -> None:
        applied = apply_pipeline(self.database, self.workspace_id, source)
        with self.database.transaction(Role.APP, workspace_id=self.workspace_id) as connection:
            self.pipeline: Pipeline = Catalog().get(connection, self.workspace_id, applied.name)

    def load(self, events: Sequence[dict[str, Any]], received_at: datetime | None = None) -> CommittedBatch:
        self._batches += 1
        now = SystemClock().now()
        name = f"test/1/{self._batches}"
        arrivals = Arrivals(
            payloads=[orjson.dumps(event) for event in events],
            positions=[f"{name}/{index}" for index in range(len(events))],
            received_us=[int((received_at or now).timestamp() * 1_000_000)] * len(events),
            headers=[{}] * len(events),
        )
        mapped = Transform(self.pipeline.spec).run(arrivals, now)
        with self.database.connect(Role.WRITER) as connection:
            done = self.warehouse.commit(
                connection, PreparedBatch(self.pipeline, name, "live", arrivals, mapped)
            )
        assert done is not None
        return done
