"""Runs the platform's processes on one machine: starts, watches, restarts and stops them.

Belongs here: the life of processes. Not here: what is prepared before them (`prepare`), what they are
(`plan`), what is shown (`screen`). Imports little: this process lives as long as the platform.

Children run in sessions of their own, so that Ctrl-C reaches only us and they are stopped in order. A guard
process ends them, and the database, should we be killed.
"""

import contextlib
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

from sluiceway.runtime.guard import stop_groups
from sluiceway.runtime.logfiles import last_line, open_log, rotate
from sluiceway.runtime.screen import Screen

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0
STOP_GRACE_S = 8.0
SUPERVISOR = "supervisor"
_POLL_S = 0.2
_HOUSEKEEPING_S = 10.0


def processes_file(home: Path) -> Path:
    """Where the supervisor writes which processes run: a JSON object of process ids by name."""
    return home / "run" / "processes.json"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One long-lived process. With `once`, ending with code 0 is its natural end, not a failure."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    once: bool = False


@dataclass(slots=True)
class Child:
    spec: ProcessSpec
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    delay_s: float = FIRST_DELAY_S
    restart_at: float | None = None
    finished: bool = False
    restarts: int = 0


class Supervisor:
    """Watches child processes until `stop` is asked for. Used from one thread.

    `tend` is called on every turn for what else has to be kept alive (the database); it may raise.
    """

    def __init__(
        self,
        home: Path,
        cwd: Path,
        environment: Mapping[str, str],
        screen: Screen,
        *,
        log_days: int | None = None,
    ) -> None:
        self.logs = home / "logs"
        self._log_days = log_days
        self._processes_file = processes_file(home)
        self.stopping = threading.Event()
        self._cwd = cwd
        self._environment = dict(environment)
        self._screen = screen
        self._children: dict[str, Child] = {}
        self._guard: subprocess.Popen[bytes] | None = None
        self._server_pid: int | None = None
        self._housekeeping_at = 0.0

    def __enter__(self) -> "Supervisor":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._start_guard()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_children()
        self._processes_file.unlink(missing_ok=True)
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
                self._tell_guard("bye")
                self._guard.stdin.close()
                self._guard.wait(timeout=5)

    def watch_server(self, pid: int | None) -> None:
        """Have the guard end the database server too, should this process be killed."""
        self._server_pid = pid
        self._tell_guard(f"server {pid or 0}")
        self._publish()

    def guard_also(self, group: int) -> None:
        """Have the guard end one more process group, should this process be killed."""
        self._tell_guard(f"+{group}")

    def start(self, spec: ProcessSpec) -> None:
        """Start a process and keep it running from now on."""
        child = Child(spec)
        self._children[spec.name] = child
        self._spawn(child)

    def pids(self) -> dict[str, int]:
        """The running processes' ids by name."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.poll() is None
        }

    def run(self, tend: Callable[[], None] | None = None) -> None:
        """Watch until asked to stop."""
        while not self.stopping.wait(_POLL_S):
            self.turn()
            if tend is not None:
                tend()

    def turn(self) -> None:
        """One look at every child: note deaths, start again what is due."""
        now = time.monotonic()
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                self._on_death(child, now)
            elif child.restart_at is not None and now >= child.restart_at:
                child.restart_at = None
                child.restarts += 1
                self._spawn(child)
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + _HOUSEKEEPING_S
            self._keep_house()

    def stop_children(self) -> None:
        """End every child: SIGTERM to all, SIGKILL to what is left after a bounded time."""
        running = self.pids()
        if running:
            stopper = threading.Thread(target=self._reap, args=(list(running),), daemon=True)
            stopper.start()
            stop_groups(set(running.values()), STOP_GRACE_S)
            stopper.join(timeout=2)
        for child in self._children.values():
            if child.process is not None:
                self._tell_guard(f"-{child.process.pid}")
        self._children.clear()

    def _reap(self, names: list[str]) -> None:
        for name in names:
            process = self._children[name].process
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=STOP_GRACE_S + 2)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.stopping.is_set() and number == signal.SIGINT:
            stop_groups(set(self.pids().values()), 0.0)
        self.stopping.set()

    def _spawn(self, child: Child) -> None:
        spec = child.spec
        with open_log(self.logs, spec.name) as log:
            child.process = subprocess.Popen(
                spec.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._cwd,
                env=self._environment | dict(spec.environment), start_new_session=True,
            )  # fmt: skip
        child.started = time.monotonic()
        self._tell_guard(f"+{child.process.pid}")
        self._publish()

    def _on_death(self, child: Child, now: float) -> None:
        process = child.process
        if process is None:
            return
        code = process.returncode
        child.process = None
        # What it started itself must not outlive it and hold its ports.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        self._tell_guard(f"-{process.pid}")
        if child.spec.once and code == 0:
            child.finished = True
            return
        if now - child.started >= HEALTHY_AFTER_S:
            child.delay_s = FIRST_DELAY_S
        child.restart_at = now + child.delay_s
        reason = last_line(self.logs, child.spec.name) if code > 0 else ""
        self._screen.warn(
            f"{child.spec.name} stopped ({_ending(code)}); starting it again in {child.delay_s:g} s."
            + (f" Its last words: {reason}" if reason else "")
            + f" Log: {self.logs / child.spec.name}.log"
        )
        child.delay_s = min(LONGEST_DELAY_S, child.delay_s * 2)

    def _publish(self) -> None:
        """Write down which processes run, whole or not at all; a full disk is no reason to stop."""
        known = {SUPERVISOR: os.getpid(), **self.pids()}
        if self._server_pid:
            known["postgres"] = self._server_pid
        with contextlib.suppress(OSError):
            self._processes_file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._processes_file.with_suffix(".new")
            fresh.write_text(json.dumps(known))
            fresh.replace(self._processes_file)

    def _keep_house(self) -> None:
        with contextlib.suppress(OSError):
            rotate(self.logs, max_days=self._log_days)
        if self._guard is not None and self._guard.poll() is not None:
            self._start_guard()

    def _start_guard(self) -> None:
        self._guard = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("guard.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd="/", start_new_session=True,
        )  # fmt: skip
        for pid in self.pids().values():
            self._tell_guard(f"+{pid}")
        if self._server_pid:
            self._tell_guard(f"server {self._server_pid}")

    def _tell_guard(self, line: str) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._guard.stdin.write(f"{line}\n".encode())
            self._guard.stdin.flush()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
