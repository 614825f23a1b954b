"""Spans of the receipt of a request, and how its trace goes on behind the spool.

Belongs here: what is kept with a record (`TRACE_HEADER`), a log that makes the spans of what it takes.
Not here: HTTP (`api.tracing` says when a request began and who sent it).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

from sluiceway.infra.telemetry import Span, Tracing
from sluiceway.ingestion.contracts import Done, Form, LogWriter, Outcome, Position
from sluiceway.kit.errors import SluicewayError

TRACE_HEADER = ":traceparent"
"""Under this name a traced request's context lies among a record's headers: no HTTP header can have it."""
_KEPT_GROUPS = 256


@dataclass(frozen=True, slots=True)
class Receipt:
    """When a request was first looked at (ns since 1970), for which pipeline, and its sender's span."""

    begin_ns: int
    pipeline: str
    traceparent: str | None


RECEIPT: ContextVar[Receipt | None] = ContextVar("sluiceway_receipt", default=None)
"""Of the request that is being answered; set only while tracing is on."""


@dataclass(frozen=True, slots=True)
class Group:
    """Records that one sync made durable, at [`begin`, `end`) of a segment. `durable_ns`: since 1970."""

    segment: int
    begin: int
    end: int
    records: int
    sync_ns: int
    durable_ns: int


class GroupBook:
    """The newest groups, so that a span can say how long its sync took."""

    def __init__(self) -> None:
        self._groups: deque[Group] = deque(maxlen=_KEPT_GROUPS)

    def add(self, group: Group) -> None:
        self._groups.append(group)

    def find(self, position: Position) -> Group | None:
        """The group that a position was written with, unless it was long ago."""
        for group in reversed(self._groups.copy()):
            if group.segment == position.segment and group.begin <= position.offset < group.end:
                return group
        return None


class TracedLog:
    """A log whose appends are spans: `receive` with accept, append and fsync below it.

    The span goes on from the sender's, and its context goes with the record. Used only while tracing is on.
    """

    def __init__(self, inner: LogWriter, book: GroupBook, tracing: Tracing) -> None:
        self._inner = inner
        self._book = book
        self._tracing = tracing

    @property
    def refusal(self) -> SluicewayError | None:
        return self._inner.refusal

    def append(
        self,
        *,
        workspace_id: int,
        pipeline_id: int,
        form: Form,
        events: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        received_us: int | None = None,
    ) -> Awaitable[Position]:
        begun, kept = self._begin(workspace_id, events, body, headers)
        written = asyncio.ensure_future(
            self._inner.append(
                workspace_id=workspace_id,
                pipeline_id=pipeline_id,
                form=form,
                events=events,
                body=body,
                headers=kept,
                received_us=received_us,
            )
        )
        if begun is not None:
            written.add_done_callback(partial(self._settled, begun))
        return written

    def submit(
        self,
        *,
        workspace_id: int,
        pipeline_id: int,
        form: Form,
        events: int,
        body: bytes,
        done: Done,
        headers: Mapping[str, str] | None = None,
        received_us: int | None = None,
    ) -> None:
        begun, kept = self._begin(workspace_id, events, body, headers)

        def finish(outcome: Outcome) -> None:
            if begun is not None:
                self._end(begun, outcome)
            done(outcome)

        self._inner.submit(
            workspace_id=workspace_id,
            pipeline_id=pipeline_id,
            form=form,
            events=events,
            body=body,
            done=finish,
            headers=kept,
            received_us=received_us,
        )

    def close(self) -> None:
        self._inner.close()

    def _begin(
        self, workspace_id: int, events: int, body: bytes, headers: Mapping[str, str] | None
    ) -> "tuple[_Begun | None, Mapping[str, str] | None]":
        """The request's span, and the headers that carry it on."""
        now_ns = time.time_ns()
        receipt = RECEIPT.get() or Receipt(now_ns, "", None)
        span = self._tracing.start(
            f"receive {receipt.pipeline}".rstrip(),
            min(receipt.begin_ns, now_ns),
            kind="server",
            parent=receipt.traceparent,
            attributes={
                "sluiceway.pipeline": receipt.pipeline,
                "sluiceway.workspace.id": workspace_id,
                "sluiceway.events": events,
                "sluiceway.bytes": len(body),
            },
        )
        if span is None:
            return None, headers
        return _Begun(span, receipt.begin_ns, now_ns), {**(headers or {}), TRACE_HEADER: span.traceparent}

    def _settled(self, begun: "_Begun", future: "asyncio.Future[Position]") -> None:
        if future.cancelled():
            begun.span.end(time.time_ns(), error="cancelled")
            return
        error = future.exception()
        if error is not None and not isinstance(error, SluicewayError):
            begun.span.end(time.time_ns(), error=type(error).__name__)
        else:
            self._end(begun, future.result() if error is None else error)

    def _end(self, begun: "_Begun", outcome: Outcome) -> None:
        span, end_ns = begun.span, time.time_ns()
        if not isinstance(outcome, Position):
            span.end(end_ns, error=outcome.code)
            return
        group = self._book.find(outcome)
        span.child("accept", begun.begin_ns, begun.append_ns)
        if group is None:
            span.child("append", begun.append_ns, end_ns)
        else:
            sync_ns = group.durable_ns - group.sync_ns
            span.child("append", begun.append_ns, sync_ns)
            span.child("fsync", sync_ns, group.durable_ns, {"sluiceway.records": group.records})
        span.end(end_ns, {"sluiceway.position": str(outcome)})


@dataclass(frozen=True, slots=True)
class _Begun:
    """A receipt's span, and when its body was complete and handed to the log."""

    span: Span
    begin_ns: int
    append_ns: int
