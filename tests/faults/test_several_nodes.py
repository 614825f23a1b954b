"""Several loaders and nodes against one PostgreSQL: shared, taken over, handed on; each event once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
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
from tests.support.faults.stage import Child, Stage, wait_until
from tests.support.loading import ORDERS, check_whole, order, query

pytestmark = pytest.mark.faults

TABLES = [f"orders{n}" for n in range(1, 7)]


class Nodes:
    """Loader processes and spools of some nodes. Close it."""

    def __init__(self, stage: Stage, folder: Path, database: Database, url: str) -> None:
        self.folder = folder
        self.database = database
        self._stage = stage
        self._url = url
        self.loaders: list[Child] = []
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
            "SLUICEWAY_SPOOL_SEGMENT_BYTES": "65536",
        }

    def writer(self, node: str, home: str = "home") -> SpoolWriter:
        return open_spool(load_settings(self.environment(node, home))).writer()

    def start(self, node: str, home: str = "home", **more: str) -> Child:
        environment = {**self.environment(node, home), **more}
        logs = self.folder / f"logs-{len(self.loaders)}"
        self.loaders.append(self._stage.start("loader", environment, logs, segment_bytes=65536))
        return self.loaders[-1]

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
        for loader in self.loaders:
            loader.kill()


@pytest.fixture
def nodes(stage: Stage, tmp_path: Path, database: Database, database_url: str) -> Iterator[Nodes]:
    made = Nodes(stage, tmp_path, database, database_url)
    yield made
    made.close()


def end(loader: Child) -> None:
    """Ask it to stop, and wait until it has."""
    loader.signal(signal.SIGTERM)
    wait_until("the loader's end", lambda: not loader.alive)
    assert loader.code == 0, loader.tail()


def share_and_kill(nodes: Nodes, seed: int) -> None:
    chance = random.Random(seed)
    first, second = nodes.start("a"), nodes.start("a")
    number = 0

    def send_some(writer: SpoolWriter) -> None:
        nonlocal number
        for table in range(len(TABLES)):
            ids = [f"e-{n}" for n in range(number, number + chance.choice([1, 5, 40]))]
            number += len(ids)
            again = chance.sample(nodes.sent[TABLES[table]], min(2, len(nodes.sent[TABLES[table]])))
            nodes.send(writer, table, ids)
            nodes.send(writer, table, again or ids[:1], record=False)

    with nodes.writer("a") as writer:

        def both_hold() -> bool:
            send_some(writer)
            held = nodes.holders()
            return bool(held.get(first.pid)) and bool(held.get(second.pid))

        wait_until("loaders that share", both_hold)
        victim, survivor = chance.sample([first, second], 2)
        for _ in range(chance.randint(1, 10)):
            send_some(writer)
        victim.kill()
        for _ in range(5):
            send_some(writer)
        total = sum(map(len, nodes.sent.values()))
        wait_until("end", lambda: nodes.rows() == total)
        wait_until("takeover", lambda: len(nodes.holders().get(survivor.pid, set())) == len(TABLES))
        wait_until("bronze", lambda: _is_in_bronze(nodes))
    end(survivor)
    assert nodes.holders() == {}, "a clean end gives everything back"
    nodes.check()
    positions = nodes.bronze_positions(0)
    assert len(positions) == len(set(positions))


def _is_in_bronze(nodes: Nodes) -> bool:
    """Whether bronze has every event that silver was given of the first pipeline."""
    ((events,),) = query(
        nodes.database, "SELECT coalesce(sum(events), 0)::bigint FROM silver.batches WHERE pipeline_id = 1"
    )
    return len(nodes.bronze_positions(0)) >= int(events)


@pytest.mark.parametrize("seed", [1])
def test_two_loaders_share_a_spool_and_one_takes_over_from_the_other(nodes: Nodes, seed: int) -> None:
    share_and_kill(nodes, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110 if os.environ.get("FAULT_LONG") else 102))
def test_two_loaders_share_a_spool_often(nodes: Nodes, seed: int) -> None:
    share_and_kill(nodes, seed)


def test_the_same_events_through_two_nodes_are_one_row_each(nodes: Nodes) -> None:
    with nodes.writer("a") as one, nodes.writer("b") as two:
        for begin in range(0, 1000, 50):
            ids = [f"e-{n}" for n in range(begin, begin + 50)]
            nodes.send(one, 0, ids)
            nodes.send(two, 0, list(reversed(ids)), record=False)
            nodes.send(two, 1, ids)
        nodes.start("a")
        nodes.start("b")
        wait_until("end", lambda: nodes.rows() == 2000)
        taken = "SELECT sum(events)::bigint FROM silver.batches WHERE pipeline_id = 1"
        wait_until("both nodes", lambda: query(nodes.database, taken) == [(2000,)])
    nodes.check()
    assert query(nodes.database, "SELECT duplicates FROM app.pipeline_state WHERE pipeline_id = 1") == [
        (1000,)
    ]
    cursors = query(nodes.database, "SELECT DISTINCT node FROM app.spool_cursors ORDER BY 1")
    assert cursors == [("a",), ("b",)]


def test_a_spool_left_behind_is_drained_by_the_loader_beside_it(nodes: Nodes) -> None:
    with nodes.writer("dead") as writer:
        for number in range(80):
            nodes.send(writer, number % 3, [f"e-{number}-{n}" for n in range(50)])
    left = nodes.folder / "home" / "spool" / "dead"
    assert len(numbers(left)) > 1
    nodes.start("alive")
    wait_until("drained spool", lambda: is_drained(left))
    assert len(numbers(left)) == 1, "the newest segment stays: the numbers go on from it"
    nodes.check()
    assert query(nodes.database, "SELECT DISTINCT node FROM app.spool_cursors") == [("dead",)]
    assert len(nodes.bronze_positions(0)) == len(nodes.sent[TABLES[0]])
    assert {row[0] for row in nodes.bronze_positions(0)} == {"dead"}


def test_a_folder_is_handed_to_another_node(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with nodes.writer("dead", "gone") as writer:
        for number in range(20):
            nodes.send(writer, number % 2, [f"e-{number}-{n}" for n in range(50)])
        first = nodes.start("dead", "gone")
        wait_until("first batch", lambda: nodes.rows() > 0)
        first.kill()
        for number in range(20, 40):
            nodes.send(writer, number % 2, [f"e-{number}-{n}" for n in range(50)])
    moved = nodes.folder / "handed-over"
    shutil.move(nodes.folder / "gone" / "spool" / "dead", moved)
    environment = nodes.environment("other", "elsewhere") | {"SLUICEWAY_SPOOLS": str(moved)}
    done = subprocess.run(
        [sys.executable, "-m", "sluiceway.runtime.cli", "spool", "drain", str(moved)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "for node dead" in done.stdout
    assert "It may be removed." in done.stdout
    assert is_drained(moved)
    nodes.check()
    assert {row[0] for row in nodes.bronze_positions(0)} == {"dead"}
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
        spools.drain(nodes.folder)
    with nodes.writer("written", "elsewhere") as writer, pytest.raises(spools.SpoolInUse):
        nodes.send(writer, 0, ["e-0"], record=False)
        spools.drain(writer.folder)


def test_a_named_spool_is_loaded_while_its_writer_lives(nodes: Nodes) -> None:
    with nodes.writer("main") as writer:
        nodes.send(writer, 0, [f"e-{n}" for n in range(100)])
        nodes.start("helper", "elsewhere", SLUICEWAY_SPOOLS=str(nodes.folder / "home" / "spool" / "main"))
        wait_until("first events", lambda: nodes.rows() == 100)
        nodes.send(writer, 1, [f"e-{n}" for n in range(100)])
        wait_until("later events", lambda: nodes.rows() == 200)
    nodes.check()


def test_another_disk_under_a_node_s_name_is_refused_until_it_has_a_name_of_its_own(nodes: Nodes) -> None:
    with nodes.writer("n") as writer:
        for begin in range(0, 200, 20):
            nodes.send(writer, 0, [f"e-{n}" for n in range(begin, begin + 20)])
        first = nodes.start("n")
        wait_until("first events", lambda: nodes.rows() == 200)
        wait_until("first bronze", lambda: len(nodes.bronze_positions(0)) == 200)
        end(first)
    # Its disk is gone; a new one begins with the numbers that are loaded already.
    with nodes.writer("n", "new") as writer:
        for begin in range(200, 260, 20):
            nodes.send(writer, 0, [f"e-{n}" for n in range(begin, begin + 20)])
    folder = nodes.folder / "new" / "spool" / "n"
    second = nodes.start("n", "new")
    told = nodes.folder / "new" / "run" / "reports" / "n" / "loader.json"
    wait_until("refusal", lambda: told.exists() and "spool_name_taken" in told.read_text())
    refused = spool_command(nodes, "rename", str(folder), "n-new")
    assert refused.returncode != 0
    assert "A loader is at" in refused.stderr
    end(second)
    drained = spool_command(nodes, "drain", str(folder))
    assert drained.returncode != 0
    assert "sluiceway spool rename" in drained.stderr
    assert nodes.rows() == len(nodes.bronze_positions(0)) == 200
    assert len(numbers(folder)) == 1

    renamed = spool_command(nodes, "rename", str(folder), "n-new")
    assert renamed.returncode == 0, renamed.stderr
    nodes.start("n", "new")
    wait_until("what was refused", lambda: nodes.rows() == 260)
    wait_until("its bronze", lambda: len(nodes.bronze_positions(0)) == 260)
    nodes.check()
    positions = nodes.bronze_positions(0)
    assert len(set(positions)) == len(positions)
    assert {row[0] for row in positions} == {"n", "n-new"}


def spool_command(nodes: Nodes, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sluiceway.runtime.cli", "spool", *words],
        env={**os.environ, **nodes.environment("n", "new")}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
