"""A small installation in one process: spool, loader, lake and gold, and its sender's ledger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.spool import SpoolReader
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.service import split
from sluiceway.verification.contracts import Found, Report
from sluiceway.verification.ledger import Entry
from sluiceway.verification.service import verify
from tests.support.loading import NOW, Bench


class Installation(Bench):
    """One pipeline, `orders`. Close it."""

    def __init__(self, database: Database, folder: Path, settings: Settings, **options: Any) -> None:
        super().__init__(database, folder, **options)
        self.lake = Lake(settings)
        self.bronze = BronzeWriter(
            SpoolReader(folder), self.lake, folder, "test", split, lambda _: "orders", flush_s=0.01
        )
        self.ledger: list[Entry] = []

    @property
    def pipeline(self) -> Pipeline:
        with self.database.transaction(Role.WRITER, workspace_id=1) as connection:
            return Catalog().get(connection, 1, "orders")

    def accept(self, events: Sequence[dict[str, Any]], **options: Any) -> None:
        """Send, and write the ids down as acknowledged."""
        self.send(events, **options)
        self.ledger += [Entry("orders", event["id"]) for event in events if "id" in event]

    def flush(self) -> None:
        while self.bronze.step(force=True):
            pass

    def settle(self) -> None:
        """Everything that was sent is loaded and in the lake."""
        self.load()
        self.flush()

    def verify(self, *, ledger: bool = True, **options: Any) -> Report:
        """Against the sender's ledger, or without one."""
        entries = self.ledger if ledger else None
        return verify(self.database, self.lake, entries, **{"clock": FixedClock(NOW), **options})

    def execute(self, statement: str, **values: Any) -> None:
        """Change rows behind the platform's back."""
        with self.database.transaction(Role.OWNER) as connection:
            assert connection.execute(sa.text(statement), values).rowcount > 0


def troubles(report: Report) -> dict[str, Found]:
    """Whatever was found anywhere, by `layer.kind`."""
    return {
        f"{layer.layer}.{kind}": found
        for pipeline in report.pipelines
        for layer in pipeline.layers.values()
        for kind in ("missing", "doubled", "extra", "wrong")
        if (found := getattr(layer, kind))
    }
