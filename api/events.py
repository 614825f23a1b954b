"""The event route, `/v1/pipelines/{pipeline}/events`, on plain ASGI: the one route that must be fast.

Belongs here: the order of its checks, its answers. Not here: who may send (`ingestion.access`), senders'
signatures (`ingestion.senders`), rates and high-water marks (`ingestion.limits`), taking a body in
(`api.event_bodies`), what a body must be (`ingestion.bodies`), what durable means (`ingestion.spool`), the
short way of plain requests (`api.event_protocol`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache, partial

from starlette.types import Receive, Scope, Send

from api.connection_guard import raw_problem
from api.event_bodies import ClientGone, Held, InFlight, Limits, read_body
from api.event_heads import PlainHead
from api.problems import MEDIA_TYPE, problem_document
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.access import AccessCache, Admission, ChangeListener, DatabaseLookup
from sluiceway.ingestion.bodies import inspect, is_ndjson
from sluiceway.ingestion.compression import decompress, known_encoding
from sluiceway.ingestion.contracts import Form, LogWriter, Outcome, Position
from sluiceway.ingestion.errors import BodyTimeout
from sluiceway.kit.errors import BadRequest, NotFound, SluicewayError
from sluiceway.kit.faults import reach
from sluiceway.kit.ids import uuid7

log = logging.getLogger("sluiceway.api")

__all__ = ["EventRoute", "Limits", "event_app"]

_PREFIX = "/v1/pipelines/"
_SUFFIX = "/events"
_IN_THREAD_BYTES = 1024 * 1024
_NOTHING = b'{"accepted":0}'


class MethodNotAllowed(SluicewayError):
    code = "method_not_allowed"
    status = 405
    title = "This method is not offered here"


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
        self._in_flight = InFlight(limits.in_flight_bytes)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of bodies held just now."""
        return self._in_flight.total

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
        except ClientGone:
            self.counts["client_gone"] += 1
        except Exception:
            request_id = uuid7().hex
            log.exception("request %s failed", request_id)
            self.counts["internal"] += 1
            told = SluicewayError(f"Something went wrong; the log has it as request {request_id}.")
            await _send_problem(send, told, request_id)
        else:
            self.counts["accepted"] += 1
            self.counts["events"] += events
            reach("route.before_answer")
            await _send(send, 202, b"application/json", answer)
            reach("route.after_answer")

    def take_plain(self, head: PlainHead, body: bytes, answer: Callable[[bytes], None]) -> bool:
        """Take a plain request here and now; `answer` gets the HTTP answer when the disk has spoken.

        False: nothing was done, and the request has to go the ordinary way: there is something against it, or
        something to wait for first.
        """
        admission = self._access.known_as(head.name)
        if admission is None or self._spool.refusal is not None:
            return False
        size = len(body)
        pipeline_id = admission.pipeline_id
        limits = self._limits
        if size > limits.body_bytes or not self._in_flight.has_room(pipeline_id, size):
            return False
        try:
            form, events = inspect(body, ndjson=head.ndjson, max_event_bytes=limits.event_bytes)
            if events == 0:
                return False
            self._spool.submit(
                workspace_id=admission.workspace_id,
                pipeline_id=pipeline_id,
                form=form,
                events=events,
                body=body,
                done=partial(self._plain_done, answer, pipeline_id, size, events),
                headers=_kept(head.headers, admission) if admission.headers else None,
            )
        except SluicewayError:
            return False
        self._in_flight.hold(pipeline_id, size)
        return True

    def _plain_done(
        self, answer: Callable[[bytes], None], pipeline_id: int, size: int, events: int, outcome: Outcome
    ) -> None:
        self._in_flight.let_go(pipeline_id, size)
        if isinstance(outcome, Position):
            self.counts["accepted"] += 1
            self.counts["events"] += events
            told = self._accepted(events, outcome)
            reach("route.before_plain_answer")
            answer(
                b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(told), told)
            )
            reach("route.after_plain_answer")
        else:
            self.counts[outcome.code] += 1
            answer(raw_problem(outcome, []))

    def _accepted(self, events: int, position: Position) -> bytes:
        return b'{"accepted":%d,"position":"%b-%d-%d"}' % (
            events, self._node, position.segment, position.offset,
        )  # fmt: skip

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
        held = Held(self._in_flight, admission.pipeline_id)
        limits = self._limits
        try:
            body = await read_body(receive, content_length, limits.body_bytes, limits, held)
            if encoding is not None:
                body = await asyncio.to_thread(decompress, body, encoding, limits.body_bytes)
                held.add(len(body))
            form, events = await self._inspect(body, ndjson)
            if events == 0:
                return 0, _NOTHING
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
        return events, self._accepted(events, position)

    async def _inspect(self, body: bytes, ndjson: bool) -> tuple[Form, int]:
        look = partial(inspect, body, ndjson=ndjson, max_event_bytes=self._limits.event_bytes)
        return await asyncio.to_thread(look) if len(body) > _IN_THREAD_BYTES else look()


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


def _kept(headers: Iterable[tuple[bytes, bytes]], admission: Admission) -> dict[str, str]:
    """The headers that the pipeline's paths read."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in admission.headers
    }


async def _send_problem(send: Send, error: SluicewayError, request_id: str | None = None) -> None:
    found = request_id or uuid7().hex
    body, extra = problem_document(error, request_id=found)
    headers = [(name.lower().encode(), value.encode()) for name, value in extra.items()]
    headers.append((b"x-request-id", found.encode()))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", b"POST"))
    if isinstance(error, BodyTimeout):
        headers.append((b"connection", b"close"))
    await _send(send, error.status, MEDIA_TYPE.encode(), body, headers)


async def _send(
    send: Send, status: int, media_type: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    own = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})
