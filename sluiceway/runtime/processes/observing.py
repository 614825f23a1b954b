"""How a process shows what it does: its reports, its own port for Prometheus, its traces.

Belongs here: starting and ending these for each kind of process. Not here: figures and spans themselves.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import start_http_server

from sluiceway.infra import metrics, telemetry
from sluiceway.infra.database import Database, Role
from sluiceway.infra.metrics import REGISTRY
from sluiceway.infra.reporting import Reporter, State
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool.backlog import BacklogMeter

if TYPE_CHECKING:
    from api.app import Lifespan
    from api.metrics import HttpMetrics
    from api.services import ApiServices
    from sluiceway.loading.service import Loader
    from sluiceway.runtime.spools import Keeper

log = logging.getLogger(__name__)

# Of the loader; the worker's is the next one, so that one setting does for both.
_PORTS = {"loader": 0, "worker": 1}


@contextmanager
def observed(settings: Settings, process: str, database: Database, state: State = dict) -> Iterator[None]:
    """Everything for a process without a web server, while the block runs."""
    telemetry.configure(settings, process)
    close_port = serve_metrics(settings, process)
    reporter = Reporter(settings, process, database, state=state)
    reporter.start()
    try:
        yield
    finally:
        reporter.stop()
        close_port()
        telemetry.close()


def observed_web(services: "ApiServices") -> "Lifespan":
    """The same as a lifespan of a web or ingest process, which has `/metrics` already.

    Tracing is configured before, when the application is built: its parts differ with it.
    """

    from api.routes.platform_health import health_watch

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        held: HttpMetrics = services.extra["metrics"]
        reporter = Reporter(
            services.settings,
            held.process,
            services.database,
            role=Role.APP,
            registries=held.registries,
            state=held.state,
        )
        reporter.start()
        watch = health_watch(services) if services.broker is not None else None
        if watch is not None:
            watch.start()
        try:
            yield
        finally:
            if watch is not None:
                watch.stop()
            await asyncio.to_thread(reporter.stop)
            await asyncio.to_thread(telemetry.close)

    return lifespan


class LoaderState:
    """What a loader says of itself; each time it is asked, the gauges of both its readers are set too."""

    def __init__(self, folder: Path, loader: "Loader", bronze: "Keeper", corrupt: Callable[[], int]) -> None:
        self._folder = folder
        self._loader = loader
        self._bronze = bronze
        self._corrupt = corrupt
        self._skipped = 0
        self._meters = {"silver": BacklogMeter(folder), "bronze": BacklogMeter(folder)}

    def __call__(self) -> dict[str, Any]:
        stats, state = self._loader.stats, self._bronze.state
        self._measure("silver", self._loader.position)
        self._measure("bronze", self._bronze.position)
        skipped = self._corrupt()
        metrics.CORRUPT_RECORDS.labels("silver").inc(max(0, skipped - self._skipped))
        self._skipped = skipped
        return {
            "loading": _trouble(stats.failing_since, stats.last_error),
            "bronze": _trouble(state.failing_since, state.reason),
        }

    def _measure(self, stage: str, position: Position | None) -> None:
        if position is None:
            return
        found = self._meters[stage].measure(position)
        metrics.WAITING_BYTES.labels(stage).set(found.waiting_bytes)
        metrics.LAG_SECONDS.labels(stage).set(found.lag_s(time.time()))


def _trouble(since: datetime | None, reason: str | None) -> dict[str, Any] | None:
    return None if since is None else {"since": since.isoformat(), "reason": reason}


def serve_metrics(settings: Settings, process: str) -> Callable[[], None]:
    """Serve this process's registry on its port, if one is set and free; returns what ends it."""
    if settings.metrics_port is None:
        return lambda: None
    port = settings.metrics_port + _PORTS[process]
    try:
        server, thread = start_http_server(port, settings.host, REGISTRY)
    except OSError as error:  # the process's work does not depend on being watched
        log.warning("metrics of the %s: port %d cannot be used (%s)", process, port, error.strerror)
        return lambda: None
    log.info("metrics of the %s: http://%s:%d/metrics", process, settings.host, port)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close
