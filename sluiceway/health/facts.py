"""What is measured, and kept for a while, so that rates and histories can be told. Pure: no I/O here."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluiceway.infra.reporting import Report
from sluiceway.ingestion.spool.backlog import Backlog

KEPT_S = 1_800.0
WINDOW_S = 60.0
"""Rates and means are of the last minute, or of as much of it as has been watched."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What the database says; `answer_s`: how long it took to ask."""

    answer_s: float
    dirty_buckets: int
    dirty_oldest: datetime | None
    outbox_waiting: int
    outbox_oldest: datetime | None
    outbox_failing: int
    outbox_given_up: int
    outbox_topic: str | None
    last_batch_at: datetime | None
    connections: int
    max_connections: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The disk of this node. Sizes in bytes. `silver` and `bronze`: what waits for each, None: not known."""

    spool_bytes: int
    spool_max_bytes: int
    segments: int
    disk_free_bytes: int
    disk_total_bytes: int
    disk_reserve_bytes: int
    silver: Backlog | None
    bronze: Backlog | None


@dataclass(frozen=True, slots=True)
class OtherSpool:
    """A spool that is not this node's own.

    `seen`: its folder is on a disk of this machine; else its node told of it. `attended`: a loader works on
    it, as far as is known. `silver` and `bronze`: as in `NodeFacts`.
    """

    node: str
    seen: bool
    attended: bool
    silver: Backlog | None
    bronze: Backlog | None


@dataclass(frozen=True, slots=True)
class Held:
    """What a gate holds of one of the asking workspace's pipelines."""

    pipeline: str
    events: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything measured at one moment. `database` None: it did not answer, `database_error` says why."""

    at: datetime
    node: str
    reports: list[Report]
    disk: NodeFacts
    database: DatabaseFacts | None
    database_error: str | None
    flush_s: float
    lake: str
    others: tuple[OtherSpool, ...] = ()

    def process(self, name: str, node: str | None = None) -> Report | None:
        """The last word of a node's process of that name; of this node's without `node`."""
        where = node or self.node
        return next((r for r in self.reports if r.node == where and r.process == name), None)

    @property
    def silver(self) -> Backlog | None:
        """What waits to be loaded, wherever it is known."""
        return _together([self.disk.silver, *(other.silver for other in self.others)])

    @property
    def bronze(self) -> Backlog | None:
        """What waits to be written to the lake, wherever it is known."""
        return _together([self.disk.bronze, *(other.bronze for other in self.others)])

    def total(self, name: str, **labels: str) -> float:
        """A counter over all processes."""
        return sum(report.value(name, **labels) or 0.0 for report in self.reports)

    def state_of(self, process: str, key: str) -> Any:
        """Something that a process said of itself, or None."""
        report = self.process(process)
        return None if report is None else report.state.get(key)


Trends = Callable[["Window | None", Sample], dict[str, float | None]]
"""What is remembered of a moment for half an hour, by stage."""


class Past:
    """The samples of the last minute, and half an hour of trends, oldest first."""

    def __init__(self, trends: Trends) -> None:
        self._trends = trends
        self.samples: deque[Sample] = deque()
        self.points: deque[tuple[datetime, dict[str, float | None]]] = deque()

    def add(self, sample: Sample) -> None:
        before = self.samples[-1] if self.samples else None
        window = None if before is None else Window(before, sample)
        self.samples.append(sample)
        while len(self.samples) > 2 and (sample.at - self.samples[0].at).total_seconds() > WINDOW_S:
            self.samples.popleft()
        self.points.append((sample.at, self._trends(window, sample)))
        while (sample.at - self.points[0][0]).total_seconds() > KEPT_S:
            self.points.popleft()

    @property
    def newest(self) -> Sample:
        return self.samples[-1]

    def window(self) -> "Window | None":
        """The last minute, or None before there are two samples."""
        return Window(self.samples[0], self.samples[-1]) if len(self.samples) > 1 else None

    def history(self, stage: str) -> list[float | None]:
        return [point.get(stage) for _, point in self.points]


@dataclass(frozen=True, slots=True)
class Window:
    """Two samples: what happened in between. A process that began anew counts from zero."""

    first: Sample
    last: Sample

    @property
    def seconds(self) -> float:
        return max(0.001, (self.last.at - self.first.at).total_seconds())

    def grown(self, name: str, **labels: str) -> float:
        """By how much a counter grew, over all processes."""
        return sum(after - before for after, before in self._pairs(name, labels))

    def rate(self, name: str, **labels: str) -> float:
        return self.grown(name, **labels) / self.seconds

    def mean(self, histogram: str, **labels: str) -> float | None:
        """The mean of what a histogram observed, or None if nothing was."""
        observed = self.grown(f"{histogram}_count", **labels)
        return self.grown(f"{histogram}_sum", **labels) / observed if observed > 0 else None

    def quantile(self, histogram: str, part: float) -> float | None:
        """An upper bound of the value that `part` of the observations stayed under, by the buckets."""
        bounds = sorted(
            {
                float(labels["le"])
                for report in self.last.reports
                for labels, _ in report.samples.get(f"{histogram}_bucket", ())
            }
        )
        if not bounds:
            return None
        counts = [self.grown(f"{histogram}_bucket", le=_label(bound)) for bound in bounds]
        if counts[-1] <= 0:
            return None
        found = bounds[bisect_left(counts, part * counts[-1])]
        return bounds[-2] if found == float("inf") and len(bounds) > 1 else found

    def cpu(self, node: str, process: str) -> float | None:
        """Processors that a process kept busy."""
        before, after = (
            next((r for r in s.reports if (r.node, r.process) == (node, process)), None)
            for s in (self.first, self.last)
        )
        if before is None or after is None or after.started_at != before.started_at:
            return None
        spent = (after.value("process_cpu_seconds_total") or 0) - (
            before.value("process_cpu_seconds_total") or 0
        )
        elapsed = (after.at - before.at).total_seconds()
        return max(0.0, spent / elapsed) if elapsed > 0 else None

    def _pairs(self, name: str, labels: dict[str, str]) -> Iterator[tuple[float, float]]:
        known = {(r.node, r.process): r for r in self.first.reports}
        for report in self.last.reports:
            before = known.get((report.node, report.process))
            after = report.value(name, **labels) or 0.0
            same = before is not None and before.started_at == report.started_at
            yield after, (before.value(name, **labels) or 0.0) if before is not None and same else 0.0


def _together(found: Sequence[Backlog | None]) -> Backlog | None:
    known = [backlog for backlog in found if backlog is not None]
    if not known:
        return None
    oldest = [b.oldest_received_us for b in known if b.oldest_received_us is not None]
    return Backlog(sum(b.waiting_bytes for b in known), min(oldest, default=None))


def _label(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)
