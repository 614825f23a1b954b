"""The loader: takes whatever waits in the spool as one batch a pipeline, and commits it.

Idle, a single event goes through at once; under load batches grow by themselves up to `max_batch_bytes`,
and the next one is read and mapped while the database works on this one. The database away: try again, ever
more seldom, and drop nothing. `docs/adr/0003-loader.md` holds the reasons.
"""

import logging
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import sqlalchemy as sa

from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Position
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.contracts import LoaderStats, Reader
from sluiceway.loading.preparing import group, is_loadable, prepare
from sluiceway.quality.contracts import Gate
from sluiceway.warehouse.contracts import CommittedBatch, PreparedBatch
from sluiceway.warehouse.errors import CursorMoved, PipelineGone
from sluiceway.warehouse.judgement import reject
from sluiceway.warehouse.service import Warehouse

MAX_BATCH_BYTES = 8 * 1024 * 1024
_FIRST_BYTES = 4 * 1024 * 1024  # a backlog begins smaller: nobody works while its first batch is prepared
_BACKLOG_BYTES = 1024 * 1024  # from here on the next batch is prepared while this one is committed
_IDLE_WAIT_S = 0.5
_PACE_S = 0.02  # under a steady flow batches begin at most this often
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_PATIENCE = 3  # tries of a batch that fails although the database is there

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The loader is to stop while it waits for the database; the spool keeps what is not committed."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one read of the spool gave: batches in order, and where reading goes on."""

    batches: list[PreparedBatch]
    end: Position
    size_bytes: int
    unknown: int


