"""`kill -9` of the process that holds the spool, while clients post: what was acknowledged is there.

Two generations are killed on the same folder, so that recovery itself is written on and killed again.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sluiceway.ingestion.contracts import START, SpoolRecord
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter

SERVER = "tests.support.event_server"
CLIENTS = 6

pytestmark = pytest.mark.faults


class Clients:
    """Posts from several threads; remembers which ids were acknowledged and which may have been."""

    def __init__(self, port: int, seed: int, generation: int) -> None:
        self.port = port
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._post, args=(f"{seed}-{generation}-{n}",)) for n in range(CLIENTS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=20)

    def _post(self, name: str) -> None:
        chance = random.Random(name)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        number = 0
        while True:
            ids = [f"{name}-{number + i}" for i in range(chance.choice([1, 1, 1, 5, 200]))]
            number += len(ids)
            body = json.dumps([{"id": i, "fill": "x" * chance.randrange(300)} for i in ids])
            with self._lock:
                self.sent.update(ids)
            try:
                connection.request(
                    "POST", "/v1/pipelines/any/events", body,
                    {"content-type": "application/json", "authorization": "Bearer any"},
                )  # fmt: skip
                answer = connection.getresponse()
                found = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                return  # the server was killed
            assert answer.status == 202, found
            assert found["accepted"] == len(ids)
            with self._lock:
                self.acknowledged.update(ids)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_server(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-m", SERVER, str(folder), str(port)], cwd=root)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise AssertionError("the server did not start")


def read_all(folder: Path) -> tuple[list[SpoolRecord], int]:
    with SpoolReader(folder) as reader:
        found: list[SpoolRecord] = []
        while got := reader.read(found[-1].end if found else START, 1 << 20):
            found += got
        return found, reader.corrupt_records


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 20))]
)
def test_every_acknowledged_event_is_readable_after_kill_9(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    sent: set[str] = set()
    for generation in range(2):
        port = free_port()
        process = start_server(tmp_path, port)
        clients = Clients(port, seed, generation)
        try:
            clients.start()
            time.sleep(chance.uniform(0.05, 0.6))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            clients.join()
        acknowledged |= clients.acknowledged
        sent |= clients.sent
        if chance.random() < 0.5:
            _tear(tmp_path, chance)
    with SpoolWriter(tmp_path):
        pass  # cuts the torn tail off
    records, corrupt = read_all(tmp_path)
    ids = [event["id"] for record in records for event in json.loads(record.body)]
    assert acknowledged, "the clients must have got through"
    assert acknowledged <= set(ids)
    assert set(ids) <= sent
    assert len(ids) == len(set(ids)), "nothing is there twice"
    assert corrupt == 0
    positions = [record.position for record in records]
    assert positions == sorted(set(positions))


def _tear(folder: Path, chance: random.Random) -> None:
    """Half of a record at the end, as when the machine lost power in the middle of an unsynced write."""
    newest = max(folder.glob("*.seg"))
    data = newest.read_bytes()
    with newest.open("ab") as file:
        file.write(data[32 : 32 + chance.randrange(1, 60)])
