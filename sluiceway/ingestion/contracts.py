"""What the spool promises to those who write to it and read from it.

Belongs here: positions, records, the protocols a log must keep (the spool keeps them; a Kafka-compatible
log could). Not here: how bytes lie on disk (`spool`), or HTTP (`api.events`).
"""

from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from sluiceway.kit.errors import SluicewayError


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log. Positions only grow, and none is ever used for a second record.

    `Position(0, 0)` is before every record.
    """

    segment: int
    offset: int

    def __str__(self) -> str:
        return f"{self.segment}-{self.offset}"


START = Position(0, 0)


class Form(IntEnum):
    """How the body holds its events. In NDJSON a line of nothing but white space is no event.

    A FORM (application/x-www-form-urlencoded) is one event; its record's headers have `content-type`, so that
    who reads the bytes later, without the form, still knows what they are.
    """

    OBJECT = 1
    ARRAY = 2
    NDJSON = 3
    FORM = 4


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """What one accepted request carried.

    `position` is where it begins, `end` where the next record begins. `received_us`: microseconds since
    1970 UTC. `headers`: lower-case names, only those the pipeline's paths read. `events`: how many the body
    holds, at least 1. `body`: decompressed, otherwise byte for byte as sent: valid JSON in valid UTF-8, or a
    form.
    """

    position: Position
    end: Position
    workspace_id: int
    pipeline_id: int
    received_us: int
    form: Form
    headers: dict[str, str]
    events: int
    body: bytes


Outcome = Position | SluicewayError
"""What became of a record: where it is now durable, or why it is not."""
Done = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Extent:
    """That between `begin` and `end` the log holds `size_bytes` in records of one pipeline, among others.

    `begin` is the position of its first record there, `end` where its last one ends. `size_bytes` counts
    what lies in the log; `oldest_us` is the earliest time of receipt.
    """

    pipeline_id: int
    begin: Position
    end: Position
    size_bytes: int
    events: int
    oldest_us: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a stretch of the log holds: extents in the order of their begin, all of them before `end`."""

    extents: list[Extent]
    end: Position
    size_bytes: int


class LogWriter(Protocol):
    """The one writer of a log."""

    @property
    def refusal(self) -> SluicewayError | None:
        """Why nothing would be taken just now, or None. Cheap: asked before a body is read."""
        ...

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
        """Take one record; the awaitable gives its position once it is durable.

        Called on a running event loop; never blocks it. Raises (on await) `SpoolFull`, `DiskReserveReached`,
        `SpoolWriteFailed`, `SpoolClosed`; then no reader will find the record, unless the disk failed in
        a way that could not be undone.
        """
        ...

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
        """`append` without an awaitable: `done` is called once, on the running event loop.

        The calls come in the order in which the records were submitted. Raises `SpoolClosed` at once, and
        then `done` is never called.
        """
        ...

    def close(self) -> None:
        """Make what was taken durable, then take no more. Doing it again changes nothing."""
        ...


class LogReader(Protocol):
    """One of several independent readers; each keeps its own cursors outside the log.

    `read` and `scan` may be called from several threads.
    """

    @property
    def corrupt_records(self) -> int:
        """Stretches of unreadable bytes skipped since the reader was made; each counts once."""
        ...

    def read(
        self,
        start: Position,
        max_bytes: int,
        *,
        pipelines: Container[int] | None = None,
        end: Position | None = None,
    ) -> list[SpoolRecord]:
        """Whole records from `start` on, in order, about `max_bytes` of them; at least one if any waits.

        Only those of `pipelines` (None: of all), and only those that begin before `end`. Empty: nothing
        waits. A record that is still being written is not there yet.
        """
        ...

    def scan(self, start: Position, max_bytes: int) -> Scan:
        """What lies from `start` on, by pipeline, in about `max_bytes` of log: cheap, no bodies are kept.

        An extent covers about 1 MiB of log at most. Nothing new: no extents, and `end` not behind `start`.
        What is not in an extent will never be found by `read` before `end`.
        """
        ...

    def bounds(self) -> tuple[int, int] | None:
        """The numbers of the first and of the newest segment that are there; None: none is yet."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something may have been written (True) or the time is over (False)."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    """A durable log of records: the node's spool, or something with the same promises."""

    def writer(self) -> LogWriter: ...

    def reader(self) -> LogReader: ...

    def trim(self, before: Position) -> int:
        """Let go of what every reader has passed; how many segments went. What lies at or after stays."""
        ...
