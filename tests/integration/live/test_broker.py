"""The broker and the rows behind it, over a real database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.infra.database import Database, Role
from sluiceway.live.contracts import BatchLoaded, CatalogChanged, Missed
from sluiceway.live.rows import Followed, Idle, Reset, RowEvent, RowFeed, Rows, follow_rows
from sluiceway.live.service import LiveBroker, StreamsEnded
from tests.support.eyes import owner_of
from tests.support.loaded import Loader

PIPELINE = """
kind: Pipeline
name: ticks
event: {id: id}
fields:
  - {name: value, type: number, role: measure}
"""


def events(first: int, last: int) -> list[dict[str, Any]]:
    return [{"id": str(n), "value": n} for n in range(first, last + 1)]


@asynccontextmanager
async def running(database: Database, **options: Any) -> AsyncIterator[LiveBroker]:
    broker = LiveBroker(database, **options)
    await broker.start()
    try:
        async with asyncio.timeout(30):
            await broker.connected.wait()
            yield broker
    finally:
        await broker.stop()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


async def take(stream: AsyncIterator[RowEvent], count: int) -> list[int | Reset]:
    """The seqs of the next `count` rows, and the resets in between."""
    found: list[int | Reset] = []
    async for event in stream:
        if isinstance(event, Rows):
            found += [row.seq for row in event.rows]
        elif isinstance(event, Reset):
            found.append(event)
        if sum(isinstance(item, int) for item in found) >= count:
            break
    return found


def follow(broker: LiveBroker, feed: RowFeed, followed: Followed, after: int | None) -> Any:
    return aclosing(follow_rows(broker, feed, followed, after_seq=after, idle_s=10))  # type: ignore[type-var]


def test_a_commit_is_told_to_its_workspace_alone(database: Database) -> None:
    loader = Loader(database, PIPELINE)

    async def work() -> None:
        async with running(database) as broker:
            with broker.subscribe(1) as mine, broker.subscribe(2) as others:
                await asyncio.to_thread(loader.load, events(1, 3))
                (change,) = await mine.next(5)
                assert isinstance(change, BatchLoaded)
                assert (change.pipeline, change.first_seq, change.last_seq, change.rows) == ("ticks", 1, 3, 3)
                assert change.min_event_time is not None
                await asyncio.to_thread(loader.apply, PIPELINE + "description: another\n")
                assert await mine.next(5) == [CatalogChanged(1, loader.pipeline.id)]
                assert await others.next(0.05) == []
            assert broker.subscribers == 0

    run(work)


def test_rows_come_live_and_from_where_one_was(database: Database) -> None:
    loader = Loader(database, PIPELINE)
    loader.load(events(1, 700))

    async def work() -> None:
        feed = RowFeed(database)
        followed = await feed.find(owner_of(), "ticks")
        async with running(database) as broker, follow(broker, feed, followed, 5) as stream:
            assert await take(stream, 695) == list(range(6, 701))
            await asyncio.to_thread(loader.load, events(701, 703))
            assert await take(stream, 3) == [701, 702, 703]

    run(work)


def test_without_a_position_it_begins_now(database: Database) -> None:
    loader = Loader(database, PIPELINE)
    loader.load(events(1, 5))

    async def work() -> None:
        feed = RowFeed(database)
        followed = await feed.find(owner_of(), "ticks")
        async with running(database) as broker, follow(broker, feed, followed, None) as stream:
            waiting = asyncio.create_task(take(stream, 1))
            await asyncio.sleep(0.3)
            assert broker.subscribers == 1
            await asyncio.to_thread(loader.load, events(6, 6))
            assert await waiting == [6]

    run(work)


def test_history_that_has_gone_is_told(database: Database) -> None:
    loader = Loader(database, PIPELINE)
    loader.load(events(1, 10))
    with database.connect(Role.OWNER) as connection:
        connection.execute("DELETE FROM silver.ticks WHERE seq <= 4")

    async def work() -> None:
        feed = RowFeed(database)
        followed = await feed.find(owner_of(), "ticks")
        async with running(database) as broker:
            async with follow(broker, feed, followed, 2) as stream:
                assert await take(stream, 6) == [Reset("gone", 2, 5), *range(5, 11)]
            async with follow(broker, feed, followed, 99) as stream:
                assert await anext(stream) == Reset("ahead", 99, 11)

    run(work)


def test_a_broken_connection_loses_no_row(database: Database) -> None:
    loader = Loader(database, PIPELINE)

    async def work() -> None:
        feed = RowFeed(database)
        followed = await feed.find(owner_of(), "ticks")
        async with running(database) as broker, follow(broker, feed, followed, 0) as stream:
            heard: list[dict[str, Any]] = []
            broker.on("keys", heard.append)
            with broker.subscribe(1) as other:
                waiting = asyncio.create_task(take(stream, 3))
                await asyncio.to_thread(_break_listeners, database)
                await asyncio.to_thread(loader.load, events(1, 3))
                assert await waiting == [1, 2, 3]
                changes = await other.next(5)
                assert Missed() in changes and heard == [{}]

    run(work)


def _break_listeners(database: Database) -> None:
    with database.connect(Role.OWNER) as connection:
        done = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluiceway-live'"
            " AND datname = current_database()"
        ).fetchall()
    assert done == [(True,)]


def test_a_broker_waits_for_a_database_that_is_away(database: Database) -> None:
    class Away(Database):
        away = True

        def conninfo(self, role: Role) -> str:
            found = super().conninfo(role)
            return found + " port=1" if self.away else found

    def sign(broker: LiveBroker) -> bool:
        return broker.connected.is_set()

    async def work() -> None:
        flaky = Away(database.conninfo(Role.OWNER), database._key)
        broker = LiveBroker(flaky)
        await broker.start()
        await asyncio.sleep(0.15)
        assert not sign(broker)
        flaky.away = False
        async with asyncio.timeout(10):
            await broker.connected.wait()
        await broker.stop()

    run(work)


def test_listeners_hear_their_kind_and_streams_end_together(database: Database) -> None:
    async def work() -> None:
        async with running(database) as broker:
            heard: list[dict[str, Any]] = []
            broker.on("keys", heard.append)
            broker.on("keys", lambda payload: 1 / 0)  # type: ignore[arg-type, return-value]
            with broker.subscribe(1) as subscription:
                await asyncio.to_thread(_notify, database, '{"t":"keys","w":1}')
                await asyncio.to_thread(_notify, database, "not json")
                for _ in range(500):
                    if heard:
                        break
                    await asyncio.sleep(0.01)
                assert heard == [{"t": "keys", "w": 1}]
                await asyncio.to_thread(broker.end_streams)
                with pytest.raises(StreamsEnded):
                    await subscription.next(5)
            with broker.subscribe(1) as late, pytest.raises(StreamsEnded):
                await late.next(5)

    run(work)


def _notify(database: Database, payload: str) -> None:
    with database.connect(Role.APP) as connection:
        connection.execute("SELECT pg_notify('sluiceway_live', %s)", (payload,))


def test_followers_at_one_place_share_a_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(database, PIPELINE)
    loader.load(events(1, 3))
    reads = 0
    original = RowFeed._read_now

    def counted(self: RowFeed, followed: Followed, seq: int) -> Any:
        nonlocal reads
        reads += 1
        return original(self, followed, seq)

    monkeypatch.setattr(RowFeed, "_read_now", counted)

    async def work() -> None:
        feed = RowFeed(database)
        followed = await feed.find(owner_of(), "ticks")
        pages = await asyncio.gather(*(feed.after(followed, 0) for _ in range(20)))
        assert all([row.seq for row in page.rows] == [1, 2, 3] for page in pages)
        assert reads == 1

    run(work)


def test_a_row_is_json_with_its_times(database: Database) -> None:
    import orjson

    loader = Loader(database, PIPELINE)
    received = datetime.now(UTC).replace(microsecond=5) - timedelta(minutes=1)
    loader.load(events(1, 1), received_at=received)

    async def work() -> None:
        feed = RowFeed(database)
        (row,) = (await feed.after(await feed.find(owner_of(), "ticks"), 0)).rows
        data = orjson.loads(row.json)
        time = received.isoformat().replace("+00:00", "Z")
        assert data == {"seq": 1, "event_id": "1", "event_time": time, "received_at": time, "value": 1.0}
        with pytest.raises(PipelineNotFound):
            await feed.find(owner_of(2), "ticks")

    run(work)


def test_nothing_for_a_while_is_idle(database: Database) -> None:
    Loader(database, PIPELINE)

    async def work() -> None:
        feed = RowFeed(database)
        followed = await feed.find(owner_of(), "ticks")
        async with running(database) as broker:
            stream = follow_rows(broker, feed, followed, after_seq=None, idle_s=0.05)
            assert await anext(stream) == Idle()
            await stream.aclose()  # type: ignore[attr-defined]

    run(work)
