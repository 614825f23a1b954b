"""From spool records to batches that are ready to be committed: split, parse, map. No database."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.telemetry import Timeline
from sluiceway.ingestion.contracts import SpoolRecord
from sluiceway.loading.book import Entry
from sluiceway.transforms.contracts import INDEX, Arrivals, Mapped, Rejected
from sluiceway.transforms.service import Transform, split
from sluiceway.warehouse.contracts import CursorMove, PreparedBatch

log = logging.getLogger(__name__)


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


def map_arrivals(
    transform: Transform,
    arrivals: Arrivals,
    now: datetime,
    *,
    unsplit: Callable[[str], bool] = lambda position: True,
) -> tuple[Arrivals, Mapped]:
    """Expand and map; the arrivals that come back are those that the result's indices count.

    `unsplit` tells by its position whether an arrival is yet to be expanded.
    """
    expanded, failed = transform.expand(arrivals, unsplit)
    skip = frozenset(r.index for r in failed)
    try:
        mapped = transform.run(expanded, now, skip=skip)
    except Exception:
        # A fault of ours that one event brings out must not stop those behind it.
        log.exception("mapping failed: each event is tried by itself")
        mapped = _map_each(transform, expanded, now, skip)
    if failed:
        mapped = Mapped(mapped.rows, sorted([*failed, *mapped.rejected], key=lambda r: r.index))
    return expanded, mapped


def _map_each(transform: Transform, arrivals: Arrivals, now: datetime, skip: frozenset[int]) -> Mapped:
    rejected: list[Rejected] = []
    frames = [transform.run(arrivals, now, skip=frozenset(range(len(arrivals)))).rows]
    for index in range(len(arrivals)):
        if index in skip:
            continue
        try:
            found = transform.run(arrivals.take([index]), now)
        except Exception as error:
            reason = f"The event could not be mapped ({type(error).__name__})."
            rejected.append(Rejected(index, "map", "mapping_failed", reason))
            continue
        frames.append(found.rows.with_columns(pl.lit(index, pl.UInt32).alias(INDEX)))
        rejected += [replace(r, index=index) for r in found.rejected]
    return Mapped(pl.concat(frames), rejected)


def prepare(node: str, entry: Entry, records: Sequence[SpoolRecord], now: datetime) -> PreparedBatch | None:
    """The batch of one pipeline's records, or None where they hold no event at all."""
    timeline = Timeline()
    timeline.add("wait", min(record.received_us for record in records) * 1000, time.time_ns())
    with timeline.stage("transform"):
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
        timeline=timeline,
    )


def is_loadable(pipeline: Pipeline) -> bool:
    """Paused and archived pipelines load nothing: their events wait in bronze for a replay."""
    return pipeline.state == "active"
