"""`python -m sluiceway.runtime.guard`: ends what a killed supervisor could not.

The supervisor holds the other end of our standard input and tells us which process groups are running
(`+123`, `-123`; `server 456` is the database). When that end closes without a `bye`, the supervisor was
killed: the groups are stopped, then the database, so that nothing stays behind. Imports nothing heavy.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

GRACE_S = 6.0
SERVER_GRACE_S = 20.0


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    server = 0
    for line in sys.stdin:
        word = line.strip()
        if word == "bye":
            return 0
        if word.startswith("server "):
            server = int(word.split()[1])
        elif word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):
            groups.discard(int(word[1:]))
    stop_groups(groups, GRACE_S)
    if server:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(server, signal.SIGINT)
        _wait_until(lambda: not _alive(server), SERVER_GRACE_S)
    return 0


def stop_groups(groups: set[int], grace_s: float) -> None:
    """SIGTERM to each process group, SIGKILL to what is left of it after `grace_s`."""
    _signal(groups, signal.SIGTERM)
    _wait_until(lambda: not any(_alive(-group) for group in groups), grace_s)
    _signal(groups, signal.SIGKILL)


def _signal(groups: set[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _alive(pid: int) -> bool:
    """Whether a process (or, negative, a group) exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main())
