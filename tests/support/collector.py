"""An OTLP/HTTP collector for tests: a real HTTP server on 127.0.0.1 that keeps the spans it is sent."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

WAIT_S = 60.0


@dataclass(frozen=True)
class SpanSeen:
    """A span as it came over the wire. Times in ns since 1970; `parent` is '' for a root."""

    name: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    kind: int
    attributes: dict[str, Any]
    events: list[str]
    links: list[tuple[str, str]]
    failed: bool
    resource: dict[str, Any]


class Collector:
    """What came in so far. `url` is for OTEL_EXPORTER_OTLP_ENDPOINT; `raw` all bodies together."""

    def __init__(self) -> None:
        self.url = ""
        self.raw = b""
        self.headers: list[dict[str, str]] = []
        self._spans: list[SpanSeen] = []
        self._changed = threading.Condition()

    @property
    def spans(self) -> list[SpanSeen]:
        with self._changed:
            return list(self._spans)

    def wait_for(self, found: Callable[[list[SpanSeen]], Any]) -> Any:
        """What `found` makes of the spans, as soon as that is true."""
        with self._changed:
            self._changed.wait_for(lambda: found(self._spans), WAIT_S)
            answer = found(self._spans)
        assert answer, f"of {len(self._spans)} spans: {sorted({s.name for s in self._spans})}"
        return answer

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        found = [
            _span(span, _attributes(group.resource.attributes))
            for group in message.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._changed:
            self.raw += body
            self.headers.append(headers)
            self._spans += found
            self._changed.notify_all()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens while the block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            known = self.path == "/v1/traces"
            if known:
                collector.take(body, {k.lower(): v for k, v in self.headers.items()})
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _span(span: Any, resource: dict[str, Any]) -> SpanSeen:
    return SpanSeen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        kind=span.kind,
        attributes=_attributes(span.attributes),
        events=[event.name for event in span.events],
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        failed=span.status.code == 2,
        resource=resource,
    )


def _attributes(found: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in found}
