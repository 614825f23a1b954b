"""What Prometheus may know: this node's processes, the platform's figures, and the spool on this disk.

No tenant's names are in these: whoever reaches the port may read them. A pipeline's own figures are given
only to its workspace's key (`pipeline_families`). Names and meanings are in `sluiceway.infra.metrics`.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.services import ApiServices
from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.database import Role
from sluiceway.infra.metrics import (
    REGISTRY,
    counter,
    counter_family,
    gauge_family,
    histogram,
    tally_family,
)
from sluiceway.infra.reporting import Report, gather, read_reports
from sluiceway.ingestion.spool import segments
from sluiceway.loading.overview import PipelineStatus

if TYPE_CHECKING:
    from sluiceway.ingestion.limits import IntakeLimits


class HttpMetrics:
    """One application's counters. Streams count when they end and are left out of the durations."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services
        self._started_at = services.clock.now()
        self.registry = CollectorRegistry()
        self._requests = counter("sluiceway_http_requests_total", self.registry)
        self._seconds = histogram("sluiceway_http_request_seconds", self.registry)
        self.registry.register(_Counts(services))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def report(self) -> Report:
        """This process's report as it is now."""
        now = self._services.clock.now()
        return Report(
            node=self._services.settings.node,
            process=self.process,
            at=now,
            started_at=self._started_at,
            ended=False,
            state=self.state(),
            families=gather(self.registries),
        )

    def state(self) -> dict[str, Any]:
        """What this process says of itself: why it refuses events, and whether it hears of commits."""
        spool, broker = self._services.spool, self._services.broker
        refusal = None if spool is None else spool.refusal
        return {
            "refusal": None if refusal is None else refusal.code,
            "listening": None if broker is None else broker.connected.is_set(),
        }

    @property
    def registries(self) -> tuple[CollectorRegistry, ...]:
        """What this process counts."""
        return (REGISTRY, self.registry)

    @property
    def process(self) -> str:
        return process_name(self._services)

    def exposition(self) -> bytes:
        """The node's processes and the platform's totals, as text."""
        services = self._services
        now = services.clock.now()
        node = services.settings.node
        reports = [r for r in read_reports(services.settings.home, node) if r.process != self.process]
        families: dict[str, Metric] = {}
        _merge(families, gather(self.registries), node, self.process)
        for report in reports:
            if not report.is_silent(now):
                _merge(families, report.families, node, report.process)
        rest = [*_node(services), *_processes(reports, self.process, node, now)]
        return as_text([*families.values(), *rest, *_database(services)])


def process_name(services: ApiServices) -> str:
    """What this process is called in its node: `ingest` if it has the event route alone."""
    return "ingest" if services.broker is None and services.spool is not None else "web"


def as_text(families: Iterable[Metric]) -> bytes:
    """Families in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Families(list(families)))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


class _Counts(Collector):
    """What the event route and the spool's writer count in plain integers."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        counts = self._services.event_counts
        if counts is not None:
            requests = counter_family("sluiceway_ingest_requests_total")
            for code, count in sorted(counts.items()):
                if code != "events":
                    requests.add_metric([code], count)
            yield requests
            yield counter_family("sluiceway_ingest_events_total", counts.get("events", 0))
        if self._services.intake is not None:
            yield from _limit_families(self._services.intake)
        if self._services.refusals is not None:
            refused = counter_family("sluiceway_http_refused_total")
            for code, count in sorted(self._services.refusals.items()):
                refused.add_metric([code], count)
            yield refused
        if self._services.spool is None:
            return
        stats = self._services.spool.stats
        yield counter_family("sluiceway_spool_records_total", stats.records)
        yield counter_family("sluiceway_spool_events_total", stats.events)
        yield counter_family("sluiceway_spool_body_bytes_total", stats.body_bytes)
        yield counter_family("sluiceway_spool_written_bytes_total", stats.bytes)
        yield counter_family("sluiceway_spool_failures_total", stats.failures)
        yield tally_family("sluiceway_spool_sync_seconds", stats.sync_s)
        yield tally_family("sluiceway_spool_group_records", stats.group_records)
        yield tally_family("sluiceway_spool_group_bytes", stats.group_bytes)


