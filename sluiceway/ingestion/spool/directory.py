"""Where the records of each pipeline lie in pieces of the log that were walked lately.

Many pipelines with a backlog, finely mixed, would each walk past the others' records; so the first one's walk
is remembered, in a few bytes a record and for so many records only. Not here: the walk (`reader`).
"""

from collections import OrderedDict
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sluiceway.ingestion.spool.records import Head

MAX_RECORDS = 2_000_000  # 16 bytes each
STRETCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Walked:
    """All records that begin in [`begin`, `end`) of a segment, by pipeline and then by offset."""

    begin: int
    end: int
    pipelines: tuple[int, ...]
    bounds: tuple[int, ...]
    at: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]

    def of(self, wanted: Container[int], offset: int) -> list[tuple[int, int, int]]:
        """(offset, size, pipeline) of the wanted pipelines' records from `offset` on, in order."""
        found: list[tuple[int, int, int]] = []
        for number, pipeline_id in enumerate(self.pipelines):
            if pipeline_id in wanted:
                low, high = self.bounds[number], self.bounds[number + 1]
                low += int(np.searchsorted(self.at[low:high], offset))
                at, size = self.at[low:high].tolist(), self.size[low:high].tolist()
                found += [(a, s, pipeline_id) for a, s in zip(at, size, strict=True)]
        found.sort()
        return found


class Directory:
    """Of one reader; the pieces used last stay. Under the reader's lock."""

    def __init__(self, stretch_bytes: int = STRETCH_BYTES, max_records: int = MAX_RECORDS) -> None:
        self.stretch_bytes = stretch_bytes
        self._max_records = max_records
        self._known: OrderedDict[tuple[int, int], Walked] = OrderedDict()
        self._records = 0

    def room(self, offset: int) -> int:
        """Bytes from `offset` to the end of its stretch."""
        return self.stretch_bytes - offset % self.stretch_bytes

    def find(self, number: int, offset: int) -> Walked | None:
        key = (number, offset // self.stretch_bytes)
        found = self._known.get(key)
        if found is None or not found.begin <= offset < found.end:
            return None
        self._known.move_to_end(key)
        return found

    def remember(self, number: int, begin: int, end: int, heads: Sequence[Head]) -> None:
        """A walk from `begin` found `heads` (their offsets from there), up to `end`; in one stretch."""
        pipelines = np.fromiter((head.pipeline_id for head in heads), np.int64, len(heads))
        known = np.unique(pipelines)
        if len(known) < 2:
            return  # nobody will walk there again
        order = np.argsort(pipelines, kind="stable")
        bounds = np.searchsorted(pipelines[order], known)
        at = np.fromiter((head.at for head in heads), np.int64, len(heads)) + begin
        size = np.fromiter((head.size for head in heads), np.int64, len(heads))
        self.forget(number, begin)
        self._known[(number, begin // self.stretch_bytes)] = Walked(
            begin, end, tuple(known.tolist()), (*bounds.tolist(), len(heads)), at[order], size[order]
        )
        self._records += len(heads)
        while self._records > self._max_records and self._known:
            self._records -= len(self._known.popitem(last=False)[1].at)

    def forget(self, number: int, offset: int) -> None:
        """What is known of the stretch that holds `offset` is not so any more."""
        gone = self._known.pop((number, offset // self.stretch_bytes), None)
        if gone is not None:
            self._records -= len(gone.at)

    def forget_segment(self, number: int) -> None:
        """There is another file under this number."""
        for key in [key for key in self._known if key[0] == number]:
            self._records -= len(self._known.pop(key).at)
