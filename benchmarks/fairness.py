"""`fairness`: how long a quiet pipeline's events wait while another pipeline sends at full speed.

Lag is from the moment an event is durable in the spool until another connection hears of its commit. The
quiet pipeline sends ten events a second, each by itself; the noisy one's bodies of 1 MB are written as fast
as it takes to keep a backlog of `BACKLOG_BYTES` before the loader, which runs in a process of its own. Limit:
the quiet pipeline alone. The peer is the loader as it was: the same work, but in the order of the log.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluiceway.infra.database import Database, Role
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.service import MAX_BATCH_BYTES, Loader
from sluiceway.loading.shares import Shares, Turn
from sluiceway.migrations import migrate
from sluiceway.quality.contracts import NoGate
from sluiceway.runtime.processes.entry import stop_event
from sluiceway.runtime.processes.loader import SWITCH_INTERVAL_S
from sluiceway.warehouse.schema import apply_pipeline

KEY = b"a key for benchmarks only, long enough"
SECONDS = 12.0
QUIET_PER_S = 10
BACKLOG_BYTES = 60_000_000
BODY_EVENTS = 6_000
PIPELINE = """\
name: {name}
event: {{id: id, time: at}}
fields:
  - {{name: country, type: string, role: dimension}}
  - {{name: amount, type: number, role: measure, unit: EUR}}
  - {{name: note, type: string}}
"""


class InOrder(Shares):
    """The order of the log: whoever's event is the oldest, as much as a batch takes."""

    loader: Loader

    def choose(self, waiting: Mapping[int, int], ahead: int | None = None) -> Turn | None:
        super().choose(waiting, ahead)
        backlog = self.loader._backlog
        if not waiting or backlog is None:
            return None
        oldest = min(waiting, key=lambda p: backlog.spans(p, max_bytes=1)[0].begin)
        return Turn((oldest,), MAX_BATCH_BYTES, waiting[oldest] <= MAX_BATCH_BYTES)

    def following(self, waiting: Mapping[int, int], at_work: Any) -> tuple[int, int] | None:
        noisy = max(waiting, key=lambda p: waiting[p], default=None)
        return None if noisy is None else (noisy, MAX_BATCH_BYTES)


def load(url: str, folder: str, in_order: str) -> None:
    """The loader's process."""
    stop = stop_event()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    database = Database(url, SecretKey(KEY))
    with SpoolReader(Path(folder)) as reader:
        loader = Loader(database, reader, NoGate(), "bench", PipelineBook(database, NoGate()))
        if in_order == "1":
            shares = InOrder(MAX_BATCH_BYTES)
            shares.loader = loader
            loader._shares = shares
        loader.run(stop)
    database.dispose()


def event(name: str) -> bytes:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return b'{"id":"%s","at":"%s","country":"CH","amount":1.5,"note":"%s"}' % (
        name.encode(), at.encode(), b"n" * 80,
    )  # fmt: skip


class Noise(threading.Thread):
    """Keeps a backlog before the loader. Ids are new in every body."""

    def __init__(self, writer: SpoolWriter, loaded: "Commits", name: str) -> None:
        super().__init__(daemon=True)
        self._writer = writer
        self._loaded = loaded
        self._prefix = name.encode()
        self.ending = threading.Event()
        line = event("ID").replace(b"ID", b"%s")
        self._template = b"\n".join([line] * BODY_EVENTS)
        self.sent = 0
        self.body_bytes = 0

    def run(self) -> None:
        while not self.ending.is_set():
            behind = (self.sent - self._loaded.noisy) * (self.body_bytes or 1) // BODY_EVENTS
            if behind > BACKLOG_BYTES:
                self.ending.wait(0.005)
                continue
            ids = tuple(b"%s-%d" % (self._prefix, n) for n in range(self.sent, self.sent + BODY_EVENTS))
            body = self._template % ids
            self.body_bytes = len(body)
            self._writer.append_now(
                workspace_id=1, pipeline_id=1, form=Form.NDJSON, events=BODY_EVENTS, body=body
            )
            self.sent += BODY_EVENTS


