"""`soak`: memory of the ingest process and the loader while events come for ten minutes.

The same sender, pipeline and suite as `end_to_end`, at a rate the machine holds with ease. Looked at every
five seconds; the first three minutes are for warming up (the quality engine, the allocators' pools). Ours is
what both together grew from the minute after that to the last one; a tenth of their size would be no leak
that the noise of an allocator could not explain, so that is the limit.
"""

import asyncio
import os
import statistics
import time
from typing import Any

import psutil

from benchmarks.end_to_end import BODY_EVENTS, at_rate, processes, settle, with_orders
from benchmarks.ingest_stand import stand

RATE = 10_000
SECONDS = 600.0
WARM_UP_S = 180.0
EVERY_S = 5.0
NAMES = ("web", "loader")


class Memory:
    """Resident megabytes of our two processes, with the seconds since the beginning."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.seen: list[tuple[float, dict[str, float]]] = []
        self.found = {name: _child(name) for name in NAMES}

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            now = {name: process.memory_info().rss / 1e6 for name, process in self.found.items()}
            self.seen.append((time.monotonic() - self.begun, now))
            await asyncio.sleep(EVERY_S)

    def mean(self, name: str, begin_s: float, end_s: float) -> float:
        return statistics.fmean(sizes[name] for at, sizes in self.seen if begin_s <= at < end_s)


def _child(name: str) -> psutil.Process:
    for child in psutil.Process(os.getpid()).children(recursive=True):
        if f"sluiceway.runtime.processes.{name}" in child.cmdline():
            return child
    raise RuntimeError(f"no process {name}")


def run() -> dict[str, Any]:
    """Megabytes of growth after the warm-up, both processes together."""
    with stand() as found:
        database, key = with_orders(found)
        with processes(found) as port:
            memory = Memory()

            async def soak() -> tuple[Any, list[float]]:
                stop = asyncio.Event()
                task = asyncio.create_task(memory.watch(stop))
                answer = await asyncio.to_thread(at_rate, database, port, key, RATE, SECONDS)
                stop.set()
                await task
                return answer

            sent, lags = asyncio.run(soak())
            rows, _ = settle(database, sent.bodies * BODY_EVENTS)
        database.dispose()
    first = {name: memory.mean(name, WARM_UP_S, WARM_UP_S + 60) for name in NAMES}
    last = {name: memory.mean(name, SECONDS - 60, SECONDS) for name in NAMES}
    told = ", ".join(f"{name} {first[name]:.0f} → {last[name]:.0f} MB" for name in NAMES)
    return {
        "ours": round(max(0.1, sum(last.values()) - sum(first.values())), 1),
        "limit": round(sum(first.values()) / 10, 1),
        "peer": None,
        "unit": "MB grown",
        "lower_is_better": True,
        "detail": f"{rows} events at {RATE}/s for {SECONDS:.0f} s, longest lag {max(lags):.1f} s; mean of the"
        f" minute from {WARM_UP_S:.0f} s on against the last: {told}; limit: a tenth of what both hold;"
        " no peer among the packages takes HTTP and loads with a gate",
    }
