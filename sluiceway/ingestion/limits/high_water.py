"""Marks past which nothing more is taken in, before anything is lost: for all, or for one pipeline.

Belongs here: a full spool and disk (as its writer says), the loader's lag, one pipeline's share of what
waits. Everything recovers by itself when the loader catches up. Not here: rates (`limiter`).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.errors import LoaderBehind, PipelineBacklogged
from sluiceway.ingestion.limits.refusals import RefusalBook
from sluiceway.ingestion.spool.drain import LOOK_AGAIN_S, UNKNOWN_WAIT_S, Drain, bounded
from sluiceway.ingestion.spool.progress import SpoolProgress
from sluiceway.kit.errors import SluicewayError

SET_LEAST_S = 1.0  # the wall clock was set, if it moved by more than this beside the process's own
DRIFT = 0.001  # and by more than this part of what passed: a clock that is only corrected is not set
_MOST_NOTES = 64


class Stats(Protocol):
    @property
    def bytes(self) -> int:
        """Bytes appended since the writer was made."""
        ...

    @property
    def pipelines(self) -> dict[int, int]:
        """The same by pipeline."""
        ...


class Watched(Protocol):
    """What is asked of a spool's writer."""

    @property
    def folder(self) -> Path: ...

    @property
    def refusal(self) -> SluicewayError | None: ...

    @property
    def stats(self) -> Stats: ...

    @property
    def end(self) -> Position:
        """Behind everything that `stats` counted when they were read before."""
        ...


@dataclass(frozen=True, slots=True)
class Marks:
    """`pipeline_bytes`: how much of one pipeline may wait. `lag_s`: the age at which the oldest waiting event
    stops everybody."""

    pipeline_bytes: int
    lag_s: float


@dataclass(frozen=True, slots=True)
class HighWaterFigures:
    """What was seen at the last look. `spool`: code of the spool's own refusal, or None."""

    lag_s: float
    waiting_bytes: int
    drained_bytes_per_s: float
    spool: str | None
    behind: bool
    backlogged: tuple[int, ...]


class Ages:
    """How old a time of receipt is, also where somebody set the wall clock while it waited.

    A clock set forward is told by the process's own: what was received by the old time has not aged by the
    difference. One set back only makes ages too small until it has caught up.
    """

    def __init__(self, now: float, wall_s: float) -> None:
        self._now, self._wall_s = now, wall_s
        self._set: list[tuple[float, float]] = []  # what it showed when set forward, and by how much

    def look(self, now: float, wall_s: float) -> None:
        passed = now - self._now
        expected = self._wall_s + passed
        by = wall_s - expected
        least = SET_LEAST_S + passed * DRIFT
        if by > least:
            self._set = [*self._set[-7:], (expected, by)]
        elif by < -least:
            self._set.clear()
        self._now, self._wall_s = now, wall_s

    def age_s(self, received_us: int) -> float:
        """As of the last look."""
        received_s = received_us / 1e6
        age = self._wall_s - received_s - sum(by for until, by in self._set if received_s <= until)
        return max(0.0, age)


class Appended:
    """What this process has appended behind a place in the log, by pipeline: by what it noted on the way."""

    def __init__(self, spool: Watched) -> None:
        self._spool = spool
        self._notes = [self._now()]

    def note(self) -> None:
        """To be called now and then: more often is more exact."""
        note = self._now()
        if note[0] != self._notes[-1][0]:
            self._notes.append(note)
        if len(self._notes) > _MOST_NOTES:
            self._notes[1:-1] = self._notes[1:-1:2]

    def forget_before(self, place: Position | None) -> None:
        """`place` is known, and what lies before it, from elsewhere (None: everything)."""
        kept = len(self._notes) - 1
        while place is not None and kept > 0 and self._notes[kept][0] > place:
            kept -= 1
        del self._notes[:kept]

    def bytes_of(self, pipeline_id: int) -> int:
        """Behind the last place, never less than it is; a little more, as the notes go."""
        return self._spool.stats.pipelines.get(pipeline_id, 0) - self._notes[0][1].get(pipeline_id, 0)

    def _now(self) -> tuple[Position, dict[int, int]]:
        counted = dict(self._spool.stats.pipelines)
        return self._spool.end, counted