class Commits(threading.Thread):
    """Hears of commits: when each quiet row was there, and how many noisy ones are."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._connection = database.connect(Role.APP, autocommit=True)
        self._connection.execute("LISTEN sluiceway_live")
        self.ending = threading.Event()
        self.quiet: list[float] = []
        self.noisy = 0

    def run(self) -> None:
        while not self.ending.is_set():
            for notice in self._connection.notifies(timeout=0.1):
                now = time.monotonic()
                found = json.loads(notice.payload)
                if found.get("t") == "batch" and found["s"] == "quiet":
                    self.quiet += [now] * found["n"]
                elif found.get("t") == "batch":
                    self.noisy += found["n"]
        self._connection.close()


def measure(url: str, folder: Path, name: str, *, noise: bool, in_order: bool = False) -> dict[str, Any]:
    """Lags of the quiet pipeline in ms, and the noisy one's events a second meanwhile."""
    database = Database(url, SecretKey(KEY))
    commits = Commits(database)
    commits.start()
    sent: list[float] = []
    with SpoolWriter(folder) as writer:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; from benchmarks.fairness import load; load(*sys.argv[1:])",
             url, str(folder), "1" if in_order else "0"],
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        loud = Noise(writer, commits, name)
        try:
            send(writer, f"{name}-first")
            wait(lambda: len(commits.quiet) == 1)
            if noise:
                loud.start()
                wait(lambda: commits.noisy > 0)
            begun, noisy = time.monotonic(), commits.noisy
            for number in range(int(SECONDS * QUIET_PER_S)):
                time.sleep(max(0.0, begun + number / QUIET_PER_S - time.monotonic()))
                sent.append(send(writer, f"{name}-{number}"))
            rate = (commits.noisy - noisy) / (time.monotonic() - begun)
            wait(lambda: len(commits.quiet) == 1 + len(sent))
        finally:
            loud.ending.set()
            child.terminate()
            child.wait()
            commits.ending.set()
            commits.join()
            database.dispose()
    lags = [1000 * (heard - at) for at, heard in zip(sent, commits.quiet[1:], strict=True)]
    p95 = statistics.quantiles(lags, n=20)[-1]
    return {"p95": p95, "median": statistics.median(lags), "max": max(lags), "noisy": rate}


def send(writer: SpoolWriter, name: str) -> float:
    writer.append_now(workspace_id=1, pipeline_id=2, form=Form.OBJECT, events=1, body=event(name))
    return time.monotonic()


def wait(check: Any) -> None:
    deadline = time.monotonic() + 120
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError("The loader does not keep up within two minutes.")
        time.sleep(0.01)


def run() -> dict[str, Any]:
    """The figures of this benchmark, in ms."""
    folder = Path(tempfile.mkdtemp(prefix="sluiceway-bench-"))
    server = EmbeddedPostgres(folder / "pg")
    try:
        server.start()
        key = SecretKey(KEY)
        database = Database(server.url, key)
        migrate(database, key)
        for name in ("noisy", "quiet"):
            apply_pipeline(database, 1, PIPELINE.format(name=name))
        database.dispose()
        alone = measure(server.url, folder / "alone", "alone", noise=False)
        # Each stands on a log of its own; positions only grow, so one node's cursors pass.
        time.sleep(1.0)
        fair = measure(server.url, folder / "fair", "fair", noise=True)
        time.sleep(1.0)
        plain = measure(server.url, folder / "plain", "plain", noise=True, in_order=True)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "ours": round(fair["p95"], 1),
        "limit": round(alone["p95"], 1),
        "peer": round(plain["p95"], 1),
        "unit": "ms",
        "lower_is_better": True,
        "detail": f"p95 lag of {QUIET_PER_S} events/s behind a backlog of {BACKLOG_BYTES // 1_000_000} MB;"
        f" median {fair['median']:.0f}, longest {fair['max']:.0f} ms, the noisy pipeline meanwhile"
        f" {fair['noisy']:.0f} events/s; limit: the quiet pipeline alone; peer: the same loader in the order"
        f" of the log, as it was before (the noisy pipeline at {plain['noisy']:.0f} events/s)",
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
