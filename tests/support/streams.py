"""The application with its live streams behind uvicorn on a free port, and a reader of what they send."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import uvicorn

from api.app import create_app
from api.services import ApiServices
from sluiceway.identity import keys
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings
from sluiceway.live.service import LiveBroker

PIPELINE = """
kind: Pipeline
name: ticks
event: {id: id}
fields:
  - {name: value, type: number, role: measure}
"""


@dataclass
class Served:
    """The application behind uvicorn on a free port."""

    services: ApiServices
    server: uvicorn.Server
    url: str
    loop: asyncio.AbstractEventLoop | None = None

    def key(self, *scopes: str, workspace_id: int = 1) -> dict[str, str]:
        with self.services.database.transaction(Role.APP, workspace_id=workspace_id) as conn:
            text = keys.create_key(conn, workspace_id, "test", scopes)
        return {"Authorization": f"Bearer {text}"}

    def stop(self) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.services.stopping.set)
        self.server.should_exit = True


@contextmanager
def serving(database: Database, settings: Settings, secret_key: SecretKey) -> Iterator[Served]:
    services = ApiServices(settings=settings, database=database, key=secret_key)
    services.broker = LiveBroker(database)

    @asynccontextmanager
    async def live(_: Any) -> AsyncIterator[None]:
        assert services.broker is not None
        found.loop = asyncio.get_running_loop()
        await services.broker.start()
        await services.broker.connected.wait()
        yield
        await services.broker.stop()

    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(services, lifespans=[live])
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, loop="asyncio")
    found = Served(services, uvicorn.Server(config), f"http://127.0.0.1:{listener.getsockname()[1]}")
    thread = threading.Thread(target=found.server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not found.server.started:
        time.sleep(0.01)
    try:
        yield found
    finally:
        found.stop()
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


class Events:
    """Reads server-sent events from an open response."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()
        self.comments: list[str] = []

    def next(self) -> tuple[str, str | None, Any]:
        """The next event: its type, id and data."""
        event: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "data" in event:
                return event["event"], event.get("id"), orjson.loads(event["data"])
            else:
                event = {}
        raise EOFError
