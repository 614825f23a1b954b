"""The event route without a database: as a process of its own, and in a thread of the test's.

`python -m tests.support.event_server FOLDER PORT [WAY [BUFFER_BYTES [GUARD]]]`: every key is good for every
pipeline. WAY is `plain` (as deployed; keys that begin with `slw_` can go the short way) or `ordinary` (all
through ASGI), BUFFER_BYTES of the kernel for a socket, GUARD the limits of connections that differ, as JSON.
"""

import asyncio
import hashlib
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from api.connection_guard import GuardedProtocol, GuardLimits
from api.event_protocol import protocol_for
from api.events import EventRoute, Limits
from sluiceway.ingestion.access import AccessCache, Admission
from sluiceway.ingestion.contracts import START, LogWriter, SpoolRecord
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter

WAYS = ("plain", "ordinary")
KEY = "slw_anything_goes"


def admit(key: str, slug: str) -> Admission:
    """Everyone may send to everything; a pipeline's id comes from its name."""
    number = int.from_bytes(hashlib.sha256(slug.encode()).digest()[:3], "big")
    return Admission(1, number, slug, key, frozenset({b"x-kept"}), math.inf)


def protocol_of(way: str, route: EventRoute, guard: GuardLimits | None = None) -> type[GuardedProtocol]:
    return protocol_for(route if way == "plain" else None, guard)


@dataclass
class ThreadedServer:
    """uvicorn in a thread of this process, until `stop`."""

    app: EventRoute
    http: type[GuardedProtocol]
    keep_alive_s: int = 5
    grace_s: int = 10
    backlog: int = 2048
    server: uvicorn.Server = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self.thread.start()
        assert self.ready.wait(30)

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self.app, lifespan="off", log_config=None, access_log=False, loop="uvloop", http=self.http,
            timeout_graceful_shutdown=self.grace_s, timeout_keep_alive=self.keep_alive_s,
            server_header=False, date_header=False, backlog=self.backlog,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        async with self.app.lifespan():
            task = asyncio.ensure_future(self.server.serve([self.socket]))
            while not self.server.started:  # noqa: ASYNC110  # uvicorn offers no event for it
                await asyncio.sleep(0.01)
            self.ready.set()
            await task

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=60)
        self.socket.close()
        assert not self.thread.is_alive()


@dataclass
class Edge:
    """A server that runs, and what it wrote."""

    route: EventRoute
    server: ThreadedServer
    writer: LogWriter
    folder: Path

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def refusals(self) -> Any:
        return self.server.http.watch.refusals

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def records(self) -> list[SpoolRecord]:
        with SpoolReader(self.folder) as reader:
            found: list[SpoolRecord] = []
            while got := reader.read(found[-1].end if found else START, 1 << 22):
                found += got
            return found


@contextmanager
def edge(
    folder: Path,
    *,
    way: str = "plain",
    guard: GuardLimits | None = None,
    limits: Limits | None = None,
    writer: SpoolWriter | None = None,
    keep_alive_s: int = 30,
) -> Iterator[Edge]:
    """The route on a free port, its spool in `folder`."""
    log = writer or SpoolWriter(folder)
    route = EventRoute(log, AccessCache(admit, check=str), "test", limits or Limits(1 << 24, 1 << 20))
    server = ThreadedServer(route, protocol_of(way, route, guard), keep_alive_s)
    try:
        yield Edge(route, server, log, folder)
    finally:
        server.stop()
        log.close()


@contextmanager
def event_server(
    folder: Path, way: str = "plain", buffer_bytes: int = 0, **guard: float
) -> Iterator[tuple[int, int]]:
    """The route in a process of its own, killed at the end; its port and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.support.event_server", str(folder), str(port), way]
    command += [str(buffer_bytes), json.dumps(guard)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        yield port, process.pid
        assert process.poll() is None, "the server is gone"
    finally:
        process.kill()
        process.wait()


def main(folder: str, port: str, way: str = "plain", buffer_bytes: str = "0", guard: str = "{}") -> None:
    writer = SpoolWriter(Path(folder), segment_bytes=200_000)
    limits = Limits(body_bytes=1 << 24, event_bytes=1 << 20)
    route = EventRoute(writer, AccessCache(admit, check=str), "test", limits)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if int(buffer_bytes):
        for kind in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            listener.setsockopt(socket.SOL_SOCKET, kind, int(buffer_bytes))
    listener.bind(("127.0.0.1", int(port)))
    config = uvicorn.Config(
        route, lifespan="off", log_level="error", access_log=False, loop="uvloop", backlog=2048,
        http=protocol_of(way, route, GuardLimits(**json.loads(guard))),
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
