"""The loader: takes what waits in a node's spool, a batch a pipeline, and commits it.

Idle, a single event goes through at once; under load batches grow by themselves up to `max_batch_bytes`,
and the next one is read and mapped while the database works on this one. Pipelines share the loader's
time: `shares` says whose turn it is, `backlog` knows what waits. The database away: try again, ever more
seldom, and drop nothing. `docs/adr/0003-loader.md` and `docs/adr/0012-fair-loader.md` hold the reasons.
"""

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from sluiceway.infra import metrics
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database
from sluiceway.infra.trouble import describe
from sluiceway.ingestion.contracts import START, LogReader, Position
from sluiceway.ingestion.spool.belonging import Identity
from sluiceway.kit.faults import reach
from sluiceway.loading.backlog import Backlog
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.catching_up import note_unloaded
from sluiceway.loading.chunks import Chunk, Chunks
from sluiceway.loading.claims import SpoolNameTaken, claim
from sluiceway.loading.committing import Committer, Stopped
from sluiceway.loading.contracts import LoaderStats
from sluiceway.loading.gaps import tell_gap
from sluiceway.loading.leases import Leases
from sluiceway.loading.preparing import is_loadable
from sluiceway.loading.reporting import Reporter
from sluiceway.loading.shares import Shares, Turn
from sluiceway.quality.contracts import Gate
from sluiceway.warehouse.contracts import CommittedBatch
from sluiceway.warehouse.errors import CursorMoved, PipelineBusy
from sluiceway.warehouse.service import Warehouse

__all__ = ["MAX_BATCH_BYTES", "Loader", "Stopped"]

MAX_BATCH_BYTES = 8 * 1024 * 1024
_FIRST_BYTES = 4 * 1024 * 1024  # a backlog begins smaller: nobody works while its first batch is prepared
_BACKLOG_BYTES = 1024 * 1024  # from here on the next batch is prepared while this one is committed
_UNREADABLE_PAUSE_S = 1.0
_REFUSED_PAUSE_S = 5.0
_IDLE_WAIT_S = 0.5
_PACE_S = 0.02  # under a steady flow batches begin at most this often
_SCAN_BYTES = 4 * 1024 * 1024
_ASIDE_S = 0.1
_FOLLOW_S = 1.0  # how often others' cursors are read
_SCAN_S = 0.25  # looking ahead through a long backlog takes turns with loading it

log = logging.getLogger(__name__)


