"""Tells others what waits: once a second into the spool's folder. Not here: who reads it, and why."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from sluiceway.infra.clock import Clock
from sluiceway.ingestion.spool.backlog import waiting_bytes
from sluiceway.ingestion.spool.progress import SpoolProgress, Waiting
from sluiceway.loading.backlog import Backlog

EVERY_S = 1.0
_SMOOTH = 0.2

log = logging.getLogger(__name__)


class Reporter:
    """Writes `progress.json` of one spool; `now` gives seconds that only grow. Used by one thread."""

    def __init__(
        self, folder: Path, node: str, clock: Clock, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._node = node
        self._clock = clock
        self._now = now
        self._told_at: float | None = None
        self._drained = 0
        self._was_waiting = False
        self._rate = 0.0
        self._failed = False

    def tell(self, backlog: Backlog, *, scanned: bool = True, last: bool = False) -> None:
        """Write what waits, unless that was done less than a second ago (`last`: even so).

        `scanned`: the backlog knows the log up to its end; else the rest counts by its size.
        """
        now = self._now()
        elapsed_s = None if self._told_at is None else now - self._told_at
        if elapsed_s is not None and elapsed_s < EVERY_S and not last:
            return
        waiting = {p: Waiting(size, backlog.oldest_us(p)) for p, size in backlog.waiting.items()}
        self._measure(backlog, elapsed_s, bool(waiting))
        self._told_at = now
        unscanned = 0 if scanned else waiting_bytes(self._folder, backlog.end)
        progress = SpoolProgress(
            at=self._clock.now().timestamp(),
            node=self._node,
            read_to=backlog.position,
            waiting_bytes=sum(w.waiting_bytes for w in waiting.values()) + unscanned,
            oldest_received_us=min((w.oldest_received_us or 0 for w in waiting.values()), default=None),
            drained_bytes_per_s=self._rate,
            pipelines=waiting,
            scanned_to=backlog.end,
            unscanned_bytes=unscanned,
        )
        try:
            progress.save(self._folder)
        except OSError as error:
            if not self._failed:
                log.warning("what waits in the spool cannot be told: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _measure(self, backlog: Backlog, elapsed_s: float | None, waiting: bool) -> None:
        """How fast a backlog goes: only time counts in which there was one."""
        drained, self._drained = backlog.drained_bytes - self._drained, backlog.drained_bytes
        was_waiting, self._was_waiting = self._was_waiting, waiting
        if elapsed_s is None or drained <= 0 or not (was_waiting and waiting):
            return
        rate = drained / elapsed_s
        self._rate = rate if self._rate == 0.0 else self._rate + _SMOOTH * (rate - self._rate)
