"""One trace an event batch, from the sender's own span to the stream, over real processes and OTLP/HTTP."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from sluiceway.catalog.service import Catalog
from sluiceway.identity.keys import create_key
from sluiceway.infra import telemetry
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbox import OutboxMessage, OutboxWorker
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.ingestion.spool import SpoolReader
from sluiceway.ingestion.tracing import TRACE_HEADER
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.loading.replay import replay_day
from sluiceway.loading.retry import retry_dead_letters
from sluiceway.runtime.applying import apply_source
from sluiceway.transforms.service import split
from tests.support.collector import Collector, SpanSeen, collecting
from tests.support.loading import NOW, ORDERS, Bench, RuleGate, hold_everything, quarantine_negative
from tests.support.loading import order as loading_order
from tests.support.platform import RunningPlatform, free_port, running_platform

GATED = ORDERS + "quality: {suite: orders}\n"
# Each wait has its own limit, and they add up.
pytestmark = pytest.mark.timeout(600)

WAIT_S = 60.0
TEST_KEY = "a key for tests only, long enough to pass"
SENDER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENDERS_TRACE, SENDERS_SPAN = SENDER.split("-")[1:3]
PAYLOAD = "a secret between sender and receiver"
PIPELINE = """\
kind: Pipeline
name: traced-orders
event: {id: id}
fields:
  - {name: amount, type: number, role: measure}
  - {name: note, type: string}
quality: {suite: traced}
"""
SUITE = """\
kind: Suite
name: traced
expectations:
  - name: nothing-negative
    type: expect_column_values_to_be_between
    kwargs: {column: amount, min_value: 0}
    on_failure: quarantine
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def traced(
    cluster: Any, secret_key: Any, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    """A platform whose processes send their traces to the collector, soon."""
    url = cluster.create()
    database = Database(url, secret_key)
    apply_source(database, 1, SUITE)
    apply_source(database, 1, PIPELINE)
    extra = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=told",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=tests",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "SLUICEWAY_METRICS_PORT": str(free_port()),
    }
    try:
        with running_platform(database, url, TEST_KEY, tmp_path_factory.mktemp("traced"), extra) as found:
            yield found
    finally:
        database.dispose()
        cluster.drop(url)


def eventually(found: Callable[[], Any]) -> Any:
    """What `found` gives as soon as that is true; a connection that is refused is asked again."""
    end = time.monotonic() + WAIT_S
    answer = None
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            if answer := found():
                return answer
        time.sleep(0.1)
    raise AssertionError(f"it has not come true: {answer}")


def send(platform: RunningPlatform, events: list[dict[str, Any]], **headers: str) -> str:
    answer = httpx.post(
        f"{platform.url}/v1/pipelines/traced-orders/events",
        content=b"\n".join(map(orjson.dumps, events)),
        headers={
            "Authorization": f"Bearer {platform.ingest_key}",
            "Content-Type": "application/x-ndjson",
            **headers,
        },
        timeout=30,
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["position"])


def order(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"order-{number}", "amount": float(number), "note": PAYLOAD, **more}


def trace_of(trace: str, *names: str) -> Any:
    """The spans of a trace by name, once all the named are there."""

    def found(spans: list[SpanSeen]) -> dict[str, SpanSeen] | None:
        own = {span.name: span for span in spans if span.trace == trace}
        return own if own.keys() >= set(names) else None

    return found


