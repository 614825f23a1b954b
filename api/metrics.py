"""What Prometheus may know: this process's requests, the platform's figures, and the spool on this disk.

No tenant's names are in these: whoever reaches the port may read them. A pipeline's own figures are given
only to its workspace's key (`pipeline_families`).
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.services import ApiServices
from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.database import Role
from sluiceway.loading.overview import PipelineStatus

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HttpMetrics:
    """One process's counters. Streams count when they end and are left out of the durations."""

    def __init__(self, services: ApiServices) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "sluiceway_http_requests",
            "Answered requests, the event route's left out.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "sluiceway_http_request_seconds",
            "Time until the answer begins.",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(PlatformFigures(services))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class PlatformFigures(Collector):
    """Asked on every scrape: the database's totals, the spool's size, and what the event route counted."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from _spool(self._services)
        yield from _ingest(self._services)
        yield from _database(self._services)


def pipeline_families(found: Iterable[tuple[Pipeline, PipelineStatus]], now: datetime) -> Iterator[Metric]:
    """The figures of one workspace's pipelines."""
    events = CounterMetricFamily("sluiceway_pipeline_events", "Events loaded.", labels=["pipeline"])
    dead = CounterMetricFamily("sluiceway_pipeline_dead_letters", "Dead letters ever.", labels=["pipeline"])
    twice = CounterMetricFamily("sluiceway_pipeline_duplicates", "Duplicates dropped.", labels=["pipeline"])
    waiting = GaugeMetricFamily("sluiceway_pipeline_open_dead_letters", "Open or held.", labels=["pipeline"])
    rate = GaugeMetricFamily("sluiceway_pipeline_rate", "Events a second.", labels=["pipeline"])
    age = GaugeMetricFamily(
        "sluiceway_pipeline_age_seconds", "Since the newest event was received.", labels=["pipeline"]
    )
    wait = GaugeMetricFamily(
        "sluiceway_pipeline_load_wait_seconds", "Receipt to commit, newest batch.", labels=["pipeline"]
    )
    for pipeline, status in found:
        label = [pipeline.slug]
        events.add_metric(label, status.events)
        dead.add_metric(label, status.dead_letters)
        twice.add_metric(label, status.duplicates)
        waiting.add_metric(label, status.open_dead_letters + status.held_dead_letters)
        rate.add_metric(label, status.rate)
        if status.last_received_at is not None:
            age.add_metric(label, (now - status.last_received_at).total_seconds())
        if status.load_wait_s is not None:
            wait.add_metric(label, status.load_wait_s)
    yield from (events, dead, twice, waiting, rate, age, wait)


def _spool(services: ApiServices) -> Iterator[Metric]:
    folder: Path = services.settings.spool_dir
    sizes = [path.stat().st_size for path in _segments(folder)]
    yield GaugeMetricFamily("sluiceway_spool_bytes", "Bytes in this node's spool.", value=sum(sizes))
    yield GaugeMetricFamily("sluiceway_spool_segments", "Segments in this node's spool.", value=len(sizes))
    limit = services.settings.spool_max_bytes
    yield GaugeMetricFamily(
        "sluiceway_spool_max_bytes", "Past this the event route answers 503.", value=limit
    )


def _segments(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.glob("*.seg") if path.exists()]
    except OSError:
        return []


def _ingest(services: ApiServices) -> Iterator[Metric]:
    counts = services.event_counts
    if counts is not None:
        requests = CounterMetricFamily(
            "sluiceway_ingest_requests", "Answers of the event route, by code.", labels=["code"]
        )
        for code, count in sorted(counts.items()):
            if code != "events":
                requests.add_metric([code], count)
        yield requests
        yield CounterMetricFamily(
            "sluiceway_ingest_events", "Events accepted.", value=counts.get("events", 0)
        )
    if services.spool is not None:
        stats = services.spool.stats
        for name, text, value in (
            ("records", "Records written to the spool.", stats.records),
            ("written_bytes", "Bytes written to the spool.", stats.bytes),
            ("syncs", "Times the spool was made durable.", stats.syncs),
            ("sync_seconds", "Spent making it durable.", stats.sync_seconds),
            ("failures", "Failed writes.", stats.failures),
        ):
            yield CounterMetricFamily(f"sluiceway_spool_{name}", text, value=value)


def _database(services: ApiServices) -> Iterator[Metric]:
    up = GaugeMetricFamily("sluiceway_database_up", "Whether the database answers.")
    try:
        with services.database.transaction(Role.APP) as conn:
            row = conn.execute(sa.text("SELECT * FROM app.platform_figures()")).one()
    except sa.exc.SQLAlchemyError:
        up.add_metric([], 0)
        yield up
        return
    up.add_metric([], 1)
    yield up
    now = services.clock.now()
    for name, text, value in (
        ("pipelines", "Active pipelines.", row.pipelines),
        ("open_dead_letters", "Dead letters open or held.", row.open_dead_letters),
        ("outbox_waiting", "Messages waiting in the outbox.", row.outbox_waiting),
        ("outbox_oldest_seconds", "Age of the oldest waiting message.", _age(row.outbox_oldest, now)),
        ("dirty_buckets", "Buckets that gold has to refresh.", row.dirty_buckets),
        ("loader_last_batch_age_seconds", "Since the last batch.", _age(row.last_batch_at, now)),
    ):
        yield GaugeMetricFamily(f"sluiceway_{name}", text, value=value)
    for name, text, value in (
        ("loaded_events", "Events loaded.", row.events),
        ("loaded_duplicates", "Duplicates dropped.", row.duplicates),
        ("loaded_dead_letters", "Events that became dead letters.", row.dead_letters),
    ):
        yield CounterMetricFamily(f"sluiceway_{name}", text, value=value)


def _age(at: datetime | None, now: datetime) -> float:
    return 0.0 if at is None else max(0.0, (now - at).total_seconds())
