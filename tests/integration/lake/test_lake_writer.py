"""The bronze writer killed before every step it takes, and what a restart makes of it."""

import json
import random
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path

import pytest

from sluiceway.infra.settings import load_settings
from sluiceway.ingestion.contracts import Form, Position
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.lake.errors import LakeUnavailable
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, DAY_US, ListReader, expected, payloads, pipeline, record

DAY_AFTER = date(2026, 3, 15)
NEXT_DAY_US = DAY_US + 86_400_000_000
SLUGS = {1: "orders", 2: "clicks"}


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test may catch it."""


class Killer:
    """Dies before the `at`th step."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.steps: list[str] = []

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) - 1 == self.at:
            raise Killed(step)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(load_settings({"SLUICEWAY_HOME": str(tmp_path / "home"), "SLUICEWAY_NODE": "node-1"}))


def make(reader: ListReader, lake: Lake, folder: Path, killer: Killer | None = None) -> BronzeWriter:
    return BronzeWriter(
        reader, lake, folder, "node-1", split, SLUGS.get, flush_s=3600, on_step=killer or Killer(None)
    )


def spool() -> ListReader:
    """Two pipelines, two days, two segments."""
    return ListReader(
        [record(n, pipeline_id=1 + n % 2, received_us=NEXT_DAY_US if n >= 6 else DAY_US) for n in range(8)]
    )


def files(tmp_path: Path) -> dict[str, bytes]:
    root = tmp_path / "home" / "lake"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_names_and_rows(lake: Lake, tmp_path: Path) -> None:
    reader = spool()
    writer = make(reader, lake, tmp_path / "cursor")
    writer.step(force=True)
    assert list(files(tmp_path)) == [
        "bronze/w1/clicks/date=2026-03-14/node-1-1-0-2-300.parquet",
        "bronze/w1/clicks/date=2026-03-15/node-1-1-0-2-300.parquet",
        "bronze/w1/orders/date=2026-03-14/node-1-1-0-2-300.parquet",
        "bronze/w1/orders/date=2026-03-15/node-1-1-0-2-300.parquet",
    ]
    (batch,) = lake.read_bronze(pipeline(), DAY)
    rows = batch.to_pylist()
    assert [(r["segment"], r["offset"], r["index"]) for r in rows] == [
        (1, 0, 0), (1, 0, 1), (1, 200, 0), (1, 200, 1), (1, 400, 0), (1, 400, 1),
    ]  # fmt: skip
    assert rows[0]["payload"] == b'{"n": 0}'
    assert rows[0]["node"] == "node-1"
    assert json.loads(rows[0]["headers"]) == {"x-a": "b"}
    assert rows[0]["received_at"].date() == DAY
    assert payloads(lake, pipeline(), DAY_AFTER) == expected([reader.records[6]])
    assert writer.position == Position(2, 300)
    assert (writer.state.objects, writer.state.events) == (4, 16)
    assert (writer.traffic.put.requests, writer.traffic.put.failures) == (4, 0)
    assert writer.traffic.put.size_bytes == writer.state.size_bytes
    assert writer.traffic.put.seconds > 0 and writer.state.put_seconds > 0


