"""What every `EventLog` keeps, run against the spool and against the least log that could stand in for it.

A log on a broker (Kafka and its kin) has to pass the same: give it an entry in `LOGS`.
"""

import asyncio
import threading
from collections.abc import Callable, Container, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from sluiceway.ingestion.contracts import (
    START,
    Done,
    EventLog,
    Extent,
    Form,
    LogReader,
    LogWriter,
    Outcome,
    Position,
    Scan,
    SpoolRecord,
)
from sluiceway.ingestion.errors import SpoolClosed
from sluiceway.ingestion.spool import Spool
from sluiceway.kit.errors import SluicewayError


class MemoryLog:
    """Keeps the promises in one process's memory. A segment holds four records."""

    def __init__(self) -> None:
        self.records: list[SpoolRecord] = []
        self.taken = 0
        self.changed = threading.Condition()

    def writer(self) -> LogWriter:
        return _MemoryWriter(self)

    def reader(self) -> LogReader:
        return _MemoryReader(self)

    def trim(self, before: Position) -> int:
        newest = self.records[-1].position.segment if self.records else 0
        gone = {r.position.segment for r in self.records if r.position.segment < min(before.segment, newest)}
        self.records = [r for r in self.records if r.position.segment not in gone]
        return len(gone)


class _MemoryWriter:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._closed = False

    @property
    def refusal(self) -> SluicewayError | None:
        return SpoolClosed("Closed.") if self._closed else None

    async def append(
        self, *, workspace_id: int, pipeline_id: int, form: Form, events: int, body: bytes,
        headers: Mapping[str, str] | None = None, received_us: int | None = None,
    ) -> Position:  # fmt: skip
        if self._closed:
            raise SpoolClosed("Closed.")
        log = self._log
        place = [Position(1 + (log.taken + n) // 4, (log.taken + n) % 4) for n in (0, 1)]
        log.taken += 1
        with log.changed:
            log.records.append(
                SpoolRecord(
                    position=place[0], end=place[1], workspace_id=workspace_id, pipeline_id=pipeline_id,
                    received_us=received_us or 1, form=form, headers=dict(headers or {}), events=events,
                    body=body,
                )
            )  # fmt: skip
            log.changed.notify_all()
        return place[0]

    def submit(
        self, *, workspace_id: int, pipeline_id: int, form: Form, events: int, body: bytes, done: Done,
        headers: Mapping[str, str] | None = None, received_us: int | None = None,
    ) -> None:  # fmt: skip
        taking = self.append(
            workspace_id=workspace_id, pipeline_id=pipeline_id, form=form, events=events, body=body,
            headers=headers, received_us=received_us,
        )  # fmt: skip
        if self._closed:
            taking.close()
            raise SpoolClosed("Closed.")
        task = asyncio.get_running_loop().create_task(taking)
        task.add_done_callback(lambda _: done(task.result()))

    def close(self) -> None:
        self._closed = True


class _MemoryReader:
    corrupt_records = 0

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._heard = -1

    def read(
        self, start: Position, max_bytes: int, *, pipelines: Container[int] | None = None,
        end: Position | None = None,
    ) -> list[SpoolRecord]:  # fmt: skip
        found: list[SpoolRecord] = []
        size = 0
        for record in self._log.records:
            wanted = pipelines is None or record.pipeline_id in pipelines
            before = end is None or record.position < end
            if wanted and before and record.position >= start and size < max_bytes:
                found.append(record)
                size += len(record.body)
        return found

    def scan(self, start: Position, max_bytes: int) -> Scan:
        found = self.read(start, max_bytes)
        extents = [
            Extent(r.pipeline_id, r.position, r.end, len(r.body), r.events, r.received_us) for r in found
        ]
        return Scan(extents, found[-1].end if found else start, sum(len(r.body) for r in found))

    def bounds(self) -> tuple[int, int] | None:
        found = [record.position.segment for record in self._log.records]
        return (found[0], found[-1]) if found else None

    def wait(self, timeout_s: float) -> bool:
        with self._log.changed:
            if self._heard == self._log.taken:
                self._log.changed.wait(timeout_s)
            rung = self._heard != self._log.taken
            self._heard = self._log.taken
            return rung

    def close(self) -> None:
        pass


LOGS: dict[str, Callable[[Path], EventLog]] = {
    "spool": lambda folder: Spool(folder, segment_bytes=300),
    "memory": lambda folder: MemoryLog(),
}


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> EventLog:
    return LOGS[request.param](tmp_path)


def put(log: EventLog, count: int, begin: int = 0) -> list[Position]:
    async def run() -> list[Position]:
        writer = log.writer()
        try:
            return [await _append(writer, begin + n) for n in range(count)]
        finally:
            writer.close()

    return asyncio.run(run())


def put_of(log: EventLog, pipelines: list[int]) -> None:
    """One record for each of `pipelines`, received at 1, 2, 3 …"""

    async def run() -> None:
        writer = log.writer()
        for number, pipeline_id in enumerate(pipelines, 1):
            await writer.append(
                workspace_id=1, pipeline_id=pipeline_id, form=Form.NDJSON, events=number, body=b"{}" * number,
                received_us=number,
            )  # fmt: skip
        writer.close()

    asyncio.run(run())


def scan_all(reader: LogReader, start: Position = START, max_bytes: int = 1) -> tuple[list[Extent], Position]:
    found: list[Extent] = []
    at = start
    while (scan := reader.scan(at, max_bytes)).end > at:
        assert all(at <= e.begin < e.end <= scan.end for e in scan.extents)
        found += scan.extents
        at = scan.end
    return found, at


async def _append(writer: LogWriter, number: int) -> Position:
    return await writer.append(
        workspace_id=1, pipeline_id=number, form=Form.NDJSON, events=2, body=b"{}\n{}",
        headers={"x-kind": "é"}, received_us=5,
    )  # fmt: skip


def drain(reader: LogReader, start: Position = START, max_bytes: int = 1) -> list[SpoolRecord]:
    found: list[SpoolRecord] = []
    at = start
    while got := reader.read(at, max_bytes):
        found += got
        at = got[-1].end
    return found


def test_what_is_appended_is_read_in_order_with_growing_positions(log: EventLog) -> None:
    positions = put(log, 10)
    reader = log.reader()
    found = drain(reader)
    assert [r.pipeline_id for r in found] == list(range(10))
    assert [r.position for r in found] == positions == sorted(set(positions))
    first = found[0]
    assert (first.form, first.events, first.body, first.received_us) == (Form.NDJSON, 2, b"{}\n{}", 5)
    assert first.headers == {"x-kind": "é"}
    assert reader.corrupt_records == 0
    reader.close()


def test_reading_goes_on_from_any_end_and_any_position(log: EventLog) -> None:
    positions = put(log, 9)
    reader = log.reader()
    everything = drain(reader)
    for index, record in enumerate(everything):
        assert drain(reader, record.end) == everything[index + 1 :]
        assert drain(reader, positions[index], max_bytes=1 << 20) == everything[index:]
    assert reader.read(everything[-1].end, 1 << 20) == []
    reader.close()


def test_submitted_records_are_told_in_their_order(log: EventLog) -> None:
    async def run() -> list[tuple[int, Outcome]]:
        writer = log.writer()
        told: list[tuple[int, Outcome]] = []
        everyone = asyncio.Event()

        def done(number: int, outcome: Outcome) -> None:
            told.append((number, outcome))
            if len(told) == 50:
                everyone.set()

        for number in range(50):
            writer.submit(
                workspace_id=1, pipeline_id=number, form=Form.OBJECT, events=1, body=b"{}",
                done=partial(done, number),
            )  # fmt: skip
            if number % 7 == 0:
                await asyncio.sleep(0)
        await everyone.wait()
        await asyncio.to_thread(writer.close)
        with pytest.raises(SpoolClosed):
            writer.submit(
                workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b"{}", done=pytest.fail
            )
        return told

    told = asyncio.run(run())
    assert [number for number, _ in told] == list(range(50))
    reader = log.reader()
    assert [r.position for r in drain(reader)] == [outcome for _, outcome in told]
    reader.close()


def test_a_second_writer_never_gives_out_a_position_again(log: EventLog) -> None:
    first = put(log, 5)
    second = put(log, 5, begin=5)
    assert max(first) < min(second)
    reader = log.reader()
    assert [r.pipeline_id for r in drain(reader)] == list(range(10))
    reader.close()


def test_readers_are_independent(log: EventLog) -> None:
    put(log, 4)
    one, two = log.reader(), log.reader()
    assert drain(one) == drain(two)
    one.close()
    assert len(drain(two)) == 4
    two.close()


def test_trimming_lets_go_only_of_what_lies_before(log: EventLog) -> None:
    positions = put(log, 20)
    middle = positions[10]
    assert log.trim(START) == 0
    assert log.trim(middle) > 0
    reader = log.reader()
    left = drain(reader)
    assert {p for p in positions if p >= middle} <= {r.position for r in left}
    log.trim(Position(10**12, 0))
    later = put(log, 1, begin=20)
    assert later[0] > positions[-1]
    assert drain(reader)[-1].position == later[0]
    reader.close()


def test_a_waiting_reader_is_woken(log: EventLog) -> None:
    reader = log.reader()
    reader.wait(0)
    assert not reader.wait(0.01)
    thread = threading.Thread(target=put, args=(log, 1))
    thread.start()
    assert reader.wait(5)
    thread.join()
    assert len(drain(reader)) == 1
    reader.close()


def test_a_closed_writer_says_so(log: EventLog) -> None:
    async def run() -> None:
        writer = log.writer()
        await _append(writer, 1)
        assert writer.refusal is None
        writer.close()
        writer.close()
        assert writer.refusal is not None
        with pytest.raises(SpoolClosed):
            await _append(writer, 2)

    asyncio.run(run())


MIXED = [7, 7, 8, 7, 9, 8, 7, 7, 7, 9, 9, 8, 7]


def test_some_pipelines_can_be_read_without_the_others(log: EventLog) -> None:
    put_of(log, MIXED)
    reader = log.reader()
    everything = drain(reader)
    for wanted in ({7}, {8}, {7, 9}, {1}, {7, 8, 9}):
        expected = [r for r in everything if r.pipeline_id in wanted]
        assert reader.read(START, 1 << 20, pipelines=wanted) == expected
        assert reader.read(START, 1, pipelines=wanted) == expected[:1]
        for record in everything:
            before = [r for r in expected if r.position < record.position]
            assert reader.read(START, 1 << 20, pipelines=wanted, end=record.position) == before
    reader.close()


@pytest.mark.parametrize("max_bytes", [1, 100, 1 << 20])
def test_what_a_scan_tells_of_is_what_can_be_read(log: EventLog, max_bytes: int) -> None:
    put_of(log, MIXED)
    reader = log.reader()
    everything = drain(reader)
    extents, end = scan_all(reader, max_bytes=max_bytes)
    for pipeline_id in {7, 8, 9}:
        own = [r for r in everything if r.pipeline_id == pipeline_id]
        told = [e for e in extents if e.pipeline_id == pipeline_id]
        assert all(a.end <= b.begin for a, b in pairwise(told))
        found = [reader.read(e.begin, 1 << 20, pipelines={pipeline_id}, end=e.end) for e in told]
        assert [r for part in found for r in part] == own
        for extent, part in zip(told, found, strict=True):
            assert (extent.begin, extent.end) == (part[0].position, part[-1].end)
            assert extent.events == sum(r.events for r in part)
            assert extent.size_bytes >= sum(len(r.body) for r in part)
            assert extent.oldest_us == min(r.received_us for r in part)
    assert reader.scan(end, max_bytes) == Scan([], end, 0)
    put_of(log, [8])
    later, _ = scan_all(reader, end)
    assert [(e.pipeline_id, e.events) for e in later] == [(8, 1)]
    reader.close()


def test_a_scan_goes_on_behind_what_was_trimmed(log: EventLog) -> None:
    positions = put(log, 20)
    log.trim(positions[10])
    reader = log.reader()
    extents, _ = scan_all(reader)
    assert {e.begin for e in extents} >= set(positions[10:])
    assert {e.pipeline_id for e in extents} == {r.pipeline_id for r in drain(reader)}
    reader.close()


def test_several_threads_may_read_and_scan(log: EventLog) -> None:
    put_of(log, MIXED * 10)
    reader = log.reader()
    expected, told = drain(reader), scan_all(reader)[0]
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            if drain(reader, max_bytes=200) != expected or scan_all(reader, max_bytes=200)[0] != told:
                wrong.append("differs")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    reader.close()
