"""What the event route's requests tell a trace: when they came, for which pipeline, and from which span.

Used only while tracing is on; without it the route is the very same object as before. Not here: the spans
(`sluiceway.ingestion.tracing`). Refused requests leave no span: `/metrics` counts them by code.
"""

import time
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from sluiceway.infra import telemetry
from sluiceway.ingestion.tracing import RECEIPT, GroupBook, Receipt, TracedLog

if TYPE_CHECKING:
    from sluiceway.ingestion.contracts import LogWriter
    from sluiceway.ingestion.spool import SpoolWriter

_PREFIX = "/v1/pipelines/"
_LONGEST_SLUG = 63


def traced_log(spool: "SpoolWriter") -> "LogWriter":
    """The spool as the event route is to use it."""
    tracing = telemetry.active()
    if tracing is None:
        return spool
    book = GroupBook()
    spool.on_group = book.add
    return TracedLog(spool, book, tracing)


def traced_route(route: ASGIApp) -> ASGIApp:
    """The event route as requests are to reach it."""
    return route if telemetry.active() is None else TracedRoute(route)


class TracedRoute:
    """Notes each request's beginning and its sender's `traceparent` for what happens further in."""

    def __init__(self, route: ASGIApp) -> None:
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Every request has a task of its own, so that this ends with it.
        path: str = scope["path"]
        slug = path.removeprefix(_PREFIX).partition("/")[0][:_LONGEST_SLUG]
        RECEIPT.set(Receipt(time.time_ns(), slug, _traceparent(scope["headers"])))
        await self._route(scope, receive, send)


def _traceparent(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"traceparent":
            return value.decode("latin-1")
    return None
