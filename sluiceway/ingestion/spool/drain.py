"""How fast the spool is drained, so that whoever is told to wait is told how long.

Reads what the loader wrote of its progress, a few times a second at most. Not here: deciding who waits.
"""

import time
from collections.abc import Callable
from pathlib import Path

from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool import segments
from sluiceway.ingestion.spool.progress import SpoolProgress, load_progress

LOOK_AGAIN_S = 0.25
STALE_S = 10.0  # the loader writes about once a second: if it is silent for so long, nothing is drained
LEAST_WAIT_S = 1.0
MOST_WAIT_S = 600.0
UNKNOWN_WAIT_S = 30.0  # where nothing is drained just now: somebody has to start the loader first


class Drain:
    """What the loader of the spool in `folder` told last. For one thread."""

    def __init__(
        self,
        folder: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._time_s = time_s
        self._looked_at = float("-inf")
        self._progress: SpoolProgress | None = None

    def progress(self) -> SpoolProgress | None:
        """The newest that is known; None if no loader ever worked here."""
        now = self._monotonic()
        if now - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = now
            self._progress = load_progress(self._folder)
        return self._progress

    def bytes_per_s(self) -> float:
        """How fast the log is loaded; 0.0 if it is not, or not known."""
        progress = self.progress()
        if progress is None or self._time_s() - progress.at > STALE_S:
            return 0.0
        return progress.drained_bytes_per_s

    def seconds_for(self, size_bytes: float) -> float:
        """How long loading so much takes, within reason."""
        rate = self.bytes_per_s()
        return bounded(size_bytes / rate) if rate > 0 else UNKNOWN_WAIT_S

    def seconds_to_free(self, size_bytes: int) -> float:
        """How long until loaded segments of so many bytes can be removed: a segment goes as a whole."""
        progress = self.progress()
        if progress is None:
            return UNKNOWN_WAIT_S
        return self.seconds_for(_bytes_until_freed(self._folder, progress.read_to, size_bytes))


def bounded(seconds: float) -> float:
    return min(max(seconds, LEAST_WAIT_S), MOST_WAIT_S)


def _bytes_until_freed(folder: Path, read_to: Position, wanted: int) -> int:
    """How far reading has to go on until the segments behind it hold `wanted` bytes."""
    freed = to_read = 0
    for number in segments.numbers(folder):
        try:
            size = segments.path_of(folder, number).stat().st_size
        except FileNotFoundError:
            continue  # trimmed meanwhile
        if number == read_to.segment:
            to_read += max(0, size - read_to.offset)
        elif number > read_to.segment:
            to_read += size
        freed += size
        if freed >= wanted:
            break
    return to_read
