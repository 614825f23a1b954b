"""The way of plain event requests from the socket to the spool and back, without ASGI in between.

A plain request (`api.event_heads`) that is whole, small and has nothing against it is taken where its bytes
arrive: no scope, no task, no future. Everything else, and every refusal, goes the ordinary way through
uvicorn and `api.events`, which decides anew. Belongs here: framing, the order of answers, when to read on.
Not here: what may be taken (`EventRoute.take_plain`), limits of connections (`api.connection_guard`).
"""

import asyncio
from typing import TYPE_CHECKING, ClassVar

from api.connection_guard import HEAD, WAITING, GuardedProtocol, GuardLimits, Watch
from api.event_heads import MOST_HEAD_BYTES, START, HeadBook, PlainHead

if TYPE_CHECKING:
    from api.events import EventRoute

MOST_BODY_BYTES = 64 * 1024
MOST_PENDING = 64  # requests of one connection on their way to the disk
_END = b"\r\n\r\n"
_PARTIAL_S = 2.0


class EventProtocol(GuardedProtocol):
    """One connection. `route` and `heads` are its server's.

    While plain requests are pending nothing else of the connection is looked at: what does not follow them
    at once is held back, and no more is read, so that answers leave in the order of the requests.
    """

    route: "ClassVar[EventRoute]"
    heads: ClassVar[HeadBook]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._plain = not self.config.access_log and self.limit_concurrency is None and not self.root_path
        self._pending = 0
        self._partial = b""
        self._leaving = False
        self._head = b""
        self._said: PlainHead | None = None
        self._noted: PlainHead | None = None

    def data_received(self, data: bytes) -> None:
        began = bool(self._partial)
        if began:
            data = self._partial + data
            self._partial = b""
            self.phase = WAITING
        if self._plain and self.phase == WAITING and not self._held_back and not self.answering():
            data = self._take(data, began)
        if data:
            super().data_received(data)

    def _take(self, data: bytes, began: bool) -> bytes:
        """Take the plain requests at the beginning of `data`; what is left for the ordinary way.

        `began`: a part of it has waited for the rest once, and does not wait again.
        """
        at = 0
        size = len(data)
        while at < size:
            if self._pending >= MOST_PENDING or self.flow.write_paused:
                break
            if not data.startswith(START, at):
                break
            end = data.find(_END, at, at + MOST_HEAD_BYTES) + 4
            if end < 4:
                break
            head = data[at:end]
            if head != self._head:
                self._said = self.heads.read(head)
                self._head = head
            said = self._said
            if said is None or said.length > MOST_BODY_BYTES:
                break
            stop = end + said.length
            if stop > size:
                if began or self._pending or self._leaving:
                    break
                self._partial = data[at:]
                self.phase, self.since = HEAD, self.watch.now
                return b""
            if self._leaving or not self.route.take_plain(said, data[end:stop], self._answered):
                break
            self._pending += 1
            self._served = True
            began = False
            if said is not self._noted:
                self._noted = said
                self.route.note_plain(said, self.client)
            at = stop
        rest = data[at:] if at else data
        if rest and self._pending:
            self.hold_back(rest)
            return b""
        return rest

    def _answered(self, answer: bytes) -> None:
        """One pending request has its answer: called in their order."""
        self._pending -= 1
        self.since = self.watch.now
        self.server_state.total_requests += 1
        transport = self.transport
        if transport.is_closing():
            return
        if self._leaving or self.server_state.default_headers:
            answer = self._with_headers(answer)
        transport.write(answer)
        if self._pending:
            return
        if self._leaving:
            transport.close()
        elif self._held_back and not self.flow.write_paused:
            self.go_on()

    def _with_headers(self, answer: bytes) -> bytes:
        status, _, rest = answer.partition(b"\r\n")
        extra = [b"%b: %b\r\n" % pair for pair in self.server_state.default_headers]
        if self._leaving and self._pending == 0:
            extra.append(b"connection: close\r\n")
        return b"".join([status, b"\r\n", *extra, rest])

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held_back and self._pending == 0 and not self.answering():
            self.go_on()

    def busy(self) -> bool:
        return self._pending > 0 or super().busy()

    def shutdown(self) -> None:
        """Answer what was begun, then close."""
        if self._partial:
            self._give_up_waiting()
        if self._pending:
            self._leaving = True
            self._held_back = b""
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._partial:
            self.route.counts["client_gone"] += 1
        self._partial = self._held_back = b""
        super().connection_lost(exc)

    def look(self, now: float, elapsed: float) -> None:
        if self._partial and now - self.since > _PARTIAL_S:
            self._give_up_waiting()
        super().look(now, elapsed)

    def _give_up_waiting(self) -> None:
        """The rest of a body takes its time: the ordinary way has the limits for that."""
        data, self._partial = self._partial, b""
        self.phase = WAITING
        super().data_received(data)


def protocol_for(route: "EventRoute | None", limits: GuardLimits | None = None) -> type[GuardedProtocol]:
    """The protocol class for one server, as `http=` of `uvicorn.Config`; without a route, only the guard."""
    watch = Watch(limits or GuardLimits())
    if route is None:
        return type("ServerProtocol", (GuardedProtocol,), {"watch": watch})
    return type("ServerProtocol", (EventProtocol,), {"watch": watch, "route": route, "heads": HeadBook()})
