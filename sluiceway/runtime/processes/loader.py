"""`python -m sluiceway.runtime.processes.loader`: the spool's two readers in one process.

The main thread loads silver (`loading.service`), a second one writes bronze (`lake.writer`), a third trims
what both have passed. Each has a cursor of its own, so either may be behind or fail without the other.
"""

import logging
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sluiceway.infra.connect import open_database
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.spool import Spool, open_spool
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.service import Loader
from sluiceway.runtime.container import make_gate
from sluiceway.runtime.processes.entry import run, stop_event
from sluiceway.runtime.processes.observing import LoaderState, observed
from sluiceway.transforms.service import split

if TYPE_CHECKING:
    from expectations.runner import GreatExpectationsGate

log = logging.getLogger(__name__)

TRIM_EVERY_S = 5.0
# A backlog keeps the preparing thread busy; the one that feeds COPY needs the interpreter often, but shortly.
SWITCH_INTERVAL_S = 0.0005
_PATIENCE_S = 3.0


def main(settings: Settings) -> int:
    """Load until SIGTERM. Returns 0; what is not committed by then stays in the spool."""
    stop = stop_event()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    database = open_database(settings, pool_size=4)
    spool = open_spool(settings)
    gate = make_gate(database)
    book = PipelineBook(database, gate, max_event_bytes=settings.max_event_bytes)
    reader = spool.reader()
    loader = Loader(database, reader, gate, settings.node, book, folder=spool.folder)
    bronze = make_bronze_writer(settings, spool, book)
    threads = [
        threading.Thread(target=bronze.run, args=(stop,), name="bronze", daemon=True),
        threading.Thread(target=_trim, args=(spool, loader, bronze, stop), name="trim", daemon=True),
        threading.Thread(target=_warm_up, args=(book, gate, stop), name="warm-up", daemon=True),
    ]
    for thread in threads:
        thread.start()
    log.info("loader started: spool %s, lake %s", spool.folder, settings.lake_url)
    state = LoaderState(spool.folder, loader, bronze, lambda: reader.corrupt_records)
    try:
        with observed(settings, "loader", database, state):
            loader.run(stop)
    finally:
        stop.set()
        for thread in threads[:2]:
            thread.join(_PATIENCE_S)
        reader.close()
        database.dispose()
    return 0


def make_bronze_writer(settings: Settings, spool: Spool, book: PipelineBook) -> BronzeWriter:
    """The lake's reader of the spool; its cursor file lies beside the segments."""
    folder: Path = settings.spool_dir
    return BronzeWriter(
        spool.reader(),
        Lake(settings),
        folder,
        settings.node,
        split,
        book.slug,
        flush_s=float(settings.bronze_flush_s),
    )


def _trim(spool: Spool, loader: Loader, bronze: BronzeWriter, stop: threading.Event) -> None:
    while not stop.wait(TRIM_EVERY_S):
        position = loader.position
        if position is None:
            continue
        try:
            removed = spool.trim(min(position, bronze.position))
        except OSError as error:
            log.warning("the spool cannot be trimmed: %s", error)
            continue
        if removed:
            log.info("spool: %d segments loaded and in the lake, removed", removed)


def _warm_up(book: PipelineBook, gate: "GreatExpectationsGate", stop: threading.Event) -> None:
    """Import the quality engine and compile the suites, so that the first event does not wait for it."""
    while not stop.is_set():
        try:
            for pipeline in book.active():
                gate.warm_up(pipeline)
            return
        except Exception as error:  # the database may be away yet; the first batch would warm up as well
            log.debug("the gate is not warm yet: %s", error)
            stop.wait(1.0)


if __name__ == "__main__":
    raise SystemExit(run(main))
