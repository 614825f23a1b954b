"""Rates over several processes: no window holds more than allowed, and little is missing.

The clock is the tests' own, in the database's function as in the processes: nothing here depends on how
fast anything is.
"""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluiceway.catalog.limits import KeyLimits, LimitsSpec
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.errors import BatchExceedsBurst
from sluiceway.ingestion.limits import RateLimiter
from sluiceway.ingestion.limits.buckets import DatabaseBuckets
from tests.support.buckets import ClockedBuckets, Grant, SharedClock, admission, attempt, check_windows

LONG_S = 60


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Cluster:
    """Several limiters, as of several processes, on one database and one clock."""

    def __init__(self, database: Database, count: int) -> None:
        self.clock = Clock()
        conninfo = database.conninfo(Role.APP)
        self.stores = [ClockedBuckets(conninfo, self.clock) for _ in range(count)]
        self.limiters = [RateLimiter(store, monotonic=self.clock) for store in self.stores]
        self.grants: list[Grant] = []

    async def send(self, process: int, who, events: int, size: int = 0):
        refused = await attempt(self.limiters[process], who, events, size)
        if refused is None:
            self.grants.append(Grant(self.clock.now, self.clock.now, events))
        await self.limiters[process].settled()  # the clock stands still meanwhile
        return refused

    async def __aenter__(self) -> "Cluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        for limiter in self.limiters:
            await limiter.close()


@pytest.fixture
def numbers() -> Iterator[int]:
    """Pipelines that nobody has asked for yet."""
    return iter(range(1, 1_000_000))


steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.1, 0.5, 2.0, 7.0]),
        st.integers(0, 2),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=80,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(steps=steps, rate=st.sampled_from([0.5, 3.0, 40.0, 400.0]), burst=st.sampled_from([40, 41, 100, 500]))
def test_no_window_holds_more_than_the_rate_and_the_burst(
    database: Database, numbers: Iterator[int], steps: list[tuple[float, int, int]], rate: float, burst: int
) -> None:
    who = admission(LimitsSpec(events_per_s=rate, burst=burst), pipeline_id=next(numbers))

    async def run() -> None:
        async with Cluster(database, 3) as cluster:
            for wait_s, process, events in steps:
                cluster.clock.now += wait_s
                await cluster.send(process, who, events)
            check_windows(cluster.grants, rate, burst)

    asyncio.run(run())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 300_000)), min_size=5, max_size=40))
def test_who_waits_as_long_as_told_gets_in(
    database: Database, numbers: Iterator[int], sizes: list[tuple[int, int]]
) -> None:
    number = next(numbers)
    limits = LimitsSpec(events_per_s=7, burst=50, bytes_per_s=40_000)
    who = admission(limits, KeyLimits(5.5, 60), pipeline_id=number, key_id=f"k{number}")

    async def run() -> None:
        async with Cluster(database, 1) as cluster:
            for events, size in sizes:
                refused = await cluster.send(0, who, events, size)
                if refused is not None:
                    assert refused.retry_after_s is not None and refused.retry_after_s > 0
                    cluster.clock.now += refused.retry_after_s
                    assert await cluster.send(0, who, events, size) is None
            check_windows(cluster.grants, 7, 50)
            check_windows(cluster.grants, 5.5, 60)

    asyncio.run(run())


def test_a_moment_earlier_is_too_early(database: Database) -> None:
    who = admission(LimitsSpec(events_per_s=2, burst=10))

    async def run() -> None:
        async with Cluster(database, 1) as cluster:
            assert await cluster.send(0, who, 10) is None
            refused = await cluster.send(0, who, 4)
            assert refused is not None and refused.retry_after_s == pytest.approx(2.0)
            cluster.clock.now += 1.99
            again = await cluster.send(0, who, 4)
            assert again is not None and again.retry_after_s == pytest.approx(0.01)
            assert again.headers["RateLimit-Policy"] == '"pipeline-events";q=10;w=5;qu="events"'
            assert again.headers["RateLimit"] == '"pipeline-events";r=3;t=1'
            assert again.extra == {"limit": "the pipeline's events", "needed": 4, "retry_after_s": 0.01}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("rate", "burst", "processes", "events"),
    [(1.0, 1, 1, 1), (3.0, 3, 3, 1), (50.0, 5, 2, 1), (200.0, 400, 3, 7), (5000.0, 1000, 2, 20)],
)
def test_where_more_is_wanted_nearly_all_that_is_allowed_passes(
    database: Database, rate: float, burst: int, processes: int, events: int
) -> None:
    who = admission(LimitsSpec(events_per_s=rate, burst=burst))
    lasts_s, step_s = (60.0, 0.25) if rate < 10 else (6.0, 0.02)

    async def run() -> None:
        async with Cluster(database, processes) as cluster:
            began = cluster.clock.now
            while cluster.clock.now < began + lasts_s:
                for process in range(processes):
                    while await cluster.send(process, who, events) is None:
                        pass
                cluster.clock.now += step_s
            check_windows(cluster.grants[:400], rate, burst)
            total = sum(grant.events for grant in cluster.grants)
            allowed = rate * (cluster.clock.now - began) + burst
            assert 0.9 * allowed <= total <= allowed
            asks = sum(limiter.figures.asks for limiter in cluster.limiters)
            if rate >= 200:
                assert asks < total / 4  # slices are held ahead

    asyncio.run(run())