@pytest.mark.faults
@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("grown", [False, True], ids=["same", "grown"])
def test_a_kill_before_any_step_changes_nothing_in_the_end(
    lake: Lake, tmp_path: Path, at: int, grown: bool
) -> None:
    """Steps of the one flush: intent, four objects, commit, committed."""
    reader = spool()
    later = [record(8), record(9, pipeline_id=2)]
    with pytest.raises(Killed):
        make(reader, lake, tmp_path / "cursor", Killer(at)).step(force=True)
    if grown:
        # What has come in since must not change the stretch that was begun.
        reader.records += later
    after = make(reader, lake, tmp_path / "cursor")
    after.step(force=True)
    if not grown:
        reader.records += later
    while after.position < reader.records[-1].end:
        after.step(force=True)
    for id_, slug in SLUGS.items():
        found = [row for day in (DAY, DAY_AFTER) for row in payloads(lake, pipeline(id_, slug), day)]
        mine = [r for r in reader.records if r.pipeline_id == id_]
        assert found == expected(sorted(mine, key=lambda r: (r.received_us // 86_400_000_000, r.position)))


@pytest.mark.faults
def test_a_restart_writes_the_same_objects_byte_for_byte(lake: Lake, tmp_path: Path) -> None:
    reader = spool()
    with pytest.raises(Killed):
        make(reader, lake, tmp_path / "cursor", Killer(5)).step(force=True)
    half = files(tmp_path)
    assert len(half) == 4
    make(reader, lake, tmp_path / "cursor").step(force=True)
    assert files(tmp_path) == half


@pytest.mark.faults
def test_a_pipeline_renamed_in_between_keeps_the_name_of_the_intent(lake: Lake, tmp_path: Path) -> None:
    reader = spool()
    with pytest.raises(Killed):
        make(reader, lake, tmp_path / "cursor", Killer(3)).step(force=True)
    again = BronzeWriter(reader, lake, tmp_path / "cursor", "node-1", split, lambda id_: None)
    again.step(force=True)
    assert {name.split("/")[2] for name in files(tmp_path)} == {"orders", "clicks"}


def test_bytes_of_a_pipeline_that_is_gone_are_kept(lake: Lake, tmp_path: Path) -> None:
    writer = BronzeWriter(ListReader([record(0)]), lake, tmp_path / "cursor", "n", split, lambda id_: None)
    writer.step(force=True)
    assert list(files(tmp_path)) == ["bronze/w1/_unknown-1/date=2026-03-14/n-1-0-1-100.parquet"]


def test_a_pipeline_nobody_has_heard_of_yet_is_asked_for_again(lake: Lake, tmp_path: Path) -> None:
    answers = iter([None, "orders"])
    reader = ListReader([record(0)])
    BronzeWriter(reader, lake, tmp_path / "c", "n", split, lambda id_: next(answers)).step(force=True)
    assert payloads(lake, pipeline()) == expected(reader.records)


def test_it_waits_for_time_or_size(lake: Lake, tmp_path: Path) -> None:
    reader = ListReader([record(0)])
    writer = BronzeWriter(reader, lake, tmp_path / "c", "n", split, SLUGS.get, flush_s=0.2, flush_bytes=60)
    assert writer.step() is False and files(tmp_path) == {}
    assert writer.state.waiting_bytes > 0
    time.sleep(0.25)
    writer.step()
    assert len(files(tmp_path)) == 1
    reader.records += [record(n) for n in range(1, 6)]
    assert writer.step() is True
    assert writer.position > Position(1, 100)


def test_it_writes_when_many_events_wait_however_small(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluiceway.lake.writer.FLUSH_EVENTS", 5)
    records = [record(n) for n in range(8)]  # of two events each
    writer = make(ListReader(records), lake, tmp_path / "cursor")
    for written in (6, 12):
        assert writer.step()
        assert len(payloads(lake, pipeline())) == written
    assert not writer.step()
    writer.step(force=True)
    assert payloads(lake, pipeline()) == expected(records)


def test_a_lake_that_fails_is_tried_again_and_nothing_is_lost(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader = ListReader([record(0)])
    writer = BronzeWriter(reader, lake, tmp_path / "c", "n", split, SLUGS.get, flush_s=0.05)
    put, left = lake.put, [3]

    def failing(*given: object) -> None:
        if left[0]:
            left[0] -= 1
            raise LakeUnavailable("The lake is on holiday.")
        put(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(lake, "put", failing)
    monkeypatch.setattr("sluiceway.lake.writer._FIRST_PAUSE_S", 0.02)
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        until = time.monotonic() + 10
        while writer.position == Position(0, 0) and time.monotonic() < until:
            if writer.state.failing_since is not None:
                assert writer.state.last_error == "The lake is on holiday."
                if record(1) not in reader.records:
                    reader.records.append(record(1))
            time.sleep(0.005)
        while writer.position < record(1).end and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()
    assert payloads(lake, pipeline()) == expected([record(0), record(1)])
    assert writer.state.failing_since is None
    assert "on holiday" in caplog.text


def test_a_stop_ends_a_long_pause(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(id_: int) -> str:
        raise ConnectionError("no database")

    monkeypatch.setattr("sluiceway.lake.writer._FIRST_PAUSE_S", 60.0)
    writer = BronzeWriter(ListReader([record(0)]), lake, tmp_path / "c", "n", split, down, flush_s=0.01)
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    until = time.monotonic() + 30
    while writer.state.failing_since is None and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert files(tmp_path) == {}


@pytest.mark.faults
def test_a_spool_without_the_intended_stretch_is_said_and_not_skipped(lake: Lake, tmp_path: Path) -> None:
    reader = spool()
    with pytest.raises(Killed):
        make(reader, lake, tmp_path / "cursor", Killer(1)).step(force=True)
    with pytest.raises(LakeUnavailable, match="does not hold"):
        make(ListReader([]), lake, tmp_path / "cursor").step(force=True)


def test_from_a_real_spool_over_its_segments(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    sent = [b'[{"n": %d}, {"n": %d.5}]' % (n, n) for n in range(300)]
    writer = BronzeWriter(
        SpoolReader(folder), lake, tmp_path / "cursor", "node-1", split, SLUGS.get, flush_bytes=2000
    )
    assert writer.step() is False
    with SpoolWriter(folder, segment_bytes=4096, reserve_bytes=0) as spool_:
        for body in sent:
            spool_.append_now(
                workspace_id=1, pipeline_id=1, form=Form.ARRAY, events=2, body=body, received_us=DAY_US
            )
    while writer.step(force=True) or writer.state.events < 600:
        pass
    assert payloads(lake, pipeline()) == [
        b'{"n": %d}' % n if half == 0 else b'{"n": %d.5}' % n for n in range(300) for half in (0, 1)
    ]
    assert writer.position.segment > 1 and len(lake.objects(pipeline(), DAY)) > 3
    assert lake.compact_day(pipeline(), DAY).events == 600
    # Another process goes on where this one was.
    again = BronzeWriter(SpoolReader(folder), lake, tmp_path / "cursor", "node-1", split, SLUGS.get)
    assert again.position == writer.position and again.step(force=True) is False


KILLED_WRITER = """
import sys, threading, pandas  # pyarrow would import it in the middle
from pathlib import Path
from sluiceway.infra.settings import load_settings
from sluiceway.ingestion.spool import SpoolReader
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.split import split
home = Path(sys.argv[1])
lake = Lake(load_settings({"SLUICEWAY_HOME": str(home / "home"), "SLUICEWAY_NODE": "node-1"}))
writer = BronzeWriter(SpoolReader(home / "spool"), lake, home / "cursor", "node-1", split,
                      {1: "orders"}.get, flush_s=0.01, flush_bytes=3000)
print("ready", flush=True)
writer.run(threading.Event())
"""


@pytest.mark.faults
@pytest.mark.slow
def test_kill_9_of_the_process_again_and_again(lake: Lake, tmp_path: Path) -> None:
    """A writer process killed at random moments while events come in: each event is there once, in order."""
    sent: list[bytes] = []
    chance = random.Random(20260314)
    with SpoolWriter(tmp_path / "spool", segment_bytes=8192, reserve_bytes=0) as spool_:
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, "-c", KILLED_WRITER, str(tmp_path)], stdout=subprocess.PIPE
            )
            try:
                assert process.stdout is not None and process.stdout.readline() == b"ready\n"
                until = time.monotonic() + chance.uniform(0.05, 0.5)
                while time.monotonic() < until:
                    body = b'{"n": %d, "pad": "%s"}' % (len(sent), b"x" * chance.randrange(200))
                    spool_.append_now(
                        workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=body,
                        received_us=DAY_US,
                    )  # fmt: skip
                    sent.append(body)
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
    last = BronzeWriter(
        SpoolReader(tmp_path / "spool"), lake, tmp_path / "cursor", "node-1", split, SLUGS.get
    )
    assert last.position > Position(0, 0)
    while last.step(force=True):
        pass
    assert payloads(lake, pipeline()) == sent


def test_pauses_grow_and_are_bounded(lake: Lake, tmp_path: Path) -> None:
    writer = make(ListReader([]), lake, tmp_path / "c")
    pauses = [writer._pause_after(LakeUnavailable("away")) for _ in range(40)]
    assert 0.4 <= pauses[0] <= 0.6 and all(12 <= pause <= 18 for pause in pauses[10:])
    assert writer.state.failures == 40
