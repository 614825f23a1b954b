"""What waits in one node's log, by pipeline: where, how much, since when. Pure: positions and counts.

Fed by scanning the log in order; shrinks as batches are committed, here or by another loader. It holds a
stretch of about 1 MiB of log for each pipeline, never a record, and joins neighbours when there are too
many. Not here: whose turn it is (`shares`), and reading (`reading`).
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sluiceway.ingestion.contracts import Extent, Position, Scan

STRETCH_BYTES = 1024 * 1024
MAX_STRETCHES = 65_536  # some 20 MB of memory


@dataclass(slots=True)
class Stretch:
    """Between `begin` and `end` lie `size_bytes` of one pipeline, in records that are not loaded yet."""

    begin: Position
    end: Position
    size_bytes: int
    events: int
    oldest_us: int


@dataclass(frozen=True, slots=True)
class Span:
    """A part of one pipeline's backlog; `size_bytes` of what lies there are the pipeline's."""

    begin: Position
    end: Position
    size_bytes: int


@dataclass(slots=True)
class Lane:
    """One pipeline's backlog, oldest first; never empty."""

    stretches: deque[Stretch] = field(default_factory=deque)
    waiting_bytes: int = 0

    def add(self, extent: Extent) -> bool:
        """Take in what was scanned; True if that made a stretch of its own."""
        self.waiting_bytes += extent.size_bytes
        last = self.stretches[-1] if self.stretches else None
        if last is not None and _same_stretch(last.begin, extent.begin):
            last.end = extent.end
            last.size_bytes += extent.size_bytes
            last.events += extent.events
            last.oldest_us = min(last.oldest_us, extent.oldest_us)
            return False
        self.stretches.append(
            Stretch(extent.begin, extent.end, extent.size_bytes, extent.events, extent.oldest_us)
        )
        return True

    def join_neighbours(self) -> None:
        """Make one stretch of each two: less to hold, and more of the log to pass over when it is read."""
        joined: deque[Stretch] = deque()
        for number, stretch in enumerate(self.stretches):
            if number % 2 == 0:
                joined.append(stretch)
                continue
            last = joined[-1]
            last.end = stretch.end
            last.size_bytes += stretch.size_bytes
            last.events += stretch.events
            last.oldest_us = min(last.oldest_us, stretch.oldest_us)
        self.stretches = joined

    def pass_to(self, to: Position, size_bytes: int | None) -> int:
        """Everything before `to` is done with; returns how many bytes that was.

        `size_bytes`: how many it was, where that is known; else what is cut is reckoned by its length.
        """
        gone = 0
        while self.stretches and self.stretches[0].end <= to:
            gone += self.stretches.popleft().size_bytes
        if self.stretches and self.stretches[0].begin < to:
            first = self.stretches[0]
            left = _share(first.begin, first.end, to)
            part = int(first.size_bytes * (1 - left)) if size_bytes is None else size_bytes - gone
            part = min(max(part, 0), first.size_bytes - 1)
            first.begin, first.size_bytes = to, first.size_bytes - part
            first.events = max(1, int(first.events * left))
            gone += part
        self.waiting_bytes -= gone
        return gone


