"""Reading a spool that another process writes: whole records only, damage skipped and counted.

Not here: cursors (each reader keeps its own, with its work) and trimming (`segments`).
"""

import logging
import os
from collections.abc import Container, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType

from sluiceway.ingestion.contracts import Extent, Position, Scan, SpoolRecord
from sluiceway.ingestion.spool import records, segments
from sluiceway.ingestion.spool.directory import STRETCH_BYTES, Directory
from sluiceway.ingestion.spool.doorbell import Ear

log = logging.getLogger("sluiceway.spool")

READ_BYTES = 1024 * 1024
_LEAST_BYTES = 65536
_OPEN_SEGMENTS = 4  # the newest is scanned while older ones are read


@dataclass(slots=True)
class _Segment:
    """An open file. Its marker is None as long as its header is not whole."""

    number: int
    file: int
    marker: bytes | None


@dataclass(frozen=True, slots=True)
class _Run:
    """Undamaged records that lie one behind the other, and where reading goes on."""

    number: int
    offset: int
    data: bytes
    heads: list[records.Head]
    end: Position


class SpoolReader:
    """Reads the spool in `folder`, which need not exist yet. Any thread may call `read` and `scan`."""

    def __init__(self, folder: Path, *, stretch_bytes: int = STRETCH_BYTES) -> None:
        self.folder = folder
        self._directory = Directory(stretch_bytes)
        self._lock = Lock()
        self._ear: Ear | None = None
        self._open: dict[int, _Segment] = {}
        self._reported: set[tuple[int, int]] = set()
        self._looked: tuple[int, int, int] | None = None  # segment, offset, size: nothing readable there yet

    @property
    def corrupt_records(self) -> int:
        """Stretches of unreadable bytes skipped since the reader was made; each counts once."""
        return len(self._reported)

    def read(
        self,
        start: Position,
        max_bytes: int,
        *,
        pipelines: Container[int] | None = None,
        end: Position | None = None,
    ) -> list[SpoolRecord]:
        """Whole records from `start` on, in order, of about `max_bytes`; at least one if any waits.

        Only those of `pipelines` (None: of all), and only those that begin before `end`.
        """
        found: list[SpoolRecord] = []
        budget = max(1, max_bytes)
        with self._lock:
            for run in self._runs(start, budget, pipelines):
                ends_here = end is not None and run.end > end
                for head in run.heads:
                    if pipelines is not None and head.pipeline_id not in pipelines:
                        continue
                    position = Position(run.number, run.offset + head.at)
                    if ends_here and end is not None and position >= end:
                        return found
                    record = records.decode(run.data, head, position)
                    if record is None:  # undamaged, but of a form that this version does not know
                        self._report(run.number, position.offset, position.offset + head.size)
                        continue
                    found.append(record)
                    budget -= head.size
                    if budget <= 0:
                        return found
                if end is not None and run.end >= end:
                    break
        return found

    def scan(self, start: Position, max_bytes: int) -> Scan:
        """What lies from `start` on, by pipeline, in about `max_bytes` of log."""
        extents: list[Extent] = []
        at, budget = start, max(1, max_bytes)
        with self._lock:
            for run in self._runs(start, budget):
                extents += _extents(run)
                budget -= sum(head.size for head in run.heads)
                at = run.end
                if budget <= 0:
                    break
        return Scan(extents, max(at, start), max_bytes - budget)

    def begun(self) -> bool:
        """Whether there is any segment: a folder without one may be a disk that is not mounted."""
        return bool(segments.numbers(self.folder))

    def bounds(self) -> tuple[int, int] | None:
        """The numbers of the first and of the newest segment that are there; None: none is."""
        present = segments.numbers(self.folder)
        return (present[0], present[-1]) if present else None

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the writer rings (True) or the time is over (False). The first call returns at once."""
        if self._ear is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._ear = Ear(self.folder)
            return True  # something may have been written before the ear was there
        return self._ear.wait(timeout_s)

    def close(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None
        self._forget()

    def __enter__(self) -> "SpoolReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        opened = getattr(self, "_open", {})
        for segment in opened.values():
            os.close(segment.file)
        opened.clear()

    def _segment(self, number: int) -> _Segment:
        found = self._open.pop(number, None)
        if found is not None and os.fstat(found.file).st_nlink == 0:
            # Trimmed, or taken back by a writer that could not begin it and has made it again since.
            os.close(found.file)
            self._directory.forget_segment(number)
            self._looked = None
            found = None
        if found is None:
            while len(self._open) >= _OPEN_SEGMENTS:
                os.close(self._open.pop(next(iter(self._open))).file)
            found = _Segment(number, os.open(segments.path_of(self.folder, number), os.O_RDONLY), None)
        self._open[number] = found  # the last used is the last to be closed
        if found.marker is None:
            head = segments.read_at(found.file, READ_BYTES, 0)
            if len(head) >= records.SEGMENT_HEADER_BYTES:
                found.marker = segments.read_marker(head)
        return found

    def _runs(self, start: Position, budget: int, pipelines: Container[int] | None = None) -> Iterator[_Run]:
        """What can be read from `start` on, segment by segment, to the end of the log.

        With `pipelines` others' records may be missing from the runs.
        """
        want = max(_LEAST_BYTES, min(budget, READ_BYTES))
        at = start
        while True:
            present = segments.numbers(self.folder)  # before reading: so an end that is seen is an end
            number = next((n for n in present if n >= at.segment), None)
            if number is None:
                return
            if number != at.segment:
                at = Position(number, 0)
            try:
                segment = self._segment(number)
            except FileNotFoundError:
                continue  # trimmed between the two looks
            sealed = number != present[-1]
            done = yield from self._segment_runs(segment, at.offset, want, pipelines, sealed=sealed)
            if not done:
                return
            at = Position(number + 1, 0)
            yield _Run(number, 0, b"", [], at)

    def _segment_runs(
        self,
        segment: _Segment,
        begin: int,
        want: int,
        pipelines: Container[int] | None,
        *,
        sealed: bool,
    ) -> Generator[_Run, None, bool]:
        """The runs of one segment; returns whether it is done (no more will ever come from it)."""
        number, size = segment.number, os.fstat(segment.file).st_size
        offset = max(begin, records.SEGMENT_HEADER_BYTES)
        if segment.marker is None:
            if sealed and size > records.SEGMENT_HEADER_BYTES:
                self._report(number, 0, size)
            return sealed
        while offset < size:
            found = None if pipelines is None else self._known_run(segment, offset, pipelines)
            if found is not None:
                offset = found.end.offset
                yield found
                continue
            begin, room = offset, want if pipelines is None else self._directory.room(offset)
            run, good = self._run(segment, segment.marker, offset, size, room)
            offset = run.end.offset
            if pipelines is not None and good and run.heads and begin + room <= size:
                self._directory.remember(number, begin, offset, run.heads)
            yield run
            if not good:
                skipped = self._skip(segment, segment.marker, offset, size, sealed=sealed)
                if skipped is None:
                    return False
                offset = skipped
                yield _Run(number, offset, b"", [], Position(number, offset))
        return sealed

    def _known_run(self, segment: _Segment, offset: int, pipelines: Container[int]) -> _Run | None:
        """The wanted records of a stretch that was walked before, from `offset` on; None if it was not."""
        known = self._directory.find(segment.number, offset)
        if known is None:
            return None
        end = Position(segment.number, known.end)
        wanted = known.of(pipelines, offset)
        if not wanted:
            return _Run(segment.number, offset, b"", [], end)
        first, last = wanted[0][0], wanted[-1][0] + wanted[-1][1]
        data = segments.read_at(segment.file, last - first, first)
        heads = [records.Head(at - first, size, 0, pipeline_id, 0) for at, size, pipeline_id in wanted]
        if len(data) < last - first or not all(records.is_valid(data, h.at, h.size) for h in heads):
            self._directory.forget(segment.number, offset)  # damaged since: the walk will say where
            return None
        return _Run(segment.number, first, data, heads, end)

    def _run(self, segment: _Segment, marker: bytes, offset: int, size: int, want: int) -> tuple[_Run, bool]:
        """Undamaged records from `offset` on, and False if no whole record follows them."""
        data = segments.read_at(segment.file, min(size - offset, want), offset)
        heads, used, missing = records.walk(data, marker)
        while not heads and missing is not None and len(data) < missing <= size - offset:
            before = len(data)
            data = segments.read_at(segment.file, missing, offset)  # one record that is larger than a piece
            if len(data) <= before:
                break
            heads, used, missing = records.walk(data, marker)
        # Whole, or what follows is whole behind what was read; a run without a record gets nobody further.
        good = bool(heads) and (
            used == len(data) or (missing is not None and offset + used + missing <= size)
        )
        end = offset + used
        return _Run(segment.number, offset, data, heads, Position(segment.number, end)), good

    def _skip(self, segment: _Segment, marker: bytes, offset: int, size: int, *, sealed: bool) -> int | None:
        """Where reading goes on behind what cannot be read at `offset`; None: it may be in the making yet."""
        number = segment.number
        if not sealed and self._looked == (number, offset, size):
            return None
        step = 8 * READ_BYTES
        position = offset + 1
        while position < size:
            data = segments.read_at(segment.file, min(step, size - position), position)
            found = self._next_valid(segment.file, marker, data, position, size)
            if found is not None:
                self._report(number, offset, found)
                return found
            if len(data) < step:
                break
            position += step - records.MARKER_BYTES + 1
        if sealed:
            self._report(number, offset, size)
            return size
        self._looked = (number, offset, size)
        return None

    @staticmethod
    def _next_valid(file: int, marker: bytes, data: bytes, base: int, size: int) -> int | None:
        """The first whole record whose marker lies in `data`, as an offset in the file."""
        at = data.find(marker)
        while at >= 0:
            head = segments.read_at(file, records.RECORD_HEADER_BYTES, base + at)
            length = records.whole_length(head, 0, marker)
            if length is not None and base + at + length <= size:
                record = segments.read_at(file, length, base + at)
                if len(record) == length and records.is_valid(record, 0, length):
                    return base + at
            at = data.find(marker, at + 1)
        return None

    def _report(self, number: int, begin: int, end: int) -> None:
        if (number, begin) in self._reported:
            return
        self._reported.add((number, begin))
        log.error(
            "spool: %s holds %d unreadable bytes at offset %d: skipped",
            segments.path_of(self.folder, number).name, end - begin, begin,
        )  # fmt: skip


def _extents(run: _Run) -> list[Extent]:
    """What a run holds by pipeline."""
    found: dict[int, list[int]] = {}
    for head in run.heads:
        known = found.get(head.pipeline_id)
        if known is None:
            found[head.pipeline_id] = [head.at, head.at + head.size, head.size, head.events, head.received_us]
        else:
            known[1] = head.at + head.size
            known[2] += head.size
            known[3] += head.events
            if head.received_us < known[4]:
                known[4] = head.received_us
    return [
        Extent(
            pipeline_id,
            Position(run.number, run.offset + begin),
            Position(run.number, run.offset + end),
            size_bytes,
            events,
            oldest_us,
        )
        for pipeline_id, (begin, end, size_bytes, events, oldest_us) in found.items()
    ]