def _limit_families(intake: "IntakeLimits") -> Iterator[Metric]:
    """What the rates and marks of this process did."""
    figures = intake.rates.figures
    requests = counter_family("sluiceway_ingest_limited_requests_total")
    requests.add_metric(["passed"], figures.granted - figures.on_own)
    requests.add_metric(["passed_alone"], figures.on_own)
    requests.add_metric(["refused"], figures.refused)
    requests.add_metric(["too_large"], figures.too_large)
    yield requests
    asks = counter_family("sluiceway_ingest_limit_asks_total")
    asks.add_metric(["answered"], figures.asks - figures.failed_asks)
    asks.add_metric(["failed"], figures.failed_asks)
    yield asks
    backlogged = intake.high_water.figures().backlogged
    yield gauge_family("sluiceway_ingest_backlogged_pipelines", len(backlogged))


def pipeline_families(found: Iterable[tuple[Pipeline, PipelineStatus]], now: datetime) -> Iterator[Metric]:
    """The figures of one workspace's pipelines."""
    events = counter_family("sluiceway_pipeline_events_total")
    dead = counter_family("sluiceway_pipeline_dead_letters_total")
    twice = counter_family("sluiceway_pipeline_duplicates_total")
    waiting = gauge_family("sluiceway_pipeline_open_dead_letters")
    rate = gauge_family("sluiceway_pipeline_rate")
    age = gauge_family("sluiceway_pipeline_age_seconds")
    wait = gauge_family("sluiceway_pipeline_load_wait_seconds")
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


def _merge(families: dict[str, Metric], found: Iterable[Metric], node: str, process: str) -> None:
    """Add the samples of a process; a family of several processes is one, as the format wants it."""
    where = {"node": node, "process": process}
    for family in found:
        whole = families.get(family.name)
        if whole is None:
            whole = families[family.name] = Metric(family.name, family.documentation, family.type)
        for sample in family.samples:
            whole.add_sample(sample.name, {**where, **sample.labels}, sample.value)


def _node(services: ApiServices) -> Iterator[Metric]:
    settings = services.settings
    folder: Path = settings.spool_dir
    with suppress(OSError):  # a folder that cannot be read costs these two only
        yield gauge_family("sluiceway_spool_bytes", segments.used_bytes(folder))
        yield gauge_family("sluiceway_spool_segments", len(segments.numbers(folder)))
    yield gauge_family("sluiceway_spool_max_bytes", settings.spool_max_bytes)
    with suppress(OSError):  # the folder is not made yet
        yield gauge_family("sluiceway_disk_free_bytes", shutil.disk_usage(settings.home).free)
    yield gauge_family("sluiceway_disk_reserve_bytes", settings.disk_reserve_bytes)


def _processes(reports: list[Report], own: str, node: str, now: datetime) -> Iterator[Metric]:
    up = gauge_family("sluiceway_process_up")
    age = gauge_family("sluiceway_process_report_age_seconds")
    up.add_metric([node, own], 1)
    age.add_metric([node, own], 0)
    for report in reports:
        up.add_metric([node, report.process], 0 if report.is_silent(now) else 1)
        age.add_metric([node, report.process], report.age_s(now))
    yield from (up, age)


def _database(services: ApiServices) -> Iterator[Metric]:
    try:
        with services.database.transaction(Role.APP) as conn:
            row = conn.execute(sa.text("SELECT * FROM app.platform_figures()")).one()
            oldest = conn.execute(sa.text("SELECT dirty_oldest FROM app.health_figures()")).scalar()
    except sa.exc.SQLAlchemyError:
        yield gauge_family("sluiceway_database_up", 0)
        return
    yield gauge_family("sluiceway_database_up", 1)
    now = services.clock.now()
    for name, value in (
        ("pipelines", row.pipelines),
        ("open_dead_letters", row.open_dead_letters),
        ("outbox_waiting", row.outbox_waiting),
        ("outbox_oldest_seconds", _age(row.outbox_oldest, now)),
        ("dirty_buckets", row.dirty_buckets),
        ("gold_lag_seconds", _age(oldest, now)),
        ("loader_last_batch_age_seconds", _age(row.last_batch_at, now)),
    ):
        yield gauge_family(f"sluiceway_{name}", value)
    for name, value in (
        ("loaded_events", row.events),
        ("loaded_duplicates", row.duplicates),
        ("loaded_dead_letters", row.dead_letters),
    ):
        yield counter_family(f"sluiceway_{name}_total", value)


def _age(at: datetime | None, now: datetime) -> float:
    return 0.0 if at is None else max(0.0, (now - at).total_seconds())
