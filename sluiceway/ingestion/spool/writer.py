"""The one writer of a spool: appends from the event loop, one thread that writes and syncs for many at once.

What is durable when, and what happens when the disk says no, is decided here. Not here: the bytes of a
record (`records`), the folder (`segments`), waking readers (`doorbell`).
"""

import asyncio
import concurrent.futures
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import IO

from sluiceway.infra.metrics import Tally
from sluiceway.ingestion.contracts import Done, Form, Outcome, Position
from sluiceway.ingestion.errors import SpoolClosed, SpoolLocked, SpoolWriteFailed
from sluiceway.ingestion.spool import records, segments
from sluiceway.ingestion.spool.belonging import lock
from sluiceway.ingestion.spool.doorbell import Bell
from sluiceway.ingestion.spool.gauge import DiskGauge
from sluiceway.ingestion.tracing import Group
from sluiceway.kit.errors import SluicewayError
from sluiceway.kit.faults import reach

log = logging.getLogger("sluiceway.spool")

GROUP_BYTES = 8 * 1024 * 1024  # what one write and one sync carry at most, but for a single larger record
_LOOKED_AT_S = 0.5  # whoever only looks whether there is a writer has the lock for a moment
DEFAULT_SEGMENT_BYTES = 64 * 1024 * 1024
LEAST_SEGMENT_BYTES = 64 * 1024
DEFAULT_MAX_BYTES = 8 * 1024**3
DEFAULT_RESERVE_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class _Pending:
    """A record on its way. `done` is called on `loop`; in the writer's thread if that is None."""

    done: Done
    loop: asyncio.AbstractEventLoop | None
    workspace_id: int
    pipeline_id: int
    form: int
    events: int
    received_us: int
    headers: Mapping[str, str] | None
    body: bytes


@dataclass(slots=True)
class WriterStats:
    """Counts since the writer was made, for metrics."""

    records: int = 0
    events: int = 0
    bytes: int = 0
    syncs: int = 0
    failures: int = 0
    cut_bytes: int = 0
    body_bytes: int = 0
    pipelines: dict[int, int] = field(default_factory=dict)  # bytes in the log by pipeline
    sync_s: Tally = field(default_factory=lambda: Tally("sluiceway_spool_sync_seconds"))
    group_records: Tally = field(default_factory=lambda: Tally("sluiceway_spool_group_records"))
    group_bytes: Tally = field(default_factory=lambda: Tally("sluiceway_spool_group_bytes"))


