"""A running event route: uvicorn on a free port, a real database with a pipeline and its keys, a spool."""

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from api.connection_guard import GuardLimits
from api.event_protocol import protocol_for
from api.events import EventRoute, Limits, event_app
from sluiceway.identity.keys import create_key
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import START, SpoolRecord
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.warehouse.schema import apply_pipeline

FLIGHTS = """\
name: flights
event: {id: id}
fields:
  - {name: carrier, type: string, role: dimension}
  - {name: kind, path: "header:x-github-event", type: string}
"""
ORDERS = "name: orders\nfields:\n  - {name: amount, type: number, role: measure}\n"


@dataclass
class Running:
    """The route under test and what its clients know."""

    url: str
    port: int
    route: EventRoute
    spool: SpoolWriter
    keys: dict[str, str]
    folder: Path
    client: httpx.Client = field(repr=False)

    def post(
        self, content: bytes, key: str | None = "good", pipeline: str = "flights", **headers: str
    ) -> httpx.Response:
        sent = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if key is not None:
            sent["authorization"] = f"Bearer {self.keys.get(key, key)}"
        return self.client.post(f"/v1/pipelines/{pipeline}/events", content=content, headers=sent)

    def records(self) -> list[SpoolRecord]:
        with SpoolReader(self.folder) as reader:
            found: list[SpoolRecord] = []
            while got := reader.read(found[-1].end if found else START, 1 << 22):
                found += got
            return found


def make_keys(database: Database) -> dict[str, str]:
    expired = datetime.now(UTC) - timedelta(minutes=1)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        rows = connection.exec_driver_sql("SELECT slug, id FROM app.pipelines").all()
        ids = {row.slug: row.id for row in rows}
        return {
            "good": create_key(connection, 1, "good", ["ingest"], pipeline_ids=[ids["flights"]]),
            "every": create_key(connection, 1, "every", ["ingest"]),
            "reader": create_key(connection, 1, "reader", ["read"]),
            "expired": create_key(connection, 1, "expired", ["ingest"], expires_at=expired),
        }


@dataclass
class _Server:
    """uvicorn in a thread of this process, with a protocol class or the name of one of its own."""

    app: EventRoute
    http: Any

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.thread.start()
        assert self.ready.wait(10)

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self.app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1,
            loop="uvloop", http=self.http,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        async with self.app.lifespan():
            task = asyncio.ensure_future(self.server.serve([self.socket]))
            while not self.server.started:  # noqa: ASYNC110  # uvicorn offers no event for it
                await asyncio.sleep(0.01)
            self.ready.set()
            await task

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)
        self.socket.close()


Serve = Callable[..., Running]


@pytest.fixture
def guard() -> GuardLimits:
    """The limits of connections."""
    return GuardLimits()


@pytest.fixture(params=["plain", "ordinary"])
def way(request: pytest.FixtureRequest) -> str:
    """Whether plain requests are taken by the protocol, or all go through ASGI."""
    return str(request.param)


@pytest.fixture
def serve(database: Database, settings: Settings, way: str, guard: GuardLimits) -> Iterator[Serve]:
    """Start the route; keyword arguments change its limits, `spool` replaces the writer."""
    apply_pipeline(database, 1, FLIGHTS)
    apply_pipeline(database, 1, ORDERS)
    keys = make_keys(database)
    stops: list[Callable[[], object]] = []

    def start(spool: SpoolWriter | None = None, **limits: object) -> Running:
        writer = spool or SpoolWriter(settings.spool_dir)
        found = Limits(settings.max_body_bytes, settings.max_event_bytes)
        found = dataclasses.replace(found, **limits)  # type: ignore[arg-type]
        route = event_app(settings, writer, database, limits=found)
        protocol = protocol_for(route if way == "plain" else None, guard)
        server = _Server(route, protocol)
        url = f"http://127.0.0.1:{server.port}"
        client = httpx.Client(base_url=url, timeout=20)
        stops.extend([writer.close, server.stop, client.close])
        return Running(url, server.port, route, writer, keys, writer.folder, client)

    yield start
    for stop in reversed(stops):
        stop()


@pytest.fixture
def running(serve: Serve) -> Running:
    return serve()
