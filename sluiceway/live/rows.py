"""Following the rows of one pipeline by their durable sequence, without a gap or with a word about it.

The notification only wakes: rows are read from silver after the follower's own position, so that a slow,
absent or reconnecting follower loses nothing. Followers at the same position whom the same rules concern
share one read.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson
import sqlalchemy as sa

from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.database import Database, Role
from sluiceway.kit.faults import reach
from sluiceway.live import repository
from sluiceway.live.contracts import BatchLoaded, Missed
from sluiceway.live.service import LiveBroker, Subscription
from sluiceway.rules.book import RuleBook
from sluiceway.rules.contracts import Effect

PAGE_ROWS = 500
PACE_S = 0.02
"""Between two reads of one follower: a row goes out at once when it is quiet, 50 times a second when busy."""
_SHARED_S = 2.0
_SHARED_PAGES = 64
_MOST_SHARES = 20_000
_JSON = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


@dataclass(frozen=True, slots=True)
class Followed:
    """A pipeline that is followed, and with whose eyes."""

    access: DataAccess
    pipeline_id: int
    slug: str
    silver_table: str


@dataclass(frozen=True, slots=True)
class Row:
    """One silver row as JSON."""

    seq: int
    json: bytes


@dataclass(frozen=True, slots=True)
class Rows:
    """The next rows, in the order of their seq; at least one. `after`: the change that brought them."""

    rows: Sequence[Row]
    after: BatchLoaded | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """Rows after `from_seq` up to and without `next_seq` are not there (any more).

    `gone`: dropped by retention, or replaced by a replay (then they come again under new numbers).
    `ahead`: the follower knew a number that was never given here.
    """

    reason: Literal["gone", "ahead"]
    from_seq: int
    next_seq: int

    def as_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "from_seq": self.from_seq, "next_seq": self.next_seq}


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing for a while."""


RowEvent = Rows | Reset | Idle
_ShareKey = tuple[int, str]
_PageKey = tuple[int, _ShareKey, int]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows that a follower may see, by seq. `first`: the next seq that is there at all, seen or not.

    `share`: who else may be given it (`Effect.key`).
    """

    rows: Sequence[Row]
    first: int | None
    share: _ShareKey


class RowFeed:
    """Reads rows for followers in the thread pool. One a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rules = RuleBook()
        self._pages: OrderedDict[_PageKey, tuple[float, Page]] = OrderedDict()
        self._running: dict[_PageKey, asyncio.Task[Page]] = {}
        self._shares: OrderedDict[Followed, _ShareKey] = OrderedDict()

    async def find(self, access: DataAccess, slug: str) -> Followed:
        """Raises `PipelineNotFound`."""
        return await asyncio.to_thread(self.find_now, access, slug)

    def find_now(self, access: DataAccess, slug: str) -> Followed:
        if "\x00" not in slug:
            with self._database.transaction(Role.READER, access=access) as connection:
                found = repository.find_pipeline(connection, access.workspace_id, slug)
                if found is not None:
                    followed = Followed(access, found[0], slug, found[1])
                    self._shares[followed] = self._rules.effect(connection, access, pipeline_id=found[0]).key
                    while len(self._shares) > _MOST_SHARES:
                        self._shares.popitem(last=False)
                    return followed
        raise PipelineNotFound(f"There is no pipeline {slug!r} in this workspace.")

    async def last_seq(self, followed: Followed) -> int:
        def read() -> int:
            with self._database.transaction(Role.READER, access=followed.access) as connection:
                return repository.find_last_seq(connection, followed.pipeline_id)

        return await asyncio.to_thread(read)

    async def after(self, followed: Followed, seq: int) -> Page:
        """The next rows after `seq`, at most `PAGE_ROWS`, of what this follower may see."""
        share = self._shares.get(followed)
        if share is None:
            return await self._read(followed, seq)
        key = (followed.pipeline_id, share, seq)
        known = self._pages.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(self._read(followed, seq))
            self._running[key] = running
            running.add_done_callback(lambda task: self._keep(key, task))
        page = await asyncio.shield(running)
        if page.share != share and self._shares.get(followed) != page.share:
            # The rules have changed, and somebody else may see other rows under them.
            page = await self._read(followed, seq)
        return page

    async def _read(self, followed: Followed, seq: int) -> Page:
        page = await asyncio.to_thread(self._read_now, followed, seq)
        self._shares[followed] = page.share
        return page

    def _read_now(self, followed: Followed, seq: int) -> Page:
        with self._database.transaction(Role.READER, access=followed.access) as connection:
            effect = self._effect(connection, followed)
            while True:
                rows, first = self._rows(connection, followed, seq, effect)
                # Policies hold from their commit on; masks are this code's to hold, so it looks again.
                now = self._effect(connection, followed)
                if now.key == effect.key:
                    break
                effect = now
        reach("live.read")
        found = [Row(row["seq"], orjson.dumps(row, option=_JSON, default=str)) for row in rows]
        return Page(found, first, effect.key)

    def _effect(self, connection: sa.Connection, followed: Followed) -> Effect:
        return self._rules.effect(connection, followed.access, pipeline_id=followed.pipeline_id)

    def _rows(
        self, connection: sa.Connection, followed: Followed, seq: int, effect: Effect
    ) -> tuple[list[dict[str, Any]], int | None]:
        if effect.masks:
            key = self._database.derived_key(f"pseudonyms/{followed.access.workspace_id}").hex()
            repository.set_pseudonym_key(connection, key)
        rows = repository.find_rows(connection, followed.silver_table, seq, PAGE_ROWS, effect.masks)
        if effect.ruled:
            return rows, repository.find_first_seq(connection, followed.pipeline_id, seq)
        return rows, rows[0]["seq"] if rows else None

    def _keep(self, key: _PageKey, task: "asyncio.Task[Page]") -> None:
        self._running.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        page = task.result()
        # A page is a prefix of what follows `seq`, so it stays true; "nothing yet" does not.
        if page.rows:
            self._pages[key[0], page.share, key[2]] = (time.monotonic() + _SHARED_S, page)
            while len(self._pages) > _SHARED_PAGES:
                self._pages.popitem(last=False)


