"""A running event route: uvicorn on a free port, a real database with a pipeline and its keys, a spool."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from api.connection_guard import GuardLimits
from api.events import EventRoute, Limits, event_app
from sluiceway.identity.keys import create_key
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import START, SpoolRecord
from sluiceway.ingestion.limits import open_limits
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.event_server import WAYS, ThreadedServer, protocol_of

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


Serve = Callable[..., Running]


@pytest.fixture
def guard() -> GuardLimits:
    """The limits of connections."""
    return GuardLimits()


@pytest.fixture(params=WAYS)
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
        found = Limits(settings.max_body_bytes, settings.max_event_bytes, settings.max_request_events)
        found = dataclasses.replace(found, **limits)  # type: ignore[arg-type]
        intake = open_limits(settings, database, writer)
        route = event_app(settings, writer, database, limits=found, intake=intake)
        server = ThreadedServer(route, protocol_of(way, route, guard), grace_s=1)
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
