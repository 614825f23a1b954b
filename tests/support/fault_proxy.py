"""A TCP proxy on 127.0.0.1 whose faults a test switches on and off while connections pass through it.

In front of anything that speaks over a stream: an S3 server, PostgreSQL (by TCP or by its unix socket). It
never changes a byte. What a fault does is counted, and `wait_for` waits until something was. Faults of HTTP
(503, an answer that comes after the work) belong to `s3_server`.

    with FaultProxy(("127.0.0.1", 5432)) as proxy:
        connect(port=proxy.port)
        proxy.set(Faults(cut=Cut("up", after_bytes=100_000)))
        proxy.wait_for(lambda counts: counts.cuts == 1)
        proxy.set(Faults())
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Direction = Literal["up", "down"]
"""`up`: from the client to the server behind; `down`: the other way."""

Upstream = tuple[str, int] | Path
"""Host and port, or the path of a unix socket."""

PATIENCE_S = 60.0
_CHUNK_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Cut:
    """End a connection once it has carried `after_bytes` in one direction since the fault was set.

    `reset`: both sides get RST. `close`: both sides see an orderly end. `half`: only this direction ends,
    the other goes on. `times`: how many connections are cut; then the proxy lets everything pass (None: all).
    """

    direction: Direction
    after_bytes: int = 0
    how: Literal["reset", "close", "half"] = "reset"
    times: int | None = None


@dataclass(frozen=True)
class Faults:
    """What is wrong with the network just now; nothing by default. Also for connections already open."""

    refuse: bool = False
    """New connections are refused by the kernel; those that are open go on."""
    connect_delay_s: float = 0.0
    """Wait before a new connection is passed on."""
    chunk_delay_s: float = 0.0
    """Wait before each chunk (up to 64 KB) is passed on, in both directions."""
    stall: Direction | Literal["both"] | None = None
    """Nothing is passed on in that direction, for as long as the fault lasts; nothing is lost."""
    bytes_per_s: float | None = None
    """Bandwidth of each connection and direction."""
    cut: Cut | None = None


@dataclass(frozen=True)
class Counts:
    """What happened since the proxy was made. `held`: chunks that met a stall."""

    connections: int = 0
    open: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    delayed: int = 0
    held: int = 0
    cuts: int = 0
    unreachable: int = 0


@dataclass
class _Link:
    """One client's connection and the one behind it."""

    client: socket.socket
    server: socket.socket
    carried: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    epoch: int = 0
    reset: bool = False
    halved: set[str] = field(default_factory=set)

    def close(self) -> None:
        for side in (self.client, self.server):
            if self.reset:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.close()


class _Ended(Exception):
    """Both directions of a connection end here."""