async def follow_rows(
    broker: LiveBroker,
    feed: RowFeed,
    followed: Followed,
    *,
    after_seq: int | None,
    idle_s: float,
) -> AsyncIterator[RowEvent]:
    """Rows after `after_seq` (None: from now on), for ever; `Idle` when nothing came for `idle_s`.

    Raises `StreamsEnded` when the process is to stop.
    """
    # Subscribed before the first read: what is committed in between is seen by one or the other.
    with broker.subscribe(followed.access.workspace_id, pipeline_id=followed.pipeline_id) as subscription:
        newest = await feed.last_seq(followed)
        cursor = newest if after_seq is None else after_seq
        if cursor > newest:
            yield Reset("ahead", cursor, newest + 1)
            cursor = newest
        news: BatchLoaded | None = None
        while True:
            sent = cursor < newest
            async with aclosing(_catch_up(feed, followed, cursor, newest)) as events:
                async for event in events:
                    if isinstance(event, Rows):
                        cursor = event.rows[-1].seq
                        event = replace(event, after=news)
                        news = None
                    yield event
            cursor = max(cursor, newest)
            if sent:
                await asyncio.sleep(PACE_S)
            woken = await _wait(subscription, feed, followed, newest, idle_s)
            if woken is None:
                yield Idle()
            else:
                newest, news = woken


async def _catch_up(
    feed: RowFeed, followed: Followed, cursor: int, newest: int
) -> AsyncGenerator[Rows | Reset, None]:
    """Rows after `cursor` until `newest` is reached."""
    while cursor < newest:
        page = await feed.after(followed, cursor)
        upto = page.first if page.first is not None else newest + 1
        if upto > cursor + 1:
            yield Reset("gone", cursor, upto)
        if page.rows:
            yield Rows(page.rows)
        cursor = page.rows[-1].seq if page.rows else newest


async def _wait(
    subscription: Subscription, feed: RowFeed, followed: Followed, newest: int, idle_s: float
) -> tuple[int, BatchLoaded | None] | None:
    """The newest seq after something happened, and what did; None if nothing did."""
    changes = await subscription.next(idle_s)
    if not changes:
        return None
    if any(isinstance(change, Missed) for change in changes):
        return max(newest, await feed.last_seq(followed)), None
    loaded = [c for c in changes if isinstance(c, BatchLoaded) and c.last_seq is not None]
    seqs = [c.last_seq for c in loaded if c.last_seq is not None]
    return max([newest, *seqs]), loaded[-1] if loaded else None
