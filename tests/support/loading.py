"""What tests of loading share: a pipeline, a spool to write to, a loader over it, and what came of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.clock import Clock, FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.service import Loader
from sluiceway.quality.contracts import ExpectationOutcome, Gate, GateVerdict, NoGate
from sluiceway.warehouse.schema import apply_pipeline

if TYPE_CHECKING:
    import pandas as pd

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000

ORDERS = """\
name: orders
event: {id: id, time: at}
fields:
  - {name: country, type: string, role: dimension}
  - {name: amount, type: number, role: measure, unit: EUR}
  - {name: items, type: integer, role: measure}
  - {name: note, type: string}
"""


def order(number: int, **more: Any) -> dict[str, Any]:
    """An order that loads: one a minute, amounts and countries that repeat."""
    found = {
        "id": f"o-{number}",
        "at": f"2026-11-21T{number // 60 % 12:02d}:{number % 60:02d}:00Z",
        "country": ["CH", "DE", None][number % 3],
        "amount": number / 4,
        "items": number % 7,
        "note": 'with "quotes", commas\nand lines' if number % 5 == 0 else None,
    }
    return {**found, **more}


@dataclass
class RuleGate:
    """Decides by a rule over the frame, as a suite would."""

    rule: Callable[["pd.DataFrame"], GateVerdict]
    frames: list["pd.DataFrame"] = field(default_factory=list)

    def check(self, pipeline: Pipeline, frame: "pd.DataFrame") -> GateVerdict:
        self.frames.append(frame)
        return self.rule(frame)

    def invalidate(self) -> None:
        return None


def quarantine_negative(frame: "pd.DataFrame") -> GateVerdict:
    failing = {i: "amount-positive" for i, value in enumerate(frame["amount"]) if value < 0}
    outcome = ExpectationOutcome(
        "amount-positive", "quarantine", not failing, len(frame), len(failing), {"nan": float("nan")}
    )
    return GateVerdict("quarantine" if failing else "pass", failing, (outcome,))


def hold_everything(frame: "pd.DataFrame") -> GateVerdict:
    outcome = ExpectationOutcome("enough-rows", "hold", False, 1, 1, {"observed": len(frame)})
    return GateVerdict("hold", {}, (outcome,))


class Bench:
    """A spool and a loader over it, in one process. Close it."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        source: str = ORDERS,
        gate: Gate | None = None,
        clock: Clock | None = None,
        node: str = "test",
        max_batch_bytes: int = 1024 * 1024,
        progress: bool = False,
        spool_id: str | None = None,
    ) -> None:
        self.database = database
        self.folder = folder
        self.gate = gate or NoGate()
        self.clock = clock or FixedClock(NOW)
        self._node = node
        self._max_batch_bytes = max_batch_bytes
        self._progress = progress
        self._spool_id = spool_id
        if source:
            apply_pipeline(database, 1, source)
        self.writer = SpoolWriter(folder)
        self.loader = self._make_loader()

    def _make_loader(self) -> Loader:
        self.reader = SpoolReader(self.folder)
        book = PipelineBook(self.database, self.gate)
        return Loader(
            self.database, self.reader, self.gate, self._node, book,
            clock=self.clock, max_batch_bytes=self._max_batch_bytes,
            folder=self.folder if self._progress else None, spool_id=self._spool_id,
        )  # fmt: skip

    def restart(self) -> None:
        """Another loader on the same spool, as after a crash."""
        self.loader.close()
        self.reader.close()
        self.loader = self._make_loader()

    def send(
        self,
        events: Sequence[dict[str, Any]] | bytes,
        *,
        pipeline_id: int = 1,
        form: Form = Form.NDJSON,
        headers: dict[str, str] | None = None,
        received_us: int = NOW_US,
    ) -> None:
        body = events if isinstance(events, bytes) else b"\n".join(json.dumps(e).encode() for e in events)
        self.writer.append_now(
            workspace_id=1, pipeline_id=pipeline_id, form=form, events=max(1, body.count(b"\n") + 1),
            body=body, headers=headers or {}, received_us=received_us,
        )  # fmt: skip

    def load(self) -> None:
        while self.loader.step():
            pass

    def close(self) -> None:
        self.loader.close()
        self.reader.close()
        self.writer.close()


def query(database: Database, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Rows of workspace 1."""
    with database.transaction(Role.OWNER, workspace_id=1) as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), values)]


def check_whole(database: Database, table: str = "orders", pipeline_id: int = 1) -> int:
    """What always holds: ids once, seq gapless, samples where measures are, buckets dirty; returns rows."""
    ((rows, ids, low, high),) = query(
        database, f"SELECT count(*), count(DISTINCT event_id), min(seq), max(seq) FROM silver.{table}"
    )
    assert rows == ids
    if rows:
        assert (low, high) == (1, rows)
    ((last_seq, counted),) = query(
        database, "SELECT last_seq, events FROM app.pipeline_state WHERE pipeline_id = :p", p=pipeline_id
    )
    assert (last_seq, counted) == (rows, rows)
    ((batched, sampled),) = query(
        database,
        "SELECT coalesce(sum(rows), 0), coalesce(sum(samples), 0) FROM silver.batches WHERE pipeline_id = :p",
        p=pipeline_id,
    )
    assert batched == rows
    ((samples, orphans),) = query(
        database,
        "SELECT count(*), count(*) FILTER (WHERE s.series_id IS NULL) FROM silver.samples x"
        " LEFT JOIN silver.series s USING (series_id) WHERE x.pipeline_id = :p",
        p=pipeline_id,
    )
    assert (samples, orphans) == (sampled, 0)
    return int(rows)
