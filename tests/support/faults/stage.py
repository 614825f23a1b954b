"""Starts, watches and kills the processes of a fault test through the fork server. Knows nothing of data."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0
PING = "faults.ping"
"""Topic of the outbox whose handler leaves a line in a file: what was handled, seen from outside."""
_SINGLE = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "2",
}


@dataclass
class Child:
    """A started process. `code` is None while it lives, negative for a signal."""

    role: str
    pid: int
    log: Path
    code: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        assert self.ended.wait(PATIENCE_S), f"{self.role} does not die"

    def signal(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def tail(self, size: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""


class Stage:
    """One fork server and what it started. Thread-safe. Close it."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICEWAY_")}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.faults.forkserver"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={**environment, **_SINGLE},
        )  # fmt: skip
        self._lock = threading.Condition()
        self._number = 0
        self._ready = self._gone = False
        self._pids: dict[int, int] = {}
        self._children: dict[int, Child] = {}
        self._early: dict[int, int] = {}
        self._thread = threading.Thread(target=self._listen, name="stage", daemon=True)
        self._thread.start()
        with self._lock:
            self._lock.wait_for(lambda: self._ready or self._gone, PATIENCE_S)
        if not self._ready:
            self.close()
            raise AssertionError("the fork server does not start")

    def start(self, role: str, environment: Mapping[str, str], folder: Path, **options: Any) -> Child:
        """A fresh process; see `acting.act` for the options."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{role}.log"
        with self._lock:
            self._number += 1
            number = self._number
            order = {
                "number": number, "role": role, "environment": dict(environment), "log": str(log), **options
            }  # fmt: skip
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps(order).encode() + b"\n")
            self._server.stdin.flush()
            assert self._lock.wait_for(lambda: number in self._pids, PATIENCE_S), f"{role} does not start"
            pid = self._pids.pop(number)
            child = Child(role, pid, log)
            self._children[pid] = child
            if pid in self._early:
                self._end(child, self._early.pop(pid))
        return child

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            message = json.loads(line)
            with self._lock:
                if "ready" in message:
                    self._ready = True
                elif "started" in message:
                    self._pids[message["started"]] = message["pid"]
                else:
                    child = self._children.pop(message["ended"], None)
                    if child is None:
                        self._early[message["ended"]] = message["code"]
                    else:
                        self._end(child, message["code"])
                self._lock.notify_all()
        with self._lock:
            self._gone = True
            self._lock.notify_all()

    @staticmethod
    def _end(child: Child, code: int) -> None:
        child.code = code
        child.ended.set()


def wait_until(
    what: str, condition: Callable[[], bool], *, pause_s: float = 0.02, patience_s: float = PATIENCE_S
) -> None:
    """Until `condition`; a test waits for what must happen, however long a slow machine takes."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"waited {patience_s:.0f} s for {what}"
        time.sleep(pause_s)
