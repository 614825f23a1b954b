"""The event route, `/v1/pipelines/{pipeline}/events`, on plain ASGI: the one route that must be fast.

Belongs here: the order of its checks, its answers. Not here: who may send (`ingestion.access`), senders'
signatures (`ingestion.senders`), rates and high-water marks (`ingestion.limits`), taking a body in
(`api.event_bodies`), what a body must be (`ingestion.bodies`), what durable means (`ingestion.spool`), the
short way of plain requests (`api.event_protocol`).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache, partial
from typing import TypeVar

from starlette.types import Receive, Scope, Send

from api.addresses import Network, TrustedProxies, client_address
from api.connection_guard import raw_problem
from api.cross_origin import answer_headers, is_preflight, preflight_reply
from api.event_bodies import ClientGone, Held, InFlight, Limits, read_body
from api.event_heads import PlainHead
from api.event_requests import (
    EventRequest,
    Headers,
    MethodNotAllowed,
    check_kept,
    kept_headers,
    read_request,
    send_answer,
    send_problem,
)
from api.key_uses import KeyUses
from sluiceway.catalog.limits import NO_LIMITS
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.access import AccessCache, Admission, DatabaseLookup
from sluiceway.ingestion.bodies import inspect, is_form, is_ndjson
from sluiceway.ingestion.changes import ChangeListener
from sluiceway.ingestion.compression import decompress, known_encoding
from sluiceway.ingestion.contracts import Form, LogWriter, Outcome, Position
from sluiceway.ingestion.errors import MissingKey
from sluiceway.ingestion.limits import IntakeLimits
from sluiceway.ingestion.senders.contracts import Delivery, Reply, Verifier, workspace_of
from sluiceway.kit.errors import SluicewayError, Unavailable
from sluiceway.kit.faults import reach
from sluiceway.kit.forms import FormReader
from sluiceway.kit.ids import uuid7

log = logging.getLogger("sluiceway.api")

__all__ = ["EventRoute", "Limits", "event_app"]

_IN_THREAD_BYTES = 1024 * 1024
# Of a signature and of a form: both take far longer for their bytes than JSON that is only walked over.
_COSTLY_IN_THREAD_BYTES = 32 * 1024
_NOTHING = b'{"accepted":0}'
T = TypeVar("T")


def event_app(
    settings: Settings,
    spool: LogWriter,
    database: Database,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
    intake: IntakeLimits | None = None,
) -> "EventRoute":
    """The route as an ASGI application. Run its `lifespan` around it to hear of revoked keys at once.

    Without `intake` there are no rates and no marks but the spool's own.
    """
    lookup = DatabaseLookup(database, clock or SystemClock())
    access = AccessCache(lookup, senders=lookup.sender, pages=lookup.page)
    found = limits or Limits(settings.max_body_bytes, settings.max_event_bytes, settings.max_request_events)
    return EventRoute(
        spool, access, settings.node, found, database, intake=intake, public_url=settings.public_url,
        proxies=settings.trusted_proxies,
    )  # fmt: skip


class EventRoute:
    """Answers 202 once the events of a request are on disk. `counts`: answers by code since the start."""

    def __init__(
        self,
        spool: LogWriter,
        access: AccessCache,
        node: str,
        limits: Limits,
        database: Database | None = None,
        *,
        intake: IntakeLimits | None = None,
        public_url: str = "",
        proxies: Iterable[Network] = (),
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._spool = spool
        self._access = access
        self._node = node.encode()
        self._limits = limits
        self._database = database
        self._intake = intake
        self._public_url = public_url
        self._in_flight = InFlight(limits.in_flight_bytes)
        self._uses = None if database is None else KeyUses(database)
        self._proxies = TrustedProxies(proxies)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of bodies held just now."""
        return self._in_flight.total

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Hear of revoked keys and changed pipelines while inside."""
        async with AsyncExitStack() as stack:
            if self._intake is not None:
                await stack.enter_async_context(self._intake.lifespan())
            stack.callback(self._access.close)
            if self._uses is not None:
                await stack.enter_async_context(self._uses.lifespan())
            if self._database is not None:
                listener = ChangeListener(self._database, self._access, asyncio.get_running_loop())
                listener.start()
                stack.push_async_callback(asyncio.to_thread, listener.stop)
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told: Headers = []  # what a page of another site gets to see of the answer
        try:
            found = await self._take(scope, receive, told)
        except SluicewayError as error:
            self.counts[error.code] += 1
            await send_problem(send, error, besides=told)
        except ClientGone:
            self.counts["client_gone"] += 1
        except Exception:
            request_id = uuid7().hex
            log.exception("request %s failed", request_id)
            self.counts["internal"] += 1
            failed = SluicewayError(f"Something went wrong; the log has it as request {request_id}.")
            await send_problem(send, failed, request_id, told)
        else:
            await self._answer(send, found, told)

    async def _answer(self, send: Send, found: "tuple[int, bytes] | Reply", told: Headers) -> None:
        if isinstance(found, Reply):
            self.counts["handshake"] += 1
            headers = [*found.headers, *told]
            await send_answer(send, found.status, found.media_type.encode(), found.body, headers)
            return
        events, answer = found
        self.counts["accepted"] += 1
        self.counts["events"] += events
        reach("route.before_answer")
        await send_answer(send, 202, b"application/json", answer, told)
        reach("route.after_answer")

    def take_plain(self, head: PlainHead, body: bytes, answer: Callable[[bytes], None]) -> bool:
        """Take a plain request here and now; `answer` gets the HTTP answer when the disk has spoken.

        False: nothing was done, and the request has to go the ordinary way: there is something against it, or
        something to wait for first.
        """
        admission = self._access.known_as(head.name)
        if admission is None:
            return False
        size = len(body)
        pipeline_id = admission.pipeline_id
        if self._closed_to(admission) is not None or not self._in_flight.has_room(pipeline_id, size):
            return False
        most_bytes, most_event_bytes, most_events = self._most(admission)
        if size > most_bytes:
            return False
        try:
            form, events = inspect(
                body, ndjson=head.ndjson, max_event_bytes=most_event_bytes, max_events=most_events,
                split=admission.split,
            )  # fmt: skip
            if events == 0:
                return False
            if self._intake is not None and not self._intake.take_now(admission, events, size):
                return False
        except SluicewayError:
            return False
        try:
            self._spool.submit(
                workspace_id=admission.workspace_id,
                pipeline_id=pipeline_id,
                form=form,
                events=events,
                body=body,
                done=partial(self._plain_done, answer, admission, size, events),
                headers=kept_headers(head.headers, admission, form) if admission.headers else None,
            )
        except SluicewayError:
            self._settle(admission, events, size, accepted=False)
            return False
        self._in_flight.hold(pipeline_id, size)
        return True

    def note_plain(self, head: PlainHead, client: tuple[str, int] | None) -> None:
        """Note for the audit log whose key plain requests with this head show, and from where.

        Once for each head of a connection is enough, and after one was taken.
        """
        admission = self._access.known_as(head.name)
        if admission is None or self._uses is None:
            return
        scope: Scope = {"type": "http", "scheme": "http", "client": client, "headers": head.headers}
        self._proxies.apply(scope)
        self._uses.note(admission.workspace_id, admission.key_id, client_address(scope))

    def _plain_done(
        self, answer: Callable[[bytes], None], admission: Admission, size: int, events: int, outcome: Outcome
    ) -> None:
        self._in_flight.let_go(admission.pipeline_id, size)
        self._settle(admission, events, size, accepted=isinstance(outcome, Position))
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

    async def _take(self, scope: Scope, receive: Receive, told: Headers) -> "tuple[int, bytes] | Reply":
        """Check the request in the order that tells a stranger least, then make its events durable.

        `told` gets what goes with any answer from here on.
        """
        asked = read_request(scope)
        if is_preflight(asked) and (reply := await self._preflight(asked)) is not None:
            return reply
        admission = await self._admit(asked)
        if admission.key_id and self._uses is not None:
            self._uses.note(admission.workspace_id, admission.key_id, client_address(scope))
        if asked.origin:
            told += answer_headers(asked, admission)
        if admission.verifier is not None:
            reply = admission.verifier.handshake(asked.method, asked.query, asked.headers)
            if reply is not None:
                return reply
        if asked.method != "POST":
            raise MethodNotAllowed
        refusal = self._refusal(admission)
        if refusal is not None:
            raise refusal.with_traceback(None)
        held = Held(self._in_flight, admission.pipeline_id)
        try:
            return await self._accept(asked, admission, receive, held)
        finally:
            held.release()

    async def _preflight(self, asked: EventRequest) -> Reply | None:
        """A browser asks before it sends a page's key: the address alone says for which pipeline."""
        try:
            admission = await self._access.admit_page(workspace_of(asked.query), asked.slug)
        except MissingKey:
            return None
        return preflight_reply(asked, admission)

    async def _admit(self, asked: EventRequest) -> Admission:
        """Who sends: by a key of ours, or by the pipeline's own scheme, which looks at the body later."""
        access = self._access
        if not asked.has_key:
            workspace = workspace_of(asked.query)
            admission = access.known_sender(workspace, asked.slug)
            try:
                return admission or await access.admit_sender(workspace, asked.slug)
            except MissingKey:
                if asked.method != "POST":
                    raise MethodNotAllowed from None
        elif asked.method != "POST":
            raise MethodNotAllowed
        admission = access.known(asked.authorization, asked.slug)
        return admission or await access.admit(asked.authorization, asked.slug)

    async def _accept(
        self, asked: EventRequest, admission: Admission, receive: Receive, held: Held
    ) -> "tuple[int, bytes] | Reply":
        is_a_form, ndjson = _kind(asked.content_type)
        check_kept(asked.headers, admission)
        encoding = asked.content_encoding and known_encoding(asked.content_encoding.decode("latin-1"))
        most_bytes, most_event_bytes, most_events = self._most(admission)
        pairs = FormReader()
        body = await read_body(receive, asked.content_length, most_bytes, self._limits, held)
        if admission.verifier is not None:
            reply = await self._verify(admission.verifier, asked, body, pairs)
            if reply is not None:
                return reply
        if encoding:
            body = await asyncio.to_thread(decompress, body, encoding, most_bytes)
            held.add(len(body))
        look = partial(
            inspect, body, ndjson=ndjson, max_event_bytes=most_event_bytes, max_events=most_events,
            split=admission.split, form=is_a_form, pairs=pairs,
        )  # fmt: skip
        form, events = await _in_thread_if_long(look, body, costly=is_a_form)
        if events == 0:
            return 0, _NOTHING
        if self._intake is not None:
            waiting = self._intake.take(admission, events, len(body))
            if waiting is not None:
                await waiting
        position = await self._append(admission, form, events, body, asked.headers)
        return events, self._accepted(events, position)

    async def _verify(
        self, verifier: Verifier, asked: EventRequest, body: bytes, pairs: FormReader
    ) -> Reply | None:
        delivery = Delivery(
            method=asked.method,
            path=asked.path,
            query=asked.query,
            headers=asked.headers,
            body=body,
            now=time.time(),
            url=asked.url(self._public_url),
            pairs=pairs,
        )
        return await _in_thread_if_long(partial(verifier.verify, delivery), body, costly=True)

    async def _append(
        self, admission: Admission, form: Form, events: int, body: bytes, headers: Headers
    ) -> Position:
        accepted = True  # also where the sender leaves meanwhile: then the disk has it all the same
        try:
            return await self._spool.append(
                workspace_id=admission.workspace_id,
                pipeline_id=admission.pipeline_id,
                form=form,
                events=events,
                body=body,
                headers=kept_headers(headers, admission, form),
            )
        except Unavailable as error:
            if self._intake is not None:
                self._intake.high_water.note(admission.pipeline_id, error)
            accepted = False
            raise
        finally:
            self._settle(admission, events, len(body), accepted=accepted)

    def _settle(self, admission: Admission, events: int, size: int, *, accepted: bool) -> None:
        """What a request used of the workspace's quota is known."""
        if self._intake is not None:
            self._intake.settle(admission, events, size, accepted=accepted)

    def _refusal(self, admission: Admission) -> SluicewayError | None:
        """Why nothing is taken for this pipeline just now; counted."""
        if self._intake is None:
            return self._spool.refusal
        return self._intake.refusal(admission)

    def _closed_to(self, admission: Admission) -> SluicewayError | None:
        """The same for a look ahead, not counted."""
        if self._intake is None:
            return self._spool.refusal
        return self._intake.look(admission)

    def _most(self, admission: Admission) -> tuple[int, int, int]:
        """Bytes of a body and of an event, and events of a request: the platform's and the pipeline's own."""
        own, all_ = admission.limits, self._limits
        if own is NO_LIMITS:
            return all_.body_bytes, all_.event_bytes, all_.events
        return (
            all_.body_bytes if own.body_bytes is None else min(all_.body_bytes, own.body_bytes),
            all_.event_bytes if own.event_bytes is None else min(all_.event_bytes, own.event_bytes),
            all_.events if own.events_per_request is None else min(all_.events, own.events_per_request),
        )


@lru_cache(maxsize=256)
def _kind(content_type: bytes) -> tuple[bool, bool]:
    """Whether a body is a form, and whether it is NDJSON. Raises `UnknownMediaType`."""
    said = content_type.decode("latin-1")
    return (True, False) if is_form(said) else (False, is_ndjson(said))


async def _in_thread_if_long(work: Callable[[], T], body: bytes, *, costly: bool = False) -> T:
    """Nothing that takes milliseconds holds up the other connections."""
    most = _COSTLY_IN_THREAD_BYTES if costly else _IN_THREAD_BYTES
    return await asyncio.to_thread(work) if len(body) > most else work()
