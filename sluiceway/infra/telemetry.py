"""Tracing with OpenTelemetry, off unless its usual variables ask for it; then one check is all it costs.

Belongs here: whether and where traces go, spans made after the fact from times that were taken anyway, the
times of one piece of work (`Timeline`). Not here: what the product's spans are called and hold (each slice's
own `tracing`). Nothing of the SDK is imported while it is off. `docs/adr/0014-tracing.md` has the reasons.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanContext, Tracer

    from sluiceway.infra.settings import Settings

Kind = Literal["internal", "server", "consumer", "producer"]
Value = str | int | float | bool
MAX_LINKS = 32
"""Links that one span carries at most: a batch may hold thousands of requests."""
FLUSH_S = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of time, in nanoseconds since 1970."""

    name: str
    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


class Timeline:
    """When the stages of one piece of work began and ended; durations come from a clock that never steps.

    For one thread at a time.
    """

    __slots__ = ("_open", "_tried", "span", "stages")

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.span: Span | None = None
        self._open: tuple[str, int, int] | None = None
        self._tried = 0

    def enter(self, name: str) -> None:
        """A stage begins; the one before it ends."""
        self.leave()
        self._open = (name, time.time_ns(), time.perf_counter_ns())

    def leave(self) -> None:
        """The stage that was entered ends."""
        if self._open is not None:
            (name, begin, began), self._open = self._open, None
            self.stages.append(Stage(name, begin, begin + time.perf_counter_ns() - began))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note the block as `name`, also if it raises."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def add(self, name: str, begin_ns: int, end_ns: int) -> None:
        """A stage that others have measured."""
        self.stages.append(Stage(name, begin_ns, max(begin_ns, end_ns)))

    def try_again(self) -> None:
        """A try begins: what the one before it noted since its own beginning is dropped."""
        self._open = None
        if self._tried:
            del self.stages[self._tried - 1 :]
        self._tried = len(self.stages) + 1

    @property
    def begin_ns(self) -> int:
        """When the first stage began, or now."""
        return min((stage.begin_ns for stage in self.stages), default=time.time_ns())


class Span:
    """One span that is being recorded. Made by `Tracing.start`; nothing is sent before `end`."""

    __slots__ = ("_otel", "_tracer", "traceparent")

    def __init__(self, tracer: "Tracer", otel: "OtelSpan") -> None:
        self._tracer = tracer
        self._otel = otel
        self.traceparent = _format(otel.get_span_context())
        """This span as W3C `traceparent`, for others to continue."""

    def child(
        self, name: str, begin_ns: int, end_ns: int, attributes: Mapping[str, Value] | None = None
    ) -> None:
        """A whole span below this one, from times already past."""
        from opentelemetry.trace import set_span_in_context

        found = self._tracer.start_span(
            name,
            context=set_span_in_context(self._otel),
            attributes=dict(attributes or {}),
            start_time=begin_ns,
        )
        found.end(max(begin_ns, end_ns))

    def note(self, name: str, attributes: Mapping[str, Value] | None = None) -> None:
        """Something that happened now, within the span."""
        self._otel.add_event(name, dict(attributes or {}))

    def end(
        self, end_ns: int, attributes: Mapping[str, Value] | None = None, *, error: str | None = None
    ) -> None:
        """Done, and sent in time; `error` is a code or a class, never a message that may hold data."""
        from opentelemetry.trace import Status, StatusCode

        self._otel.set_attributes(dict(attributes or {}))
        if error is not None:
            self._otel.set_status(Status(StatusCode.ERROR, error))
        self._otel.end(end_ns)


class Tracing:
    """This process's way to the collector. Made by `configure`; safe for any thread."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("sluiceway")

    def start(
        self,
        name: str,
        begin_ns: int,
        *,
        kind: Kind = "internal",
        parent: str | None = None,
        links: Iterable[str] = (),
        attributes: Mapping[str, Value] | None = None,
    ) -> Span | None:
        """Begin a span at `begin_ns`, below `parent` (a `traceparent`; a wrong one is left out).

        None if the sampler does not want it.
        """
        from opentelemetry.trace import Link, SpanKind

        contexts = (_parse(text) for text in links)
        found = self._tracer.start_span(
            name,
            context=_context(None if parent is None else _parse(parent)),
            kind=SpanKind[kind.upper()],
            attributes=dict(attributes or {}),
            links=[Link(context) for context in contexts if context is not None][:MAX_LINKS],
            start_time=begin_ns,
        )
        return Span(self._tracer, found) if found.is_recording() else None

    def close(self) -> None:
        """Send what waits, for at most a few seconds, and end."""
        self._provider.force_flush(int(FLUSH_S * 1000))
        self._provider.shutdown()


_active: Tracing | None = None


def active() -> Tracing | None:
    """This process's tracing, or None while it is off: the one check of every place that could be traced."""
    return _active


def configure(settings: "Settings", process: str) -> Tracing | None:
    """Turn tracing on if the settings ask for it; to be called once, where a process starts."""
    global _active
    if settings.trace_exporters:
        _active = Tracing(_provider(settings, process))
        log.info("tracing: %s", ", ".join(settings.trace_exporters))
    return _active


@contextmanager
def configured(settings: "Settings", process: str) -> Iterator[None]:
    """Tracing for something short: a command, a job's step. Changes nothing where it is on already."""
    mine = _active is None and configure(settings, process) is not None
    try:
        yield
    finally:
        if mine:
            close()


def close() -> None:
    """Send what waits. Does nothing while tracing is off."""
    global _active
    if _active is not None:
        _active.close()
        _active = None


def _provider(settings: "Settings", process: str) -> "TracerProvider":
    """Sampler, limits, batching, headers and certificates are the SDK's own reading of OTEL_* variables."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    resource = Resource.create(
        {
            "service.instance.id": f"{settings.node}/{process}",
            "sluiceway.node": settings.node,
            "sluiceway.process": process,
        }
    )
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": settings.otel_service_name}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in settings.trace_exporters:
        made: Any = ConsoleSpanExporter() if exporter == "console" else _otlp(settings)
        provider.add_span_processor(BatchSpanProcessor(made))
    return provider


def _otlp(settings: "Settings") -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    endpoint = settings.otlp_traces_endpoint
    if endpoint is None and settings.otlp_endpoint is not None:
        endpoint = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
    return OTLPSpanExporter(endpoint=endpoint)


def _parse(text: str) -> "SpanContext | None":
    """The context in a W3C `traceparent`, or None if it is none."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract({"traceparent": text}, _context(None))
    context = get_current_span(found).get_span_context()
    return context if context.is_valid else None


def _context(parent: "SpanContext | None") -> "Context":
    """A context with `parent` as its span and nothing else, whatever this thread is doing."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())


def _format(context: "SpanContext") -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