class Backlog:
    """One node's. Used by one thread.

    `end`: the log is scanned up to there. `cursors`: where each pipeline's committed work ends, as the
    database says; what lies before is never taken in.
    """

    def __init__(
        self, start: Position, cursors: Mapping[int, Position], *, max_stretches: int = MAX_STRETCHES
    ) -> None:
        self.end = start
        self.cursors = dict(cursors)
        self.drained_bytes = 0
        """Bytes that were loaded since the start, here or elsewhere."""
        self._lanes: dict[int, Lane] = {}
        self._stretches = 0
        self._max_stretches = max_stretches

    def __contains__(self, pipeline_id: int) -> bool:
        return pipeline_id in self._lanes

    def __iter__(self) -> Iterator[int]:
        """The pipelines of which something waits."""
        return iter(list(self._lanes))

    @property
    def waiting(self) -> dict[int, int]:
        """Bytes that wait, by pipeline; none is 0."""
        return {pipeline_id: lane.waiting_bytes for pipeline_id, lane in self._lanes.items()}

    @property
    def position(self) -> Position:
        """Everything before it is done with, whatever its pipeline."""
        return min((lane.stretches[0].begin for lane in self._lanes.values()), default=self.end)

    def oldest_us(self, pipeline_id: int) -> int:
        """When the oldest waiting event was received (to within a stretch). Raises KeyError if none waits."""
        return self._lanes[pipeline_id].stretches[0].oldest_us

    def position_after(self, pipeline_id: int, to: Position) -> Position:
        """What `position` will be when one pipeline is loaded up to `to`."""
        found = self.end
        for other, lane in self._lanes.items():
            if other != pipeline_id:
                found = min(found, lane.stretches[0].begin)
        lane_ = self._lanes.get(pipeline_id)
        rest = next((s for s in lane_.stretches if s.end > to), None) if lane_ else None
        return found if rest is None else min(found, max(rest.begin, to))

    def add(self, scan: Scan) -> None:
        """Take in what a scan from `end` on has found."""
        for extent in scan.extents:
            cursor = self.cursors.get(extent.pipeline_id)
            if cursor is not None and extent.begin < cursor:
                if extent.end <= cursor:
                    continue
                left = _share(extent.begin, extent.end, cursor)
                extent = replace(extent, begin=cursor, size_bytes=max(1, int(extent.size_bytes * left)))
            lane = self._lanes.setdefault(extent.pipeline_id, Lane())
            self._stretches += lane.add(extent)
        self.end = scan.end
        if self._stretches > self._max_stretches:
            self._join()

    def spans(
        self, pipeline_id: int, after: Position | None = None, max_bytes: int | None = None
    ) -> list[Span]:
        """What waits of a pipeline from `after` on, about `max_bytes` of it (at least something)."""
        found: list[Span] = []
        size_bytes = 0
        lane = self._lanes.get(pipeline_id)
        for stretch in lane.stretches if lane else ():
            if max_bytes is not None and size_bytes >= max_bytes:
                break
            if after is not None and stretch.end <= after:
                continue
            begin = stretch.begin if after is None else max(stretch.begin, after)
            left = _share(stretch.begin, stretch.end, begin)
            span = Span(begin, stretch.end, max(1, int(stretch.size_bytes * left)))
            found.append(span)
            size_bytes += span.size_bytes
        return found

    def committed(self, pipeline_id: int, end: Position, size_bytes: int | None = None) -> None:
        """The database has a pipeline's work up to `end`, which was so many bytes of log."""
        self.cursors[pipeline_id] = max(end, self.cursors.get(pipeline_id, end))
        self.drained_bytes += self.passed(pipeline_id, end, size_bytes)

    def passed(self, pipeline_id: int, end: Position, size_bytes: int | None = None) -> int:
        """Nothing of a pipeline before `end` is to be loaded (any more); how many bytes that was."""
        lane = self._lanes.get(pipeline_id)
        if lane is None:
            return 0
        before = len(lane.stretches)
        gone = lane.pass_to(end, size_bytes)
        self._stretches -= before - len(lane.stretches)
        if not lane.stretches:
            del self._lanes[pipeline_id]
        return gone

    def drop(self, pipeline_id: int) -> int:
        """Nothing that waits of a pipeline is to be loaded; how many events that is."""
        lane = self._lanes.pop(pipeline_id, None)
        if lane is None:
            return 0
        self._stretches -= len(lane.stretches)
        return sum(stretch.events for stretch in lane.stretches)

    def follow(self, cursors: Mapping[int, Position]) -> bool:
        """Take in where the database's cursors are now; False if one went back (it lost what it had)."""
        if any(cursors.get(pipeline_id, end) < end for pipeline_id, end in self.cursors.items()):
            return False
        if self.cursors.keys() - cursors.keys():
            return False
        for pipeline_id, end in cursors.items():
            if self.cursors.get(pipeline_id) != end:
                self.committed(pipeline_id, end)
        return True

    def _join(self) -> None:
        for lane in self._lanes.values():
            if len(lane.stretches) > 1:
                before = len(lane.stretches)
                lane.join_neighbours()
                self._stretches -= before - len(lane.stretches)


def _same_stretch(one: Position, other: Position) -> bool:
    return one.segment == other.segment and one.offset // STRETCH_BYTES == other.offset // STRETCH_BYTES


def _share(begin: Position, end: Position, at: Position) -> float:
    """What part of [begin, end) lies behind `at`, by length; all of it where that cannot be told."""
    if begin.segment != end.segment or at.segment != end.segment or end.offset <= begin.offset:
        return 1.0
    return min(1.0, max(0.0, (end.offset - at.offset) / (end.offset - begin.offset)))