@pytest.mark.slow
def test_one_trace_holds_every_stage_of_a_batch(traced: RunningPlatform, collector: Collector) -> None:
    with traced.database.transaction(Role.APP, workspace_id=1) as connection:
        reading = create_key(connection, 1, "reader", ["read"])
    stream = httpx.Client(timeout=60)
    with stream.stream(
        "GET",
        f"{traced.url}/v1/pipelines/traced-orders/stream",
        headers={"Authorization": f"Bearer {reading}"},
    ) as rows:
        lines = rows.iter_lines()
        next(lines)
        # With its first row the stream has caught up: of what is sent from then on its commit tells.
        send(traced, [order(0)])
        next(line for line in lines if line.startswith("event: row"))
        position = send(traced, [order(1), order(2)], traceparent=SENDER)
        next(line for line in lines if line.startswith("event: row"))
        spans = collector.wait_for(
            trace_of(
                SENDERS_TRACE, "receive traced-orders", "accept", "append", "fsync",
                "batch traced-orders", "wait", "transform", "dedupe", "gate", "commit", "deliver",
            )
        )  # fmt: skip
    stream.close()
    receive, batch = spans["receive traced-orders"], spans["batch traced-orders"]
    assert (receive.parent, receive.kind) == (SENDERS_SPAN, 2)
    assert batch.parent == receive.id
    for name in ("accept", "append", "fsync"):
        assert spans[name].parent == receive.id
    for name in ("wait", "transform", "dedupe", "gate", "commit", "deliver"):
        assert spans[name].parent == batch.id, name
    order_of = ("accept", "append", "fsync", "transform", "dedupe", "gate", "commit", "deliver")
    begins = [spans[name].begin for name in order_of]
    assert begins == sorted(begins), dict(zip(order_of, begins, strict=True))
    assert all(span.begin <= span.end for span in spans.values())
    assert spans["wait"].end <= spans["transform"].begin < spans["transform"].end
    assert spans["dedupe"].end <= spans["gate"].begin and spans["gate"].end <= spans["commit"].begin
    node, number, offset = "test", *position.rsplit("-", 2)[1:]
    told = batch.attributes
    assert told["sluiceway.batch"] == f"{node}/{number}/{offset}"
    assert (told["sluiceway.pipeline"], told["sluiceway.events"], told["sluiceway.rows"]) == (
        "traced-orders", 2, 2,
    )  # fmt: skip
    assert told["sluiceway.bytes"] == sum(len(orjson.dumps(order(n))) for n in (1, 2))
    assert told["sluiceway.verdict"] == "pass" and told["sluiceway.duplicates"] == 0
    assert receive.attributes["sluiceway.position"] in position
    assert receive.resource["service.name"] == batch.resource["service.name"] == "sluiceway"
    assert receive.resource["sluiceway.process"] == "web"
    assert batch.resource["sluiceway.process"] == "loader"
    assert batch.resource["deployment.environment"] == "tests"


@pytest.mark.slow
def test_a_loader_has_a_port_of_its_own_and_the_web_process_shows_it_too(traced: RunningPlatform) -> None:
    port = traced.environment["SLUICEWAY_METRICS_PORT"]
    own = eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text)
    assert "# TYPE sluiceway_batches_total counter" in own and "node=" not in own
    assert [
        f'batch_failures_total{{cause="{why}"}} ' in own for why in ("database", "data", "fault")
    ] == 3 * [True]
    loaded = traced.rows("traced-orders")
    send(traced, [order(20)])
    traced.wait_for_rows("traced-orders", loaded + 1)
    labels = 'node="test",origin="live",process="loader",verdict="pass"'
    wanted = re.compile(rf"^sluiceway_batches_total\{{{labels}\}} [1-9]", re.MULTILINE)

    def shown() -> str | None:
        found = httpx.get(f"{traced.url}/metrics", timeout=30).text
        return found if wanted.search(found) else None

    text = eventually(shown)
    for name in ("stage_seconds_bucket", "lag_seconds", "waiting_bytes"):
        assert re.search(rf'^sluiceway_{name}\{{.*process="loader".*\}} [0-9]', text, re.MULTILINE), name
    assert 'sluiceway_process_up{node="test",process="loader"} 1.0' in text
    assert "traced-orders" not in text


@pytest.mark.slow
def test_requests_that_share_a_batch_are_linked_and_no_secret_or_payload_leaves(
    traced: RunningPlatform, collector: Collector
) -> None:
    traced.stop("loader")
    for number in range(10, 13):
        send(traced, [order(number)])
    send(traced, [order(12)])  # a duplicate
    traced.start("loader")

    def shared(spans: list[SpanSeen]) -> SpanSeen | None:
        return next((s for s in spans if s.attributes.get("sluiceway.duplicates") == 1), None)

    batch: SpanSeen = collector.wait_for(shared)
    assert batch.attributes["sluiceway.events"] == 4 and batch.attributes["sluiceway.rows"] == 3
    linked = {span for _, span in batch.links}
    assert len(batch.links) == len(linked) == 3 and batch.parent not in linked

    def received(spans: list[SpanSeen]) -> bool:
        return {batch.parent, *linked} <= {s.id for s in spans if s.name == "receive traced-orders"}

    assert collector.wait_for(received)
    wait = collector.wait_for(trace_of(batch.trace, "wait"))["wait"]
    assert wait.begin == batch.begin
    for word in (PAYLOAD, traced.ingest_key, "order-1", TEST_KEY):
        assert word.encode() not in collector.raw
    assert all(headers["x-collector-key"] == "told" for headers in collector.headers)


