"""How much of a spool a reader has not passed yet, and how old it is, by looking at the folder."""

from dataclasses import dataclass
from pathlib import Path

from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool import records, segments
from sluiceway.ingestion.spool.reader import SpoolReader


@dataclass(frozen=True, slots=True)
class Backlog:
    """`waiting_bytes` on disk behind a position; when the first waiting record was received (None: none)."""

    waiting_bytes: int
    oldest_received_us: int | None

    def lag_s(self, now_s: float) -> float:
        """Age of what waits longest, in seconds; 0 if nothing waits."""
        return 0.0 if self.oldest_received_us is None else max(0.0, now_s - self.oldest_received_us / 1e6)


class BacklogMeter:
    """Measures one spool again and again. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = SpoolReader(folder)
        self._seen: tuple[Position, int | None] | None = None

    def measure(self, start: Position) -> Backlog:
        """What lies behind `start`. Raises OSError."""
        waiting = waiting_bytes(self._folder, start)
        if waiting == 0:
            return Backlog(0, None)
        if self._seen is None or self._seen[0] != start or self._seen[1] is None:
            first = self._reader.read(start, 1)
            self._seen = (start, first[0].received_us if first else None)
        return Backlog(waiting if self._seen[1] is not None else 0, self._seen[1])

    def close(self) -> None:
        self._reader.close()


def waiting_bytes(folder: Path, start: Position) -> int:
    """Bytes of records behind `start`; those of damaged ones count."""
    total = 0
    for number in segments.numbers(folder):
        if number < start.segment:
            continue
        try:
            size = segments.path_of(folder, number).stat().st_size
        except FileNotFoundError:
            continue
        begin = max(records.SEGMENT_HEADER_BYTES, start.offset if number == start.segment else 0)
        total += max(0, size - begin)
    return total
