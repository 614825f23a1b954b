"""The broker: one LISTEN connection a process, its notifications fanned out to subscribers.

Lives in one event loop; only `end_streams` may be called from another thread. A subscriber that does not
keep up loses its backlog and gets `Missed` in its place: nobody waits for it and memory stays bounded.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg

from sluiceway.infra import metrics
from sluiceway.infra.announcing import CHANNEL
from sluiceway.infra.database import Database, Role
from sluiceway.kit.faults import reach
from sluiceway.live.contracts import (
    MOST_TRACES,
    BatchLoaded,
    CatalogChanged,
    Change,
    DashboardChanged,
    LayoutSaved,
    Missed,
    OtherChange,
    decode,
)
from sluiceway.live.errors import TooManyStreams

QUEUE_SIZE = 256
MAX_SUBSCRIBERS = 2_000
HEARTBEAT_S = 20.0
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

log = logging.getLogger(__name__)


class StreamsEnded(Exception):
    """The process is to stop."""


class Subscription:
    """Changes of one workspace, in the order of their commits. Made by `LiveBroker.subscribe`."""

    def __init__(self, workspace_id: int, pipeline_id: int | None, size: int) -> None:
        self.workspace_id = workspace_id
        self._pipeline_id = pipeline_id
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue(size + 1)
        self._size = size

    def wants(self, change: Change) -> bool:
        if isinstance(change, Missed):
            return True
        if isinstance(change, OtherChange) or change.workspace_id != self.workspace_id:
            return False
        if self._pipeline_id is None:
            return True
        return isinstance(change, BatchLoaded | CatalogChanged) and change.pipeline_id == self._pipeline_id

    def offer(self, change: Change) -> None:
        if self._queue.qsize() >= self._size:
            self._drop_all()
            metrics.LIVE_MISSED.inc()
            change = Missed()
        self._queue.put_nowait(change)

    def end(self) -> None:
        if self._queue.full():
            self._drop_all()
        self._queue.put_nowait(None)

    async def next(self, timeout_s: float) -> list[Change]:
        """What has come, at once if something waits; [] after `timeout_s`. Raises `StreamsEnded`."""
        try:
            async with asyncio.timeout(timeout_s):
                first = await self._queue.get()
        except TimeoutError:
            return []
        found = [first]
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        if None in found:
            raise StreamsEnded
        return _merge([change for change in found if change is not None])

    def _drop_all(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()


def _merge(changes: list[Change]) -> list[Change]:
    """Batches of one pipeline become one: a reader that is behind is told once."""
    merged: dict[Any, Change] = {}
    for number, change in enumerate(changes):
        key: Any = number
        if isinstance(change, BatchLoaded):
            key = ("batch", change.pipeline_id)
            before = merged.get(key)
            change = before.merged(change) if isinstance(before, BatchLoaded) else change
        elif isinstance(change, LayoutSaved):
            key = ("layout", change.dashboard)
        elif isinstance(change, DashboardChanged):
            key = ("dashboard", change.dashboard)
        elif isinstance(change, Missed):
            key = "missed"
        merged[key] = change
    return list(merged.values())


class LiveBroker:
    """`await start()`, then `subscribe`; `await stop()` in the end."""

    def __init__(
        self,
        database: Database,
        *,
        queue_size: int = QUEUE_SIZE,
        max_subscribers: int = MAX_SUBSCRIBERS,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._database = database
        self._queue_size, self._max_subscribers = queue_size, max_subscribers
        self._heartbeat_s = heartbeat_s
        self._subscriptions: set[Subscription] = set()
        self._listeners: dict[str, list[Callable[[dict[str, Any]], None]]] = defaultdict(list)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False
        self.connected = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen. Returns at once, also while the database is away: it goes on trying."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._listen_forever(), name="live-broker")

    async def stop(self) -> None:
        """End every stream and close the connection."""
        self._end()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def end_streams(self) -> None:
        """End every stream now, from any thread or signal handler; no new one begins."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    def on(self, kind: str, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call `listener` with the payload of every notification of `kind`, in the loop's thread.

        With {} when notifications may have been missed. It must not block.
        """
        self._listeners[kind].append(listener)

    @property
    def subscribers(self) -> int:
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self, workspace_id: int, *, pipeline_id: int | None = None) -> Iterator[Subscription]:
        """Changes of a workspace, or of one of its pipelines, from now on. Raises `TooManyStreams`."""
        if len(self._subscriptions) >= self._max_subscribers:
            raise TooManyStreams(f"{self._max_subscribers} streams are open already.", retry_after_s=10)
        found = Subscription(workspace_id, pipeline_id, self._queue_size)
        self._subscriptions.add(found)
        metrics.LIVE_CLIENTS.inc()
        if self._ended:
            found.end()
        try:
            yield found
        finally:
            self._subscriptions.discard(found)
            metrics.LIVE_CLIENTS.dec()

    def publish(self, change: Change) -> None:
        """Hand a change to everyone of this process who is entitled to it."""
        traced = 0
        for subscription in self._subscriptions:
            if not subscription.wants(change):
                continue
            if isinstance(change, BatchLoaded) and change.traces:
                if traced == MOST_TRACES:  # a thousand streams would be a thousand spans
                    change = replace(change, traces=())
                traced += 1
            subscription.offer(change)

    def _end(self) -> None:
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()

    async def _listen_forever(self) -> None:
        failures, before = 0, False
        while True:
            try:
                async with await self._connect() as connection:
                    if before:
                        self._tell_missed()
                    failures, before = 0, True
                    self.connected.set()
                    await self._listen(connection)
            except (psycopg.Error, OSError) as error:
                wait_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                log.warning("live notifications: %s; trying again in %.1f s", type(error).__name__, wait_s)
                failures += 1
                self.connected.clear()
                await asyncio.sleep(wait_s)

    async def _connect(self) -> "psycopg.AsyncConnection[Any]":
        connection = await psycopg.AsyncConnection.connect(
            self._database.conninfo(Role.APP), autocommit=True, application_name="sluiceway-live"
        )
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _listen(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        while True:
            async for notification in connection.notifies(timeout=self._heartbeat_s):
                self._receive(notification.payload)
            await connection.execute("SELECT 1")  # notices a connection that died without a word

    def _receive(self, payload: str) -> None:
        try:
            change = decode(payload)
        except ValueError:
            log.warning("live notifications: one that cannot be read (%d bytes)", len(payload))
            return
        if isinstance(change, BatchLoaded):
            reach("live.notified")
            metrics.LIVE_NOTIFICATIONS.inc()
        kind = change.kind if isinstance(change, OtherChange) else _KINDS[type(change)]
        listeners = self._listeners.get(kind)
        if listeners:
            self._tell(listeners, change.payload if isinstance(change, OtherChange) else _fields(change))
        self.publish(change)

    def _tell_missed(self) -> None:
        for listeners in self._listeners.values():
            self._tell(listeners, {})
        self.publish(Missed())

    @staticmethod
    def _tell(listeners: list[Callable[[dict[str, Any]], None]], payload: dict[str, Any]) -> None:
        for listener in listeners:
            try:
                listener(payload)
            except Exception:
                log.exception("live notifications: a listener failed")


_KINDS: dict[type, str] = {
    BatchLoaded: "batch",
    LayoutSaved: "layout",
    DashboardChanged: "dashboard",
    CatalogChanged: "catalog",
}


def _fields(change: Any) -> dict[str, Any]:
    return {name: getattr(change, name) for name in change.__slots__}
