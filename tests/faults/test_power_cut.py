"""Power cuts: what was written since the last sync is dropped, torn or reordered; the acknowledged stays.

`FAULT_SEEDS` says how many seeds are run; each loses power three times on the same spool.
"""

import os
import random
import threading
from pathlib import Path

import pytest

from sluiceway.ingestion.contracts import START, Form, Position, SpoolRecord
from sluiceway.ingestion.errors import SpoolWriteFailed
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.kit.errors import SluicewayError
from tests.support.faults.disk import PowerCut, VolatileDisk
from tests.support.faults.plugin import Record, seeds

pytestmark = pytest.mark.faults

SEEDS = seeds(40)
GENERATIONS = 3
SENDERS = 3


class Senders:
    """Threads that append until the power goes; they remember what was acknowledged, and where."""

    def __init__(self, writer: SpoolWriter, name: str) -> None:
        self.acknowledged: dict[Position, bytes] = {}
        self.sent: set[bytes] = set()
        self._writer = writer
        self._threads = [threading.Thread(target=self._send, args=(f"{name}-{n}",)) for n in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _send(self, name: str) -> None:
        chance = random.Random(name)
        number = 0
        while True:
            number += 1
            body = b'{"id":"%s-%d","fill":"%s"}' % (
                name.encode(), number, b"x" * chance.choice([0, 10, 700, 3000]),
            )  # fmt: skip
            self.sent.add(body)
            try:
                position = self._writer.append_now(
                    workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=body
                )
            except SluicewayError as error:
                assert isinstance(error, SpoolWriteFailed)
                return
            self.acknowledged[position] = body


def read_all(folder: Path) -> list[SpoolRecord]:
    with SpoolReader(folder) as reader:
        found: list[SpoolRecord] = []
        while got := reader.read(found[-1].end if found else START, 1 << 20):
            found += got
        return found


def lose_power(folder: Path, target: Path, name: str, chance: random.Random) -> Senders | None:
    """Write to the spool in `folder` until the power goes; `target` is what is found afterwards."""
    disk = VolatileDisk(folder, cut_at=chance.randint(1, 60), chance=chance)
    senders = None
    try:
        writer = SpoolWriter(folder, segment_bytes=chance.choice([2_000, 20_000]), files=disk)
    except PowerCut:
        pass  # while a torn tail was being cut off
    else:
        senders = Senders(writer, name)
        senders.join()
        writer.close()
    target.mkdir()
    disk.restart(target)
    return senders


@pytest.mark.parametrize("part", range(4))
def test_what_was_acknowledged_survives_power_cuts(tmp_path: Path, part: int, fault: Record) -> None:
    total = 0
    for seed in SEEDS[part::4]:
        total += run_seed(tmp_path / str(seed), seed)
    fault("power cut in the spool", times=GENERATIONS * len(SEEDS[part::4]), acknowledged=total)
    assert total > 0 or not SEEDS[part::4]


def run_seed(folder: Path, seed: int) -> int:
    chance = random.Random(f"power-{seed}")
    acknowledged: dict[Position, bytes] = {}
    sent: set[bytes] = set()
    current = folder / "0"
    current.mkdir(parents=True)
    furthest = START
    for generation in range(GENERATIONS):
        following = folder / str(generation + 1)
        senders = lose_power(current, following, f"{seed}-{generation}", chance)
        if senders is not None:
            fresh = senders.acknowledged
            assert all(position >= furthest for position in fresh), f"seed {seed}: a place was used twice"
            acknowledged |= fresh
            sent |= senders.sent
            # A loader may have read what was never synced, and have moved its cursor behind it.
            furthest = max([furthest, *(record.end for record in read_all(current))])
        current = following
    with SpoolWriter(current) as writer:
        last = writer.append_now(workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b"{}")
    assert last >= furthest, f"seed {seed}: a place was used twice"
    found = {record.position: record.body for record in read_all(current)}
    assert found.pop(last) == b"{}"
    lost = {position for position in acknowledged if found.get(position) != acknowledged[position]}
    assert not lost, f"seed {seed} lost {sorted(map(str, lost))[:5]}"
    assert len(set(found.values())) == len(found), f"seed {seed}: a record is there twice"
    assert set(found.values()) <= sent
    return len(acknowledged)


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """The test of the test: without a sync some seed must lose something."""

    class Careless(VolatileDisk):
        def sync(self, descriptor: int) -> None:
            self._call()

    lost = 0
    for seed in range(10):
        folder, target = tmp_path / f"{seed}", tmp_path / f"{seed}-after"
        folder.mkdir()
        disk = Careless(folder, cut_at=40, chance=random.Random(seed))
        writer = SpoolWriter(folder, files=disk)
        senders = Senders(writer, str(seed))
        senders.join()
        writer.close()
        target.mkdir()
        disk.restart(target)
        found = {record.position for record in read_all(target)}
        lost += len(set(senders.acknowledged) - found)
    assert lost > 0


def test_the_lakes_cursor_is_always_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power goes at each call that `Cursor.save` makes: what is found is the old cursor or the new one."""
    from sluiceway.lake import writer

    path = tmp_path / "bronze.cursor"
    old, new = Position(7, 100), Position(8, 200)
    synced: set[int] = set()
    calls = 0
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        step()
        real_sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def replace(self: Path, target: Path) -> Path:
        step()
        assert self.stat().st_ino in synced, "the content is safe before it gets its name"
        return real_replace(self, target)

    def step() -> None:
        nonlocal calls
        calls += 1
        if calls == cut_at:
            raise PowerCut

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    cut_at = 0
    writer.Cursor(path).save(old, None)
    whole, calls = calls, 0
    assert tmp_path.stat().st_ino in synced, "the name is safe before anybody relies on it"
    for last in range(1, whole + 1):
        cut_at, calls = last, 0
        with pytest.raises(PowerCut):
            writer.Cursor(path).save(new, None)
        assert writer.Cursor(path).position in (old, new)
        cut_at = 0
        writer.Cursor(path).save(old, None)
