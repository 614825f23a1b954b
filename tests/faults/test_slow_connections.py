"""Thousands of clients that send a byte now and then: everybody else is served, and they cost little memory.

`SLOW_CONNECTIONS` says how many (500 by default; the claim is made for 10,000).
"""

import http.client
import os
import resource
import select
import socket
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest

from sluiceway.ingestion.contracts import START
from sluiceway.ingestion.spool import SpoolReader
from tests.support.event_server import KEY, event_server
from tests.support.faults.plugin import Record
from tests.support.raw_http import request

pytestmark = pytest.mark.faults

COUNT = int(os.environ.get("SLOW_CONNECTIONS", "500"))
# With few of them the test need not take as long as the server's own times.
TIMES = {} if COUNT >= 5000 else {"head_s": 4.0, "body_s": 5.0, "look_s": 0.25}
SPARE_FILES = 200
ROUNDS = 3


class Ordinary(threading.Thread):
    """A client as any other, sending until it is told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.stopping = threading.Event()
        self.statuses: Counter[int | str] = Counter()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        while not self.stopping.is_set():
            try:
                connection.request("POST", "/v1/pipelines/any/events", b'{"n":1}', headers)
                answer = connection.getresponse()
                answer.read()
                self.statuses[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.statuses[repr(error)] += 1
        connection.close()


def allow_files(wanted: int) -> None:
    """Skip if this machine does not let a process open so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted and (hard == resource.RLIM_INFINITY or hard >= wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    elif soft < wanted:
        pytest.skip(f"needs {wanted} open files a process, and the limit (ulimit -Hn) is {hard}")


def beginning(number: int) -> bytes:
    """Some hang in their headers, some in a body with a length, some between chunks."""
    kinds = (
        request(b"", "x-slow: ")[:-4],
        request(b"{}" + b" " * 5000)[:-5000],
        request(b"2\r\n{}\r\n", "transfer-encoding: chunked", length=False),
    )
    return kinds[number % 3]


def dripping(number: int, turn: int) -> bytes:
    return b" " if number % 3 < 2 else b"1\r\n \r\n"[turn % 6 : turn % 6 + 1]


def endings(waiting: list[socket.socket]) -> Counter[bytes]:
    """How each connection ended, by the first line of its answer; the server ends them all."""
    found: Counter[bytes] = Counter()
    poll = select.poll()
    open_ = {connection.fileno(): (connection, b"") for connection in waiting}
    for number in open_:
        poll.register(number, select.POLLIN)
    while open_:
        ready = poll.poll(60_000)
        assert ready, f"{len(open_)} connections are still open"
        for number, _ in ready:
            connection, answer = open_[number]
            try:
                part = connection.recv(65536)
            except ConnectionError:
                part = b""
            if part:
                open_[number] = (connection, answer + part)
            else:
                poll.unregister(number)
                del open_[number]
                found[answer.split(b"\r\n", 1)[0]] += 1
    return found


@pytest.mark.timeout(180 if COUNT < 5000 else 900)
def test_slow_clients_are_in_nobodys_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Record
) -> None:
    allow_files(COUNT + SPARE_FILES)
    with event_server(tmp_path, **TIMES) as (port, pid):
        process = psutil.Process(pid)
        ordinary = Ordinary(port)
        ordinary.start()
        slow: list[socket.socket] = []
        try:
            before = process.memory_info().rss
            for number in range(COUNT):
                connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                slow.append(connection)
                connection.sendall(beginning(number))
            for turn in range(ROUNDS):
                for number, connection in enumerate(slow):
                    try:
                        connection.send(dripping(number, turn))
                    except ConnectionError:
                        continue  # its time was over
                if turn == 0:
                    while process.num_fds() < COUNT:  # the last of them are still being accepted
                        ordinary.stopping.wait(0.01)
                    each = (process.memory_info().rss - before) / COUNT
            found = endings(slow)
        finally:
            for connection in slow:
                connection.close()
            ordinary.stopping.set()
            ordinary.join(timeout=60)
        with capsys.disabled():
            print(
                f"\n{COUNT} slow connections: {each / 1024:.1f} KiB of memory each; endings {dict(found)};"
                f" meanwhile ordinary requests: {dict(ordinary.statuses)}"
            )
        assert set(found) <= {b"HTTP/1.1 408 Request Timeout", b""}
        assert found[b"HTTP/1.1 408 Request Timeout"] >= 0.99 * COUNT
        assert set(ordinary.statuses) == {202}, ordinary.statuses
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request())
            assert connection.recv(100).startswith(b"HTTP/1.1 202")
    with SpoolReader(tmp_path) as reader:
        at, kept = START, 0
        while records := reader.read(at, 8 << 20):
            kept += len(records)
            at = records[-1].end
    acknowledged = ordinary.statuses[202] + 1
    fault(
        "slow connections",
        times=COUNT,
        acknowledged=acknowledged,
        lost=max(0, acknowledged - kept),
        doubled=max(0, kept - acknowledged),
    )
    assert kept == acknowledged, "nothing of the slow requests was taken"
