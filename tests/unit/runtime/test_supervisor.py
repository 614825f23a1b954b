"""The life of processes, with small ones: restarts with back-off, stopping in bounded time, the guard."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sluiceway.runtime import supervisor as supervision
from sluiceway.runtime.logfiles import last_line, open_log, rotate
from sluiceway.runtime.screen import Screen
from sluiceway.runtime.supervisor import ProcessSpec, Supervisor, processes_file

PATIENCE_S = 60.0


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with Supervisor(tmp_path, tmp_path, dict(os.environ), Screen(plain=True)) as found:
        yield found
    for number, handler in handlers.items():
        signal.signal(number, handler)


def spec(name: str, code: str, *, once: bool = False) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code), once=once)


def until(condition: Callable[[], bool], turn: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        turn()
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_dies_is_started_again_and_it_is_said(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.start(spec("sleeper", "import time; time.sleep(60)"))
    first = supervisor.pids()["sleeper"]
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pids().get("sleeper", first) != first, supervisor.turn)
    assert "sleeper stopped (SIGKILL); starting it again in 0.5 s" in capsys.readouterr().out


def test_the_pause_doubles_and_the_last_words_are_told(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LONGEST_DELAY_S", 0.2)
    supervisor.start(spec("failing", "import sys; sys.exit('no luck today')"))
    said = []
    until(lambda: bool(said.append(capsys.readouterr().out)) or "".join(said).count("failing stopped") >= 3,
          supervisor.turn)  # fmt: skip
    assert "starting it again in 0.5 s. Its last words: no luck today" in "".join(said)
    assert "again in 0.2 s" in "".join(said)


def test_one_that_is_done_is_not_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    supervisor.start(spec("once", f"open({str(counter)!r}, 'a').write('x')", once=True))
    until(lambda: "once" not in supervisor.pids(), supervisor.turn)
    for _ in range(5):
        supervisor.turn()
    assert counter.read_text() == "x"


def test_stopping_ends_what_ignores_the_signal_and_what_it_started(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STOP_GRACE_S", 0.5)
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    supervisor.start(spec("stubborn", stubborn))
    until(lambda: last_line(supervisor.logs, "stubborn") == "ready")
    family = [p.pid for p in psutil.Process(supervisor.pids()["stubborn"]).children(recursive=True)]
    family.append(supervisor.pids()["stubborn"])
    supervisor.stop_children()
    until(lambda: all(gone(pid) for pid in family))


def test_running_processes_are_written_down(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(spec("sleeper", "import time; time.sleep(60)"))
    known = json.loads(processes_file(tmp_path).read_text())
    assert known == {"supervisor": os.getpid(), **supervisor.pids()}


def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from sluiceway.runtime.screen import Screen\n"
        "from sluiceway.runtime.supervisor import ProcessSpec, Supervisor\n"
        "home = Path(sys.argv[1])\n"
        "with Supervisor(home, home, dict(os.environ), Screen(plain=True)) as s:\n"
        "    s.start(ProcessSpec('a', (sys.executable, '-c', 'import time; time.sleep(60)')))\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    until(
        lambda: processes_file(tmp_path).exists() and "a" in json.loads(processes_file(tmp_path).read_text())
    )
    child = json.loads(processes_file(tmp_path).read_text())["a"]
    guard = [p.pid for p in psutil.Process(process.pid).children() if p.pid != child]
    assert len(guard) == 1
    process.kill()
    process.wait()
    until(lambda: gone(child) and gone(guard[0]))


def test_logs_are_rotated_by_copying(tmp_path: Path) -> None:
    with open_log(tmp_path, "x") as log:
        for round_ in (b"1", b"2", b"3", b"4"):
            log.write(round_ * 100 + b"\n")
            rotate(tmp_path, max_bytes=50)
        log.write(b"now\n")
    assert (tmp_path / "x.log").read_bytes() == b"now\n"
    assert [(tmp_path / f"x.log.{n}").read_bytes()[:1] for n in (1, 2, 3)] == [b"4", b"3", b"2"]
    assert not (tmp_path / "x.log.4").exists()
    assert last_line(tmp_path, "x") == "now" and last_line(tmp_path, "none") == ""


def test_every_way_of_being_told_to_end_is_heard_alike(supervisor: Supervisor) -> None:
    heard = {signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    assert heard == {supervisor._on_signal}