def test_a_quiet_process_does_not_keep_what_it_holds(database: Database) -> None:
    """Slices end: what a process held when it went quiet, or died, does not narrow the burst for ever."""
    who = admission(LimitsSpec(events_per_s=100, burst=200))

    async def run() -> None:
        async with Cluster(database, 2) as cluster:
            for _ in range(40):
                await cluster.send(0, who, 1)
                cluster.clock.now += 0.01
            assert cluster.limiters[0].held > 0
            cluster.clock.now += 10
            assert cluster.limiters[0].held == 0
            assert await cluster.send(1, who, 200) is None

    asyncio.run(run())


def test_what_is_held_goes_back_when_a_process_ends(database: Database) -> None:
    who = admission(LimitsSpec(events_per_s=0.001, burst=100))

    async def run() -> None:
        async with Cluster(database, 2) as cluster:
            for _ in range(20):
                assert await cluster.send(0, who, 1) is None
            assert cluster.limiters[0].held > 0
            await cluster.limiters[0].close()
            assert await cluster.send(1, who, 80) is None
            assert await cluster.send(1, who, 1) is not None

    asyncio.run(run())


def test_what_another_process_gives_back_is_seen(database: Database) -> None:
    """What a bucket had when it was asked is believed as long as a lease lasts, no longer."""
    who = admission(LimitsSpec(events_per_s=1, burst=1000))

    async def run() -> None:
        async with Cluster(database, 2) as cluster:
            for _ in range(2):
                assert await cluster.send(1, who, 100) is None
            assert cluster.limiters[1].held == 250
            assert await cluster.send(0, who, 550) is None
            refused = await cluster.send(0, who, 100)
            assert refused is not None and refused.retry_after_s == pytest.approx(100)
            asks = cluster.limiters[0].figures.asks
            cluster.clock.now += 1.9
            assert await cluster.send(0, who, 100) is not None
            assert cluster.limiters[0].figures.asks == asks  # just asked
            await cluster.limiters[1].close()
            cluster.clock.now += 0.2
            assert await cluster.send(0, who, 100) is None
            check_windows(cluster.grants, 1, 1000)

    asyncio.run(run())


def test_more_than_the_burst_is_refused_for_good(database: Database) -> None:
    who = admission(LimitsSpec(events_per_s=5, burst=10, bytes_per_s=100))

    async def run() -> None:
        async with Cluster(database, 1) as cluster:
            with pytest.raises(BatchExceedsBurst) as caught:
                cluster.limiters[0].take(who, 11, 10)
            assert (caught.value.status, caught.value.retryable) == (413, False)
            assert caught.value.extra["burst"] == 10
            with pytest.raises(BatchExceedsBurst):
                cluster.limiters[0].take(who, 1, 2_000_000)
            assert await cluster.send(0, who, 10, 1_000_000) is None
            assert cluster.limiters[0].book.by_code["batch_exceeds_burst"] == 2

    asyncio.run(run())


def test_one_limit_that_refuses_takes_nothing_from_another(database: Database) -> None:
    """A key's own limit is used up: the pipeline's tokens stay for the other keys."""
    limits = LimitsSpec(events_per_s=0.001, burst=30)
    tight = admission(limits, KeyLimits(0.001, 10), key_id="tight")
    other = admission(limits, key_id="other")

    async def run() -> None:
        async with Cluster(database, 1) as cluster:
            assert await cluster.send(0, tight, 10) is None
            for _ in range(5):
                assert await cluster.send(0, tight, 10) is not None
            assert await cluster.send(0, other, 20) is None
            assert await cluster.send(0, other, 1) is not None

    asyncio.run(run())


def test_without_limits_nobody_is_asked(database: Database) -> None:
    limiter = RateLimiter(DatabaseBuckets(database))
    assert limiter.take(admission(), 10_000, 10_000_000) is None
    assert limiter.figures.asks == limiter.figures.granted == 0
    asyncio.run(limiter.close())