class FaultProxy:
    """A context manager: listens from entering until leaving. Its methods may be called from any thread."""

    def __init__(self, upstream: Upstream, faults: Faults | None = None) -> None:
        self._upstream = upstream
        self._faults = faults or Faults()
        self._epoch = 0
        self._counts = Counts()
        self._told = threading.Condition()
        # Bound for as long as the proxy lives, and never listening: while the proxy refuses, no one else can
        # be given the port.
        self._place = _tcp_socket()
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._changed = asyncio.Event()
        self._listener: socket.socket | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counts:
        with self._told:
            return self._counts

    def set(self, faults: Faults) -> None:
        """From now on this is wrong (`Faults()`: nothing). In force when this returns."""
        self._call(self._set(faults))

    def drop(self, how: Literal["reset", "close"] = "reset") -> int:
        """End every connection that is open now; returns how many."""
        return self._call(self._drop(how))

    def wait_for(self, check: Callable[[Counts], bool], timeout_s: float = PATIENCE_S) -> Counts:
        """The counts as soon as they satisfy `check`. Raises `AssertionError` after `timeout_s`."""
        with self._told:
            if not self._told.wait_for(lambda: check(self._counts), timeout_s):
                raise AssertionError(f"not within {timeout_s} s; the proxy counted {self._counts}")
            return self._counts

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._place.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    # From here on everything runs in the proxy's own thread.

    def _count(self, **more: int) -> None:
        with self._told:
            now = {name: getattr(self._counts, name) + value for name, value in more.items()}
            self._counts = replace(self._counts, **now)
            self._told.notify_all()

    async def _set(self, faults: Faults) -> None:
        self._faults = faults
        self._epoch += 1
        self._changed.set()
        self._changed = asyncio.Event()
        await self._listen()

    async def _listen(self) -> None:
        if self._faults.refuse:
            self._deafen()
        elif self._listener is None:
            self._listener = _tcp_socket()
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen(1024)
            self._listener.setblocking(False)
            # Not a task that accepts: one that is cancelled could drop a connection it has just been given.
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def _deafen(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _drop(self, how: str) -> int:
        links = dict(self._links)
        for task, link in links.items():
            link.reset = how == "reset"
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        return len(links)

    async def _end(self) -> None:
        self._deafen()
        await self._drop("close")

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # it has gone again
        server = socket.socket(socket.AF_UNIX if isinstance(self._upstream, Path) else socket.AF_INET)
        for side in (client, server):
            side.setblocking(False)
        link = _Link(client, server, epoch=self._epoch)
        task = self._loop.create_task(self._serve(link))
        self._links[task] = link
        task.add_done_callback(self._gone)
        self._count(connections=1, open=1)

    def _gone(self, task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before its first step never runs.
        self._links.pop(task).close()
        self._count(open=-1)

    async def _serve(self, link: _Link) -> None:
        await asyncio.sleep(self._faults.connect_delay_s)
        to = str(self._upstream) if isinstance(self._upstream, Path) else self._upstream
        try:
            await self._loop.sock_connect(link.server, to)
        except OSError:
            link.reset = True
            self._count(unreachable=1)
            return
        with contextlib.suppress(_Ended):
            pumps = [
                self._loop.create_task(self._pump(link, "up", link.client, link.server)),
                self._loop.create_task(self._pump(link, "down", link.server, link.client)),
            ]
            try:
                await asyncio.gather(*pumps)
            finally:
                for pump in pumps:
                    await _cancel(pump)

    async def _pump(self, link: _Link, way: Direction, source: socket.socket, sink: socket.socket) -> None:
        while True:
            try:
                data = await self._loop.sock_recv(source, _CHUNK_BYTES)
                if not data:
                    if way not in link.halved:
                        sink.shutdown(socket.SHUT_WR)
                    return
                await self._carry(link, way, sink, data)
            except OSError:
                link.reset = True  # one side was reset: so is the other
                raise _Ended from None

    async def _carry(self, link: _Link, way: Direction, sink: socket.socket, data: bytes) -> None:
        if self._faults.chunk_delay_s:
            self._count(delayed=1)
            await asyncio.sleep(self._faults.chunk_delay_s)
        if self._faults.stall in (way, "both"):
            self._count(held=1)
            while self._faults.stall in (way, "both"):
                await self._changed.wait()
        rest = memoryview(data)
        while rest and way not in link.halved:
            part = rest[: self._allowed(link, way, len(rest))]
            await self._loop.sock_sendall(sink, part)
            rest = rest[len(part) :]
            link.carried[way] += len(part)
            self._count(**{f"bytes_{way}": len(part)})
            if self._faults.bytes_per_s is not None:
                await asyncio.sleep(len(part) / self._faults.bytes_per_s)
            self._cut(link, way, sink)

    def _allowed(self, link: _Link, way: Direction, waiting: int) -> int:
        """How many bytes may be passed on at once."""
        if link.epoch != self._epoch:
            link.epoch, link.carried = self._epoch, {"up": 0, "down": 0}
        cut, rate = self._faults.cut, self._faults.bytes_per_s
        if rate is not None:
            waiting = min(waiting, max(1, int(rate / 20)))
        if cut is not None and cut.direction == way:
            waiting = min(waiting, max(0, cut.after_bytes - link.carried[way]))
        return waiting

    def _cut(self, link: _Link, way: Direction, sink: socket.socket) -> None:
        cut = self._faults.cut
        if cut is None or cut.direction != way or link.epoch != self._epoch:
            return
        if link.carried[way] < cut.after_bytes:
            return
        if cut.times is not None:
            rest = cut.times - 1
            self._faults = replace(self._faults, cut=replace(cut, times=rest) if rest > 0 else None)
        self._count(cuts=1)
        if cut.how == "half":
            link.halved.add(way)
            sink.shutdown(socket.SHUT_WR)
            return
        link.reset = cut.how == "reset"
        raise _Ended


def _tcp_socket() -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return found


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
