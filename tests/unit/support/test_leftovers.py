"""A test process that is killed leaves nothing behind: what it started and its folders go."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.leftovers import MARK

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the watcher needs Linux")

ROOT = Path(__file__).parents[3]
PROGRAM = """
import subprocess, sys, time
from tests.support.leftovers import make_folder, watch
watch()
folder = make_folder()
(folder / "file").touch()
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(left.pid, folder, flush=True)
time.sleep(600)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_process_left_is_ended(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        assert Path(folder, "file").exists() and not gone(int(pid))
        process.send_signal(number)
        process.wait(30)
        process.stdout.close()
        wait_for(lambda: gone(int(pid)))
        wait_for(lambda: not Path(folder).exists())
    finally:
        process.kill()
        process.wait(30)


def test_the_server_of_the_tests_is_watched(cluster) -> None:
    assert cluster.server.pid in leftovers._carriers(os.environ[MARK])
    assert os.environ[MARK] in str(cluster.server.folder)
