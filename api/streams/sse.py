"""Server-sent events (WHATWG HTML, section 9.2) as a plain ASGI response.

No thread a client: the events come from an asynchronous generator. The response ends when the generator
does, the client goes, the process is to stop, whoever follows may no longer, or its time is up (a
reconnecting client is asked again who it is). Not here: what the events say.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress

import psycopg
import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sluiceway.kit.errors import SluicewayError
from sluiceway.live.service import StreamsEnded

KEEP_ALIVE_S = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
RETRY_MS = 2_000
MAX_AGE_S = 3_600.0
LOOK_S = 10.0
"""So often it is asked whether whoever follows still may."""
MEDIA_TYPE = "text/event-stream"
_OPENING = b": connected\nretry: %d\n\n" % RETRY_MS

log = logging.getLogger("sluiceway.api")


def encode(event: str, data: bytes, event_id: int | None = None) -> bytes:
    """One event. `data` is JSON on one line."""
    head = b"" if event_id is None else b"id: %d\n" % event_id
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), data)


class EventStream(Response):
    """Sends what `events` yields (whole encoded events) until one of them all has had enough."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        stopping: asyncio.Event,
        max_age_s: float = MAX_AGE_S,
        headers: Mapping[str, str] | None = None,
        still: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})},
            media_type=MEDIA_TYPE,
        )
        del self.headers["content-length"]
        self._events, self._stopping, self._max_age_s = events, stopping, max_age_s
        self._still = still

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_until_gone(receive))
        stop = asyncio.create_task(self._stopping.wait())
        over = asyncio.create_task(self._until_over())
        tasks = (pump, gone, stop, over)
        try:
            await asyncio.wait(tasks, timeout=self._max_age_s, return_when=asyncio.FIRST_COMPLETED)
            left = gone.done()
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self._events.aclose()
        if isinstance(results[0], Exception) and not left:
            self._explain(results[0])
        if not left:
            with suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": _OPENING, "more_body": True})
        async for chunk in self._events:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _until_over(self) -> None:
        """Until whoever follows may no longer. A database that is away ends nothing."""
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(psycopg.Error, sa.exc.SQLAlchemyError):
                if self._still is not None and not await run_in_threadpool(self._still):
                    return

    @staticmethod
    def _explain(error: Exception) -> None:
        """The client reconnects from where it was: nothing is lost by ending."""
        if isinstance(error, StreamsEnded | OSError):
            return
        if isinstance(error, SluicewayError | psycopg.Error | sa.exc.SQLAlchemyError):
            log.warning("a stream ended: %s", type(error).__name__)
        else:
            log.error("a stream failed", exc_info=error)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
