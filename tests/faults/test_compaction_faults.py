"""Compaction attacked: killed at every step, several at once, in the middle of writing and reading.

A reader that begins at any moment sees every event that was in the lake by then exactly once and in order,
and perhaps newer ones. On a folder and on S3.
"""

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluiceway.infra.settings import Settings, load_settings
from sluiceway.ingestion.contracts import SpoolRecord
from sluiceway.lake import compaction, reading
from sluiceway.lake.errors import LakeUnavailable
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, ListReader, expected, payloads, pipeline, record
from tests.support.faults.plugin import Record
from tests.support.lake_world import wait_until
from tests.support.s3_server import S3Server, s3_settings

pytestmark = pytest.mark.faults

ORDERS = pipeline()
SEEDS = range(max(2, int(os.environ.get("FAULT_SEEDS", "0")) // 50))


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test may catch it."""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(params=["file", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "file":
        return load_settings({"SLUICEWAY_HOME": str(tmp_path / "home"), "SLUICEWAY_NODE": "node-1"})
    server = request.getfixturevalue("s3")
    bucket = server.make_bucket(f"bucket-{abs(hash(request.node.name)):x}")
    return s3_settings(server.url, bucket, tmp_path / "home")


def writer_of(records: list[SpoolRecord], lake: Lake, folder: Path) -> BronzeWriter:
    """One object a record."""
    return BronzeWriter(
        ListReader(records), lake, folder, "node-1", split, {1: "orders"}.get, flush_bytes=1, flush_s=3600
    )


class Reading(threading.Thread):
    """Reads the day again and again; what it saw wrong is in `wrong`."""

    def __init__(self, lake: Lake, records: list[SpoolRecord], written: list[int]) -> None:
        super().__init__(daemon=True)
        self._lake = lake
        self._events = expected(records)
        self._written = written
        self.ending = threading.Event()
        self.times = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self.ending.is_set() and not self.wrong:
            least = self._written[0]
            try:
                found = payloads(self._lake, ORDERS)
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                return
            if found != self._events[: len(found)] or len(found) < least:
                self.wrong.append(f"{len(found)} events instead of {least} or more: {found[:50]}")
            self.times += 1


class Compacting(threading.Thread):
    """Compacts the day again and again, and is stopped at steps that chance chooses."""

    def __init__(self, settings: Settings, seed: str) -> None:
        super().__init__(daemon=True)
        self._chance = random.Random(seed)
        self._lake = Lake(settings, on_step=self._step)
        self.ending = threading.Event()
        self.tries = self.merged = self.stopped = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self.ending.is_set() and not self.wrong:
            self.tries += 1
            try:
                done = self._lake.compact_day(ORDERS, DAY)
                self.merged += done.objects_after < done.objects_before
            except Killed:
                self.stopped += 1
            except LakeUnavailable as error:  # the others were faster each time
                self.stopped += "by others" in error.detail
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")

    def _step(self, step: str) -> None:
        if step != "end" and self._chance.random() < 0.2:
            raise Killed(step)
        # Give the others a turn right here, which is where it hurts.
        self.ending.wait(self._chance.choice([0, 0, 0.001, 0.005]))


@pytest.mark.parametrize("seed", SEEDS)
def test_readers_see_either_old_or_new(
    settings: Settings, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, fault: Record
) -> None:
    chance = random.Random(f"compaction-{seed}")
    records = [record(n) for n in range(60 if settings.s3_endpoint is None else 15)]
    lake = Lake(settings)
    writer = writer_of(records, lake, tmp_path)
    writer.step()
    (one,) = lake.objects(ORDERS, DAY)
    # Several objects a day, deleted a few at a time, read one by one.
    monkeypatch.setattr(compaction, "COMPACTED_BYTES", one.size_bytes * chance.choice([3, 8, 1000]))
    monkeypatch.setattr(compaction, "DELETE_AT_ONCE", chance.choice([1, 2, 5]))
    monkeypatch.setattr(reading, "AHEAD_BYTES", chance.choice([1, one.size_bytes * 4]))
    written = [writer.state.events]
    readers = [Reading(Lake(settings), records, written) for _ in range(2)]
    compactors = [Compacting(settings, f"{seed}-{number}") for number in range(2)]
    threads: list[Reading | Compacting] = [*readers, *compactors]
    for thread in threads:
        thread.start()
    try:
        while writer.position < records[-1].end:
            writer.step()
            written[0] = writer.state.events
            writer_waits = chance.choice([0, 0.002, 0.01])
            compactors[0].ending.wait(writer_waits)
        wait_until(
            "everyone was at work",
            lambda: (
                any(t.wrong for t in threads)
                or (all(r.times > 2 for r in readers) and all(c.tries > 3 for c in compactors))
            ),
        )
    finally:
        for thread in threads:
            thread.ending.set()
        for thread in threads:
            thread.join(60)
    assert [wrong for thread in threads for wrong in thread.wrong] == []
    stopped = sum(c.stopped for c in compactors)
    assert stopped + sum(c.merged for c in compactors) > 0
    fault("compaction stopped at a step", times=stopped, acknowledged=len(expected(records)))
    assert payloads(lake, ORDERS) == expected(records)
    monkeypatch.setattr(compaction, "COMPACTED_BYTES", 1 << 30)
    assert lake.compact_day(ORDERS, DAY).objects_after == 1
    assert payloads(lake, ORDERS) == expected(records)


def test_an_object_that_no_listing_showed_is_never_hidden(settings: Settings, tmp_path: Path) -> None:
    """Put between listing and putting: the compaction notices, and begins anew."""
    records = [record(n) for n in range(6)]
    lake = Lake(settings)
    writer = writer_of(records, lake, tmp_path)
    while writer.position < records[-1].end:
        writer.step()
    third = next(o for o in lake.objects(ORDERS, DAY) if o.name.begin == records[1].end)
    data = lake._store.get(third.name.path)
    lake._store.delete([third.name.path])
    objects = lake._of(ORDERS, DAY)
    load, loaded = objects.load, []

    def late(item: object) -> bytes:
        if not loaded:
            loaded.append(item)
            lake.put(third.name, data)
        return load(item)  # type: ignore[arg-type]

    objects.load = late  # type: ignore[method-assign]
    done = compaction.Compactor(lake._store, objects, lambda step: None).run(2)
    assert (done.objects_before, done.objects_after, done.events) == (6, 1, 12)
    assert payloads(lake, ORDERS) == expected(records)


KILLING = """
import os, signal, sys
from sluiceway.infra.settings import load_settings
from sluiceway.lake import compaction
from sluiceway.lake.service import Lake
from tests.support.bronze import DAY, expected, payloads, pipeline, record

home, records, orders = sys.argv[1], [record(n) for n in range(int(sys.argv[2]))], pipeline()
settings = load_settings({"SLUICEWAY_HOME": home, "SLUICEWAY_NODE": "node-1"})
compaction.DELETE_AT_ONCE = 2

def forked(work):
    # Each in a process of its own, forked from one that has imported everything and started no thread.
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def compact(at):
    steps = iter(range(100))
    def kill(step):
        if next(steps) == at:
            os.kill(os.getpid(), signal.SIGKILL)
    Lake(settings, on_step=kill).compact_day(orders, DAY)
    return 0

def check():
    return 0 if payloads(Lake(settings), orders) == expected(records) else 8

for at in range(100):
    code = forked(lambda: compact(at))
    print(code, forked(check), flush=True)
    if code == 0:
        break
    # The next one finds what this one left, and its first step is another.
"""


def test_kill_9_at_every_step(tmp_path: Path, fault: Record) -> None:
    home = tmp_path / "home"
    settings = load_settings({"SLUICEWAY_HOME": str(home), "SLUICEWAY_NODE": "node-1"})
    records = [record(n) for n in range(9)]
    writer = writer_of(records, Lake(settings), tmp_path)
    while writer.position < records[-1].end:
        writer.step()
    found = subprocess.run(
        [sys.executable, "-c", KILLING, str(home), str(len(records))],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    codes = [line.split() for line in found.stdout.splitlines()]
    assert codes[-1] == ["0", "0"], found.stderr
    assert codes[:-1] == [["-9", "0"]] * (len(codes) - 1), found.stderr
    assert len(codes) >= 3
    fault("compaction: kill -9 at a step", times=len(codes) - 1, acknowledged=len(expected(records)))
    lake = Lake(settings)
    assert payloads(lake, ORDERS) == expected(records)
    assert len(lake.objects(ORDERS, DAY)) == 1


def test_a_half_written_file_of_a_killed_process_is_never_seen_and_goes(tmp_path: Path) -> None:
    settings = load_settings({"SLUICEWAY_HOME": str(tmp_path / "home"), "SLUICEWAY_NODE": "node-1"})
    lake = Lake(settings)
    writer_of([record(0)], lake, tmp_path).step()
    left = tmp_path / "home" / "lake" / ".staging" / "abc"
    left.write_bytes(b"half")
    assert payloads(lake, ORDERS) == expected([record(0)])
    assert lake.days(ORDERS) == [DAY]
    lake.apply_retention(ORDERS)
    assert left.exists()  # a process may be at it
    os.utime(left, (0, 0))
    lake.apply_retention(ORDERS)
    assert not left.exists()
    with contextlib.suppress(FileNotFoundError):
        assert list(left.parent.iterdir()) == []
