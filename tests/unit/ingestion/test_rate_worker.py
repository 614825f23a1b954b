"""The one who asks the database about rates: it outlives what a question meets, and asks once at a time."""

import asyncio
import threading
from collections.abc import Sequence

import psycopg
import pytest

from sluiceway.catalog.limits import KeyLimits, LimitsSpec
from sluiceway.ingestion.limits import RateLimiter
from sluiceway.ingestion.limits.buckets import Ask, Taken
from sluiceway.kit.errors import Unavailable
from tests.support.buckets import admission, attempt

LONG_S = 60


class Script:
    """Buckets that answer as they are told: an error is raised, else all that is asked for is given."""

    def __init__(self, *answers: Exception | Taken | None) -> None:
        self.answers = list(answers)
        self.asks: list[Ask] = []
        self.permits = threading.Semaphore(1_000_000)

    def take(self, ask: Ask, holder: str, lease_s: float) -> Taken:
        assert self.permits.acquire(timeout=LONG_S)
        self.asks.append(ask)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        count = len(ask.things)
        return answer or Taken(True, ask.aheads, [50.0] * count, [0.0] * count)

    def close(self) -> None:
        pass


def limited(buckets: Script) -> RateLimiter:
    """A clock that stands still, and patience."""
    return RateLimiter(buckets, monotonic=lambda: 0.0, ask_s=LONG_S)


def refused(wait_s: float, things: int = 1) -> Taken:
    none: Sequence[float] = [0.0] * things
    return Taken(False, none, none, [wait_s] * things)


def test_a_wait_without_end_is_told_and_ends_nothing() -> None:
    """Kept before there was a least rate: such a key's bucket is never full again."""
    who = admission(key=KeyLimits(1e-310, 5))

    async def run() -> None:
        limiter = limited(Script(refused(float("inf"))))
        error = await asyncio.wait_for(attempt(limiter, who, 5), LONG_S)
        assert error is not None and error.retry_after_s == 1e9
        assert error.headers["RateLimit"].endswith(";t=1000000000")
        await limiter.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "told"),
    [(psycopg.errors.InsufficientPrivilege("no"), Unavailable), (OverflowError("no"), OverflowError)],
)
def test_a_question_that_fails_is_that_requests_alone(error: Exception, told: type[Exception]) -> None:
    who = admission(LimitsSpec(events_per_s=10, burst=20))

    async def run() -> None:
        buckets = Script(error)
        limiter = limited(buckets)
        buckets.permits = threading.Semaphore(0)
        first, second = (asyncio.ensure_future(attempt(limiter, who, 3)) for _ in range(2))
        await asyncio.sleep(0)  # both stand in the queue
        buckets.permits.release(100)
        with pytest.raises(told):
            await asyncio.wait_for(first, LONG_S)
        assert await asyncio.wait_for(second, LONG_S) is None
        assert not limiter.on_its_own, "the database is there"
        assert await asyncio.wait_for(attempt(limiter, who, 3), LONG_S) is None
        await limiter.close()

    asyncio.run(run())


@pytest.mark.parametrize("error", [psycopg.OperationalError("away"), psycopg.InterfaceError("away")])
def test_a_database_that_is_away_is_not_asked_for_a_while(error: Exception) -> None:
    who = admission(LimitsSpec(events_per_s=10, burst=20))

    async def run() -> None:
        limiter = limited(Script(error))
        assert await asyncio.wait_for(attempt(limiter, who, 3), LONG_S) is None
        assert limiter.on_its_own and limiter.figures.on_own == 1
        await limiter.close()

    asyncio.run(run())


def test_one_top_up_is_asked_for_at_a_time() -> None:
    """A request that waits before a top-up does not make room for another one when it is answered."""
    who = admission(LimitsSpec(events_per_s=1000, burst=1000))
    other = admission(LimitsSpec(events_per_s=1000, burst=1000), pipeline_id=2)

    async def run() -> None:
        buckets = Script()
        limiter = limited(buckets)
        for _ in range(2):
            assert await attempt(limiter, who, 10) is None
        assert limiter.held == 25
        buckets.permits = threading.Semaphore(0)
        waiting = [asyncio.ensure_future(attempt(limiter, each, 30)) for each in (other, who)]
        await asyncio.sleep(0)  # both stand in the queue
        assert limiter.take_now(who, 15, 0)  # little is left: a top-up stands behind the two
        buckets.permits.release(2)
        assert await asyncio.wait_for(asyncio.gather(*waiting), LONG_S) == [None, None]
        assert limiter.held == 125
        assert limiter.take_now(who, 70, 0) and not limiter._jobs
        buckets.permits.release(100)
        await limiter.settled()
        assert [ask.needs for ask in buckets.asks[2:]] == [(30.0,), (30.0,), (0.0,)]
        await limiter.close()

    asyncio.run(run())
