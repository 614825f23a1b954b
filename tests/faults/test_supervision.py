"""`sluiceway up` for real: starts from nothing, revives what is killed, leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from sluiceway.runtime.preflight import free_port
from sluiceway.runtime.supervisor import processes_file

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]


@dataclass
class Installation:
    """A data folder and ports of its own; `up` processes started on it are ended with the test."""

    home: Path
    port: int
    started: list[subprocess.Popen[str]]

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SLUICEWAY_")}
        return kept | {
            "SLUICEWAY_HOME": str(self.home),
            "SLUICEWAY_PORT": str(self.port),
            "SLUICEWAY_DAGSTER_PORT": str(free_port()),
            "SLUICEWAY_NODE": "test",
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sluiceway.runtime.cli", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def up(self) -> "subprocess.Popen[str]":
        """Start, and return when the platform says that it runs."""
        output = (self.home.parent / "up.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "sluiceway.runtime.cli", "up", "--no-dagster"],
            env=self.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        output.close()
        self.started.append(process)
        wait_for(lambda: "Sluiceway runs" in self.said() or process.poll() is not None, 240)
        assert process.poll() is None, self.said()
        return process

    def said(self) -> str:
        return (self.home.parent / "up.log").read_text()

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(processes_file(self.home).read_text())
        return found

    def family(self) -> set[int]:
        """Every process that belongs to the installation, the database's own included."""
        found: set[int] = set()
        for pid in self.pids().values():
            process = psutil.Process(pid)
            found |= {pid, *(child.pid for child in process.children(recursive=True))}
        return found


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    found = Installation(tmp_path / "home", free_port(), [])
    yield found
    for process in found.started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)


def wait_for(condition: Callable[[], bool], patience_s: float = 120.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_up_revives_what_dies_leaves_nothing_when_it_is_killed_and_stops_cleanly(
    installation: Installation,
) -> None:
    """One life, because each start takes seconds: what dies is revived, then the supervisor itself is killed,
    and the next start finds everything free and ends as it is told."""
    process = installation.up()
    base = f"http://127.0.0.1:{installation.port}"
    assert httpx.get(f"{base}/readyz").status_code == 200
    before = installation.pids()
    assert {"web", "loader", "worker", "postgres"} <= set(before)

    second = installation.command("up")
    assert second.returncode == 1 and second.stderr.count("\n") == 1
    assert "already runs on" in second.stderr and "SLUICEWAY_HOME" in second.stderr

    for name in ("loader", "web", "postgres"):
        os.kill(before[name], signal.SIGKILL)
    wait_for(
        lambda: all(
            installation.pids().get(n) not in (None, before[n])
            for n in before
            if n in ("loader", "web", "postgres")
        )
    )
    wait_for(lambda: _ready(base))
    assert "loader stopped (SIGKILL)" in installation.said()
    assert "PostgreSQL stopped; starting it again" in installation.said()

    family = installation.family()
    process.kill()
    process.wait()
    wait_for(lambda: all(gone(pid) for pid in family))

    again = installation.up()
    family = installation.family()
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=120) == 0
    wait_for(lambda: all(gone(pid) for pid in family))
    assert installation.said().rstrip().endswith("Stopped.")


def _ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
