"""The spool on disk: what was taken is read, in order, whatever was torn, flipped, rolled or trimmed."""

import errno
import logging
import os
import random
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluiceway.ingestion.contracts import START, Form, Position, SpoolRecord
from sluiceway.ingestion.errors import (
    DiskReserveReached,
    SpoolClosed,
    SpoolFull,
    SpoolLocked,
    SpoolWriteFailed,
)
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter, trim
from sluiceway.ingestion.spool.segments import FileOps, numbers, path_of


def put(writer: SpoolWriter, body: bytes = b'{"a":1}', **changes: object) -> Position:
    values = {"workspace_id": 1, "pipeline_id": 2, "form": Form.OBJECT, "events": 1, "body": body} | changes
    return writer.append_now(**values)  # type: ignore[arg-type]


def read_all(folder: Path, max_bytes: int = 1 << 20) -> list[SpoolRecord]:
    with SpoolReader(folder) as reader:
        return drain(reader, max_bytes)


def drain(reader: SpoolReader, max_bytes: int = 1 << 20) -> list[SpoolRecord]:
    found: list[SpoolRecord] = []
    at = START
    while got := reader.read(at, max_bytes):
        found += got
        at = got[-1].end
    return found


def bodies(found: list[SpoolRecord]) -> list[bytes]:
    return [record.body for record in found]


def body_of(index: int) -> bytes:
    return b'{"n":%d}' % index


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path) as writer:
        first = put(writer, body_of(1), headers={"x-event": "push ü"}, received_us=1_700_000_000_000_001)
        second = put(writer, b"[{},{}]", form=Form.ARRAY, events=2, workspace_id=7, pipeline_id=9)
        one, two = read_all(tmp_path)
    assert one == SpoolRecord(
        position=first, end=second, workspace_id=1, pipeline_id=2, received_us=1_700_000_000_000_001,
        form=Form.OBJECT, headers={"x-event": "push ü"}, events=1, body=body_of(1),
    )  # fmt: skip
    assert (two.position, two.form, two.events, two.workspace_id, two.pipeline_id) == (
        second, Form.ARRAY, 2, 7, 9,
    )  # fmt: skip
    assert two.headers == {}


record_values = st.fixed_dictionaries(
    {
        "workspace_id": st.integers(1, 2**31 - 1),
        "pipeline_id": st.integers(1, 2**31 - 1),
        "received_us": st.integers(0, 2**62),
        "form": st.sampled_from(Form),
        "events": st.integers(1, 2**32 - 1),
        "headers": st.dictionaries(st.text(max_size=10), st.text(max_size=50), max_size=3).filter(
            lambda d: all(not 0xD800 <= ord(c) <= 0xDFFF for kv in d.items() for t in kv for c in t)
        ),
        "body": st.binary(max_size=300),
    }
)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(record_values, min_size=1, max_size=12), max_bytes=st.integers(1, 2000))
def test_any_record_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, object]], max_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with SpoolWriter(folder, segment_bytes=500) as writer:
        positions = [put(writer, **value) for value in values]  # type: ignore[arg-type]
    found = read_all(folder, max_bytes)
    assert [r.position for r in found] == positions == sorted(positions)
    for record, value in zip(found, values, strict=True):
        assert {name: getattr(record, name) for name in value} == value


