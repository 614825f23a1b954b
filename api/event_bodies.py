"""Taking a body in: how long it may be, how long it may take, and how much of it all one process holds.

Belongs here: reading a body from ASGI within its limits. Not here: what a body must be
(`ingestion.bodies`), connections that never get as far as a body (`api.connection_guard`).
"""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from starlette.types import Message, Receive

from api.stepping import Step
from sluiceway.ingestion.compression import too_large
from sluiceway.ingestion.errors import BodyTimeout, TooMuchInFlight

MAX_IN_FLIGHT_BYTES = 256 * 1024 * 1024
SILENCE_S = 30.0
BODY_S = 30.0
MAX_EVENTS = 50_000  # a request is loaded as a whole: others wait for about a second, however small they are
LEAST_BYTES_PER_S = 1000.0


class ClientGone(Exception):
    """The client hung up: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`body_bytes` and `event_bytes` count decompressed bytes; `events` of a request; `in_flight_bytes` all
    bodies that one process holds at a time, of which one pipeline may hold half. `silence_s`: the longest
    wait for the next part of a body; all of it must be there after `body_s` and what its size takes at
    `least_bytes_per_s`."""

    body_bytes: int
    event_bytes: int
    events: int = MAX_EVENTS
    in_flight_bytes: int = MAX_IN_FLIGHT_BYTES
    silence_s: float = SILENCE_S
    body_s: float = BODY_S
    least_bytes_per_s: float = LEAST_BYTES_PER_S


class InFlight:
    """Bytes of bodies on their way in, of the process and of each pipeline. For one event loop.

    A request that is alone (in the process, of its pipeline) may be larger than the limit: it could never
    come in otherwise.
    """

    def __init__(self, most_bytes: int) -> None:
        self.total = 0
        self._most = most_bytes
        self._share = most_bytes // 2
        self._of: dict[int, int] = {}

    def has_room(self, pipeline_id: int, size: int) -> bool:
        """Whether a new body of `size` bytes may be held."""
        return (self.total == 0 or self.total + size <= self._most) and (
            (held := self._of.get(pipeline_id, 0)) == 0 or held + size <= self._share
        )

    def hold(self, pipeline_id: int, size: int, own: int = 0) -> None:
        """Count `size` bytes in, of a request that holds `own` bytes already. Raises `TooMuchInFlight`."""
        held = self._of.get(pipeline_id, 0)
        if self.total + size > self._most and self.total > own:
            raise TooMuchInFlight("Too much is on its way in; send this again.", retry_after_s=1)
        if held + size > self._share and held > own:
            raise TooMuchInFlight(
                "Too much is on its way to this pipeline; send this again.", retry_after_s=1
            )
        self.total += size
        self._of[pipeline_id] = held + size

    def let_go(self, pipeline_id: int, size: int) -> None:
        self.total -= size
        left = self._of.get(pipeline_id, 0) - size
        if left:
            self._of[pipeline_id] = left
        else:
            self._of.pop(pipeline_id, None)


class Held:
    """The bytes that one request holds."""

    __slots__ = ("_in_flight", "_pipeline_id", "_size")

    def __init__(self, in_flight: InFlight, pipeline_id: int) -> None:
        self._in_flight = in_flight
        self._pipeline_id = pipeline_id
        self._size = 0

    def add(self, size: int) -> None:
        """Raises `TooMuchInFlight`."""
        self._in_flight.hold(self._pipeline_id, size, self._size)
        self._size += size

    def release(self) -> None:
        self._in_flight.let_go(self._pipeline_id, self._size)
        self._size = 0


async def read_body(
    receive: Receive, content_length: bytes, most_bytes: int, limits: Limits, held: Held
) -> bytes:
    """The whole body as sent. Raises `BodyTooLarge`, `TooMuchInFlight`, `BodyTimeout`, `ClientGone`."""
    if len(content_length) > 3 and (len(content_length) > 18 or int(content_length) > most_bytes):
        raise too_large(most_bytes)
    # Nearly always the body is there already: then there is nothing to wait for, and no timer to set.
    began = time.monotonic()
    first = Step(receive())
    message = first.result or await _within(first, limits.silence_s)
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most_bytes:
            raise too_large(most_bytes)
        held.add(len(part))
        if not message.get("more_body", False):
            break
        parts.append(part)
        left_s = began + limits.body_s + size / limits.least_bytes_per_s - time.monotonic()
        message = await _within(receive(), min(limits.silence_s, left_s))
    return b"".join([*parts, part]) if parts else part


async def _within(coming: Awaitable[Message], seconds: float) -> Message:
    try:
        async with asyncio.timeout(seconds):
            return await coming
    except TimeoutError:
        raise BodyTimeout("The rest of the body did not come in time.", retry_after_s=1) from None
