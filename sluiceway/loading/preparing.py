"""From spool records to batches that are ready to be committed: split, parse, map. No database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sluiceway.catalog.contracts import Pipeline
from sluiceway.ingestion.contracts import Position, SpoolRecord
from sluiceway.loading.book import Entry
from sluiceway.transforms.contracts import Arrivals, Mapped
from sluiceway.transforms.service import Transform, split
from sluiceway.warehouse.contracts import CursorMove, PreparedBatch


def arrivals_of(node: str, records: Iterable[SpoolRecord]) -> Arrivals:
    """The events in some records of one pipeline, in order."""
    payloads: list[bytes] = []
    positions: list[str] = []
    received: list[int] = []
    headers: list[Mapping[str, str]] = []
    for record in records:
        events = split(record.form, record.body)
        prefix = f"{node}/{record.position.segment}/{record.position.offset}/"
        payloads += events
        positions += [f"{prefix}{index}" for index in range(len(events))]
        received += [record.received_us] * len(events)
        headers += [record.headers] * len(events)
    return Arrivals(payloads, positions, received, headers)


def map_arrivals(transform: Transform, arrivals: Arrivals, now: datetime) -> tuple[Arrivals, Mapped]:
    """Expand and map; the arrivals that come back are those that the result's indices count."""
    expanded, unsplit = transform.expand(arrivals)
    mapped = transform.run(expanded, now, skip=frozenset(r.index for r in unsplit))
    if unsplit:
        mapped = Mapped(mapped.rows, sorted([*unsplit, *mapped.rejected], key=lambda r: r.index))
    return expanded, mapped


def group(records: Sequence[SpoolRecord], cursors: Mapping[int, Position]) -> dict[int, list[SpoolRecord]]:
    """Records by pipeline, in order, but for those that a pipeline's cursor has passed."""
    found: dict[int, list[SpoolRecord]] = {}
    for record in records:
        cursor = cursors.get(record.pipeline_id)
        if cursor is None or record.position >= cursor:
            found.setdefault(record.pipeline_id, []).append(record)
    return found


def prepare(node: str, entry: Entry, records: Sequence[SpoolRecord], now: datetime) -> PreparedBatch | None:
    """The batch of one pipeline's records, or None where they hold no event at all."""
    arrivals = arrivals_of(node, records)
    if not len(arrivals):
        return None
    arrivals, mapped = map_arrivals(entry.transform, arrivals, now)
    if not len(arrivals):
        return None
    first = records[0].position
    return PreparedBatch(
        pipeline=entry.pipeline,
        name=f"{node}/{first.segment}/{first.offset}",
        origin="live",
        arrivals=arrivals,
        mapped=mapped,
        cursor=CursorMove(node, first, records[-1].end),
    )


def is_loadable(pipeline: Pipeline) -> bool:
    """Paused and archived pipelines load nothing: their events wait in bronze for a replay."""
    return pipeline.state == "active"
