"""`python -m sluiceway.runtime.processes.loader`: the readers of this node's spool in one process.

The main thread loads silver (`loading.service`), a second one writes bronze (`lake.writer`), a third trims
what both have passed: each has a cursor of its own, so either may be behind or fail without the other. Others
tell that this loader lives, and look for spools that were left behind (`runtime.spools`).
"""

import logging
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from sluiceway.infra.connect import open_database
from sluiceway.infra.settings import Settings
from sluiceway.infra.trouble import without_credentials
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.leases import STUCK_S, Membership
from sluiceway.runtime.container import make_gate
from sluiceway.runtime.processes.entry import run, stop_event
from sluiceway.runtime.processes.observing import LoaderState, observed
from sluiceway.runtime.spools import Finder, SpoolWork

if TYPE_CHECKING:
    from expectations.runner import GreatExpectationsGate

log = logging.getLogger(__name__)

# A backlog keeps the preparing thread busy; the one that feeds COPY needs the interpreter often, but shortly.
SWITCH_INTERVAL_S = 0.0005
_PATIENCE_S = 3.0


def main(settings: Settings) -> int:
    """Load until SIGTERM. Returns 0; what is not committed by then stays in the spool."""
    stop = stop_event()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    database = open_database(settings, pool_size=4)
    gate = make_gate(database)
    membership = Membership(database, working=lambda: time.monotonic() - own.loader.worked_at < STUCK_S)

    def make(folder: Path) -> SpoolWork:
        return SpoolWork(settings, database, gate, membership, folder)

    own = make(settings.spool_dir)
    finder = Finder(settings, make)
    _introduce(membership)
    done = threading.Event()
    leases = threading.Thread(target=membership.run, args=(done,), name="leases", daemon=True)
    threads = [
        leases,
        threading.Thread(target=finder.run, args=(stop,), name="finder", daemon=True),
        threading.Thread(target=_warm_up, args=(own.book, gate, stop), name="warm-up", daemon=True),
    ]
    own.start()
    for thread in threads:
        thread.start()
    lake_url = without_credentials(settings.lake_url)
    log.info("loader started: spool %s of node %s, lake %s", own.folder, own.node, lake_url)
    state = LoaderState(own.folder, own.loader, own.keeper, lambda: own.reader.corrupt_records)
    try:
        with observed(settings, "loader", database, state):
            own.loader.run(stop)
    finally:
        stop.set()
        own.end()
        threads[1].join(_PATIENCE_S)
        done.set()  # the last: what is held until then is still being worked on
        leases.join(_PATIENCE_S)
        database.dispose()
    return 0


def _introduce(membership: Membership) -> None:
    """Others know of this loader before its first turn, if the database is there."""
    try:
        membership.beat()
    except psycopg.Error as error:
        log.debug("the database does not answer yet: %s", error)


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
