"""What no client may do to a connection, whatever it asks for: uvicorn's protocol with limits.

Belongs here: the size of a request line and of headers, how long a head and a body may take, connections
that idle, stall or speak no HTTP. uvicorn and its parser set none of these limits but the keep-alive time.
Not here: what a single route limits (`api.event_bodies`, `api.middleware`). Answers that stream for hours
are none of its business: only what a client still owes is timed.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.problems import MEDIA_TYPE, problem_document
from sluiceway.ingestion.errors import BodyTimeout
from sluiceway.kit.errors import BadRequest, SluicewayError
from sluiceway.kit.ids import uuid7

# What a connection waits for, or is waited for.
WAITING, HEAD, BODY, OVER = range(4)
# The parser cannot be stopped after a request: it gets so many bytes at a time where one may end.
_BITE_BYTES = 4096


class LineTooLong(SluicewayError):
    code = "uri_too_long"
    status = 414
    title = "The address is too long"


class HeadersTooLarge(SluicewayError):
    code = "headers_too_large"
    status = 431
    title = "The headers are too large"


class HeadTimeout(BodyTimeout):
    title = "The headers did not arrive in time"


class MalformedRequest(BadRequest):
    code = "malformed_request"
    title = "This is not HTTP"


class _Refused(Exception):
    """Stops the parser; the protocol knows why."""


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """Sizes in bytes, times in seconds.

    `head_s`: from the first byte of a request to the end of its headers, and from connecting to the first
    byte. A body must be in after `body_s` and what its size takes at `least_bytes_per_s`. `linger_s`: for so
    long what a refused client still sends is read and dropped, so that it can read the answer.
    `stalled_s`: how long a client may leave its answer lying. `look_s`: how often all this is looked at.
    """

    line_bytes: int = 8 * 1024
    header_bytes: int = 64 * 1024
    headers: int = 100
    head_s: float = 15.0
    body_s: float = 35.0
    least_bytes_per_s: float = 1000.0
    linger_s: float = 10.0
    stalled_s: float = 60.0
    look_s: float = 1.0


class Watch:
    """Looks at every connection of a server now and then: one timer for all of them.

    `refusals` counts by code what was turned away before any route saw it.
    """

    def __init__(self, limits: GuardLimits) -> None:
        self.limits = limits
        self.refusals: Counter[str] = Counter()
        self.now = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wake(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        """Look from now on, until the last of `connections` has gone."""
        if self._timer is None:
            self.now = loop.time()
            self._timer = loop.call_later(self.limits.look_s, self._look, loop, connections)

    def _look(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        before, self.now = self.now, loop.time()
        for connection in list(connections):
            if isinstance(connection, GuardedProtocol):
                connection.look(self.now, self.now - before)
        self._timer = None
        if connections:
            self._timer = loop.call_later(self.limits.look_s, self._look, loop, connections)


class _Flow(FlowControl):
    """uvicorn's, but that an application asking for more does not undo `held`."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits. `watch` is its server's.

    While an answer is outstanding, what a client sent behind its request is held back unread (uvicorn queues
    it all, however much it is).
    """

    watch: ClassVar[Watch]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: _Flow = _Flow(transport)
        self.watch.wake(self.loop, self.connections)
        self.phase = WAITING
        self.since = self.watch.now
        self._served = self._staying = False
        self._fault: SluicewayError | None = None
        self._farewell: SluicewayError | None = None
        self._stalled_since: float | None = None
        self._head_bytes = self._head_count = self._body_bytes = self._length = 0
        self._held_back = b""
        self._active: RequestResponseCycle | None = None
        # Bytes since the parser last came across something whole; -1: it just did.
        self._unparsed = -1

    # What comes in

    def data_received(self, data: bytes) -> None:
        at = 0
        while at < len(data) and self.phase != OVER:
            if self._held_back or self._owes_first():
                self.hold_back(data[at:] if at else data)
                return
            size = max(_BITE_BYTES, self._length - self._body_bytes if self.phase == BODY else 0)
            self._parse(data[at : at + size] if at or size < len(data) else data)
            at += size

    def _owes_first(self) -> bool:
        """Whether an answer is outstanding to a request before the one that would be parsed now."""
        return bool(self.pipeline) if self.phase == BODY else self.answering()

    def hold_back(self, data: bytes) -> None:
        """Keep `data` unread until what came before has its answer; read no more meanwhile."""
        self._held_back += data
        self.flow.held = True
        self.flow.pause_reading()

    def go_on(self) -> None:
        """Look at what was held back."""
        data, self._held_back = self._held_back, b""
        self.flow.held = False
        self.flow.resume_reading()
        self.data_received(data)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.phase = OVER  # the connection is another protocol's from here on
                self.handle_websocket_upgrade()
            elif self.parser.get_method() == b"CONNECT":
                self.refuse(MalformedRequest("This is no proxy: CONNECT is not offered."))
            else:
                self._stay_with_http_1(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            fault = self._fault or MalformedRequest("The request is not valid HTTP/1.1.")
            self.refuse(fault)
            return
        self._unparsed = 0 if self._unparsed < 0 else self._unparsed + len(data)
        if self._unparsed > self.watch.limits.header_bytes:
            self.refuse(self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.phase = HEAD
        self.since = self.watch.now
        self._unparsed = -1
        self._head_bytes = self._head_count = self._body_bytes = self._length = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.watch.limits.line_bytes:
            raise self._stop(LineTooLong(f"A request line may have {self.watch.limits.line_bytes} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_count += 1
        self._head_bytes += len(name) + len(value) + 4
        limits = self.watch.limits
        if self._head_count > limits.headers or self._head_bytes > limits.header_bytes:
            raise self._stop(self._too_large())
        if self.phase == BODY:
            return  # a trailer: not to be taken for a header (RFC 9110, 6.5.1)
        if len(name) == 14 and name.lower() == b"content-length" and len(value) < 19 and value.isdigit():
            self._length = int(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._staying = bool(self.parser.should_upgrade()) and not self._should_upgrade()
        if self._staying:
            return
        # First, because it refuses addresses that are none: then there is no body of anybody's yet.
        super().on_headers_complete()
        self.phase = BODY
        self.since = self.watch.now
        self._served = True

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._unparsed = -1
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.phase = WAITING
        self.since = self.watch.now
        self._unparsed = -1
        if not self._staying:
            super().on_message_complete()

    def _stay_with_http_1(self, rest: bytes) -> None:
        """An offer of another protocol (h2c, by Java's client) is not taken up: the request counts as it is.

        The parser takes everything behind the head for the other protocol, so it has to be told again.
        """
        head = [b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        dropped = (b"upgrade", b"connection", b"http2-settings")
        head += [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] not in dropped]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"".join([*head, b"\r\n", rest]))

    def _stop(self, fault: SluicewayError) -> Exception:
        self._fault = fault
        return _Refused()

    def _too_large(self) -> SluicewayError:
        limits = self.watch.limits
        return HeadersTooLarge(
            f"A request may have {limits.headers} headers of together {limits.header_bytes} bytes.",
            extra={"limit_bytes": limits.header_bytes, "limit_headers": limits.headers},
        )

    # What goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disconnect()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """As uvicorn's, but that the watch, and no timer of the connection's own, ends idle connections."""
        self.server_state.total_requests += 1
        self.since = self.watch.now
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if self._held_back and not self.pipeline:
                self.go_on()
        elif self._farewell is not None:
            self._say_farewell(self._farewell)
        elif self._held_back:
            self.go_on()

    def pause_writing(self) -> None:
        self._stalled_since = self.watch.now
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's own refusals (of a broken WebSocket handshake, say)."""
        self.refuse(MalformedRequest(msg))

    def shutdown(self) -> None:
        if self.phase == OVER:
            self.transport.close()
        else:
            super().shutdown()

    def answering(self) -> bool:
        """Whether an application still owes this client an answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def busy(self) -> bool:
        """Whether anything is still owed to this client."""
        return self.answering() or bool(self._held_back)

    def refuse(self, error: SluicewayError) -> None:
        """Say why and let the connection go, after the answers to what came before; drop what still comes."""
        if self.phase == OVER or self.transport.is_closing():
            return
        self.watch.refusals[error.code] += 1
        in_body, self.phase = self.phase == BODY, OVER
        self.since = self.watch.now
        if in_body and self.pipeline:
            self.pipeline.popleft()  # not begun: the newest of those that wait for their turn
        elif in_body and self.answering():
            cycle = self.cycle
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
            cycle.response_complete = True
        elif in_body:
            self.transport.close()  # it has its answer and goes on sending
            return
        if self.pipeline or self.answering():
            self._farewell = error
        else:
            self._say_farewell(error)

    def _say_farewell(self, error: SluicewayError) -> None:
        self._farewell = None
        self.since = self.watch.now
        self.transport.write(raw_problem(error, self.server_state.default_headers, close=True))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # What the watch asks

    def look(self, now: float, elapsed: float) -> None:
        """End the connection if its client has had its time. `elapsed`: since the last look."""
        limits = self.watch.limits
        if self._stalled_since is not None and now - self._stalled_since > limits.stalled_s:
            self._abort()
        elif self.transport.is_closing():
            # Closing waits for what is not read by the other side: not for ever.
            self._stalled_since = self._stalled_since or now
        elif self.phase == WAITING:
            if not self.busy():
                self._look_at_idle(now)
        elif self.phase == HEAD and self._held_back:
            self.since += elapsed  # the server is not reading: the time is not the client's
        elif self.phase == HEAD:
            if now - self.since > limits.head_s:
                self.refuse(
                    HeadTimeout(f"The headers must be there within {limits.head_s:g} s.", retry_after_s=1)
                )
        elif self.phase == BODY:
            self._look_at_body(now, elapsed)
        elif self._farewell is None and now - self.since > limits.linger_s:
            self._abort()

    def _abort(self) -> None:
        """Close at once; what an application still says to this client goes nowhere."""
        self._disconnect()
        self.transport.abort()

    def _disconnect(self) -> None:
        """Tell the application at work, which need not be the newest request's, that nobody listens."""
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True
            self._active.message_event.set()

    def _look_at_idle(self, now: float) -> None:
        """Nothing is owed by either side: a connection that never said anything has less time."""
        if now - self.since > (self.timeout_keep_alive if self._served else self.watch.limits.head_s):
            self.transport.close()

    def _look_at_body(self, now: float, elapsed: float) -> None:
        limits = self.watch.limits
        if not self.answering():
            if now - self.since > limits.linger_s:
                self.transport.close()  # answered long ago, and still sending
        elif self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self.since += elapsed  # the server is not reading: the time is not the client's
        elif now - self.since > limits.body_s + self._body_bytes / limits.least_bytes_per_s:
            self.refuse(
                BodyTimeout("The rest of the body did not come in time.", retry_after_s=1),
            )


def raw_problem(
    error: SluicewayError, default_headers: list[tuple[bytes, bytes]], *, close: bool = False
) -> bytes:
    """A whole HTTP/1.1 answer with the problem details of `error`."""
    request_id = uuid7().hex
    body, extra = problem_document(error, request_id=request_id)
    lines = [STATUS_LINE[error.status]]
    lines += [b"%b: %b\r\n" % pair for pair in default_headers]
    lines.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (MEDIA_TYPE.encode(), len(body)))
    lines += [f"{name.lower()}: {value}\r\n".encode() for name, value in extra.items()]
    lines.append(b"x-request-id: %b\r\n" % request_id.encode())
    if close:
        lines.append(b"connection: close\r\n")
    return b"".join([*lines, b"\r\n", body])
