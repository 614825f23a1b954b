"""What an object of the lake is called, what it promises, and what work on the lake reports.

The one invariant everything else rests on: **an object named with a range of the spool holds every event
of its pipeline and day that lies in that range, in order of position.** So objects may overlap or contain
one another at any time (a compaction between two of its steps, a flush done again after a crash): reading
in order of range and skipping what has been read gives every event exactly once.
"""

import re
from dataclasses import dataclass, field
from datetime import date, datetime

from sluiceway.catalog.contracts import Pipeline
from sluiceway.ingestion.contracts import Position

_NAME = re.compile(
    r"date=(?P<day>\d{4}-\d{2}-\d{2})/(?P<node>[^/]+)"
    r"-(?P<segment>\d+)-(?P<offset>\d+)-(?P<end_segment>\d+)-(?P<end_offset>\d+)\.parquet$"
)


@dataclass(frozen=True, slots=True)
class BronzeName:
    """Where one pipeline's events of one day and one stretch [`begin`, `end`) of a node's spool are kept."""

    prefix: str
    day: date
    node: str
    begin: Position
    end: Position

    @property
    def path(self) -> str:
        stretch = f"{self.begin.segment}-{self.begin.offset}-{self.end.segment}-{self.end.offset}"
        return f"{self.prefix}/date={self.day.isoformat()}/{self.node}-{stretch}.parquet"

    @classmethod
    def parse(cls, path: str) -> "BronzeName | None":
        """The name in a path, or None for what is not a bronze object."""
        match = _NAME.search(path)
        if match is None:
            return None
        return cls(
            prefix=path[: match.start()].rstrip("/"),
            day=date.fromisoformat(match["day"]),
            node=match["node"],
            begin=Position(int(match["segment"]), int(match["offset"])),
            end=Position(int(match["end_segment"]), int(match["end_offset"])),
        )


@dataclass(frozen=True, slots=True)
class BronzeObject:
    name: BronzeName
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Compaction:
    """What compacting one day did; `events` counts those in the whole objects there are now.

    `damaged`: paths of objects that cannot be read. They, and what may replace them, were left as they are.
    """

    objects_before: int
    objects_after: int
    events: int
    size_bytes: int
    damaged: tuple[str, ...] = ()


@dataclass(slots=True)
class Traffic:
    """One kind of request since the process began: how many, how many failed, bytes carried, seconds."""

    requests: int = 0
    failures: int = 0
    size_bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class LakeStats:
    """What a process asked of the lake, for metrics. Only grows; may be read any time."""

    put: Traffic = field(default_factory=Traffic)
    get: Traffic = field(default_factory=Traffic)
    listing: Traffic = field(default_factory=Traffic)
    delete: Traffic = field(default_factory=Traffic)
    compactions: int = 0
    objects_compacted: int = 0
    objects_damaged: int = 0


@dataclass(frozen=True, slots=True)
class BronzeWriterState:
    """How far the writer is, and what it did since it started. `failing_since` is None when all is well.

    `put_seconds`: spent in putting objects, failed ones too. `failures`: tries that failed. `reason` is
    `last_error` in words for anyone who may see the platform's health.
    """

    position: Position
    waiting_bytes: int
    objects: int
    events: int
    size_bytes: int
    last_flush_at: datetime | None
    failing_since: datetime | None
    last_error: str | None
    put_seconds: float = 0.0
    failures: int = 0
    reason: str | None = None


def bronze_prefix(workspace_id: int, slug: str) -> str:
    """The folder of a pipeline's objects, within the lake."""
    return f"bronze/w{workspace_id}/{slug}"


def prefix_of(pipeline: Pipeline) -> str:
    return bronze_prefix(pipeline.workspace_id, pipeline.slug)


def unread(objects: list[BronzeObject]) -> list[BronzeObject]:
    """Those needed to see everything once, by node and range: what others contain is left out."""
    found: list[BronzeObject] = []
    ordered = sorted(objects, key=lambda o: (o.name.node, o.name.begin, _backwards(o.name.end)))
    for item in ordered:
        last = found[-1].name if found else None
        if last is None or last.node != item.name.node or item.name.end > last.end:
            found.append(item)
    return found


def contains(outer: BronzeName, inner: BronzeName) -> bool:
    """Whether one object holds all events of the other (of the same pipeline and day)."""
    return outer.node == inner.node and outer.begin <= inner.begin and inner.end <= outer.end


def overlaps(one: BronzeName, other: BronzeName) -> bool:
    """Whether there are positions that both are about."""
    return one.node == other.node and one.begin < other.end and other.begin < one.end


def _backwards(position: Position) -> tuple[int, int]:
    return (-position.segment, -position.offset)
