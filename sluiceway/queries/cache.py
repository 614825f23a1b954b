"""Answers kept for a short time, so that ten browsers with one dashboard cost one query.

An answer is found under the workspace, the resolved query and the state of the data: a load, a retry or a
replay makes every older answer unfindable. What changes without one (retention, a discarded dead letter) is
seen after `TTL_S`. One asker computes, others with the same question wait for the same answer.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

TTL_S = 15.0
MAX_CELLS = 2_000_000
"""Of all answers together: about 150 MB at most."""

Answer = TypeVar("Answer")


class AnswerCache(Generic[Answer]):
    def __init__(
        self,
        size: Callable[[Answer], int],
        *,
        ttl_s: float = TTL_S,
        max_cells: int = MAX_CELLS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = size
        self._ttl_s, self._max_cells, self._monotonic = ttl_s, max_cells, monotonic
        self._lock = Lock()
        self._found: OrderedDict[Hashable, tuple[float, int, Answer]] = OrderedDict()
        self._running: dict[Hashable, Future[Answer]] = {}
        self._cells = 0

    def get(self, key: Hashable, compute: Callable[[], Answer]) -> tuple[Answer, bool]:
        """The answer, and whether it was there already. What `compute` raises, everyone who waits gets."""
        with self._lock:
            entry = self._found.get(key)
            if entry is not None and entry[0] > self._monotonic():
                self._found.move_to_end(key)
                return entry[2], True
            running = self._running.get(key)
            if running is None:
                mine: Future[Answer] = Future()
                self._running[key] = mine
        if running is not None:
            return running.result(), True
        try:
            answer = compute()
        except BaseException as error:
            with self._lock:
                del self._running[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            self._put(key, answer)
        mine.set_result(answer)
        return answer, False

    def clear(self) -> None:
        with self._lock:
            self._found.clear()
            self._cells = 0

    def _put(self, key: Hashable, answer: Answer) -> None:
        cells = self._size(answer) + 1
        if cells > self._max_cells // 4:
            return
        if (old := self._found.pop(key, None)) is not None:
            self._cells -= old[1]
        self._found[key] = (self._monotonic() + self._ttl_s, cells, answer)
        self._cells += cells
        while self._cells > self._max_cells:
            _, (_, freed, _) = self._found.popitem(last=False)
            self._cells -= freed
