"""What a test run that was killed leaves behind is ended: its database server, the product, their folders.

A run that ends in order, or by Ctrl-C, stops what it started. One that is killed (SIGTERM, SIGKILL, out of
memory) cannot, and its servers live in sessions of their own. So every process of pytest has a watcher: a
small process outside of it that waits for its end and then ends whoever carries its mark in the environment.
This file is the watcher's program, too: nothing heavy is imported. Without Linux there is no watcher.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path

MARK = "PYTEST_WATCHED_AS"
_PROCESSES = Path("/proc")
_PATIENCE_S = 30.0
_IN_ORDER_S = 10.0


def pytest_configure() -> None:
    watch()


def watch() -> None:
    """Have whatever this process starts from now on ended, should it be left behind."""
    os.environ[MARK] = mark = uuid.uuid4().hex[:12]
    if not hasattr(os, "pidfd_open"):
        return
    us = os.pidfd_open(os.getpid())
    os.set_inheritable(us, True)
    nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    program = [sys.executable, "-I", "-S", __file__, str(us), mark, tempfile.gettempdir()]
    os.posix_spawn(sys.executable, program, {}, file_actions=nowhere, setsid=True)
    os.close(us)


def make_folder() -> Path:
    """A temporary folder for a server; removed by whoever makes it, or by the watcher."""
    return Path(tempfile.mkdtemp(prefix=_prefix(os.environ[MARK])))


def _prefix(mark: str) -> str:
    return f"sluiceway-test-{mark}-"


def _main(watched: int, mark: str, folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    select.select([watched], [], [])
    begun = time.monotonic()
    while (left := _carriers(mark)) and (passed := time.monotonic() - begun) < _PATIENCE_S:
        for pid in left:
            _end(pid, in_order=passed < _IN_ORDER_S)
        time.sleep(0.1)
    for found in Path(folder).glob(_prefix(mark) + "*"):
        shutil.rmtree(found, ignore_errors=True)


def _carriers(mark: str) -> list[int]:
    """Processes that were started with the mark; whoever has ended but was not waited for is none."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in _PROCESSES.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def _end(pid: int, *, in_order: bool) -> None:
    """A database server gives its shared memory back when it is told to; nothing else here has to."""
    with contextlib.suppress(OSError):
        server = (_PROCESSES / str(pid) / "exe").readlink().name == "postgres"
        os.kill(pid, signal.SIGQUIT if server and in_order else signal.SIGKILL)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
