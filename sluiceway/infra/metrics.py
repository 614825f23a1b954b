"""Every figure the platform shows to Prometheus, and this process's registry of those that it counts itself.

Belongs here: names, meanings, labels and buckets, in one table (`docs/metrics.md` is made from it). Not here:
when something is counted (each slice), how processes show it (`infra.reporting`, `api.metrics`). No figure
has a label with a tenant's name but those of `PIPELINE_FIGURES`, which are given to the tenant's key alone.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

Kind = Literal["counter", "gauge", "histogram"]

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation here
REGISTRY = CollectorRegistry()
"""What this process counts."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SYNC_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_HTTP_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
_BYTES = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 8_388_608, 16_777_216, 67_108_864)


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric family as Prometheus shows it: a counter's name ends with `_total`."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, meaning: str, *labels: str) -> Figure:
    return Figure(f"sluiceway_{name}_total", "counter", meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Figure:
    return Figure(f"sluiceway_{name}", "gauge", meaning, labels)


def _histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Figure:
    return Figure(f"sluiceway_{name}", "histogram", meaning, labels, buckets)


PROCESS_FIGURES = (
    _counter("http_requests", "Answered requests, the event route's left out.", "method", "route", "status"),
    _histogram("http_request_seconds", "Time until the answer begins, streams left out.", _HTTP_S, "route"),
    _counter("http_refused", "Requests turned away before any route saw them, by code.", "code"),
    _counter("ingest_requests", "Answers of the event route, by code.", "code"),
    _counter("ingest_events", "Events accepted."),
    _counter(
        "ingest_limited_requests",
        "Requests that met a rate, by result: passed, passed_alone (the database away), refused, too_large.",
        "result",
    ),
    _counter(
        "ingest_limit_asks", "Questions to the database about rates, by result: answered, failed.", "result"
    ),
    _gauge("ingest_backlogged_pipelines", "Pipelines whose senders wait because too much of theirs does."),
    _counter("spool_records", "Records (accepted requests) written to the spool."),
    _counter("spool_events", "Events written to the spool."),
    _counter("spool_body_bytes", "Bytes of bodies written to the spool, decompressed."),
    _counter("spool_written_bytes", "Bytes written to the spool."),
    _histogram("spool_sync_seconds", "Time of one fdatasync, which makes a whole group durable.", _SYNC_S),
    _histogram("spool_group_records", "Records that shared one fdatasync.", _COUNTS),
    _histogram("spool_group_bytes", "Bytes that shared one fdatasync.", _BYTES),
    _counter("spool_failures", "Writes to the spool that failed."),
    _histogram(
        "stage_seconds",
        "Time of one batch in a stage: wait (in the spool), transform, gate, dedupe, commit.",
        _STAGE_S, "stage", "origin",
    ),
    _histogram("batch_seconds", "From receipt to commit, by the batch's first event.", _STAGE_S, "origin"),
    _histogram("batch_events", "Events of a committed batch.", _COUNTS, "origin"),
    _histogram("batch_bytes", "Bytes of a committed batch's events.", _BYTES, "origin"),
    _counter("batches", "Committed batches, by the gate's verdict.", "origin", "verdict"),
    _counter("batch_failures", "Failed tries to commit, by what refused: database, data, fault.", "cause"),
    _counter("rows", "Silver rows committed.", "origin"),
    _counter("duplicates", "Events dropped because silver has had them.", "origin"),
    _counter("dead_letters", "Events set aside, by the step that refused them.", "step"),
    _counter("unknown_events", "Events of no active pipeline, left in bronze."),
    _counter("corrupt_records", "Unreadable stretches of the spool that a reader skipped.", "stage"),
    _gauge("waiting_bytes", "Bytes in the spool that a stage (silver, bronze) has not passed.", "stage"),
    _gauge("lag_seconds", "Age of the first event that a stage (silver, bronze) has not passed.", "stage"),
    _histogram("lake_put_seconds", "Time of one object's upload to the lake.", _STAGE_S),
    _counter("lake_put_bytes", "Bytes uploaded to the lake."),
    _counter("lake_events", "Events written to bronze."),
    _counter("lake_failures", "Tries to write bronze that failed."),
    _histogram("gold_refresh_seconds", "Time of one refresh of every dirty bucket.", _STAGE_S),
    _counter("gold_buckets", "Buckets computed anew."),
    _counter("outbox_messages", "Messages handled, by topic and result (done, failed).", "topic", "result"),
    _histogram("outbox_wait_seconds", "From a message's commit to the end of its handling.", _STAGE_S),
    _counter("live_notifications", "Commits this process was told of."),
    _gauge("live_clients", "Open streams."),
    _histogram("live_delivery_seconds", "From a commit to its word on a stream.", _STAGE_S, "stream"),
    _counter("live_missed", "Times a stream was told to read everything again because it was too slow."),
)  # fmt: skip
"""Counted where it happens; a web process shows those of its whole node, by `node` and `process`."""

PLATFORM_FIGURES = (
    _gauge("spool_bytes", "Bytes in this node's spool."),
    _gauge("spool_segments", "Segments in this node's spool."),
    _gauge("spool_max_bytes", "Past this the event route answers 503."),
    _gauge("disk_free_bytes", "Free space where the spool is."),
    _gauge("disk_reserve_bytes", "Below this the event route answers 503."),
    _gauge("process_up", "1 while a process of this node reports, 0 once it is silent.", "node", "process"),
    _gauge("process_report_age_seconds", "Since a process of this node reported.", "node", "process"),
    _gauge("database_up", "Whether the database answers."),
    _gauge("pipelines", "Active pipelines."),
    _gauge("open_dead_letters", "Dead letters open or held."),
    _gauge("outbox_waiting", "Messages waiting in the outbox."),
    _gauge("outbox_oldest_seconds", "Age of the oldest waiting message."),
    _gauge("dirty_buckets", "Buckets that gold has to refresh."),
    _gauge("gold_lag_seconds", "Age of the oldest bucket that gold has to refresh."),
    _gauge("loader_last_batch_age_seconds", "Since the last batch."),
    _counter("loaded_events", "Events loaded."),
    _counter("loaded_duplicates", "Duplicates dropped."),
    _counter("loaded_dead_letters", "Events that became dead letters."),
)
"""Asked when a web process is scraped; those of the database are the whole platform's."""

PIPELINE_FIGURES = (
    _counter("pipeline_events", "Events loaded.", "pipeline"),
    _counter("pipeline_dead_letters", "Dead letters ever.", "pipeline"),
    _counter("pipeline_duplicates", "Duplicates dropped.", "pipeline"),
    _gauge("pipeline_open_dead_letters", "Open or held.", "pipeline"),
    _gauge("pipeline_rate", "Events a second.", "pipeline"),
    _gauge("pipeline_age_seconds", "Since the newest event was received.", "pipeline"),
    _gauge("pipeline_load_wait_seconds", "Receipt to commit, newest batch.", "pipeline"),
)
"""Of one workspace, for its key with scope `read` alone."""

_BY_NAME = {figure.name: figure for figure in (*PROCESS_FIGURES, *PLATFORM_FIGURES, *PIPELINE_FIGURES)}


class Tally:
    """A histogram for one thread that counts often: some integers, no lock."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, name: str) -> None:
        self.bounds = _BY_NAME[name].buckets
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def counter(name: str, registry: CollectorRegistry = REGISTRY) -> Counter:
    """A counter of this process. `name` is a figure's."""
    figure = _BY_NAME[name]
    return Counter(figure.name, figure.meaning, figure.labels, registry=registry)


def gauge(name: str) -> Gauge:
    figure = _BY_NAME[name]
    return Gauge(figure.name, figure.meaning, figure.labels, registry=REGISTRY)


def histogram(name: str, registry: CollectorRegistry = REGISTRY) -> Histogram:
    figure = _BY_NAME[name]
    return Histogram(figure.name, figure.meaning, figure.labels, buckets=figure.buckets, registry=registry)


def counter_family(name: str, value: float | None = None) -> CounterMetricFamily:
    """A counter whose values are asked for when it is shown; without labels `value` is its one."""
    figure = _BY_NAME[name]
    return CounterMetricFamily(figure.name, figure.meaning, value=value, labels=figure.labels or None)


def gauge_family(name: str, value: float | None = None) -> GaugeMetricFamily:
    figure = _BY_NAME[name]
    return GaugeMetricFamily(figure.name, figure.meaning, value=value, labels=figure.labels or None)


def tally_family(name: str, tally: Tally) -> HistogramMetricFamily:
    """What a tally has counted, as Prometheus wants it: cumulative."""
    figure = _BY_NAME[name]
    buckets: list[tuple[str, float]] = []
    passed = 0
    for bound, count in zip((*figure.buckets, float("inf")), list(tally.counts), strict=True):
        passed += count
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), passed))
    return HistogramMetricFamily(figure.name, figure.meaning, buckets=buckets, sum_value=tally.total)


