"""`kill -9` of the loader under load: nothing is lost, nothing is doubled, in silver and in bronze."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolWriter, open_spool
from sluiceway.lake.service import Lake
from sluiceway.warehouse.schema import apply_pipeline
from tests.conftest import TEST_KEY
from tests.support.loading import ORDERS, check_whole, query

pytestmark = pytest.mark.faults

KILLS = 3
PATIENCE_S = 60.0


class Sender(threading.Thread):
    """Appends records as the event route does, and remembers the ids that were acknowledged."""

    def __init__(self, writer: SpoolWriter, seed: int) -> None:
        super().__init__(daemon=True)
        self._writer = writer
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self.acknowledged: list[str] = []
        self.sent = 0

    def run(self) -> None:
        number = 0
        while not self._ending.is_set():
            count = self._random.choice([1, 5, 50, 300])
            ids = [f"e-{n}" for n in range(number, number + count)]
            number += count
            again = self._random.sample(self.acknowledged, min(3, len(self.acknowledged)))
            now = datetime.now(UTC).isoformat()
            body = b"\n".join(
                json.dumps({"id": i, "at": now, "country": i[-1], "amount": 1.5, "items": 2}).encode()
                for i in ids + again
            )
            self._writer.append_now(
                workspace_id=1, pipeline_id=1, form=Form.NDJSON, events=len(ids) + len(again), body=body
            )
            self.acknowledged += ids
            self.sent += len(ids) + len(again)
            self._ending.wait(self._random.random() * 0.05)

    def finish(self) -> None:
        self._ending.set()
        self.join()


@pytest.fixture
def environment(tmp_path: Path, database_url: str) -> dict[str, str]:
    return {
        "SLUICEWAY_HOME": str(tmp_path / "home"),
        "SLUICEWAY_DATABASE_URL": database_url,
        "SLUICEWAY_SECRET_KEY": TEST_KEY,
        "SLUICEWAY_NODE": "test",
        "SLUICEWAY_BRONZE_FLUSH_S": "1",
        "SLUICEWAY_SPOOL_SEGMENT_BYTES": "65536",
    }


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def start(environment: dict[str, str], processes: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sluiceway.runtime.processes.loader"],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
    )
    processes.append(process)
    return process


def batches(database: Database) -> int:
    ((count,),) = query(database, "SELECT count(*) FROM silver.batches")
    return int(count)


def wait_for(
    what: str, check: Callable[[], bool], process: subprocess.Popen[bytes], pause_s: float = 0.02
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert process.poll() is None, "the loader ended by itself"
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S} s"
        time.sleep(pause_s)


def bronze_ids(database: Database, settings: Settings) -> list[str]:
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "orders")
    lake = Lake(settings)
    return [
        json.loads(payload)["id"]
        for day in lake.days(pipeline)
        for batch in lake.read_bronze(pipeline, day)
        for payload in batch["payload"].to_pylist()
    ]


def kill_under_load(
    seed: int, database: Database, environment: dict[str, str], processes: list[subprocess.Popen[bytes]]
) -> None:
    chance = random.Random(seed)
    apply_pipeline(database, 1, ORDERS)
    settings = load_settings(environment)
    with open_spool(settings).writer() as writer:
        sender = Sender(writer, seed)
        sender.start()
        for _ in range(KILLS):
            seen = batches(database)
            process = start(environment, processes)
            wait_for("batch", lambda seen=seen: batches(database) > seen, process)
            time.sleep(chance.random() * 0.4)
            process.send_signal(signal.SIGKILL)
            process.wait()
        sender.finish()
        process = start(environment, processes)
        rows = "SELECT count(*) FROM silver.orders"
        wait_for("end", lambda: query(database, rows) == [(len(sender.acknowledged),)], process)
        wait_for("bronze", lambda: len(bronze_ids(database, settings)) >= sender.sent, process, 0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=8) == 0
    assert check_whole(database) == len(sender.acknowledged)
    found = {row[0] for row in query(database, "SELECT event_id FROM silver.orders")}
    assert found == set(sender.acknowledged)
    samples = query(database, "SELECT count(*), sum(value) FROM silver.samples")
    assert samples == [(2 * len(found), 3.5 * len(found))]
    assert query(database, "SELECT count(*) FROM quality.dead_letters") == [(0,)]
    ((duplicates,),) = query(database, "SELECT duplicates FROM app.pipeline_state")
    assert duplicates == sender.sent - len(found)
    kept = bronze_ids(database, settings)
    assert len(kept) == sender.sent
    assert set(kept) == found


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_loader_under_load(
    seed: int, database: Database, environment: dict[str, str], processes: list[subprocess.Popen[bytes]]
) -> None:
    kill_under_load(seed, database, environment, processes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120 if os.environ.get("FAULT_LONG") else 104))
def test_kill_loader_under_load_often(
    seed: int, database: Database, environment: dict[str, str], processes: list[subprocess.Popen[bytes]]
) -> None:
    kill_under_load(seed, database, environment, processes)
