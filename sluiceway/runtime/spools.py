"""The spools one loader process works on: its own, those that were left behind, those that are named to it.

Belongs here: putting together what reads one folder (loader, bronze, trimming), finding folders, and ending
with those that are drained. Not here: loading (`loading`), bronze (`lake`), who holds what (`leases`).
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.infra.trouble import Trouble, describe
from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool import Spool, segments
from sluiceway.ingestion.spool.backlog import BacklogMeter
from sluiceway.ingestion.spool.belonging import (
    KEEPER_FILE,
    has_writer,
    identify,
    is_drained,
    lock,
    mark_drained,
    spool_folders,
)
from sluiceway.lake.contracts import BronzeWriterState
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.catching_up import note_kept
from sluiceway.loading.claims import SpoolNameTaken
from sluiceway.loading.leases import Membership
from sluiceway.loading.service import Loader
from sluiceway.quality.contracts import Gate
from sluiceway.transforms.service import split

TRIM_EVERY_S = 5.0
LOOK_EVERY_S = 2.0
LEFT_AFTER_S = 10.0  # a writer that restarts is back before that
_TRY_AGAIN_S = 1.0
_PATIENCE_S = 3.0

log = logging.getLogger(__name__)


class Keeper:
    """Writes bronze of one spool and trims it, as long as no other process does.

    The folder's keeper lock decides: bronze has one cursor, in a file beside the segments. `recognised`:
    whether the folder is its node's; bronze of another would be written over what that one wrote.
    """

    def __init__(
        self,
        spool: Spool,
        make_writer: Callable[[], BronzeWriter],
        loaded: Callable[[], Position | None],
        recognised: Callable[[], bool] = lambda: True,
    ) -> None:
        self._spool = spool
        self._make_writer = make_writer
        self._loaded = loaded
        self._recognised = recognised
        self._writer: BronzeWriter | None = None
        self._trouble = Trouble()
        self._said: set[str] = set()

    @property
    def position(self) -> Position | None:
        """Everything before it is in the lake; None while another process is the keeper."""
        writer = self._writer
        return None if writer is None else writer.position

    @property
    def state(self) -> BronzeWriterState:
        writer = self._writer
        if writer is None:
            trouble = self._trouble
            return BronzeWriterState(
                Position(0, 0), 0, 0, 0, 0, None, trouble.since, trouble.reason,
                failures=trouble.failures, reason=trouble.reason,
            )  # fmt: skip
        return writer.state

    def run(self, stop: threading.Event) -> None:
        """Until `stop`: wait for the lock, then write bronze. What fails is tried again; raises nothing."""
        while not stop.is_set():
            try:
                self._keep(stop)
            except Exception as error:  # a mount, a setting or a bucket that is not there yet
                kind = describe(error)
                if kind not in self._said:
                    self._said.add(kind)
                    log.exception("bronze of %s cannot begin, and is tried again", self._spool.folder)
                self._trouble.failed(error, datetime.now(UTC))
            stop.wait(_TRY_AGAIN_S)

    def _keep(self, stop: threading.Event) -> None:
        if not self._recognised():
            return
        held = lock(self._spool.folder, KEEPER_FILE)
        if held is None:
            self._trouble.went_well()
            return
        with held:
            self._writer = self._make_writer()
            self._trouble.went_well()
            self._said.clear()
            try:
                self._writer.run(stop)
            finally:
                self._writer = None

    def trim(self) -> None:
        """Let go of what is both loaded and in the lake."""
        loaded, kept = self._loaded(), self.position
        if loaded is None or kept is None:
            return
        try:
            removed = self._spool.trim(min(loaded, kept))
        except OSError as error:
            log.warning("the spool in %s cannot be trimmed: %s", self._spool.folder, error)
            return
        if removed:
            log.info("spool: %d segments loaded and in the lake, removed", removed)


class SpoolWork:
    """Everything that reads one spool's folder in this process. `start`, then `run` or `run_aside`, `end`."""

    def __init__(
        self, settings: Settings, database: Database, gate: Gate, membership: Membership, folder: Path
    ) -> None:
        identity = identify(folder, settings.node if folder == settings.spool_dir else folder.name)
        self.folder = folder
        self.node = identity.node
        self._membership = membership
        self._stop = threading.Event()
        spool = Spool(folder, settings.spool_segment_bytes, settings.spool_max_bytes)
        self.reader = spool.reader()
        self._bronze_reader = spool.reader()
        self.book = PipelineBook(database, gate, max_event_bytes=settings.max_event_bytes)
        self.loader = Loader(
            database, self.reader, gate, self.node, self.book, folder=folder,
            leases=membership.attend(self.node, identity.id, folder), spool_id=identity.id,
        )  # fmt: skip
        self._spool = spool

        def make_writer() -> BronzeWriter:
            return BronzeWriter(
                self._bronze_reader, Lake(settings), folder, self.node, split, self.book.slug,
                flush_s=float(settings.bronze_flush_s),
            )  # fmt: skip

        self.keeper = Keeper(spool, make_writer, lambda: self.loader.settled, lambda: self.loader.recognised)
        self._threads = [
            threading.Thread(target=self.keeper.run, args=(self._stop,), name="bronze", daemon=True),
            threading.Thread(target=self._trim, name="trim", daemon=True),
        ]
        self._loading: threading.Thread | None = None
        self._database = database
        self._meter = BacklogMeter(folder)
        self._telling = threading.Lock()  # nothing is told after the spool is said to be drained

    @property
    def running(self) -> bool:
        """Whether the loading thread of `run_aside` lives."""
        return self._loading is not None and self._loading.is_alive()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def run_aside(self) -> None:
        """Load in a thread of its own."""
        self._loading = threading.Thread(target=self._load, name=f"load-{self.node}", daemon=True)
        self._loading.start()

    def end(self) -> None:
        """Stop, give back what is held. What is not committed stays in the spool."""
        self._stop.set()
        threads = [*self._threads, *([self._loading] if self._loading else [])]
        for thread in threads:
            thread.join(_PATIENCE_S)
        self._membership.leave(self.node)
        self.reader.close()
        self._bronze_reader.close()
        self._meter.close()

    def finish(self) -> bool:
        """Whether everything is loaded and in the lake, nobody writes and we keep it: then it is marked."""
        if not self._is_empty():
            return False
        writing = lock(self.folder, segments.LOCK_FILE)
        if writing is None:
            return False
        with writing:  # nothing can be written between the look and the mark
            if not self._is_empty():
                return False
            self.keeper.trim()
            self._telling.acquire()
            try:
                note_kept(self._database, self.node, None)
            except (psycopg.Error, OSError) as error:
                self._telling.release()
                log.warning("spool: that %s is drained cannot be told: %s", self.folder, describe(error))
                return False
            mark_drained(self.folder)
        return True

    def _is_empty(self) -> bool:
        loaded, kept = self.loader.settled, self.keeper.position
        if loaded is None or kept is None:
            return False
        return not self.reader.read(loaded, 1) and not self.reader.read(kept, 1)

    def _load(self) -> None:
        try:
            self.loader.run(self._stop)
        except Exception:
            log.exception("loading the spool of node %s ended", self.node)

    def _trim(self) -> None:
        while not self._stop.wait(TRIM_EVERY_S):
            self.keeper.trim()
            self._tell_kept()

    def _tell_kept(self) -> None:
        """Up to when the lake has what was received, for replays that catch up (`loading.catching_up`)."""
        now, kept = datetime.now(UTC), self.keeper.position
        if kept is None or not self._telling.acquire(blocking=False):
            return
        try:
            oldest_us = self._meter.measure(kept).oldest_received_us
            oldest = now if oldest_us is None else datetime.fromtimestamp(oldest_us / 1e6, UTC)
            note_kept(self._database, self.node, min(now, oldest))
        except (psycopg.Error, OSError) as error:
            log.debug("how far the lake is cannot be told: %s", describe(error))
        finally:
            self._telling.release()


