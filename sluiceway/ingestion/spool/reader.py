"""Reading a spool that another process writes: whole records only, damage skipped and counted.

Not here: cursors (each reader keeps its own, with its work) and trimming (`segments`).
"""

import logging
import os
from pathlib import Path
from types import TracebackType

from sluiceway.ingestion.contracts import Position, SpoolRecord
from sluiceway.ingestion.spool import records, segments
from sluiceway.ingestion.spool.doorbell import Ear

log = logging.getLogger("sluiceway.spool")

READ_BYTES = 1024 * 1024


class SpoolReader:
    """Reads the spool in `folder`, which need not exist yet. Not for use by several threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._corrupt = 0
        self._ear: Ear | None = None
        self._file = -1
        self._number = -1
        self._marker: bytes | None = None
        self._looked: tuple[int, int, int] | None = None  # segment, offset, size: nothing readable there yet

    @property
    def corrupt_records(self) -> int:
        """Stretches of unreadable bytes skipped since the reader was made."""
        return self._corrupt

    def read(self, start: Position, max_bytes: int) -> list[SpoolRecord]:
        """Whole records from `start` on, in order, of about `max_bytes`; at least one if any waits."""
        found: list[SpoolRecord] = []
        budget = max(1, max_bytes)
        at = start
        while budget > 0:
            present = segments.numbers(self.folder)  # before reading: so an end that is seen is an end
            number = next((n for n in present if n >= at.segment), None)
            if number is None:
                break
            if number != at.segment:
                at = Position(number, 0)
            try:
                got, done = self._read_segment(at, budget, sealed=number != present[-1])
            except FileNotFoundError:
                continue  # trimmed between the two looks
            found += got
            budget -= sum(record.end.offset - record.position.offset for record in got)
            if not done:
                break
            at = Position(number + 1, 0)
        return found

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
        if getattr(self, "_file", -1) >= 0:
            os.close(self._file)
            self._file = -1
            self._number = -1

    def _open(self, number: int) -> None:
        if self._number == number and self._marker is not None:
            return
        self._forget()
        self._file = os.open(segments.path_of(self.folder, number), os.O_RDONLY)
        self._number = number
        head = os.pread(self._file, READ_BYTES, 0)
        self._marker = segments.read_marker(head) if len(head) >= records.SEGMENT_HEADER_BYTES else None

    def _read_segment(self, at: Position, budget: int, *, sealed: bool) -> tuple[list[SpoolRecord], bool]:
        """Records of one segment, and whether the segment is done (no more will ever come from it)."""
        self._open(at.segment)
        size = os.fstat(self._file).st_size
        offset = max(at.offset, records.SEGMENT_HEADER_BYTES)
        if self._marker is None:
            if sealed and size > records.SEGMENT_HEADER_BYTES:
                self._report(at.segment, 0, size)
            return [], sealed
        found: list[SpoolRecord] = []
        while offset < size and budget > 0:
            got, offset, good = self._read_run(at.segment, offset, size, budget)
            found += got
            budget -= sum(r.end.offset - r.position.offset for r in got)
            if not good:
                skipped = self._skip(at.segment, offset, size, sealed=sealed)
                if skipped is None:
                    return found, False
                offset = skipped
        return found, sealed and offset >= size

    def _read_run(
        self, number: int, offset: int, size: int, budget: int
    ) -> tuple[list[SpoolRecord], int, bool]:
        """Undamaged records from `offset`, where they end, and False if no whole record follows there."""
        assert self._marker is not None
        want = min(size - offset, max(min(budget, 64 * READ_BYTES), 65536))
        data = os.pread(self._file, want, offset)
        found: list[SpoolRecord] = []
        at = 0
        while at < len(data) and budget > 0:
            length = records.whole_length(data, at, self._marker)
            if length is None:
                whole_header = len(data) - at >= records.RECORD_HEADER_BYTES
                return (
                    found,
                    offset + at,
                    not whole_header and offset + at + records.RECORD_HEADER_BYTES <= size,
                )
            if at + length > len(data):
                if offset + at + length > size:
                    return found, offset + at, False
                if found:
                    break  # the rest is for the next run
                data = os.pread(self._file, length, offset)
                if len(data) < length:
                    return found, offset, False
                continue
            record = records.decode(data, at, length, Position(number, offset + at))
            if record is None:
                return found, offset + at, False
            found.append(record)
            at += length
            budget -= length
        return found, offset + at, True

    def _skip(self, number: int, offset: int, size: int, *, sealed: bool) -> int | None:
        """Where reading goes on behind what cannot be read at `offset`; None: it may be in the making yet."""
        assert self._marker is not None
        if not sealed and self._looked == (number, offset, size):
            return None
        step = 8 * READ_BYTES
        position = offset + 1
        while position < size:
            data = os.pread(self._file, min(step, size - position), position)
            found = self._next_valid(data, position, size)
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

    def _next_valid(self, data: bytes, base: int, size: int) -> int | None:
        """The first whole record whose marker lies in `data`, as an offset in the file."""
        assert self._marker is not None
        at = data.find(self._marker)
        while at >= 0:
            head = os.pread(self._file, records.RECORD_HEADER_BYTES, base + at)
            length = records.whole_length(head, 0, self._marker)
            if length is not None and base + at + length <= size:
                record = os.pread(self._file, length, base + at)
                if len(record) == length and records.is_valid(record, 0, length):
                    return base + at
            at = data.find(self._marker, at + 1)
        return None

    def _report(self, number: int, begin: int, end: int) -> None:
        self._corrupt += 1
        log.error(
            "spool: %s holds %d unreadable bytes at offset %d: skipped",
            segments.path_of(self.folder, number).name, end - begin, begin,
        )  # fmt: skip