def test_a_replay_and_a_retry_are_traces_too(
    settings: Settings, database: Database, collector: Collector, tmp_path: Path
) -> None:
    own = load_settings(
        {
            "SLUICEWAY_HOME": str(settings.home),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces",
            "OTEL_SERVICE_NAME": "mine",
        }
    )
    bench = Bench(database, tmp_path / "spool", gate=RuleGate(quarantine_negative), source=GATED)
    lake = Lake(settings)
    writer = BronzeWriter(
        SpoolReader(bench.folder), lake, bench.folder, "test", split, lambda _: "orders", flush_s=0.01
    )
    assert telemetry.active() is None and telemetry.configure(own, "worker") is not None
    try:
        bench.send([loading_order(1), loading_order(2, amount=-1)])
        bench.load()
        while writer.step(force=True):
            pass
        with database.transaction(Role.WRITER, workspace_id=1) as connection:
            pipeline = Catalog().by_id(connection, 1)
            letter = connection.exec_driver_sql("SELECT id FROM quality.dead_letters").scalar_one()
        replay_day(database, lake, bench.gate, pipeline, NOW.date(), clock=bench.clock)
        corrected = {letter: json.dumps(loading_order(2)).encode()}
        retry_dead_letters(database, bench.gate, 1, [letter], payloads=corrected, clock=bench.clock)
    finally:
        telemetry.close()
        bench.close()
    assert telemetry.active() is None
    for origin in ("replay", "retry"):
        name = f"{origin} orders"
        root = collector.wait_for(lambda spans, name=name: [s for s in spans if s.name == name])[0]
        spans = collector.wait_for(trace_of(root.trace, name, "transform", "dedupe", "gate", "commit"))
        assert root.parent == "" and {spans[n].parent for n in spans if n != name} == {root.id}
        assert root.resource["service.name"] == "mine"
        assert root.attributes["sluiceway.origin"] == origin
        assert root.begin == spans["transform"].begin and root.end == spans["commit"].end
    (live,) = collector.wait_for(lambda spans: [s for s in spans if s.name == "batch orders"])
    assert live.attributes["sluiceway.dead_letters"] == 1 and live.links == []


def test_what_a_batch_has_delivered_is_in_its_trace(
    settings: Settings, database: Database, collector: Collector, tmp_path: Path
) -> None:
    own = load_settings({"SLUICEWAY_HOME": str(settings.home), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    source = GATED.replace("name: orders", "name: held-orders")
    bench = Bench(database, tmp_path / "spool", gate=RuleGate(hold_everything), source=source)
    seen: list[OutboxMessage] = []

    def deliver(message: OutboxMessage) -> None:
        seen.append(message)
        if len(seen) == 1:
            raise ValueError(PAYLOAD)

    worker = OutboxWorker(database, "w", {"gate.held": deliver})
    assert telemetry.configure(own, "worker") is not None
    try:
        bench.send([loading_order(1)], headers={TRACE_HEADER: SENDER.replace("0af7", "1bf8")})
        bench.load()
        assert worker.work() == 1
        with database.transaction(Role.OWNER) as connection:
            connection.exec_driver_sql("UPDATE app.outbox SET available_at = now()")
        assert worker.work() == 1
    finally:
        telemetry.close()
        bench.close()
    trace = SENDERS_TRACE.replace("0af7", "1bf8")

    def both(spans: list[SpanSeen]) -> list[SpanSeen] | None:
        found = [s for s in spans if s.trace == trace and s.name == "deliver gate.held"]
        return found if len(found) == 2 else None

    tries = sorted(collector.wait_for(both), key=lambda span: int(span.attributes["sluiceway.attempt"]))
    batch = collector.wait_for(trace_of(trace, "batch held-orders"))["batch held-orders"]
    assert [(s.parent, s.failed, s.attributes["sluiceway.attempt"]) for s in tries] == [
        (batch.id, True, 1),
        (batch.id, False, 2),
    ]
    assert all(batch.end <= span.begin <= span.end for span in tries)
    # A handler that calls another system hands its own span on.
    assert [m.trace for m in seen] == [f"00-{trace}-{span.id}-01" for span in tries]
    assert seen[0].payload.keys() == {"pipeline_id", "batch_id"}
    assert PAYLOAD.encode() not in collector.raw


def test_off_by_default_nothing_of_opentelemetry_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from sluiceway.infra import telemetry\n"
        "from sluiceway.infra.settings import load_settings\n"
        "import sluiceway.runtime.processes.loader, api.events, api.tracing\n"
        "assert telemetry.configure(load_settings({}), 'web') is None\n"
        "found = [m for m in sys.modules if m.startswith('opentelemetry.sdk')]\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
