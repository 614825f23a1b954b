"""Shared token buckets under a clock that tests hold in their hands, and a process that takes from them."""

import asyncio
import mmap
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from sluiceway.catalog.limits import NO_LIMITS, KeyLimits, LimitsSpec
from sluiceway.ingestion.access import Admission
from sluiceway.ingestion.errors import RateLimited
from sluiceway.ingestion.limits import RateLimiter
from sluiceway.ingestion.limits.buckets import Ask, Taken

TAKE = (
    "SELECT granted, leased, left_over, waits_s FROM app.take_tokens("
    "1, %s::text[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[],"
    " %s, %s, %s::float8, %s::float8)"
)


class ClockedBuckets:
    """The database's own function, told what time it is. `away`: raise as if the database were gone."""

    def __init__(self, conninfo: str, now: Callable[[], float]) -> None:
        self.away = False
        self._now = now
        self._connection = psycopg.connect(conninfo, autocommit=True)

    def take(self, ask: Ask, holder: str, lease_s: float) -> Taken:
        if self.away:
            raise psycopg.OperationalError("away")
        things = ask.things
        row = self._connection.execute(
            TAKE,
            (
                [t.name for t in things], [float(t.rate) for t in things], [float(t.burst) for t in things],
                list(ask.needs), list(ask.aheads), list(ask.rests), ask.give_back, holder, lease_s,
                self._now(),
            ),
        ).fetchone()  # fmt: skip
        assert row is not None
        return Taken(*row)

    def close(self) -> None:
        self._connection.close()


def admission(
    limits: LimitsSpec | None = None, key: KeyLimits | None = None, pipeline_id: int = 1, key_id: str = "k1"
) -> Admission:
    return Admission(
        workspace_id=1, pipeline_id=pipeline_id, slug="orders", key_id=key_id, headers=frozenset(),
        expires_at_s=float("inf"), limits=limits or NO_LIMITS, key_limits=key,
    )  # fmt: skip


async def attempt(limiter: RateLimiter, who: Admission, events: int, size: int = 0) -> RateLimited | None:
    """Send once; the refusal, or None if it passed."""
    try:
        waiting = limiter.take(who, events, size)
        if waiting is not None:
            await waiting
    except RateLimited as error:
        return error
    return None


@dataclass(frozen=True)
class Grant:
    """`events` passed at some time from `asked_at` to `granted_at`."""

    asked_at: float
    granted_at: float
    events: float


def check_windows(grants: list[Grant], rate: float, burst: float) -> None:
    """In no window was more used than rate * t + burst."""
    ordered = sorted(grants, key=lambda grant: (grant.asked_at, grant.granted_at))
    for index, first in enumerate(ordered):
        inside = sorted((g.granted_at, g.events) for g in ordered[index:])
        used = 0.0
        for granted_at, events in inside:
            used += events
            most = rate * (granted_at - first.asked_at) + burst
            assert used <= most + 1e-3, f"{used} from {first.asked_at} to {granted_at}: at most {most}"


class SharedClock:
    """A time and, for each process, how often it has looked at it and found nothing more to do."""

    def __init__(self, path: Path, processes: int) -> None:
        size = 8 * (2 + processes)
        if not path.exists():
            path.write_bytes(bytes(size))
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), size)

    @property
    def now(self) -> float:
        return float(struct.unpack_from("d", self._map, 0)[0])

    @now.setter
    def now(self, value: float) -> None:
        struct.pack_into("d", self._map, 0, value)

    @property
    def over(self) -> bool:
        return struct.unpack_from("d", self._map, 8)[0] > 0

    def end(self) -> None:
        struct.pack_into("d", self._map, 8, 1.0)

    def seen(self, process: int) -> float:
        """The newest time at which the process wanted more and was refused."""
        return float(struct.unpack_from("d", self._map, 16 + 8 * process)[0])

    def tell(self, process: int, at: float) -> None:
        struct.pack_into("d", self._map, 16 + 8 * process, at)

    def close(self) -> None:
        self._map.close()
        self._file.close()


async def _take_all(conninfo: str, clock: SharedClock, process: int, limits: LimitsSpec, events: int) -> None:
    """Send as much as passes whenever the clock moves; a line for each grant: asked, granted, events."""
    limiter = RateLimiter(ClockedBuckets(conninfo, lambda: clock.now), monotonic=lambda: clock.now)
    who = admission(limits)
    told = -1.0
    while not clock.over:
        asked_at = clock.now
        if asked_at <= told:
            await asyncio.sleep(0.0005)  # the one who moves the clock waits for us
            continue
        refused = await attempt(limiter, who, events)
        if refused is None:
            print(asked_at, clock.now, events)
        else:
            told = asked_at
            clock.tell(process, asked_at)
    await limiter.close()


def main() -> None:
    conninfo, path, processes, process, rate, burst, events = sys.argv[1:]
    clock = SharedClock(Path(path), int(processes))
    limits = LimitsSpec(events_per_s=float(rate), burst=int(burst))
    asyncio.run(_take_all(conninfo, clock, int(process), limits, int(events)))
    clock.close()


if __name__ == "__main__":
    main()
