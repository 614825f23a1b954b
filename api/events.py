"""The event route, `POST /v1/pipelines/{pipeline}/events`, on plain ASGI: the one route that must be fast.

Belongs here: HTTP in and out of it, its limits, the order of its checks. Not here: who may send
(`ingestion.access`), what a body must be (`ingestion.bodies`), what durable means (`ingestion.spool`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, problem_document
from api.stepping import Step
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.access import AccessCache, Admission, ChangeListener, DatabaseLookup
from sluiceway.ingestion.bodies import inspect, is_ndjson
from sluiceway.ingestion.compression import decompress, known_encoding, too_large
from sluiceway.ingestion.contracts import Form, LogWriter
from sluiceway.ingestion.errors import BodyTimeout, TooMuchInFlight
from sluiceway.kit.errors import BadRequest, NotFound, SluicewayError
from sluiceway.kit.ids import token

log = logging.getLogger("sluiceway.api")

_PREFIX = "/v1/pipelines/"
_SUFFIX = "/events"
_IN_THREAD_BYTES = 1024 * 1024
MAX_IN_FLIGHT_BYTES = 256 * 1024 * 1024
BODY_TIMEOUT_S = 30.0


class MethodNotAllowed(SluicewayError):
    code = "method_not_allowed"
    status = 405
    title = "This method is not offered here"


class _ClientGone(Exception):
    """The client hung up: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`body_bytes` and `event_bytes` count decompressed bytes; `in_flight_bytes` all bodies that one process
    holds at a time. `silence_s`: the longest wait for the next part of a body."""

    body_bytes: int
    event_bytes: int
    in_flight_bytes: int = MAX_IN_FLIGHT_BYTES
    silence_s: float = BODY_TIMEOUT_S


def event_app(
    settings: Settings,
    spool: LogWriter,
    database: Database,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
) -> "EventRoute":
    """The route as an ASGI application. Run its `lifespan` around it to hear of revoked keys at once."""
    access = AccessCache(DatabaseLookup(database, clock or SystemClock()))
    found = limits or Limits(settings.max_body_bytes, settings.max_event_bytes)
    return EventRoute(spool, access, settings.node, found, database)


class EventRoute:
    """Answers 202 once the events of a request are on disk. `counts`: answers by code since the start."""

    def __init__(
        self,
        spool: LogWriter,
        access: AccessCache,
        node: str,
        limits: Limits,
        database: Database | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._spool = spool
        self._access = access
        self._node = node.encode()
        self._limits = limits
        self._database = database
        self._in_flight = 0

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of bodies held just now."""
        return self._in_flight

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Hear of revoked keys and changed pipelines while inside."""
        listener = None
        if self._database is not None:
            listener = ChangeListener(self._database, self._access, asyncio.get_running_loop())
            listener.start()
        try:
            yield
        finally:
            if listener is not None:
                await asyncio.to_thread(listener.stop)
            self._access.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            events, answer = await self._take(scope, receive)
        except SluicewayError as error:
            self.counts[error.code] += 1
            await _send_problem(send, error)
        except _ClientGone:
            self.counts["client_gone"] += 1
        except Exception:
            request_id = token(12)
            log.exception("request %s failed", request_id)
            self.counts["internal"] += 1
            told = SluicewayError(f"Something went wrong; the log has it as request {request_id}.")
            await _send_problem(send, told, request_id)
        else:
            self.counts["accepted"] += 1
            self.counts["events"] += events
            await send(
                {
                    "type": "http.response.start",
                    "status": 202,
                    "headers": [
                        (b"content-type", b"application/json"),
                        (b"content-length", b"%d" % len(answer)),
                    ],
                }
            )
            await send({"type": "http.response.body", "body": answer})

    async def _take(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """Check the request in the order that tells a stranger least, then make its events durable."""
        slug = _slug(scope)
        authorization, content_type, content_encoding, content_length = _head(scope["headers"])
        admission = self._access.known(authorization, slug)
        if admission is None:
            admission = await self._access.admit(authorization, slug)
        refusal = self._spool.refusal
        if refusal is not None:
            raise refusal.with_traceback(None)
        ndjson = _is_ndjson(content_type)
        encoding = known_encoding(content_encoding.decode("latin-1")) if content_encoding else None
        held = _Held(self)
        try:
            body = await self._body(receive, content_length, held)
            form, events, body = await self._inspect(body, encoding, ndjson, held)
            if events == 0:
                return 0, b'{"accepted":0}'
            position = await self._spool.append(
                workspace_id=admission.workspace_id,
                pipeline_id=admission.pipeline_id,
                form=form,
                events=events,
                body=body,
                headers=_kept(scope["headers"], admission) if admission.headers else None,
            )
        finally:
            held.release()
        return events, b'{"accepted":%d,"position":"%s-%d-%d"}' % (
            events, self._node, position.segment, position.offset,
        )  # fmt: skip

    async def _body(self, receive: Receive, content_length: bytes, held: "_Held") -> bytes:
        """The whole body as sent. Raises `BodyTooLarge`, `TooMuchInFlight`, `BodyTimeout`."""
        limit = self._limits.body_bytes
        if len(content_length) > 3 and int(content_length) > limit:
            raise too_large(limit)
        # Nearly always the body is there already: then there is nothing to wait for, and no timer to set.
        first = Step(receive())
        message = first.result or await self._receive(first)
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body: bytes = message.get("body", b"")
        held.add(len(body))
        if not message.get("more_body", False):
            if len(body) > limit:
                raise too_large(limit)
            return body
        parts = [body]
        size = len(body)
        while message.get("more_body", False):
            message = await self._receive(receive())
            if message["type"] == "http.disconnect":
                raise _ClientGone
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > limit:
                raise too_large(limit)
            held.add(len(part))
        return b"".join(parts)

    async def _receive(self, coming: Awaitable[Message]) -> Message:
        try:
            async with asyncio.timeout(self._limits.silence_s):
                return await coming
        except TimeoutError:
            raise BodyTimeout("The rest of the body did not come.", retry_after_s=1) from None

    async def _inspect(
        self, body: bytes, encoding: str | None, ndjson: bool, held: "_Held"
    ) -> tuple[Form, int, bytes]:
        limits = self._limits
        if encoding is not None:
            body = await asyncio.to_thread(decompress, body, encoding, limits.body_bytes)
            held.add(len(body))
        if len(body) > _IN_THREAD_BYTES:
            form, events = await asyncio.to_thread(
                inspect, body, ndjson=ndjson, max_event_bytes=limits.event_bytes
            )
        else:
            form, events = inspect(body, ndjson=ndjson, max_event_bytes=limits.event_bytes)
        return form, events, body

    def hold(self, size: int) -> None:
        """Count bytes in. Raises `TooMuchInFlight`."""
        if self._in_flight + size > self._limits.in_flight_bytes and self._in_flight > 0:
            raise TooMuchInFlight("Too much is on its way in; send this again.", retry_after_s=1)
        self._in_flight += size

    def let_go(self, size: int) -> None:
        self._in_flight -= size


class _Held:
    """The bytes that one request holds."""

    __slots__ = ("_route", "_size")

    def __init__(self, route: EventRoute) -> None:
        self._route = route
        self._size = 0

    def add(self, size: int) -> None:
        self._route.hold(size)
        self._size += size

    def release(self) -> None:
        self._route.let_go(self._size)


def _slug(scope: Scope) -> str:
    path: str = scope["path"]
    if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
        raise NotFound("There is nothing here.")
    if scope["method"] != "POST":
        raise MethodNotAllowed("Only POST is offered here.")
    return path[len(_PREFIX) : -len(_SUFFIX)]


@lru_cache(maxsize=256)
def _is_ndjson(content_type: bytes) -> bool:
    return is_ndjson(content_type.decode("latin-1"))


def _head(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes, bytes]:
    """Authorization, Content-Type, Content-Encoding and Content-Length, empty where they are not sent."""
    authorization = content_type = content_encoding = content_length = b""
    for name, value in headers:
        if name == b"authorization":
            authorization = value
        elif name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            content_encoding = value
        elif name == b"content-length":
            if not value.isdigit():
                raise BadRequest("Content-Length is not a number.")
            content_length = value
    return authorization, content_type, content_encoding, content_length


def _kept(headers: list[tuple[bytes, bytes]], admission: Admission) -> dict[str, str]:
    """The headers that the pipeline's paths read."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in admission.headers
    }


async def _send_problem(send: Send, error: SluicewayError, request_id: str | None = None) -> None:
    body, extra = problem_document(error, request_id=request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode(), value.encode()) for name, value in extra.items()]
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", b"POST"))
    if isinstance(error, BodyTimeout):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
