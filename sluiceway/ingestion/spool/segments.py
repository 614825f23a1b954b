"""The spool's folder: its segments by number, recovery of the newest, trimming, and the file calls.

The calls that can fail for want of disk go through `FileOps`, so that a test can make them fail.
"""

import errno
import logging
import mmap
import os
from pathlib import Path

from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool import records
from sluiceway.kit.faults import reach

SUFFIX = ".seg"
LOCK_FILE = "writer.lock"
DOORBELLS = "doorbells"
_EPOCH_S = 1_577_836_800  # 2020-01-01 UTC

_SECTOR_BYTES = 4096
_DISK_BYTES = 64 * 1024  # that much in one piece without a readable sector is no bad spot: the disk is away

log = logging.getLogger("sluiceway.spool")


class FileOps:
    """The operating system's calls that the writer makes on its segments."""

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        os.ftruncate(descriptor, size_bytes)
        os.fsync(descriptor)

    def create(self, path: Path) -> int:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, folder: Path) -> int:
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{SUFFIX}"


def numbers(folder: Path) -> list[int]:
    """The segments that are there, oldest first."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  # names only, in a path that runs for every read
    except FileNotFoundError:
        return []
    stems = (name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def used_bytes(folder: Path) -> int:
    """The size of all segments together."""
    total = 0
    for number in numbers(folder):
        try:
            total += path_of(folder, number).stat().st_size
        except FileNotFoundError:
            continue  # trimmed meanwhile
    return total


def first_number(now_s: float) -> int:
    """Where a new folder begins to count: seconds since 2020.

    Not 1: a spool whose volume was lost would otherwise give out positions that the database has seen
    already, and the loader would take new events for old ones.
    """
    return max(1, int(now_s) - _EPOCH_S)


def read_at(descriptor: int, size_bytes: int, offset: int) -> bytes:
    """Bytes of a segment, with zeros for the sectors that the disk cannot read (EIO).

    Raises OSError for any other failure, and if 64 KiB or more were asked for and no sector can be read.
    """
    try:
        return os.pread(descriptor, size_bytes, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return _read_sectors(descriptor, size_bytes, offset, error)


def _read_sectors(descriptor: int, size_bytes: int, offset: int, error: OSError) -> bytes:
    end = min(offset + size_bytes, os.fstat(descriptor).st_size)
    found = bytearray(max(0, end - offset))
    at, readable = offset, False
    while at < end:
        until = min(end, at - at % _SECTOR_BYTES + _SECTOR_BYTES)
        try:
            piece = os.pread(descriptor, until - at, at)
            found[at - offset : at - offset + len(piece)] = piece
            readable = True
        except OSError as again:
            if again.errno != errno.EIO:
                raise
        at = until
    if len(found) >= _DISK_BYTES and not readable:
        raise error
    return bytes(found)


def trim(folder: Path, before: Position) -> int:
    """Remove the segments that lie wholly before `before`; returns how many. The newest always stays:
    the numbers go on from it."""
    removed = 0
    for number in numbers(folder)[:-1]:
        if number >= before.segment:
            break
        reach("spool.trim_begin")
        path_of(folder, number).unlink(missing_ok=True)
        reach("spool.trimmed")
        removed += 1
    return removed


def find_next(data: records.Buffer, begin: int, marker: bytes) -> int | None:
    """Where in `data` the next whole, undamaged record begins, from `begin` on."""
    at = data.find(marker, begin)
    while at >= 0:
        size = records.whole_length(data, at, marker)
        if size is not None and at + size <= len(data) and records.is_valid(data, at, size):
            return at
        at = data.find(marker, at + 1)
    return None


def read_marker(data: records.Buffer) -> bytes | None:
    """The marker of the segment in `data`; if its header is damaged, the first record is tried."""
    begin = records.SEGMENT_HEADER_BYTES
    marker = records.marker_of(data[:begin])
    if marker is not None or len(data) < begin + records.RECORD_HEADER_BYTES:
        return marker
    guess = data[begin : begin + records.MARKER_BYTES]
    size = records.whole_length(data, begin, guess)
    if size is None or begin + size > len(data) or not records.is_valid(data, begin, size):
        return None
    return guess


def recover(folder: Path, number: int, files: FileOps) -> int:
    """Cut off what a crash left half written at the end of a segment; returns how many bytes were cut.

    Only bytes behind the last whole record are cut: damage before it is left for readers to report.
    """
    path = path_of(folder, number)
    if path.stat().st_size <= records.SEGMENT_HEADER_BYTES:
        return 0
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            size, end = len(data), end_of_records(data)
        if end < size:
            files.truncate(file.fileno(), end)
            log.warning("spool: cut %d bytes of an unfinished record off %s", size - end, path.name)
    return size - end


def end_of_records(data: records.Buffer) -> int:
    """Where the last whole record of a segment ends; all of it if its marker cannot be told."""
    marker = read_marker(data)
    if marker is None:
        return len(data)
    at = end = records.SEGMENT_HEADER_BYTES
    while at < len(data):
        size = records.whole_length(data, at, marker)
        if size is None or at + size > len(data) or not records.is_valid(data, at, size):
            found = find_next(data, at + 1, marker)
            if found is None:
                break
            at = found
        else:
            at = end = at + size
    return end
