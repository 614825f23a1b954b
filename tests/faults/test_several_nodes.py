"""Several loaders and nodes against one PostgreSQL: shared, taken over, handed on; each event once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import load_settings
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolWriter, open_spool
from sluiceway.ingestion.spool.belonging import is_drained
from sluiceway.ingestion.spool.segments import numbers
from sluiceway.lake.service import Lake
from sluiceway.runtime.commands import spools
from sluiceway.warehouse.schema import apply_pipeline
from tests.conftest import TEST_KEY
from tests.support.loading import ORDERS, check_whole, order, query

pytestmark = pytest.mark.faults

PATIENCE_S = 90.0
TABLES = [f"orders{n}" for n in range(1, 7)]


class Stage:
    """Loader processes and spools of some nodes. Close it."""

    def __init__(self, folder: Path, database: Database, url: str) -> None:
        self.folder = folder
        self.database = database
        self._url = url
        self.processes: list[subprocess.Popen[bytes]] = []
        self.sent: dict[str, list[str]] = {name: [] for name in TABLES}
        for name in TABLES:
            apply_pipeline(database, 1, ORDERS.replace("name: orders", f"name: {name}"))

    def environment(self, node: str, home: str = "home") -> dict[str, str]:
        return {
            "SLUICEWAY_HOME": str(self.folder / home),
            "SLUICEWAY_LAKE_URL": f"file://{self.folder / 'lake'}",
            "SLUICEWAY_DATABASE_URL": self._url,
            "SLUICEWAY_SECRET_KEY": TEST_KEY,
            "SLUICEWAY_NODE": node,
            "SLUICEWAY_BRONZE_FLUSH_S": "1",
            "SLUICEWAY_SPOOL_SEGMENT_BYTES": "65536",
        }

    def writer(self, node: str, home: str = "home") -> SpoolWriter:
        return open_spool(load_settings(self.environment(node, home))).writer()

    def start(self, node: str, home: str = "home", **more: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "sluiceway.runtime.processes.loader"],
            env={**os.environ, **self.environment(node, home), **more},
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def send(self, writer: SpoolWriter, table: int, ids: list[str], *, record: bool = True) -> None:
        body = b"\n".join(json.dumps(order(n % 100, id=i)).encode() for n, i in enumerate(ids))
        writer.append_now(workspace_id=1, pipeline_id=table + 1, form=Form.NDJSON, events=len(ids), body=body)
        if record:
            self.sent[TABLES[table]] += ids

    def rows(self) -> int:
        union = " UNION ALL ".join(f"SELECT count(*) AS n FROM silver.{name}" for name in TABLES)
        ((found,),) = query(self.database, f"SELECT sum(n)::bigint FROM ({union}) x")
        return int(found)

    def holders(self) -> dict[int, set[int]]:
        """Pipelines by the process that holds them, whoever is alive."""
        found: dict[int, set[int]] = {}
        rows = query(
            self.database,
            "SELECT pid, pipeline_id FROM app.spool_leases JOIN app.loaders l ON l.id = loader_id"
            " WHERE l.expires_at > clock_timestamp()",
        )
        for pid, pipeline_id in rows:
            found.setdefault(pid, set()).add(pipeline_id)
        return found

    def wait_for(self, what: str, check: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not check():
            assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S} s"
            time.sleep(0.05)

    def check(self) -> None:
        """Every acknowledged id once in silver, whole."""
        for number, name in enumerate(TABLES, 1):
            found = [row[0] for row in query(self.database, f"SELECT event_id FROM silver.{name}")]
            assert len(found) == len(set(found))
            assert set(found) == set(self.sent[name])
            if found:
                assert check_whole(self.database, name, number) == len(found)
        assert query(self.database, "SELECT count(*) FROM quality.dead_letters") == [(0,)]

    def bronze_positions(self, table: int) -> list[tuple[Any, ...]]:
        with self.database.transaction(Role.WRITER, workspace_id=1) as connection:
            pipeline = Catalog().get(connection, 1, TABLES[table])
        lake = Lake(load_settings(self.environment("x")))
        return [
            tuple(row.values())
            for day in lake.days(pipeline)
            for batch in lake.read_bronze(pipeline, day)
            for row in batch.select(["node", "segment", "offset", "index"]).to_pylist()
        ]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def stage(tmp_path: Path, database: Database, database_url: str) -> Iterator[Stage]:
    made = Stage(tmp_path, database, database_url)
    yield made
    made.close()


def share_and_kill(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    first, second = stage.start("a"), stage.start("a")
    number = 0

    def send_some(writer: SpoolWriter) -> None:
        nonlocal number
        for table in range(len(TABLES)):
            ids = [f"e-{n}" for n in range(number, number + chance.choice([1, 5, 40]))]
            number += len(ids)
            again = chance.sample(stage.sent[TABLES[table]], min(2, len(stage.sent[TABLES[table]])))
            stage.send(writer, table, ids)
            stage.send(writer, table, again or ids[:1], record=False)

    with stage.writer("a") as writer:

        def both_hold() -> bool:
            send_some(writer)
            held = stage.holders()
            return bool(held.get(first.pid)) and bool(held.get(second.pid))

        stage.wait_for("loaders that share", both_hold)
        victim, survivor = chance.sample([first, second], 2)
        for _ in range(chance.randint(1, 10)):
            send_some(writer)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        for _ in range(5):
            send_some(writer)
        total = sum(map(len, stage.sent.values()))
        stage.wait_for("end", lambda: stage.rows() == total)
        stage.wait_for("takeover", lambda: len(stage.holders().get(survivor.pid, set())) == len(TABLES))
        stage.wait_for("bronze", lambda: _is_in_bronze(stage))
    survivor.send_signal(signal.SIGTERM)
    assert survivor.wait(timeout=30) == 0
    assert stage.holders() == {}, "a clean end gives everything back"
    stage.check()
    positions = stage.bronze_positions(0)
    assert len(positions) == len(set(positions))


def _is_in_bronze(stage: Stage) -> bool:
    """Whether bronze has every event that silver was given of the first pipeline."""
    ((events,),) = query(
        stage.database, "SELECT coalesce(sum(events), 0)::bigint FROM silver.batches WHERE pipeline_id = 1"
    )
    return len(stage.bronze_positions(0)) >= int(events)


@pytest.mark.parametrize("seed", [1])
def test_two_loaders_share_a_spool_and_one_takes_over_from_the_other(stage: Stage, seed: int) -> None:
    share_and_kill(stage, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110 if os.environ.get("FAULT_LONG") else 102))
def test_two_loaders_share_a_spool_often(stage: Stage, seed: int) -> None:
    share_and_kill(stage, seed)


def test_the_same_events_through_two_nodes_are_one_row_each(stage: Stage) -> None:
    with stage.writer("a") as one, stage.writer("b") as two:
        for begin in range(0, 1000, 50):
            ids = [f"e-{n}" for n in range(begin, begin + 50)]
            stage.send(one, 0, ids)
            stage.send(two, 0, list(reversed(ids)), record=False)
            stage.send(two, 1, ids)
        stage.start("a")
        stage.start("b")
        stage.wait_for("end", lambda: stage.rows() == 2000)
        nodes = "SELECT sum(events)::bigint FROM silver.batches WHERE pipeline_id = 1"
        stage.wait_for("both nodes", lambda: query(stage.database, nodes) == [(2000,)])
    stage.check()
    assert query(stage.database, "SELECT duplicates FROM app.pipeline_state WHERE pipeline_id = 1") == [
        (1000,)
    ]
    cursors = query(stage.database, "SELECT DISTINCT node FROM app.spool_cursors ORDER BY 1")
    assert cursors == [("a",), ("b",)]


def test_a_spool_left_behind_is_drained_by_the_loader_beside_it(stage: Stage) -> None:
    with stage.writer("dead") as writer:
        for number in range(80):
            stage.send(writer, number % 3, [f"e-{number}-{n}" for n in range(50)])
    left = stage.folder / "home" / "spool" / "dead"
    assert len(numbers(left)) > 1
    stage.start("alive")
    stage.wait_for("drained spool", lambda: is_drained(left))
    assert len(numbers(left)) == 1, "the newest segment stays: the numbers go on from it"
    stage.check()
    assert query(stage.database, "SELECT DISTINCT node FROM app.spool_cursors") == [("dead",)]
    assert len(stage.bronze_positions(0)) == len(stage.sent[TABLES[0]])
    assert {row[0] for row in stage.bronze_positions(0)} == {"dead"}


def test_a_folder_is_handed_to_another_node(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage.writer("dead", "gone") as writer:
        for number in range(20):
            stage.send(writer, number % 2, [f"e-{number}-{n}" for n in range(50)])
        first = stage.start("dead", "gone")
        stage.wait_for("first batch", lambda: stage.rows() > 0)
        first.kill()
        first.wait()
        for number in range(20, 40):
            stage.send(writer, number % 2, [f"e-{number}-{n}" for n in range(50)])
    moved = stage.folder / "handed-over"
    shutil.move(stage.folder / "gone" / "spool" / "dead", moved)
    environment = stage.environment("other", "elsewhere") | {"SLUICEWAY_SPOOLS": str(moved)}
    done = subprocess.run(
        [sys.executable, "-m", "sluiceway.runtime.cli", "spool", "drain", str(moved)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "for node dead" in done.stdout
    assert "It may be removed." in done.stdout
    assert is_drained(moved)
    stage.check()
    assert {row[0] for row in stage.bronze_positions(0)} == {"dead"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spools.drain(moved)
    assert "is drained already" in capsys.readouterr().out
    spools.list_(as_json=True)
    (spool,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (spool["node"], spool["drained"], spool["writer"], spool["waiting_bytes"]) == (
        "dead", True, False, 0,
    )  # fmt: skip
    assert spool["holders"] == []
    spools.list_()
    assert "drained" in capsys.readouterr().out
    with pytest.raises(spools.NoSpool):
        spools.drain(stage.folder)
    with stage.writer("written", "elsewhere") as writer, pytest.raises(spools.SpoolInUse):
        stage.send(writer, 0, ["e-0"], record=False)
        spools.drain(writer.folder)


def test_a_named_spool_is_loaded_while_its_writer_lives(stage: Stage) -> None:
    with stage.writer("main") as writer:
        stage.send(writer, 0, [f"e-{n}" for n in range(100)])
        stage.start("helper", "elsewhere", SLUICEWAY_SPOOLS=str(stage.folder / "home" / "spool" / "main"))
        stage.wait_for("first events", lambda: stage.rows() == 100)
        stage.send(writer, 1, [f"e-{n}" for n in range(100)])
        stage.wait_for("later events", lambda: stage.rows() == 200)
    stage.check()


def test_another_disk_under_a_node_s_name_is_refused_until_it_has_a_name_of_its_own(stage: Stage) -> None:
    with stage.writer("n") as writer:
        for begin in range(0, 200, 20):
            stage.send(writer, 0, [f"e-{n}" for n in range(begin, begin + 20)])
        first = stage.start("n")
        stage.wait_for("first events", lambda: stage.rows() == 200)
        stage.wait_for("first bronze", lambda: len(stage.bronze_positions(0)) == 200)
        first.terminate()
        first.wait()
    # Its disk is gone; a new one begins with the numbers that are loaded already.
    with stage.writer("n", "new") as writer:
        for begin in range(200, 260, 20):
            stage.send(writer, 0, [f"e-{n}" for n in range(begin, begin + 20)])
    folder = stage.folder / "new" / "spool" / "n"
    second = stage.start("n", "new")
    told = stage.folder / "new" / "run" / "reports" / "n" / "loader.json"
    stage.wait_for("refusal", lambda: told.exists() and "spool_name_taken" in told.read_text())
    refused = spool_command(stage, "rename", str(folder), "n-new")
    assert refused.returncode != 0
    assert "A loader is at" in refused.stderr
    second.terminate()
    second.wait()
    drained = spool_command(stage, "drain", str(folder))
    assert drained.returncode != 0
    assert "sluiceway spool rename" in drained.stderr
    assert stage.rows() == len(stage.bronze_positions(0)) == 200
    assert len(numbers(folder)) == 1

    renamed = spool_command(stage, "rename", str(folder), "n-new")
    assert renamed.returncode == 0, renamed.stderr
    stage.start("n", "new")
    stage.wait_for("what was refused", lambda: stage.rows() == 260)
    stage.wait_for("its bronze", lambda: len(stage.bronze_positions(0)) == 260)
    stage.check()
    positions = stage.bronze_positions(0)
    assert len(set(positions)) == len(positions)
    assert {row[0] for row in positions} == {"n", "n-new"}


def spool_command(stage: Stage, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sluiceway.runtime.cli", "spool", *words],
        env={**os.environ, **stage.environment("n", "new")}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