class Finder:
    """Looks for spools that were left behind, and works on them until they are drained.

    Named folders (`SLUICEWAY_SPOOLS`) are worked on though their writer lives elsewhere.
    """

    def __init__(
        self, settings: Settings, make: Callable[[Path], SpoolWork], *, left_after_s: float = LEFT_AFTER_S
    ) -> None:
        self._settings = settings
        self._make = make
        self._left_after_s = left_after_s
        self._free_since: dict[Path, float] = {}
        self._refused: set[Path] = set()
        self.works: dict[Path, SpoolWork] = {}

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_EVERY_S):
            try:
                self.look()
            except OSError as error:
                log.warning("spool folders cannot be looked at: %s", error)
        for work in list(self.works.values()):
            work.end()
        self.works.clear()

    def look(self) -> None:
        """Begin with what is new, end with what is drained, or whose writer is back. Raises OSError."""
        for folder, work in list(self.works.items()):
            named = folder in self._settings.spools
            if work.finish():
                log.info("spool: %s is drained: all of it is loaded and in the lake", folder)
            elif work.running and (named or not has_writer(folder)):
                continue
            work.end()
            del self.works[folder]
        for folder in spool_folders(self._settings):
            if folder != self._settings.spool_dir and folder not in self.works and self._is_due(folder):
                self._begin(folder)

    def _begin(self, folder: Path) -> None:
        try:
            work = self._make(folder)
        except SpoolNameTaken as error:
            if folder not in self._refused:
                log.error("spool: %s", error.detail)
            self._refused.add(folder)
            return
        self._refused.discard(folder)
        log.info("spool: working on %s, the spool of node %s", folder, work.node)
        self.works[folder] = work
        work.start()
        work.run_aside()

    def _is_due(self, folder: Path) -> bool:
        if is_drained(folder):
            return False
        if folder in self._settings.spools:
            return True
        if has_writer(folder):
            self._free_since.pop(folder, None)
            return False
        return time.monotonic() - self._free_since.setdefault(folder, time.monotonic()) >= self._left_after_s