class Loader:
    """One node's spool into silver. One thread calls `run` or `step`; `stats` may be read by others."""

    def __init__(
        self,
        database: Database,
        reader: Reader,
        gate: Gate,
        node: str,
        book: PipelineBook,
        *,
        clock: Clock | None = None,
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self._database = database
        self._reader = reader
        self._node = node
        self._book = book
        self._clock = clock or SystemClock()
        self._max_batch_bytes = max_batch_bytes
        self._warehouse = Warehouse(database, gate, self._clock)
        self._connection: psycopg.Connection[Any] | None = None
        self._cursors: dict[int, Position] = {}
        self._failures = 0
        self._ahead: Future[Chunk | None] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="loader-prepare")
        self.position: Position | None = None
        """Everything before it is committed; None until the database has been asked."""
        self.stats = LoaderStats()

    def run(self, stop: threading.Event) -> None:
        """Load until `stop`. Raises nothing for what a database or an event can do."""
        try:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    size_bytes = self.step(stop)
                except Stopped:
                    return
                except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
                    self._pause(error, stop)
                    continue
                if size_bytes == 0:
                    self._reader.wait(_IDLE_WAIT_S)
                elif size_bytes < _BACKLOG_BYTES:
                    stop.wait(max(0.0, _PACE_S - (time.monotonic() - began)))
        finally:
            self.close()

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._drop_connection()

    def step(self, stop: threading.Event | None = None) -> int:
        """Commit what waits (at most one read of the spool); returns its size in bytes, 0 if nothing waits.

        Raises `Stopped`, and database errors outside of a commit.
        """
        stop = stop or threading.Event()
        self._book.listen()
        if self.position is None:
            self._find_position()
        chunk = self._next_chunk()
        if chunk is None:
            if self._failures:
                self._find_position()  # the database answers, though nothing waits to be committed
                self._recovered()
            return 0
        if chunk.size_bytes >= _BACKLOG_BYTES:
            self._ahead = self._executor.submit(self._read_ahead, chunk.end, dict(self._cursors))
        try:
            self._commit_chunk(chunk, stop)
        except CursorMoved:
            log.warning("another loader works on the spool of node %s: reading its cursors again", self._node)
            self._forget_ahead()
            self.position = None
            return chunk.size_bytes
        except BaseException:
            self._forget_ahead()
            raise
        self.position = chunk.end
        self.stats.unknown += chunk.unknown
        return chunk.size_bytes

    def _find_position(self) -> None:
        progress = self._warehouse.find_progress(self._connect(), self._node)
        self._cursors = progress.cursors
        self.position = progress.read_to or Position(0, 0)

    def _next_chunk(self) -> Chunk | None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (chunk := ahead.result()) is not None:
            return chunk
        assert self.position is not None
        return self._read(self.position, self._cursors, _FIRST_BYTES)

    def _forget_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.cancel():
            ahead.exception()  # wait: the reader is not for two threads

    def _read_ahead(self, start: Position, cursors: dict[int, Position]) -> Chunk | None:
        """The next chunk, its leaves made and the gate asked: there is time while the database works."""
        chunk = self._read(start, cursors, self._max_batch_bytes)
        if chunk is None:
            return None
        for batch in chunk.batches:
            self._warehouse.ensure_leaves(batch)
        ask = self._warehouse.ask_gate
        return replace(
            chunk, batches=[replace(b, verdict=ask(b.pipeline, b.mapped.rows)) for b in chunk.batches]
        )

    def _read(self, start: Position, cursors: dict[int, Position], max_bytes: int) -> Chunk | None:
        records = self._reader.read(start, min(max_bytes, self._max_batch_bytes))
        if not records:
            return None
        now = self._clock.now()
        batches: list[PreparedBatch] = []
        unknown = 0
        for pipeline_id, own in group(records, cursors).items():
            entry = self._book.get(pipeline_id)
            if entry is None or not is_loadable(entry.pipeline):
                unknown += sum(record.events for record in own)
                continue
            batch = prepare(self._node, entry, own, now)
            if batch is not None:
                batches.append(batch)
        end = records[-1].end
        if batches:
            last = batches[-1]
            assert last.cursor is not None
            batches[-1] = replace(last, cursor=replace(last.cursor, read_to=end))
        return Chunk(batches, end, sum(len(record.body) for record in records), unknown)

    def _commit_chunk(self, chunk: Chunk, stop: threading.Event) -> None:
        for batch in chunk.batches:
            committed = self._commit(batch, stop)
            assert batch.cursor is not None
            self._cursors[batch.pipeline.id] = batch.cursor.end
            if committed is not None:
                self._count(committed)
        if not chunk.batches:
            self._warehouse.pass_over(self._connect(), self._node, chunk.end)

    def _commit(self, batch: PreparedBatch, stop: threading.Event) -> CommittedBatch | None:
        """Until it is committed: a poisonous batch sheds what is refused, a lost database is awaited."""
        tries = 0
        while True:
            try:
                committed = self._warehouse.commit(self._connect(), batch)
            except (psycopg.OperationalError, psycopg.InterfaceError, sa.exc.OperationalError) as error:
                self._pause(error, stop)
            except PipelineGone as error:
                log.warning("%s Its events stay in bronze.", error.detail)
                return None
            except CursorMoved:
                raise
            except Exception as error:
                tries += 1
                batch = self._shed(batch, error, tries)
                if tries > 1:
                    self._pause(error, stop)
            else:
                self._recovered()
                return committed

    def _shed(self, batch: PreparedBatch, error: Exception, tries: int) -> PreparedBatch:
        log.error(
            "batch %s of %s cannot be committed (try %d): %s",
            batch.name, batch.pipeline.slug, tries, _first_line(error),
        )  # fmt: skip
        self._warehouse.forget()
        if isinstance(error, psycopg.DataError | psycopg.errors.ProgramLimitExceeded):
            refused = self._warehouse.find_unloadable(self._connect(), batch)
            if refused:
                return reject(batch, refused, "refused_by_database")
        if tries >= _PATIENCE and len(batch.mapped.rows):
            reason = f"The batch could not be loaded: {_first_line(error)}"
            everything = {index: reason for (index,) in batch.mapped.rows.select("_index").iter_rows()}
            return reject(batch, everything, "load_failed")
        return batch

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(Role.WRITER)
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._book.disconnect()

    def _pause(self, error: Exception, stop: threading.Event) -> None:
        """Wait before the next try, doubling up to five seconds. Raises `Stopped`."""
        if self._failures == 0:
            log.warning("loading waits for the database: %s", _first_line(error))
            self.stats.failing_since = self._clock.now()
        self._failures += 1
        self.stats.last_error = _first_line(error)
        self._drop_connection()
        self._warehouse.forget()
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
        if stop.wait(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads retries, guards nothing
            raise Stopped

    def _recovered(self) -> None:
        if self._failures:
            log.info("loading goes on after %d failed tries", self._failures)
            self._failures = 0
            self.stats.failing_since = None

    def _count(self, committed: CommittedBatch) -> None:
        stats = self.stats
        stats.batches += 1
        stats.events += committed.events
        stats.rows += committed.rows
        stats.duplicates += committed.duplicates
        stats.dead_letters += committed.dead_letters


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:300]
