"""Silver of one pipeline and day of receipt, derived again from bronze by the same transform and gate.

Not here: which days, in which order (the CLI, the API, Dagster).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import orjson
import polars as pl
import pyarrow as pa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.telemetry import Timeline
from sluiceway.kit.ids import uuid7
from sluiceway.loading.contracts import ReplayResult
from sluiceway.loading.preparing import map_arrivals
from sluiceway.quality.contracts import Gate
from sluiceway.transforms.contracts import INDEX, Arrivals, Mapped, Rejected
from sluiceway.transforms.service import DEFAULT_MAX_EVENT_BYTES, Transform
from sluiceway.warehouse.contracts import PreparedBatch, Span
from sluiceway.warehouse.service import Warehouse


class Bronze(Protocol):
    """The lake, as far as a replay reads it."""

    def read_bronze(self, pipeline: Pipeline, day: date) -> Iterator[pa.RecordBatch]: ...


class _Day:
    """A day's events and rows, gathered batch by batch. The day's payloads are held in memory."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.positions: list[str] = []
        self.received_us: list[int] = []
        self.headers: list[Mapping[str, str]] = []
        self.frames: list[pl.DataFrame] = []
        self.rejected: list[Rejected] = []

    def add(self, arrivals: Arrivals, mapped: Mapped) -> None:
        base = len(self.payloads)
        self.payloads += arrivals.payloads
        self.positions += arrivals.positions
        self.received_us += arrivals.received_us
        self.headers += arrivals.headers
        self.frames.append(mapped.rows.with_columns((pl.col(INDEX) + base).cast(pl.UInt32)))
        # An event older than silver is kept is no fault of this day: it is left as it is.
        kept = (r for r in mapped.rejected if r.step != "retention")
        self.rejected += [replace(r, index=r.index + base) for r in kept]

    def whole(self) -> tuple[Arrivals, Mapped]:
        arrivals = Arrivals(self.payloads, self.positions, self.received_us, self.headers)
        return arrivals, Mapped(pl.concat(self.frames), self.rejected)


def replay_day(
    database: Database,
    lake: Bronze,
    gate: Gate,
    pipeline: Pipeline,
    day: date,
    *,
    clock: Clock | None = None,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
) -> ReplayResult:
    """Replace the silver rows and samples of the events received on `day` (UTC); all or nothing.

    The first occurrence of an event wins. Where the gate holds the day, nothing is replaced and the verdict
    says so. Doing it again changes nothing. Raises the lake's and psycopg's errors.
    """
    clock = clock or SystemClock()
    now = clock.now()
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    kept = pipeline.spec.retention.silver
    span = Span(begin, begin + timedelta(days=1), None if kept is None else now - kept)
    transform = Transform(pipeline.spec, max_event_bytes=max_event_bytes)
    found = _Day()
    timeline = Timeline()
    with timeline.stage("transform"):  # bronze is read in between, piece by piece
        for records in lake.read_bronze(pipeline, day):
            found.add(*map_arrivals(transform, arrivals_of_bronze(records), now))
    if not found.payloads:
        return ReplayResult(pipeline.slug, day, 0, 0, 0, 0, 0, 0, "pass", None)
    arrivals, mapped = found.whole()
    name = f"replay/{day}/{uuid7()}"
    batch = PreparedBatch(pipeline, name, "replay", arrivals, mapped, timeline=timeline)
    warehouse = Warehouse(database, gate, clock)
    with database.connect(Role.WRITER) as connection:
        replaced = warehouse.replace_rows(connection, batch, span)
    return ReplayResult(
        pipeline=pipeline.slug,
        day=day,
        events=len(found.positions),
        removed=replaced.removed,
        rows=replaced.rows,
        samples=replaced.samples,
        duplicates=replaced.duplicates,
        dead_letters=replaced.dead_letters,
        verdict=replaced.verdict,
        batch_id=replaced.batch_id,
    )


def arrivals_of_bronze(records: pa.RecordBatch) -> Arrivals:
    """The events of some rows of bronze, in their order."""
    columns = [records[name].to_pylist() for name in ("node", "segment", "offset", "index")]
    positions = [f"{n}/{s}/{o}/{i}" for n, s, o, i in zip(*columns, strict=True)]
    received = records["received_at"].cast(pa.int64()).to_pylist()
    seen: dict[str, Any] = {}
    headers = []
    for text in records["headers"].to_pylist():
        if text not in seen:
            seen[text] = orjson.loads(text)
        headers.append(seen[text])
    return Arrivals(records["payload"].to_pylist(), positions, received, headers)
