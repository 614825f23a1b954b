"""`kill -9` of the loader under load: nothing is lost, nothing is doubled, in silver and in bronze."""

import json
import os
import random
import signal
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
from tests.support.faults.stage import Child, Stage, wait_until
from tests.support.loading import ORDERS, check_whole, query

pytestmark = pytest.mark.faults

KILLS = 3


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
        "SLUICEWAY_SPOOL_SEGMENT_BYTES": "65536",
    }


Start = Callable[[], Child]


@pytest.fixture
def start(stage: Stage, environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts a loader; whatever becomes of the test, none goes on."""
    started: list[Child] = []

    def begin() -> Child:
        started.append(stage.start("loader", environment, tmp_path, segment_bytes=65536))
        return started[-1]

    yield begin
    for loader in started:
        loader.kill()


def batches(database: Database) -> int:
    ((count,),) = query(database, "SELECT count(*) FROM silver.batches")
    return int(count)


def wait_for(what: str, check: Callable[[], bool], loader: Child, pause_s: float = 0.02) -> None:
    def come() -> bool:
        assert loader.alive, f"the loader ended by itself:\n{loader.tail()}"
        return check()

    wait_until(what, come, pause_s=pause_s)


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


def kill_under_load(seed: int, database: Database, environment: dict[str, str], start: Start) -> None:
    chance = random.Random(seed)
    apply_pipeline(database, 1, ORDERS)
    settings = load_settings(environment)
    with open_spool(settings).writer() as writer:
        sender = Sender(writer, seed)
        sender.start()
        for _ in range(KILLS):
            seen = batches(database)
            loader = start()
            wait_for("batch", lambda seen=seen: batches(database) > seen, loader)
            time.sleep(chance.random() * 0.4)
            loader.kill()
        sender.finish()
        loader = start()
        rows = "SELECT count(*) FROM silver.orders"
        wait_for("end", lambda: query(database, rows) == [(len(sender.acknowledged),)], loader)
        wait_for("bronze", lambda: len(bronze_ids(database, settings)) >= sender.sent, loader, 0.3)
        loader.signal(signal.SIGTERM)
        wait_until("the loader's end", lambda: not loader.alive)
        assert loader.code == 0
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
    seed: int, database: Database, environment: dict[str, str], start: Start
) -> None:
    kill_under_load(seed, database, environment, start)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120 if os.environ.get("FAULT_LONG") else 104))
def test_kill_loader_under_load_often(
    seed: int, database: Database, environment: dict[str, str], start: Start
) -> None:
    kill_under_load(seed, database, environment, start)