class Loader:
    """One node's spool into silver. One thread calls `run` or `step`; `stats` and `position` are for all.

    `folder`: where it tells once a second what waits (`progress.json`); None: nowhere. `leases`: which
    pipelines are its own; None: all of them. `spool_id`: of the folder, which has to be the one that the
    database knows by the node's name; None: whatever it is.
    """

    def __init__(
        self,
        database: Database,
        reader: LogReader,
        gate: Gate,
        node: str,
        book: PipelineBook,
        *,
        clock: Clock | None = None,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        folder: Path | None = None,
        leases: Leases | None = None,
        spool_id: str | None = None,
    ) -> None:
        self._reader = reader
        self._node = node
        self._book = book
        self._clock = clock or SystemClock()
        self._max_batch_bytes = max_batch_bytes
        self._warehouse = Warehouse(database, gate, self._clock)
        self._chunks = Chunks(reader, node, book, self._warehouse, self._clock)
        self.stats = LoaderStats()
        self._committer = Committer(
            database, self._warehouse, self.stats, self._clock,
            reconnected=self._compare, meanwhile=self._while_away,
        )  # fmt: skip
        self._shares = Shares(max_batch_bytes)
        self._reporter = None if folder is None else Reporter(folder, node, self._clock)
        self._leases = leases
        self._identity = None if spool_id is None else Identity(node, spool_id)
        self._folder = folder
        self.recognised = spool_id is None
        """Whether the database has said that the folder is the node's; until then bronze has to wait, too."""
        self._held: frozenset[int] = frozenset()
        self._aside: dict[int, float] = {}
        self._followed_at = 0.0
        self._backlog: Backlog | None = None
        self._written: Position | None = None
        self._scanned = False  # up to the log's end, a moment ago
        self.position: Position | None = None
        """Everything before it is committed; None until the database has been asked."""
        self.worked_at = time.monotonic()
        """When it was last seen at work or waiting: one that hangs should not keep its leases."""

    @property
    def settled(self) -> Position | None:
        """What may be let go of: the database itself has said that it is loaded. None while it is away.

        One that comes back may be another, which needs more of the log than the one before did.
        """
        position, written = self.position, self._written
        if self.stats.failing_since is not None or position is None or written is None:
            return None
        return min(position, written)

    def run(self, stop: threading.Event) -> None:
        """Load until `stop`. Raises nothing for what a database, a disk or an event can do."""
        unreadable = ""
        try:
            while not stop.is_set():
                try:
                    self._turn(stop)
                except Stopped:
                    return
                except SpoolNameTaken as error:
                    self._stand_back(error)
                    stop.wait(_REFUSED_PAUSE_S)
                except OSError as error:  # the spool's folder or disk: it may come back
                    if str(error) != unreadable:
                        unreadable = str(error)
                        log.error("loading waits: the spool cannot be read: %s", error)
                    stop.wait(_UNREADABLE_PAUSE_S)
                else:
                    unreadable = ""
        finally:
            self.close()

    def _turn(self, stop: threading.Event) -> None:
        began = time.monotonic()
        try:
            size_bytes = self.step(stop)
            if size_bytes == 0:
                self._reader.wait(_IDLE_WAIT_S)
            elif not self._is_behind():
                stop.wait(max(0.0, _PACE_S - (time.monotonic() - began)))
        except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
            self._committer.pause(error, stop)

    def close(self) -> None:
        self._chunks.close()
        self._warehouse.close()
        self._committer.close()
        self._book.disconnect()
        if self._reporter is not None and self._backlog is not None:
            self._reporter.tell(self._backlog, scanned=self._scanned, last=True)

    def step(self, stop: threading.Event | None = None) -> int:
        """One turn: commit what it takes; returns its size in bytes, 0 if nothing waits.

        Raises `Stopped`, and database errors outside of a commit.
        """
        stop = stop or threading.Event()
        self.worked_at = time.monotonic()
        self._book.listen()
        try:
            backlog = self._backlog or self._begin()
            self._look()
            self._pass_unloadable(backlog)
            now = time.monotonic()
            self._aside = {p: until for p, until in self._aside.items() if until > now}
            waiting = {p: size for p, size in self._own(backlog).items() if p not in self._aside}
            turn = self._shares.choose(waiting, self._chunks.ahead_of)
            if turn is None:
                self._rest(backlog)
                if self._aside:
                    self._reader.wait(_ASIDE_S)
                    return 1
                return 0 if self._scanned else 1
            return max(1, self._serve(backlog, turn, stop))
        except CursorMoved as error:
            self._chunks.forget()
            self._find_out(error)
            return 1

    def _begin(self) -> Backlog:
        connection = self._committer.connect()
        self._claim(connection)
        progress = self._warehouse.find_progress(connection, self._node)
        self._backlog = Backlog(progress.read_to or START, progress.cursors)
        self._written = progress.read_to
        self.position = self._backlog.position
        tell_gap(self._node, progress, self._reader)
        return self._backlog

    def _claim(self, connection: psycopg.Connection[Any]) -> None:
        if self._identity is not None:
            claim(connection, self._identity, self._folder)
            self.recognised = True

    def _stand_back(self, error: SpoolNameTaken) -> None:
        """The folder is not the node's: nothing of it is touched until it, or the database, is another."""
        if self.stats.last_error != describe(error):
            log.error("%s", error.detail)
            self.stats.failing_since = self._clock.now()
            self.stats.last_error = describe(error)
        self._committer.failures += 1
        self._chunks.forget()
        self._backlog = self.position = None
        self.recognised = False

    def _look(self) -> None:
        """Scan what is new in the log, for a while, and tell what waits."""
        backlog = self._backlog
        if backlog is None:
            return
        until = time.monotonic() + _SCAN_S
        while True:
            scan = self._reader.scan(backlog.end, _SCAN_BYTES)
            self._scanned = scan.size_bytes < _SCAN_BYTES
            backlog.add(scan)
            if self._scanned or time.monotonic() > until:
                break
        if self._reporter is not None:
            self._reporter.tell(backlog, scanned=self._scanned)

    def _while_away(self) -> None:
        self.worked_at = time.monotonic()
        self._book.disconnect()
        self._look()

    def _pass_unloadable(self, backlog: Backlog) -> None:
        for pipeline_id in backlog:
            entry = self._book.get(pipeline_id)
            if entry is None or not is_loadable(entry.pipeline):
                self._chunks.forget(pipeline_id)
                if entry is not None:
                    connection = self._committer.connect()
                    if pipeline_id not in backlog:  # the connection is new: others had loaded it before
                        continue
                    note_unloaded(connection, entry.pipeline, backlog.oldest_us(pipeline_id))
                self._count_unknown(backlog.drop(pipeline_id))

    def _own(self, backlog: Backlog) -> dict[int, int]:
        """What waits of the pipelines that this loader holds. Others' work is followed by their cursors."""
        if self._leases is None:
            return backlog.waiting
        held = self._leases.settle(self._committer.connect, list(backlog))
        now = time.monotonic()
        if held - self._held or (self._leases.shared and now - self._followed_at > _FOLLOW_S):
            # Who held them before has moved their cursors, and may have just now.
            self._compare(self._committer.connect())
            self._followed_at = now
        self._held = held
        waiting = self._of_held(backlog)
        if self._chunks.ahead_of not in waiting:
            self._chunks.forget()
        return waiting

    def _of_held(self, backlog: Backlog) -> dict[int, int]:
        return {p: size for p, size in backlog.waiting.items() if self._leases is None or p in self._held}

    def _rest(self, backlog: Backlog) -> None:
        """Nothing waits: the database should know how far the log is read, though no batch says it."""
        self.position = backlog.position
        if self._written is None or self._written < self.position:
            self._warehouse.pass_over(self._committer.connect(), self._node, self.position)
            self._written = self.position
        elif self._committer.failures:
            self._warehouse.find_progress(self._committer.connect(), self._node)
        self._committer.recovered()

    def _serve(self, backlog: Backlog, turn: Turn, stop: threading.Event) -> int:
        began, paused_s = time.monotonic(), self._committer.paused_s
        chunk = self._chunk_of(backlog, turn)
        self._prepare_next(backlog, chunk)
        try:
            self._commit_chunk(backlog, chunk, stop)
        except BaseException:
            self._chunks.forget()
            raise
        sizes = {pipeline_id: taken.size_bytes for pipeline_id, taken in chunk.taken.items()}
        elapsed_s = time.monotonic() - began - (self._committer.paused_s - paused_s)
        self._shares.charge(sizes, elapsed_s, heavy=not turn.light)
        self._count_unknown(chunk.unknown)
        self.position = backlog.position
        return chunk.size_bytes

    def _chunk_of(self, backlog: Backlog, turn: Turn) -> Chunk:
        if (ahead := self._chunks.take(turn.pipelines)) is not None:
            return ahead
        max_bytes = turn.max_bytes if turn.light else min(turn.max_bytes, _FIRST_BYTES)
        limit = None if turn.light else max_bytes
        wanted = {p: backlog.spans(p, max_bytes=limit) for p in turn.pipelines}
        return self._chunks.read(wanted, 2 * max_bytes if turn.light else max_bytes)

    def _prepare_next(self, backlog: Backlog, chunk: Chunk) -> None:
        """Whoever has a backlog: its next batch is read and mapped while the database works on this one."""
        if self._chunks.ahead_of is not None:
            return
        left = self._of_held(backlog)
        for pipeline_id, taken in chunk.taken.items():
            left[pipeline_id] -= taken.size_bytes
        found = self._shares.following({p: size for p, size in left.items() if size > 0}, chunk.taken)
        if found is None or left[found[0]] < _BACKLOG_BYTES:
            return
        pipeline_id, max_bytes = found
        before = chunk.taken.get(pipeline_id)
        spans = backlog.spans(pipeline_id, None if before is None else before.end, max_bytes)
        if spans:
            self._chunks.prepare(pipeline_id, spans, max_bytes)

    def _commit_chunk(self, backlog: Backlog, chunk: Chunk, stop: threading.Event) -> None:
        for pipeline, oldest_us in chunk.unloadable:
            note_unloaded(self._committer.connect(), pipeline, oldest_us)
        for pipeline_id in chunk.taken.keys() - {batch.pipeline.id for batch in chunk.batches}:
            backlog.passed(pipeline_id, chunk.taken[pipeline_id].end)
        for batch in chunk.batches:
            pipeline_id, taken = batch.pipeline.id, chunk.taken[batch.pipeline.id]
            position = backlog.position_after(pipeline_id, taken.end)
            if self._written is None or self._written < position:
                assert batch.cursor is not None
                batch = replace(batch, cursor=replace(batch.cursor, read_to=position))
            try:
                committed = self._committer.commit(batch, stop)
            except PipelineBusy:
                self._put_aside(pipeline_id)
                continue
            if committed is None:
                backlog.passed(pipeline_id, taken.end, taken.size_bytes)
                continue
            backlog.committed(pipeline_id, taken.end, taken.size_bytes)
            reach("loader.noted")
            self._written = max(position, self._written or position)
            self._count(committed)

    def _put_aside(self, pipeline_id: int) -> None:
        """Someone else (a replay) is at the pipeline: the others go on, it is tried again in a moment."""
        self._aside[pipeline_id] = time.monotonic() + _ASIDE_S
        self._chunks.forget(pipeline_id)  # it would leave out what was not committed

    def _compare(self, connection: psycopg.Connection[Any]) -> None:
        """A new connection may lead to another server, one that has not everything that was committed."""
        if self._backlog is None:
            return
        self._claim(connection)
        progress = self._warehouse.find_progress(connection, self._node)
        if not self._backlog.follow(progress.cursors):
            raise CursorMoved(f"The database's cursors of node {self._node} went back.")

    def _find_out(self, error: CursorMoved) -> None:
        """The cursors are not where they were thought to be: ask where they are."""
        log.warning("%s Reading where the work of node %s ends.", error.detail, self._node)
        progress = self._warehouse.find_progress(self._committer.connect(), self._node)
        if self._backlog is not None and self._backlog.follow(progress.cursors):
            self.position = self._backlog.position
        else:
            self._backlog = self.position = None

    def _is_behind(self) -> bool:
        waiting = 0 if self._backlog is None else sum(self._of_held(self._backlog).values())
        return not self._scanned or self._chunks.ahead_of is not None or waiting >= _BACKLOG_BYTES

    def _count_unknown(self, events: int) -> None:
        self.stats.unknown += events
        metrics.UNKNOWN_EVENTS.inc(events)

    def _count(self, committed: CommittedBatch) -> None:
        stats = self.stats
        stats.batches += 1
        stats.events += committed.events
        stats.rows += committed.rows
        stats.duplicates += committed.duplicates
        stats.dead_letters += committed.dead_letters