STAGE_SECONDS = histogram("sluiceway_stage_seconds")
BATCH_SECONDS = histogram("sluiceway_batch_seconds")
BATCH_EVENTS = histogram("sluiceway_batch_events")
BATCH_BYTES = histogram("sluiceway_batch_bytes")
BATCHES = counter("sluiceway_batches_total")
BATCH_FAILURES = counter("sluiceway_batch_failures_total")
ROWS = counter("sluiceway_rows_total")
DUPLICATES = counter("sluiceway_duplicates_total")
DEAD_LETTERS = counter("sluiceway_dead_letters_total")
UNKNOWN_EVENTS = counter("sluiceway_unknown_events_total")
CORRUPT_RECORDS = counter("sluiceway_corrupt_records_total")
WAITING_BYTES = gauge("sluiceway_waiting_bytes")
LAG_SECONDS = gauge("sluiceway_lag_seconds")
LAKE_PUT_SECONDS = histogram("sluiceway_lake_put_seconds")
LAKE_PUT_BYTES = counter("sluiceway_lake_put_bytes_total")
LAKE_EVENTS = counter("sluiceway_lake_events_total")
LAKE_FAILURES = counter("sluiceway_lake_failures_total")
GOLD_REFRESH_SECONDS = histogram("sluiceway_gold_refresh_seconds")
GOLD_BUCKETS = counter("sluiceway_gold_buckets_total")
OUTBOX_MESSAGES = counter("sluiceway_outbox_messages_total")
OUTBOX_WAIT_SECONDS = histogram("sluiceway_outbox_wait_seconds")
LIVE_NOTIFICATIONS = counter("sluiceway_live_notifications_total")
LIVE_CLIENTS = gauge("sluiceway_live_clients")
LIVE_DELIVERY_SECONDS = histogram("sluiceway_live_delivery_seconds")
LIVE_MISSED = counter("sluiceway_live_missed_total")
