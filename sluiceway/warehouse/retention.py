"""Dropping silver, samples and event keys past retention, without touching what gold remembers.

Whole partitions are dropped, never single rows. Gold keeps its history: before samples go, what is dirty in
that range is refreshed and the floor is raised below which no refresh recomputes (`gold.set_floor`).
Bronze is the lake's own work (`Lake.apply_retention`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse import gold
from sluiceway.warehouse.schema import EVENT_KEYS, SAMPLES, drop_partitions_before, list_partitions

# A load that began just before the line may still be writing to what lies just above it.
SLACK = timedelta(hours=1)
# Event keys stay longer than the window by this: an event may have waited so long in a spool before it is
# loaded, and its window begins when it was received. Of later ones silver itself is asked (`service`).
LATE = timedelta(days=2)
_SAMPLES_SOURCE = f"silver.{SAMPLES}"


@dataclass(frozen=True, slots=True)
class _Lines:
    """What is older than these is dropped; None: nothing is."""

    samples: datetime | None
    event_keys: datetime


def apply_retention(
    database: Database, pipelines: Sequence[Pipeline], now: datetime | None = None
) -> list[str]:
    """Drop every partition that lies wholly before what the pipelines keep; returns the names dropped.

    A silver table goes by its own pipeline. Samples and event keys are shared: they stay as long as any
    pipeline of any workspace (archived ones too) needs them, so one that keeps everything keeps them all.
    A partition with buckets that are still dirty after a refresh stays until the next run.
    """
    at = (now or datetime.now(UTC)) - SLACK
    with database.transaction(Role.WRITER) as connection:
        every = Catalog().all(connection)
    lines = _lines(every, at)
    gold.refresh_dirty(database)
    dropped: list[str] = []
    if lines.samples is not None:
        dropped += _drop_samples(database, lines.samples)
    for pipeline in pipelines:
        keep = pipeline.spec.retention.silver
        if keep is not None:
            before = _clean_before(database, at - keep, pipeline.id)
            dropped += drop_partitions_before(database, pipeline.silver_table, before)
    dropped += drop_partitions_before(database, EVENT_KEYS, lines.event_keys)
    return dropped


def _lines(pipelines: Sequence[Pipeline], at: datetime) -> _Lines:
    kept = [pipeline.spec.retention.silver for pipeline in pipelines]
    bounded = [keep for keep in kept if keep is not None]
    samples = at - max(bounded) if bounded and len(bounded) == len(kept) else None
    window = max((pipeline.spec.dedupe.window for pipeline in pipelines), default=timedelta(days=7))
    return _Lines(samples, at - window - LATE)


def _drop_samples(database: Database, before: datetime) -> list[str]:
    begin = _first_kept(database, SAMPLES, before)
    if begin is None:
        return []
    gold.set_floor(database, _SAMPLES_SOURCE, begin)
    return drop_partitions_before(database, SAMPLES, _clean_before(database, begin, None))


def _first_kept(database: Database, parent: str, before: datetime) -> datetime | None:
    """Where the kept rows will begin; None when no partition lies wholly before."""
    if database.server.timescaledb is not None:
        return before
    ends = [p.end for p in list_partitions(database, parent) if p.end <= before]
    return max(ends, default=None)


def _clean_before(database: Database, before: datetime, pipeline_id: int | None) -> datetime:
    """`before`, or the oldest bucket that is still dirty if that is earlier."""
    with database.connect(Role.MODELER) as connection:
        row = connection.execute(
            "SELECT min(bucket) FROM gold.dirty_buckets"
            " WHERE bucket < %s AND (%s::int IS NULL OR pipeline_id = %s)",
            (before, pipeline_id, pipeline_id),
        ).fetchone()
    oldest: datetime | None = row[0] if row else None
    return before if oldest is None else min(before, oldest)