def test_a_torn_tail_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path) as writer:
        kept, torn = put(writer, body_of(1)), put(writer, body_of(2))
    [number] = numbers(tmp_path)
    whole = path_of(tmp_path, number).read_bytes()
    for size in range(torn.offset, len(whole)):
        folder = tmp_path / f"cut-{size}"
        folder.mkdir()
        path_of(folder, number).write_bytes(whole[:size])
        with SpoolReader(folder) as reader:
            assert bodies(drain(reader)) == [body_of(1)], "a torn record is not there yet"
            with SpoolWriter(folder) as writer:
                assert path_of(folder, number).stat().st_size == torn.offset
                again = put(writer, body_of(3))
            assert bodies(drain(reader)) == [body_of(1), body_of(3)]
            assert reader.corrupt_records == 0
        assert again > torn > kept, "no position is given out twice"


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_cost_only_the_records_they_hit(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with SpoolWriter(tmp_path) as writer:
        positions = [put(writer, body_of(i)) for i in range(6)]
    [number] = numbers(tmp_path)
    path = path_of(tmp_path, number)
    whole = path.read_bytes()
    begin, end = positions[2].offset, positions[3].offset
    others = [body_of(i) for i in (0, 1, 3, 4, 5)]
    for offset in range(begin, end):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (offset + seed * 2) % 8
        path.write_bytes(damaged)
        with SpoolReader(tmp_path) as reader:
            assert bodies(drain(reader)) == others
            assert reader.corrupt_records == 1


@pytest.mark.parametrize("seed", range(2))
def test_a_scan_tells_of_every_record_that_damage_left(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with SpoolWriter(tmp_path) as writer:
        positions = [put(writer, body_of(i), pipeline_id=1 + i % 2) for i in range(6)]
    [number] = numbers(tmp_path)
    path = path_of(tmp_path, number)
    whole = path.read_bytes()
    for offset in range(positions[2].offset, positions[3].offset):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (offset + seed * 3) % 8
        path.write_bytes(damaged)
        with SpoolReader(tmp_path) as reader:
            found, at = [], START
            while (scan := reader.scan(at, 1)).end > at:
                found += scan.extents
                at = scan.end
            told = [
                (e.pipeline_id, r.body)
                for e in found
                for r in reader.read(e.begin, 1 << 20, pipelines={e.pipeline_id}, end=e.end)
            ]
            left = [(1 + i % 2, body_of(i)) for i in (0, 1, 3, 4, 5)]
            assert sorted(told) == sorted(left)
            assert reader.corrupt_records == 1, "read and scan pass the same damage and count it once"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_was_walked_before_is_read_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("spool")
    with (
        SpoolWriter(folder, segment_bytes=4000) as writer,
        SpoolReader(folder, stretch_bytes=chance.choice([200, 512, 2000])) as reader,
    ):
        kept: list[SpoolRecord] = []
        for _ in range(4):
            for i in range(chance.randint(1, 25)):
                put(writer, body_of(i) * chance.choice([1, 1, 1, 30]), pipeline_id=chance.randint(1, 4))
            kept = drain(reader)
            for _ in range(12):
                wanted = set(chance.sample(range(1, 5), chance.randint(1, 3)))
                begin, end = (
                    sorted(chance.sample(kept, 2), key=lambda r: r.position) if kept[1:] else kept * 2
                )
                expected = [
                    r for r in kept if r.pipeline_id in wanted and begin.position <= r.position < end.position
                ]
                found = reader.read(begin.position, 1 << 20, pipelines=wanted, end=end.position)
                assert found == expected
                assert reader.read(begin.position, 1, pipelines=wanted, end=end.position) == expected[:1]
        assert reader.corrupt_records == 0


def test_damage_after_a_walk_is_found_and_costs_only_what_it_hits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with SpoolWriter(tmp_path) as writer:
        positions = [put(writer, body_of(i), pipeline_id=1 + i % 2) for i in range(40)]
    path = path_of(tmp_path, positions[0].segment)
    with SpoolReader(tmp_path, stretch_bytes=512) as reader:
        before = reader.read(START, 1 << 20, pipelines={1})
        assert len(before) == 20
        damaged = bytearray(path.read_bytes())
        damaged[positions[6].offset + 20] ^= 4
        path.write_bytes(damaged)
        after = reader.read(START, 1 << 20, pipelines={1})
        assert bodies(after) == [body_of(i) for i in range(0, 40, 2) if i != 6]
        assert reader.corrupt_records == 1


def test_a_damaged_segment_header_costs_no_record(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path) as writer:
        for i in range(3):
            put(writer, body_of(i))
    path = path_of(tmp_path, numbers(tmp_path)[0])
    whole = path.read_bytes()
    for offset in range(32):
        damaged = bytearray(whole)
        damaged[offset] ^= 0xFF
        path.write_bytes(damaged)
        assert bodies(read_all(tmp_path)) == [body_of(i) for i in range(3)]


def test_a_segment_of_rubbish_is_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SpoolWriter(tmp_path, segment_bytes=60) as writer:
        for i in range(4):
            put(writer, body_of(i))
    rubbish = path_of(tmp_path, numbers(tmp_path)[1])
    rubbish.write_bytes(os.urandom(4096))
    with SpoolReader(tmp_path) as reader:
        assert body_of(0) in bodies(found := drain(reader))
        assert bodies(found)[-1] == body_of(3)
        assert reader.corrupt_records == 1
    assert rubbish.name in caplog.text


def test_a_body_cannot_pass_for_a_record(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "a") as writer:
        put(writer, body_of(666))
    stolen = path_of(tmp_path / "a", numbers(tmp_path / "a")[0]).read_bytes()[32:]
    with SpoolWriter(tmp_path / "b") as writer:
        first = put(writer, stolen)
        put(writer, body_of(1))
    path = path_of(tmp_path / "b", first.segment)
    damaged = bytearray(path.read_bytes())
    damaged[first.offset + 5] ^= 1
    path.write_bytes(damaged)
    assert bodies(read_all(tmp_path / "b")) == [body_of(1)]


def test_segments_roll_and_several_readers_keep_their_own_place(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, segment_bytes=1000) as writer:
        for i in range(100):
            put(writer, body_of(i))
        assert len(numbers(tmp_path)) > 3
        with SpoolReader(tmp_path) as slow, SpoolReader(tmp_path) as fast:
            early = slow.read(START, 200)
            assert len(drain(fast)) == 100
            put(writer, body_of(100))
            late = slow.read(early[-1].end, 1 << 20)
            assert bodies(early + late) == [body_of(i) for i in range(101)]


def test_read_keeps_about_to_its_budget_but_gives_a_large_record(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path) as writer:
        put(writer, b"x" * 3_000_000)
        put(writer, body_of(1))
        with SpoolReader(tmp_path) as reader:
            first = reader.read(START, 10)
            assert [len(r.body) for r in first] == [3_000_000]
            assert bodies(reader.read(first[-1].end, 10)) == [body_of(1)]


def test_trim_removes_whole_segments_only_and_never_the_newest(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, segment_bytes=500) as writer:
        positions = [put(writer, body_of(i)) for i in range(60)]
        middle = positions[30]
        removed = trim(tmp_path, middle)
        assert removed > 0
        assert numbers(tmp_path)[0] == middle.segment
        kept = read_all(tmp_path)
        assert kept[0].position.segment == middle.segment
        assert kept[-1].position == positions[-1]
        newest = numbers(tmp_path)[-1]
        trim(tmp_path, Position(newest + 100, 0))
        assert numbers(tmp_path) == [newest]
    with SpoolWriter(tmp_path) as writer:
        assert put(writer).segment == newest + 1


def test_a_reader_goes_on_where_a_trimmed_segment_was(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, segment_bytes=200) as writer:
        for i in range(20):
            put(writer, body_of(i))
        with SpoolReader(tmp_path) as reader:
            [first, *_] = reader.read(START, 1)
            trim(tmp_path, Position(numbers(tmp_path)[-1], 0))
            assert bodies(reader.read(Position(first.position.segment + 1, 32), 1 << 20))[-1] == body_of(19)


def test_only_one_writer_owns_a_folder(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path), pytest.raises(SpoolLocked):
        SpoolWriter(tmp_path)
    SpoolWriter(tmp_path).close()


def test_a_lost_volume_does_not_repeat_positions(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "old", now_s=lambda: 1_790_000_000.0) as writer:
        before = put(writer)
    with SpoolWriter(tmp_path / "new", now_s=lambda: 1_790_003_600.0) as writer:
        assert put(writer) > before


class FailingDisk(FileOps):
    """Writes `room` bytes in all, then fails as a full disk does: after a part of the data."""

    def __init__(self, room: int, code: int = errno.ENOSPC) -> None:
        self.room = room
        self.code = code
        self.sync_fails = False

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.room <= 0:
            raise OSError(self.code, os.strerror(self.code))
        part = bytes(data)[: self.room]
        self.room -= len(part)
        return super().write(descriptor, part)

    def sync(self, descriptor: int) -> None:
        if self.sync_fails:
            raise OSError(errno.EIO, "Input/output error")
        super().sync(descriptor)


@pytest.mark.parametrize("room", [0, 10, 32, 33, 60, 100, 131])
def test_a_full_disk_leaves_no_torn_record_and_writing_goes_on(tmp_path: Path, room: int) -> None:
    disk = FailingDisk(room)
    with SpoolWriter(tmp_path, files=disk, reserve_bytes=0) as writer:
        accepted = []
        for i in range(4):
            try:
                put(writer, body_of(i) + b" " * 20)
                accepted.append(i)
            except DiskReserveReached as error:
                assert error.retry_after_s
        assert len(accepted) < 4
        assert [r.body.strip() for r in read_all(tmp_path)] == [body_of(i) for i in accepted]
        refused = writer.refusal
        assert refused is not None and refused.code == "disk_full"
        disk.room = 10**9
        put(writer, body_of(99))
        assert writer.refusal is None
    with SpoolReader(tmp_path) as reader:
        found = drain(reader)
        assert reader.corrupt_records == 0
    assert [r.body.strip() for r in found] == [body_of(i) for i in [*accepted, 99]]
    assert len({r.position for r in found}) == len(found)


def test_a_failed_sync_takes_the_records_back(tmp_path: Path) -> None:
    disk = FailingDisk(10**9)
    with SpoolWriter(tmp_path, files=disk) as writer:
        before = put(writer, body_of(1))
        disk.sync_fails = True
        with pytest.raises(SpoolWriteFailed):
            put(writer, body_of(2))
        disk.sync_fails = False
        after = put(writer, body_of(3))
        assert after.segment > before.segment
    assert bodies(read_all(tmp_path)) == [body_of(1), body_of(3)]


def test_past_the_high_water_mark_nothing_is_taken_until_readers_trim(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, segment_bytes=300, max_bytes=2000) as writer:
        with pytest.raises(SpoolFull):
            for i in range(100):
                put(writer, body_of(i))
        assert writer.refusal is not None
        trim(tmp_path, Position(numbers(tmp_path)[-1], 0))
        time.sleep(0.25)
        put(writer, body_of(1))
        assert writer.refusal is None
        assert writer.used_bytes < 1000


def test_the_disk_reserve_is_kept(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, reserve_bytes=1 << 60) as writer, pytest.raises(DiskReserveReached):
        put(writer)
    assert read_all(tmp_path) == []


def test_a_closed_writer_takes_nothing(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    put(writer)
    writer.close()
    writer.close()
    assert isinstance(writer.refusal, SpoolClosed)
    with pytest.raises(SpoolClosed):
        put(writer)


def test_the_doorbell_wakes_every_waiting_reader(tmp_path: Path) -> None:
    with SpoolReader(tmp_path) as one, SpoolReader(tmp_path) as two, SpoolWriter(tmp_path) as writer:
        assert one.wait(0) and two.wait(0), "the first wait makes the bell and returns"
        assert not one.wait(0)
        woken: list[bool] = []

        def wait(reader: SpoolReader) -> None:
            woken.append(reader.wait(60))

        threads = [threading.Thread(target=wait, args=(reader,)) for reader in (one, two)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        put(writer)
        for thread in threads:
            thread.join()
    assert woken == [True, True]
    assert list((tmp_path / "doorbells").iterdir()) == []


def test_the_bell_of_a_dead_reader_is_removed(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path) as writer:
        reader = SpoolReader(tmp_path)
        reader.wait(0)
        [path] = (tmp_path / "doorbells").iterdir()
        assert reader._ear is not None
        reader._ear._socket.close()  # as when its process was killed: the file stays
        put(writer)
        assert not path.exists()
        reader.close()


def test_a_reader_waits_in_a_folder_with_a_very_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with SpoolWriter(folder) as writer, SpoolReader(folder) as reader:
        reader.wait(0)
        put(writer)
        assert reader.wait(2)
