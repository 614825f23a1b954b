"""Committing batches until they are committed: a lost database is awaited, a poisonous batch sheds what is
refused. Not here: which batch comes next (`service`), and what a transaction holds (`warehouse`).
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from sluiceway.infra.clock import Clock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.database_errors import is_away, is_refused
from sluiceway.infra.trouble import describe, growing_pause_s
from sluiceway.loading.claims import SpoolNameTaken
from sluiceway.loading.contracts import LoaderStats
from sluiceway.warehouse.contracts import CommittedBatch, PreparedBatch
from sluiceway.warehouse.errors import CursorMoved, PipelineBusy, PipelineGone
from sluiceway.warehouse.judgement import bare, reject
from sluiceway.warehouse.service import Warehouse

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_SLICE_S = 0.5
_PATIENCE = 3  # tries of a batch that fails although the database is there

Connection = psycopg.Connection[Any]

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The loader is to stop while it waits for the database; the spool keeps what is not committed."""


class Committer:
    """One connection to the database, and what is done when it, or a batch, fails. Used by one thread.

    `reconnected` is told of every connection but the first, before it is used: the server may be another.
    `meanwhile` is called now and then while the database is awaited.
    """

    def __init__(
        self,
        database: Database,
        warehouse: Warehouse,
        stats: LoaderStats,
        clock: Clock,
        *,
        reconnected: Callable[[Connection], None],
        meanwhile: Callable[[], None],
    ) -> None:
        self._database = database
        self._warehouse = warehouse
        self._stats = stats
        self._clock = clock
        self._reconnected = reconnected
        self._meanwhile = meanwhile
        self._connection: Connection | None = None
        self._connections = 0
        self.failures = 0
        """Tries that failed since the database answered last."""
        self.paused_s = 0.0
        """How long the database has been awaited, in all."""

    def connect(self) -> Connection:
        """Raises psycopg's errors, and what `reconnected` raises."""
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(Role.WRITER)
            self._connections += 1
            if self._connections > 1:
                self._reconnected(self._connection)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def commit(self, batch: PreparedBatch, stop: threading.Event) -> CommittedBatch | None:
        """Until it is committed; None if it was before, or its pipeline is gone.

        Raises `CursorMoved`, `PipelineBusy`, what `reconnected` raises, and `Stopped` while the database is
        awaited.
        """
        tries = 0
        while True:
            try:
                committed = self._warehouse.commit(self.connect(), batch)
            except PipelineGone as error:
                log.warning("%s Its events stay in bronze.", error.detail)
                return None
            except (CursorMoved, PipelineBusy, SpoolNameTaken):
                raise
            except Exception as error:
                if is_away(error):
                    self.pause(error, stop)
                    continue
                tries += 1
                batch = self._shed(batch, error, tries)
                if tries > 1:
                    self.pause(error, stop)
            else:
                self.recovered()
                return committed

    def pause(self, error: Exception, stop: threading.Event) -> None:
        """Wait before the next try, doubling up to five seconds. Raises `Stopped`."""
        if self.failures == 0:
            log.warning("loading waits for the database: %s", first_line(error))
            self._stats.failing_since = self._clock.now()
        self.failures += 1
        self._stats.last_error = describe(error)
        self.close()
        self._warehouse.forget()
        pause_s = growing_pause_s(self.failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        began = time.monotonic()
        while (left := began + pause_s - time.monotonic()) > 0:
            if stop.wait(min(left, _SLICE_S)):
                raise Stopped
            self._meanwhile()
        self.paused_s += time.monotonic() - began

    def recovered(self) -> None:
        """The database has answered."""
        if self.failures:
            log.info("loading goes on after %d failed tries", self.failures)
            self.failures = 0
            self._stats.failing_since = self._stats.last_error = None

    def _shed(self, batch: PreparedBatch, error: Exception, tries: int) -> PreparedBatch:
        log.error(
            "batch %s of %s cannot be committed (try %d): %s",
            batch.name, batch.pipeline.slug, tries, first_line(error),
        )  # fmt: skip
        self._warehouse.forget()
        if is_refused(error):
            refused = self._warehouse.find_unloadable(self.connect(), batch)
            if refused:
                return reject(batch, refused, "refused_by_database")
        if tries >= _PATIENCE and len(batch.mapped.rows):
            reason = f"The batch could not be loaded: {first_line(error)}"
            everything = {index: reason for (index,) in batch.mapped.rows.select("_index").iter_rows()}
            return reject(batch, everything, "load_failed")
        # The dead letters themselves are refused: without what came from outside, but for the bytes.
        return bare(batch) if tries > _PATIENCE else batch


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:300]
