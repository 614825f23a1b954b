"""The web process: one address for people and programs. With `--ingest-only`: the event route alone.

Builds everything the application is made of and serves it with uvicorn. Streamlit and the canvas come with
the app's part; an ingest process imports neither.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp

from api.app import ALL_PARTS, Lifespan, Part, create_app
from api.connection_guard import GuardedProtocol
from api.event_protocol import protocol_for
from api.events import EventRoute, event_app
from api.services import ApiServices
from api.tracing import traced_log, traced_route
from sluiceway.infra import telemetry
from sluiceway.infra.connect import open_database
from sluiceway.infra.database import Database
from sluiceway.infra.keys import load_secret_key
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.limits import open_limits
from sluiceway.ingestion.spool import open_spool
from sluiceway.live.service import LiveBroker
from sluiceway.runtime.processes.entry import run
from sluiceway.runtime.processes.observing import observed_web

if TYPE_CHECKING:
    import pandas as pd

    from sluiceway.catalog.contracts import Pipeline
    from sluiceway.kit.errors import FieldError
    from sluiceway.quality.contracts import Gate, GateVerdict, SuiteSpec

GRACE_S = 3
KEEP_ALIVE_S = 30
BACKLOG = 2048
# Routes are synchronous and wait for the database: this many at a time, a little above the pool's size.
THREADS = 24
POOL_SIZE = 8
STATEMENT_MS = 60_000  # of the catalog; queries over data end after half of that
INGEST_ONLY: frozenset[Part] = frozenset({"ingest"})


class Server(uvicorn.Server):
    """uvicorn that tells the streams to end before it waits for connections to close."""

    def __init__(self, config: uvicorn.Config, services: ApiServices) -> None:
        super().__init__(config)
        self._services = services

    async def shutdown(self, sockets: Any = None) -> None:
        self._services.stopping.set()
        if self._services.broker is not None:
            self._services.broker.end_streams()
        await super().shutdown(sockets)


def build(
    settings: Settings, parts: frozenset[Part] = ALL_PARTS
) -> tuple[ASGIApp, ApiServices, type[GuardedProtocol]]:
    """The application for `parts`, what it works with, and the protocol to serve it with.

    Raises `SpoolLocked` if another process has the spool.
    """
    key = load_secret_key(settings)
    database = open_database(settings, key, pool_size=POOL_SIZE, app_timeout_ms=STATEMENT_MS)
    services = ApiServices(settings=settings, database=database, key=key)
    lifespans: list[Lifespan] = [_foundation(services)]
    events: EventRoute | None = None
    pages: ASGIApp | None = None
    addresses: frozenset[str] | None = None
    if "ingest" in parts:
        services.spool = open_spool(settings).writer()
        intake = services.intake = open_limits(settings, database, services.spool)
        log = traced_log(services.spool)
        events = event_app(settings, log, database, clock=services.clock, intake=intake)
        services.event_counts = events.counts
        lifespans.append(events.lifespan)
    if "api" in parts:
        services.broker = LiveBroker(database)
        gate = SharedGate(database)
        services.gate = lambda: gate
        services.broker.on("suite", lambda _: gate.invalidate())
        services.check_suite = _check_suite
        lifespans.append(_broker(services.broker))
    if "app" in parts:
        pages, lifespan, addresses = _pages(settings)
        lifespans.append(lifespan)
    lifespans += [_threads, observed_web(services)]
    route = None if events is None else traced_route(events)
    app = create_app(services, parts, events=route, pages=pages, addresses=addresses, lifespans=lifespans)
    # A traced request goes the ordinary way: what it costs is no longer the question.
    protocol = protocol_for(events if telemetry.active() is None else None)
    services.refusals = protocol.watch.refusals
    return app, services, protocol


def main(settings: Settings, parts: frozenset[Part] = ALL_PARTS) -> int:
    """Serve until SIGTERM or SIGINT, then stop within `GRACE_S`; open streams end at once."""
    telemetry.configure(settings, "ingest" if parts == INGEST_ONLY else "web")
    app, services, protocol = build(settings, parts)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol,
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # `api.addresses` reads them, for the proxies that the settings name
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = Server(config, services)
    # uvicorn raises the signal again when all is closed: then it must not end us with another exit code.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    server.run()
    return 0 if server.started else 1


def _foundation(services: ApiServices) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if services.spool is not None:
                await asyncio.to_thread(services.spool.close)
            services.database.dispose()

    return lifespan


def _broker(broker: LiveBroker) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        await broker.start()
        try:
            yield
        finally:
            await broker.stop()

    return lifespan


def _pages(settings: Settings) -> tuple[ASGIApp, Lifespan, frozenset[str]]:
    """Streamlit, asking this very process for its data; and where its pages are."""
    from dashboards_app.app import ADDRESSES, make_pages

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared only
    pages = make_pages(f"http://{host}:{settings.port}")
    lifespan: Lifespan = pages.lifespan()
    return pages, lifespan, ADDRESSES


@asynccontextmanager
async def _threads(_app: object) -> AsyncIterator[None]:
    """Last, because Streamlit sets the same limit for its files."""
    from anyio import to_thread

    to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


class SharedGate:
    """The quality gate for retries, made when the first comes: Great Expectations takes seconds to import.

    One check at a time, as gates are used; told when a suite changes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._made: Gate | None = None

    def check(self, pipeline: "Pipeline", frame: "pd.DataFrame") -> "GateVerdict":
        with self._lock:
            if self._made is None:
                from sluiceway.runtime.container import make_gate

                self._made = make_gate(self._database)
            return self._made.check(pipeline, frame)

    def invalidate(self) -> None:
        if self._made is not None:
            self._made.invalidate()


def _check_suite(spec: "SuiteSpec") -> "list[FieldError]":
    from expectations.checker import check_suite_apart

    return check_suite_apart(spec)


if __name__ == "__main__":
    wanted = INGEST_ONLY if "--ingest-only" in sys.argv[1:] else ALL_PARTS
    raise SystemExit(run(lambda settings: main(settings, wanted)))
