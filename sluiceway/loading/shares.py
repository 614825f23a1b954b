"""Whose turn it is: pipelines share the loader's time, and a quiet one does not wait behind a noisy one.

Start-time fair queueing: each pipeline has a clock that runs while it is served; whoever's is the furthest
behind is next. Between two batches of those that have a backlog, everybody with little waiting is served
whole, once. A pipeline that was away has no claim on the time it did not use, beyond one quantum.
Pure: bytes, seconds and ids. Not here: what waits (`backlog`) and what is done in a turn (`service`).
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

QUANTUM_S = 0.25
LATELY_S = 5.0  # for so long after a pipeline had something, others keep their batches small
_LEAST_BYTES = 64 * 1024
_FIRST_RATE = 6_000_000.0  # bytes a second, before anything was measured
_OVERHEAD_S = 0.01  # what a batch costs however small it is
_SMOOTH = 0.3


@dataclass(frozen=True, slots=True)
class Turn:
    """Who is served now. `light`: all that waits of each; otherwise one pipeline, at most `max_bytes`."""

    pipelines: tuple[int, ...]
    max_bytes: int
    light: bool


@dataclass(slots=True)
class _Share:
    """`served_s`: the pipeline's clock. `rate`: bytes a second when it was served last."""

    served_s: float
    seen_at: float
    rate: float


class Shares:
    """The scheduler of one loader. `max_bytes`: of a batch; `now` gives seconds that only grow."""

    def __init__(
        self,
        max_bytes: int,
        *,
        quantum_s: float = QUANTUM_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._quantum_s = quantum_s
        self._now = now
        self._shares: dict[int, _Share] = {}
        self._clock = 0.0
        self._rate = _FIRST_RATE
        self._waited: frozenset[int] = frozenset()
        self._round: set[int] = set()
        self._round_s = 0.0

    def choose(self, waiting: Mapping[int, int], ahead: int | None = None) -> Turn | None:
        """Whose turn it is of those that have `waiting` bytes; None if nobody has.

        `ahead`: the pipeline whose next batch is prepared already; its turn is that batch.
        """
        if not waiting:
            self._waited = frozenset()
            return None
        self._notice(waiting)
        light = [p for p, size in waiting.items() if p != ahead and self._is_light(p, size)]
        heavy = waiting.keys() - light
        if not heavy:
            self._begin_round()
        fresh = [p for p in light if p not in self._round]
        if fresh and self._round_s < 2 * self._quantum_s:
            chosen = self._whole(fresh, waiting)
            self._round.update(chosen)
            return Turn(chosen, self._max_bytes, True)
        self._begin_round()
        one = ahead if ahead in waiting else self._furthest_behind(heavy or light)
        assert one is not None
        return Turn((one,), self.batch_bytes(one, waiting), False)

    def following(self, waiting: Mapping[int, int], at_work: Collection[int]) -> tuple[int, int] | None:
        """Whose batch to prepare while `at_work` are served, and how many bytes at most; None: nobody's.

        `waiting`: what waits when they are done.
        """
        heavy = [p for p, size in waiting.items() if not self._is_light(p, size)]
        if not heavy:
            return None
        cost = {p: self._quantum_s if p in at_work else 0.0 for p in heavy}
        one = min(heavy, key=lambda p: (self._shares[p].served_s + cost[p], p))
        return one, self.batch_bytes(one, waiting)

    def charge(self, sizes: Mapping[int, int], elapsed_s: float, *, heavy: bool = False) -> None:
        """A turn took `elapsed_s`, for so many bytes of each pipeline. `heavy`: it was one of a backlog."""
        started = max((self._shares[p].served_s for p in sizes if p in self._shares), default=self._clock)
        if heavy or self._waited <= sizes.keys():
            self._clock = max(self._clock, started)
        total = sum(sizes.values()) + len(sizes) * _LEAST_BYTES
        for pipeline_id, size_bytes in sizes.items():
            part_s = elapsed_s * (size_bytes + _LEAST_BYTES) / total
            share = self._share(pipeline_id)
            share.served_s += part_s
            if size_bytes >= _LEAST_BYTES:
                rate = size_bytes / max(part_s - _OVERHEAD_S, 0.001)
                share.rate += _SMOOTH * (rate - share.rate)
                self._rate += _SMOOTH * (rate - self._rate)
        if not heavy:
            self._round_s += elapsed_s

    def batch_bytes(self, pipeline_id: int, waiting: Mapping[int, int]) -> int:
        """How much of a backlog makes one batch: about a quantum's work, or all that may be when alone."""
        now = self._now()
        others = (p for p, share in self._shares.items() if p != pipeline_id)
        if any(p in waiting or now - self._shares[p].seen_at < LATELY_S for p in others):
            return self._quantum_bytes(pipeline_id)
        return self._max_bytes

    def _notice(self, waiting: Mapping[int, int]) -> None:
        """Whoever comes back after a pause goes on at the clock, less one quantum at most."""
        now = self._now()
        for pipeline_id in waiting:
            share = self._share(pipeline_id)
            share.seen_at = now
            if pipeline_id not in self._waited:
                share.served_s = max(share.served_s, self._clock - self._quantum_s)
        self._waited = frozenset(waiting)

    def _share(self, pipeline_id: int) -> _Share:
        found = self._shares.get(pipeline_id)
        if found is None:
            found = self._shares[pipeline_id] = _Share(self._clock, self._now(), self._rate)
        return found

    def _quantum_bytes(self, pipeline_id: int) -> int:
        return int(min(max(self._share(pipeline_id).rate * self._quantum_s, _LEAST_BYTES), self._max_bytes))

    def _is_light(self, pipeline_id: int, size_bytes: int) -> bool:
        if size_bytes > self._quantum_bytes(pipeline_id):
            return False
        return self._shares[pipeline_id].served_s <= self._clock + self._quantum_s

    def _furthest_behind(self, pipelines: Collection[int]) -> int:
        return min(pipelines, key=lambda p: (self._shares[p].served_s, p))

    def _whole(self, pipelines: list[int], waiting: Mapping[int, int]) -> tuple[int, ...]:
        """As many as fit one turn, the furthest behind first."""
        chosen: list[int] = []
        size_bytes = 0
        for pipeline_id in sorted(pipelines, key=lambda p: (self._shares[p].served_s, p)):
            size_bytes += waiting[pipeline_id]
            if chosen and size_bytes > self._max_bytes:
                break
            chosen.append(pipeline_id)
        return tuple(chosen)

    def _begin_round(self) -> None:
        self._round.clear()
        self._round_s = 0.0