def test_while_the_database_is_away_a_process_goes_on_at_the_same_rate(database: Database) -> None:
    who = admission(LimitsSpec(events_per_s=10, burst=20))

    async def run() -> None:
        async with Cluster(database, 1) as cluster:
            assert await cluster.send(0, who, 15) is None
            cluster.stores[0].away = True
            passed = 0
            for _ in range(100):
                cluster.clock.now += 0.1
                passed += await cluster.send(0, who, 1) is None
            assert cluster.limiters[0].on_its_own and cluster.limiters[0].figures.on_own > 0
            assert 90 <= passed <= 100 + 5
            while await cluster.send(0, who, 1) is None:
                passed += 1
            assert passed <= 10 * 10 + 20 - 15
            cluster.stores[0].away = False
            cluster.clock.now += 60
            assert await cluster.send(0, who, 20) is None
            assert not cluster.limiters[0].on_its_own

    asyncio.run(run())


def test_a_connection_that_is_cut_is_made_again(database: Database) -> None:
    """By the database's own clock and over its own connection: the burst is all there is to take."""
    who = admission(LimitsSpec(events_per_s=0.0001, burst=1000))

    async def run() -> None:
        clock = Clock()
        limiter = RateLimiter(DatabaseBuckets(database), monotonic=clock)
        assert await attempt(limiter, who, 100) is None
        with database.connect(Role.OWNER, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE '%take_tokens%'"
                " AND pid <> pg_backend_pid()"
            )
        assert await attempt(limiter, who, 100) is None  # on its own, with what the bucket had
        assert limiter.figures.failed_asks == 1
        clock.now += 5
        assert await attempt(limiter, who, 100) is None
        assert (limiter.figures.failed_asks, limiter.on_its_own) == (1, False)
        await limiter.close()

    asyncio.run(run())


def test_the_servers_clock_may_be_set_back(database: Database) -> None:
    """A bucket whose time lies ahead of the clock goes on from now; it does not stand still until then."""
    who = admission(LimitsSpec(events_per_s=1_000_000, burst=100_000))

    async def run() -> None:
        limiter = RateLimiter(DatabaseBuckets(database))
        assert await attempt(limiter, who, 100_000) is None
        with database.connect(Role.OWNER, autocommit=True) as connection:
            connection.execute("UPDATE app.rate_buckets SET at = at + 86400, tokens = 0")
        deadline = time.monotonic() + LONG_S
        while await attempt(limiter, who, 100_000) is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await limiter.close()

    asyncio.run(run())


def test_several_processes_on_one_database_keep_one_limit(database: Database, tmp_path: Path) -> None:
    """Processes that take all they can, whenever a clock that all of them see moves on."""
    rate, burst, events, processes, steps, step_s = 300.0, 150, 3, 4, 60, 0.05
    clock = SharedClock(tmp_path / "clock", processes)
    clock.now = 1.0
    command = [
        sys.executable, "-m", "tests.support.buckets", database.conninfo(Role.APP), str(tmp_path / "clock"),
        str(processes),
    ]  # fmt: skip
    takers = [
        subprocess.Popen(
            [*command, str(number), str(rate), str(burst), str(events)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
        )
        for number in range(processes)
    ]  # fmt: skip
    outputs = [""] * processes

    def read(number: int) -> None:
        outputs[number] = takers[number].communicate()[0]

    readers = [threading.Thread(target=read, args=(number,)) for number in range(processes)]
    for reader in readers:
        reader.start()
    try:
        deadline = time.monotonic() + 2 * LONG_S
        for _ in range(steps):
            # The clock moves when everybody has been refused at the present time.
            while any(clock.seen(number) < clock.now for number in range(processes)):
                assert time.monotonic() < deadline
                assert all(taker.poll() is None for taker in takers)
                time.sleep(0.001)
            clock.now += step_s
    finally:
        clock.end()
        for reader in readers:
            reader.join(timeout=LONG_S)
        for taker in takers:
            if taker.poll() is None:
                taker.kill()
    assert [taker.returncode for taker in takers] == [0] * processes
    grants = [Grant(*map(float, line.split())) for output in outputs for line in output.splitlines()]
    total = sum(grant.events for grant in grants)
    allowed = rate * (clock.now - 1.0) + burst
    clock.close()
    assert 0.9 * allowed <= total <= allowed + 1e-3
    assert all(output for output in outputs)  # each had its share
    # A grant lies somewhere between its two times: windows are those that hold it for certain.
    check_windows(grants, rate, burst)


def test_rows_of_buckets_are_not_for_others(database: Database) -> None:
    with database.connect(Role.APP) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM app.rate_buckets")
    with database.connect(Role.READER) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT app.note_refusals('{}', '{}', '{}', '{}')")