class SpoolWriter:
    """Owns `folder` (an exclusive lock) from construction to `close`.

    Raises `SpoolLocked` if another process owns it. What a crash left half written at the end of the
    newest segment is cut off; writing goes on in a new segment, so that no position is used twice.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        reserve_bytes: int = DEFAULT_RESERVE_BYTES,
        files: segments.FileOps | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.stats = WriterStats()
        self.on_group: Callable[[Group], None] | None = None
        """Told in the writer's thread of every group that is durable; only tracing wants to know."""
        # The newest segment is never removed: were it as large as the spool may be, a full one would stay so.
        self._segment_bytes = min(segment_bytes, max(max_bytes // 4, LEAST_SEGMENT_BYTES))
        self._files = files or segments.FileOps()
        self._now_s = now_s
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            self._gauge = DiskGauge(folder, max_bytes, reserve_bytes, self._files)
            self._number = self._recover()
        except BaseException:
            self._lock.close()  # whoever tries again in this process must find the folder free
            raise
        self._marker = b""
        self._descriptor = -1
        self._offset = 0
        self._bell = Bell(folder)
        self._queue: SimpleQueue[list[_Pending] | None] = SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Pending]] = {}
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    @property
    def refusal(self) -> SluicewayError | None:
        """Why nothing would be taken just now (`SpoolFull`, `DiskReserveReached`, `SpoolClosed`), or None."""
        if self._closed:
            return SpoolClosed("The event route is stopping; send this again.", retry_after_s=2)
        return self._gauge.refusal

    @property
    def end(self) -> Position:
        """Behind everything that `stats` counted when they were read before."""
        offset = self._offset  # before the number: while a segment begins the two are too far, not too near
        return Position(self._number, offset)

    @property
    def used_bytes(self) -> int:
        """The size of the spool, as last known."""
        return self._gauge.used

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
    ) -> "asyncio.Future[Position]":
        """Take one record; the future gives its position after the sync that made it durable.

        To be called on a running event loop. The future's errors: `SpoolFull`, `DiskReserveReached`,
        `SpoolWriteFailed`, `SpoolClosed`. Cancelling it does not take the record back.
        """
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self.submit(
            workspace_id=workspace_id,
            pipeline_id=pipeline_id,
            form=form,
            events=events,
            body=body,
            headers=headers,
            received_us=received_us,
            done=partial(_settle, future),
        )
        return future

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
        """The same without a future: `done` gets the position, or the error, on the running event loop.

        The calls come in the order of the submits, those of one group in one turn of the loop. Raises
        `SpoolClosed`, and then `done` is never called.
        """
        loop = asyncio.get_running_loop()
        at_us = time.time_ns() // 1000 if received_us is None else received_us
        pending = _Pending(done, loop, workspace_id, pipeline_id, form, events, at_us, headers, body)
        with self._closing:
            self._check_open()
            gathered = self._gathered.get(loop)
            if gathered is None:
                # One hand-over for all that this turn of the loop brings: it wakes the thread once.
                self._gathered[loop] = [pending]
                loop.call_soon(self._hand_over, loop)
            else:
                gathered.append(pending)

    def append_now(
        self,
        *,
        workspace_id: int,
        pipeline_id: int,
        form: Form,
        events: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        received_us: int | None = None,
    ) -> Position:
        """The same for a caller without an event loop: blocks until the record is durable."""
        future: concurrent.futures.Future[Position] = concurrent.futures.Future()
        at_us = time.time_ns() // 1000 if received_us is None else received_us
        done = partial(_settle, future)
        pending = _Pending(done, None, workspace_id, pipeline_id, form, events, at_us, headers, body)
        with self._closing:
            self._check_open()
            self._queue.put([pending])
        return future.result()

    def close(self) -> None:
        """Make what was taken durable, then let the folder go. Doing it again changes nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for gathered in self._gathered.values():
                self._queue.put(gathered)
            self._gathered.clear()
            self._queue.put(None)
        self._thread.join()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._bell.close()
        self._lock.close()

    def __enter__(self) -> "SpoolWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SpoolClosed("The event route is stopping; send this again.", retry_after_s=2)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._closing:
            gathered = self._gathered.pop(loop, None)
            if gathered is not None:
                self._queue.put(gathered)

    def _recover(self) -> int:
        """The number of the newest segment so far, its torn tail cut off."""
        present = segments.numbers(self.folder)
        if not present:
            return segments.first_number(self._now_s()) - 1
        reach("spool.recover_begin")
        self.stats.cut_bytes = segments.recover(self.folder, present[-1], self._files)
        reach("spool.recovered")
        return present[-1]

    def _run(self) -> None:
        stopping = False
        while not stopping:
            first = self._queue.get()
            stopping = first is None
            taken = first or []
            with suppress(Empty):
                while True:
                    more = self._queue.get_nowait()
                    stopping = stopping or more is None
                    taken += more or []
            for group in _groups(taken):
                outcomes = self._commit(group)
                reach("spool.before_resolve")
                _resolve(group, outcomes)
                reach("spool.after_resolve")

    def _commit(self, group: Sequence[_Pending]) -> Sequence[Outcome]:
        """Write and sync a group as one; its positions, or why it was not taken."""
        try:
            refusal = self._gauge.check(sum(records.size_of(p.headers, p.body) for p in group))
            if refusal is not None:
                return [refusal] * len(group)
            if self._descriptor < 0 or self._offset >= self._segment_bytes:
                self._roll()
            marker = self._marker
            pieces: list[bytes] = []
            for p in group:
                pieces.append(
                    records.encode_head(
                        marker,
                        p.workspace_id,
                        p.pipeline_id,
                        p.received_us,
                        p.form,
                        p.events,
                        p.headers,
                        p.body,
                    )
                )
                pieces.append(p.body)
            positions = self._write(pieces)
        except OSError as error:
            return [self._abandon(error)] * len(group)
        except Exception:
            log.exception("spool: a group of %d records could not be written", len(group))
            return [self._abandon(None)] * len(group)
        self.stats.records += len(group)
        self.stats.events += sum(p.events for p in group)
        self.stats.body_bytes += sum(len(p.body) for p in group)
        written = self.stats.pipelines
        for p in group:
            written[p.pipeline_id] = written.get(p.pipeline_id, 0) + records.size_of(p.headers, p.body)
        self._bell.ring()
        return positions

    def _write(self, pieces: Sequence[bytes]) -> list[Position]:
        """Heads and bodies in turn, durable when this returns; where each head lies."""
        data = b"".join(pieces)
        reach("spool.before_write")
        rest = memoryview(data)
        while rest:
            rest = rest[self._files.write(self._descriptor, rest) :]
        reach("spool.after_write")
        began_ns = time.perf_counter_ns()
        self._files.sync(self._descriptor)
        reach("spool.after_sync")
        self._count(len(pieces) // 2, len(data), time.perf_counter_ns() - began_ns)
        positions = []
        at = self._offset
        for index in range(0, len(pieces), 2):
            positions.append(Position(self._number, at))
            at += len(pieces[index]) + len(pieces[index + 1])
        self._offset = at
        self._gauge.add(len(data))
        return positions

    def _count(self, count: int, size_bytes: int, sync_ns: int) -> None:
        stats = self.stats
        stats.syncs += 1
        stats.bytes += size_bytes
        stats.sync_s.observe(sync_ns / 1e9)
        stats.group_records.observe(count)
        stats.group_bytes.observe(size_bytes)
        if self.on_group is not None:
            begin = self._offset
            self.on_group(Group(self._number, begin, begin + size_bytes, count, sync_ns, time.time_ns()))

    def _roll(self) -> None:
        """Begin the next segment; it is in the folder for good before a record goes into it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        reach("spool.roll_begin")
        # Given out even if this fails: a reader may have the file open that is taken back below.
        self._number = number = self._number + 1
        path = segments.path_of(self.folder, number)
        marker = secrets.token_bytes(records.MARKER_BYTES)
        header = records.segment_header(number, marker)
        descriptor = self._files.create(path)
        try:
            reach("spool.roll_created")
            if self._files.write(descriptor, header) != len(header):
                raise OSError(28, "the header of a segment was not written whole")
            reach("spool.roll_written")
            self._files.sync(descriptor)
            self._files.sync_folder(self.folder)
            reach("spool.roll_synced")
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._descriptor, self._marker = descriptor, marker
        self._offset = len(header)
        self._gauge.add(len(header))

    def _abandon(self, error: OSError | None) -> SluicewayError:
        """After a failed write: take back what reached the file and leave the segment for good.

        A reader may have seen a whole record of the group, so its position must not be given to another.
        """
        self.stats.failures += 1
        if self._descriptor >= 0:
            try:
                self._files.truncate(self._descriptor, self._offset)
            except OSError as second:
                log.error("spool: an unfinished write could not be taken back: %s", second.strerror)
            os.close(self._descriptor)
            self._descriptor = -1
        if error is None:
            return SpoolWriteFailed("The events could not be written; send them again.", retry_after_s=5)
        log.error("spool: writing to %s failed: %s", self.folder, error.strerror or type(error).__name__)
        return self._gauge.from_os_error(error)