class HighWater:
    """For one process that writes a spool; asked before a request's body is read."""

    def __init__(
        self,
        spool: Watched,
        marks: Marks,
        book: RefusalBook | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        self.book = book or RefusalBook()
        self._spool = spool
        self._marks = marks
        self._monotonic = monotonic
        self._time_s = time_s
        self._drain = Drain(spool.folder, monotonic=monotonic, time_s=time_s)
        self._ages = Ages(monotonic(), time_s())
        self._look_at = float("-inf")
        self._looking = threading.Lock()  # figures are asked for by other threads
        self._progress: SpoolProgress | None = None
        # What had been appended when the loader's newest word was read: what came later is added to it.
        self._bytes_then = spool.stats.bytes
        self._appended = Appended(spool)
        self._waiting_since: float | None = None
        self._lag_s = 0.0
        self._behind: SluicewayError | None = None

    def refusal(self, pipeline_id: int) -> SluicewayError | None:
        """Why nothing is taken for this pipeline just now, or None: `SpoolFull`, `DiskReserveReached`,
        `SpoolClosed`, `LoaderBehind`, `PipelineBacklogged`; each with an honest `retry_after_s`."""
        error = self.look(pipeline_id)
        if error is None:
            return None
        self.note(pipeline_id, error)
        return error.with_traceback(None)

    def look(self, pipeline_id: int) -> SluicewayError | None:
        """`refusal`, but not counted: for one who looks ahead and leaves the answer to another."""
        error = self._spool.refusal
        if error is not None:
            return error
        now = self._monotonic()
        if now >= self._look_at:
            self._look(now)
        if self._behind is not None:
            return self._behind
        over = self.waiting_bytes(pipeline_id) - self._marks.pipeline_bytes
        return self._backlogged(pipeline_id, over) if over > 0 else None

    def note(self, pipeline_id: int, error: SluicewayError) -> None:
        """Count a refusal that somebody else met, as the spool's own while appending."""
        self.book.note(pipeline_id, error.code)

    def waiting_bytes(self, pipeline_id: int) -> int:
        """How much of one pipeline waits to be loaded, about."""
        known = self._progress.pipelines.get(pipeline_id) if self._progress is not None else None
        return self._appended.bytes_of(pipeline_id) + (known.waiting_bytes if known is not None else 0)

    def figures(self) -> HighWaterFigures:
        """How things stand, for metrics and the health page."""
        self._look(self._monotonic())
        refusal = self._spool.refusal
        known = self._progress.waiting_bytes if self._progress is not None else 0
        pipelines = set(self._spool.stats.pipelines)
        if self._progress is not None:
            pipelines |= set(self._progress.pipelines)
        return HighWaterFigures(
            lag_s=self._lag_s,
            waiting_bytes=known + self._spool.stats.bytes - self._bytes_then,
            drained_bytes_per_s=self._drain.bytes_per_s(),
            spool=None if refusal is None else refusal.code,
            behind=self._behind is not None,
            backlogged=tuple(
                sorted(p for p in pipelines if self.waiting_bytes(p) > self._marks.pipeline_bytes)
            ),
        )

    def _look(self, now: float) -> None:
        with self._looking:
            self._take_in(now)

    def _take_in(self, now: float) -> None:
        self._look_at = now + LOOK_AGAIN_S
        progress = self._drain.progress()
        stats = self._spool.stats
        self._appended.note()
        if progress is not None and (self._progress is None or progress.at != self._progress.at):
            self._progress = progress
            self._bytes_then = stats.bytes
            self._appended.forget_before(progress.scanned_to)
            self._waiting_since = None
        elif stats.bytes > self._bytes_then and self._waiting_since is None:
            self._waiting_since = now
        self._ages.look(now, self._time_s())
        self._lag_s = self._lag(now)
        self._behind = self._too_old() if self._lag_s > self._marks.lag_s else None

    def _lag(self, now: float) -> float:
        """Age of the oldest event that waits. A silent loader's last word ages, and what came after it."""
        oldest_us = self._progress.oldest_received_us if self._progress is not None else None
        known = 0.0 if oldest_us is None else self._ages.age_s(oldest_us)
        since = 0.0 if self._waiting_since is None else now - self._waiting_since
        return max(known, since, 0.0)

    def _too_old(self) -> LoaderBehind:
        rate = self._drain.bytes_per_s()
        waiting = self._progress.waiting_bytes if self._progress is not None else 0
        wait = UNKNOWN_WAIT_S
        if rate > 0:
            # While nothing comes in, the oldest event gets younger by lag * rate / waiting - 1 a second (what
            # waits came evenly, about); when all is loaded there is no lag at all.
            all_of_it = waiting / rate
            gain = self._lag_s / all_of_it - 1 if all_of_it > 0 else float("inf")
            some = (self._lag_s - self._marks.lag_s) / gain if gain > 0 else all_of_it
            wait = bounded(min(all_of_it, some))
        return LoaderBehind(
            f"The oldest event that waits to be loaded is {self._lag_s:.0f} seconds old; the limit is"
            f" {self._marks.lag_s:.0f}.",
            retry_after_s=wait,
        )

    def _backlogged(self, pipeline_id: int, over: int) -> PipelineBacklogged:
        # Its part of what is drained is taken to be its part of what waits.
        everything = (self._progress.waiting_bytes if self._progress is not None else 0) + max(
            0, self._spool.stats.bytes - self._bytes_then
        )
        own = self.waiting_bytes(pipeline_id)
        return PipelineBacklogged(
            f"{own} bytes of this pipeline wait to be loaded; the limit for one is"
            f" {self._marks.pipeline_bytes}.",
            retry_after_s=self._drain.seconds_for(over * max(1.0, everything / own)),
        )
