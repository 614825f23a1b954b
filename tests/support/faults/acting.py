"""What a child of the fork server does: the product's own process, its waits shortened and one fault armed.

The processes are the real ones (`sluiceway.runtime.processes.*.main`). Changed are only how long they wait
where nothing is decided by it: a minute until gold is refreshed would make a seed last a minute.
"""

import errno
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sluiceway.infra import outbox
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.outbox import OutboxMessage
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.ingestion.spool import SpoolWriter, segments
from sluiceway.kit import faults
from sluiceway.lake import local
from sluiceway.loading import leases
from sluiceway.loading.committing import Committer
from sluiceway.runtime import spools
from sluiceway.runtime.processes import loader, web, worker
from sluiceway.runtime.processes.entry import configure_logging
from tests.support.faults.stage import PING


def act(order: dict[str, Any]) -> int:
    """Be `order["role"]` until told to stop; returns the exit code.

    `point`, `nth`: where to die. `seen`: a file that learns which points were passed. While the file named by
    `spool_full` or `lake_full` is there, the disk below the spool or the lake is full. `clock`: a file that
    says by how many seconds the wall clock is wrong. `pauses`: a file that gets a line for each failed try of
    the loader.
    """
    settings = load_settings(order["environment"])
    settings = replace(settings, spool_segment_bytes=order.get("segment_bytes", 16 * 1024))
    configure_logging(settings.log_level)
    seen = Path(order["seen"]) if order.get("seen") else None
    faults.arm(Killer(order.get("point"), order.get("nth", 1), seen))
    if "spool_full" in order:
        fill(segments.FileOps, Path(order["spool_full"]))
    if "lake_full" in order:
        fill(local.FileOps, Path(order["lake_full"]))
    if "clock" in order:
        step_clock(Path(order["clock"]))
    if "pauses" in order:
        tell_pauses(Path(order["pauses"]))
    return ROLES[order["role"]](settings)


def fill(files: Any, flag: Path) -> None:
    """The disk is full while `flag` is there: half of what is written fits, then nothing."""
    write = files.write

    def writing(self: Any, descriptor: int, data: bytes | memoryview) -> int:
        if flag.exists():
            write(self, descriptor, memoryview(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(write(self, descriptor, data))

    files.write = writing


def step_clock(path: Path) -> None:
    """The wall clock as every part of the product asks for it; the monotonic clock goes on as it is."""
    real_s, real_ns = time.time, time.time_ns

    def offset_s() -> float:
        return float(path.read_text() or 0)

    def now(self: object) -> datetime:
        return datetime.fromtimestamp(real_s() + offset_s(), UTC)

    time.time = lambda: real_s() + offset_s()
    time.time_ns = lambda: real_ns() + int(offset_s() * 1e9)
    SystemClock.now = now  # type: ignore[method-assign]
    defaults = SpoolWriter.__init__.__kwdefaults__
    assert defaults is not None
    defaults["now_s"] = time.time


def tell_pauses(path: Path) -> None:
    pause = Committer.pause

    def telling(self: Committer, error: Exception, stop: threading.Event) -> None:
        with path.open("a") as file:
            file.write("failed\n")
        pause(self, error, stop)

    Committer.pause = telling  # type: ignore[method-assign]


class Killer:
    """Ends the process at the nth pass of a point, as `kill -9` does; tells a file which points it passed."""

    def __init__(self, point: str | None, nth: int, seen: Path | None) -> None:
        self._point, self._nth, self._seen = point, nth, seen
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            self._passed[name] += 1
            count = self._passed[name]
            if count == 1 and self._seen is not None:
                with self._seen.open("a") as file:
                    file.write(name + "\n")
        if name == self._point and count == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal takes this thread with it before it goes on


def run_web(settings: Settings) -> int:
    return web.main(settings, frozenset({"ingest", "api"}))


def run_loader(settings: Settings) -> int:
    spools.TRIM_EVERY_S = 0.1
    leases.BEAT_S = 0.15
    defaults = leases.Membership.__init__.__kwdefaults__
    assert defaults is not None
    defaults["expiry"] = timedelta(seconds=0.75)
    # Not a setting: a second is the least one may ask for.
    return loader.main(replace(settings, bronze_flush_s=0.2))  # type: ignore[arg-type]


def run_worker(settings: Settings) -> int:
    worker.GOLD_EVERY_S = 0.15
    worker.OUTBOX_EVERY_S = 0.1
    worker.HEALTH_EVERY_S = 3600.0
    outbox.LEASE = timedelta(seconds=0.5)
    effects = settings.home / "handled.log"

    def handle(message: OutboxMessage) -> None:
        with effects.open("a") as file:
            file.write(f"{message.payload['number']}\n")

    worker.handlers = lambda settings, database: {PING: handle}
    return worker.main(settings)


ROLES: dict[str, Callable[[Settings], int]] = {"web": run_web, "loader": run_loader, "worker": run_worker}

if __name__ == "__main__":
    sys.exit("the fork server imports this")