def _lock(folder: Path) -> IO[bytes]:
    deadline = time.monotonic() + _LOOKED_AT_S
    while (file := lock(folder, segments.LOCK_FILE)) is None:
        if time.monotonic() > deadline:
            raise SpoolLocked(
                f"Another process writes to the spool in {folder}: stop it, or set another SLUICEWAY_NODE."
            )
        time.sleep(0.01)
    return file


def _groups(taken: list[_Pending]) -> Iterator[list[_Pending]]:
    """What waits, cut where one write would carry more than `GROUP_BYTES`."""
    begin = size = 0
    for index, pending in enumerate(taken):
        if index > begin and size + len(pending.body) > GROUP_BYTES:
            yield taken[begin:index]
            begin, size = index, 0
        size += len(pending.body)
    if begin < len(taken):
        yield taken[begin:]


def _resolve(group: Sequence[_Pending], outcomes: Sequence[Outcome]) -> None:
    """Hand the outcomes over: one wake-up for each event loop."""
    waiting: dict[asyncio.AbstractEventLoop, list[tuple[Done, Outcome]]] = {}
    for pending, outcome in zip(group, outcomes, strict=True):
        if pending.loop is None:
            pending.done(outcome)
        elif (found := waiting.get(pending.loop)) is not None:
            found.append((pending.done, outcome))
        else:
            waiting[pending.loop] = [(pending.done, outcome)]
    for loop, calls in waiting.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_finish, calls)


def _finish(calls: Sequence[tuple[Done, Outcome]]) -> None:
    for done, outcome in calls:
        try:
            done(outcome)
        except Exception:  # one of many: the others must hear of theirs
            log.exception("spool: an outcome could not be handed over")


def _settle(
    future: "asyncio.Future[Position] | concurrent.futures.Future[Position]", outcome: Outcome
) -> None:
    if future.done():
        return  # its request was given up
    if isinstance(outcome, Position):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
