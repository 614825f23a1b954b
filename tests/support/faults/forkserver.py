"""A process that has imported everything and forks a fresh child for every start: `python -m …forkserver`.

So a restart costs tens of milliseconds, and a thousand seeds are affordable. It reads orders from standard
input and answers on standard output, one JSON object a line; whatever it started dies with it. Not here: what
a child does (`acting`), who gives the orders (`stage`).
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOAD = (
    "api.app", "uvicorn", "uvloop", "httptools", "uvicorn.loops.uvloop", "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "polars",
    "pyarrow.parquet", "pandas", "obstore", "orjson", "httpx", "sluiceway.runtime.container",
    "sluiceway.runtime.processes.web", "sluiceway.runtime.processes.loader",
    "sluiceway.runtime.processes.worker", "expectations.runner", "tests.support.faults.acting",
)  # fmt: skip
# What libraries start at import and start again, or do without, in a forked child.
HARMLESS = ("jemalloc_bg", "polars-ooc")


def main() -> None:
    for name in PRELOAD:
        importlib.import_module(name)
    for package in map(importlib.import_module, ("api.routes", "api.streams")):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    gc.freeze()  # children share what is imported, as long as nothing writes to it
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    waiting = b""
    tell({"ready": os.getpid()})
    try:
        while True:
            readable, _, _ = select.select([0, read_end], [], [])
            if read_end in readable:
                os.read(read_end, 4096)
                reap(children)
            if 0 in readable:
                data = os.read(0, 65536)
                if not data:
                    return
                *orders, waiting = (waiting + data).split(b"\n")
                for order in orders:
                    start(json.loads(order), children)
    finally:
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tell(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def reap(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        tell({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def start(order: dict[str, Any], children: set[int]) -> None:
    threads = [name for name in thread_names() if not name.startswith(HARMLESS)]
    assert len(threads) == 1, f"a process with threads cannot be forked safely: {threads}"
    pid = os.fork()
    if pid:
        children.add(pid)
        tell({"started": order["number"], "pid": pid})
        return
    code = 70
    try:
        become(order)
        from tests.support.faults import acting

        code = acting.act(order)
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def become(order: dict[str, Any]) -> None:
    """A process of its own: no signal handling of ours, no pipe to whom gives the orders, its own log."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 64)


def thread_names() -> list[str]:
    """The names of this process's threads."""
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


if __name__ == "__main__":
    main()
