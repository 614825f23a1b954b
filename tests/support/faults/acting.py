"""What a child of the fork server does: the product's own process, its waits shortened and one fault armed.

The processes are the real ones (`sluiceway.runtime.processes.*.main`). Changed are only how long they wait
where nothing is decided by it: a minute until gold is refreshed would make a seed last a minute.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sluiceway.infra import outbox
from sluiceway.infra.outbox import OutboxMessage
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.kit import faults
from sluiceway.runtime.processes import loader, web, worker
from sluiceway.runtime.processes.entry import configure_logging
from tests.support.faults.stage import PING


def act(order: dict[str, Any]) -> int:
    """Be `order["role"]` until told to stop; returns the exit code."""
    settings = load_settings(order["environment"])
    settings = replace(settings, spool_segment_bytes=order.get("segment_bytes", 16 * 1024))
    configure_logging(settings.log_level)
    seen = Path(order["seen"]) if order.get("seen") else None
    faults.arm(Killer(order.get("point"), order.get("nth", 1), seen))
    return ROLES[order["role"]](settings)


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
    loader.TRIM_EVERY_S = 0.1
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
