"""What waits, kept while a real log grows and is loaded in any order: nothing forgotten, nothing twice."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluiceway.infra.clock import FixedClock
from sluiceway.ingestion.contracts import START, Extent, Form, Position, Scan
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.ingestion.spool.progress import Waiting, load_progress
from sluiceway.loading.backlog import STRETCH_BYTES, Backlog
from sluiceway.loading.reading import fetch
from sluiceway.loading.reporting import Reporter
from tests.support.loading import NOW


def extent(pipeline_id: int, begin: int, end: int, size: int | None = None, oldest: int = 1) -> Extent:
    place = (Position(1, begin), Position(1, end))
    return Extent(pipeline_id, *place, end - begin if size is None else size, 1, oldest)


def scan(*extents: Extent) -> Scan:
    return Scan(list(extents), max(e.end for e in extents), sum(e.size_bytes for e in extents))


def test_the_position_is_where_the_oldest_waits() -> None:
    backlog = Backlog(START, {})
    assert backlog.position == START
    backlog.add(scan(extent(1, 100, 200), extent(2, 150, 160), extent(1, 200, 300)))
    assert backlog.waiting == {1: 200, 2: 10}
    assert backlog.position == Position(1, 100)
    assert backlog.position_after(1, Position(1, 300)) == Position(1, 150)
    assert backlog.position_after(2, Position(1, 160)) == Position(1, 100)
    backlog.committed(1, Position(1, 300), 200)
    assert (backlog.waiting, backlog.position) == ({2: 10}, Position(1, 150))
    backlog.committed(2, Position(1, 160))
    assert (backlog.waiting, backlog.position, backlog.drained_bytes) == ({}, Position(1, 300), 210)


def test_what_a_cursor_has_passed_is_not_taken_in() -> None:
    backlog = Backlog(START, {1: Position(1, 200), 2: Position(2, 0)})
    backlog.add(scan(extent(1, 100, 200), extent(2, 100, 300), extent(1, 200, 300), extent(3, 100, 300)))
    assert backlog.waiting == {1: 100, 3: 200}
    cut = Backlog(START, {1: Position(1, 175)})
    cut.add(scan(extent(1, 100, 200)))
    assert (cut.waiting, cut.position) == ({1: 25}, Position(1, 175))


def test_cursors_that_another_moved_are_followed_and_those_that_went_back_are_told() -> None:
    backlog = Backlog(START, {1: Position(1, 50)})
    backlog.add(scan(extent(1, 100, 200), extent(2, 200, 300)))
    assert backlog.follow({1: Position(1, 200), 2: Position(1, 250)})
    assert (backlog.waiting, backlog.position) == ({2: 50}, Position(1, 250))
    assert not backlog.follow({1: Position(1, 150), 2: Position(1, 300)})
    assert not backlog.follow({2: Position(1, 300)}), "a cursor that is gone has gone back"


def test_dropping_a_pipeline_lets_the_position_pass() -> None:
    backlog = Backlog(START, {})
    backlog.add(scan(extent(1, 100, 200), extent(2, 200, 300), extent(1, 300, 400)))
    assert backlog.drop(1) == 2
    assert backlog.drop(1) == 0
    assert (backlog.position, 1 in backlog, list(backlog)) == (Position(1, 200), False, [2])


def test_stretches_are_bounded_and_joining_loses_nothing() -> None:
    backlog = Backlog(START, {}, max_stretches=8)
    for number in range(100):
        begin = number * STRETCH_BYTES
        backlog.add(scan(extent(1, begin, begin + 10), extent(2, begin + 10, begin + 11, oldest=number)))
    spans = {p: backlog.spans(p) for p in (1, 2)}
    assert sum(map(len, spans.values())) <= 10
    assert backlog.waiting == {1: 1000, 2: 100}
    assert sum(s.size_bytes for s in spans[1]) == 1000
    assert all(a.end <= b.begin for own in spans.values() for a, b in pairwise(own))
    assert spans[1][0].begin == Position(1, 0)
    assert spans[1][-1].end == Position(1, 99 * STRETCH_BYTES + 10)
    assert backlog.oldest_us(2) == 0


def test_spans_begin_behind_what_is_at_work() -> None:
    backlog = Backlog(START, {})
    for number in range(4):
        begin = number * STRETCH_BYTES
        backlog.add(scan(extent(1, begin, begin + 1000)))
    spans = backlog.spans(1, Position(1, STRETCH_BYTES + 400), 1200)
    assert [(s.begin.offset, s.size_bytes) for s in spans] == [
        (STRETCH_BYTES + 400, 600), (2 * STRETCH_BYTES, 1000),
    ]  # fmt: skip
    assert backlog.spans(1, Position(1, 10 * STRETCH_BYTES)) == []
    assert backlog.spans(7) == []


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), pipelines=st.integers(1, 6), most=st.sampled_from([2, 5, 1000]))
def test_any_order_of_loading_takes_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, pipelines: int, most: int
) -> None:
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("spool")
    sent: dict[int, list[bytes]] = {p: [] for p in range(pipelines)}
    loaded: dict[int, list[bytes]] = {p: [] for p in range(pipelines)}
    cursors: dict[int, Position] = {}
    with SpoolWriter(folder, segment_bytes=2000) as writer, SpoolReader(folder) as reader:
        backlog = Backlog(START, {}, max_stretches=most)
        unloaded: dict[bytes, Position] = {}
        for number in range(80):
            pipeline_id = chance.randrange(pipelines)
            body = b"%d:%d " % (pipeline_id, number) * chance.randint(1, 20)
            at = writer.append_now(
                workspace_id=1, pipeline_id=pipeline_id, form=Form.NDJSON, events=1, body=body
            )
            sent[pipeline_id].append(body)
            unloaded[body] = at
            if chance.random() < 0.4:
                backlog.add(reader.scan(backlog.end, chance.choice([1, 500, 10_000])))
            if chance.random() < 0.05:  # a restart: what is committed is all that is known
                backlog = Backlog(backlog.position, cursors, max_stretches=most)
            while backlog.waiting and chance.random() < 0.5:
                load(chance, backlog, reader, loaded, cursors, unloaded)
        while True:
            scan_ = reader.scan(backlog.end, 1 << 20)
            if scan_.end == backlog.end and not backlog.waiting:
                break
            backlog.add(scan_)
            while backlog.waiting:
                load(chance, backlog, reader, loaded, cursors, unloaded)
    assert loaded == sent


def load(
    chance: random.Random,
    backlog: Backlog,
    reader: SpoolReader,
    loaded: dict[int, list[bytes]],
    cursors: dict[int, Position],
    unloaded: dict[bytes, Position],
) -> None:
    chosen = chance.sample(list(backlog), chance.randint(1, len(backlog.waiting)))
    limit = chance.choice([None, 1, 300])
    wanted = {p: backlog.spans(p, max_bytes=limit) for p in chosen}
    most_events = chance.choice([1, 3, 1000])
    for pipeline_id, taken in fetch(reader, wanted, limit or 1 << 30, most_events).items():
        expected = backlog.position_after(pipeline_id, taken.end)
        for record in taken.records:
            assert record.pipeline_id == pipeline_id
            loaded[pipeline_id].append(record.body)
            del unloaded[record.body]
        if taken.records:
            cursors[pipeline_id] = taken.end
        backlog.committed(pipeline_id, taken.end, taken.size_bytes)
        assert backlog.position == expected
    assert all(backlog.position <= at for at in unloaded.values())
    assert all(size > 0 for size in backlog.waiting.values())


def test_a_turn_takes_few_of_the_records_that_hold_many_events(tmp_path: Path) -> None:
    """A record of `source.split` says that it is one event; it may hold as many as its bytes allow."""
    small, large, form = b'{"d":[1]}', b'{"d":[' + b"1," * 8000 + b"1]}", b"payload=" + b"1%2C" * 8000
    with SpoolWriter(tmp_path) as writer:
        for pipeline_id in (1, 2):
            for body in (small, large, small, form, small):
                kind = Form.FORM if body is form else Form.OBJECT
                writer.append_now(workspace_id=1, pipeline_id=pipeline_id, form=kind, events=1, body=body)
    with SpoolReader(tmp_path) as reader:
        backlog = Backlog(START, {})
        backlog.add(reader.scan(START, 1 << 30))

        def taken(pipeline_id: int, most_events: int) -> int:
            wanted = {pipeline_id: backlog.spans(pipeline_id)}
            return len(fetch(reader, wanted, 1 << 30, most_events, {1})[pipeline_id].records)

        assert [taken(1, most) for most in (1001, 1002, 2001, 2003)] == [2, 3, 4, 5]
        assert taken(2, 1001) == 5


def test_what_waits_is_told_once_a_second_with_the_rate_of_a_backlog(tmp_path: Path) -> None:
    now = 50.0
    reporter = Reporter(tmp_path, "n", FixedClock(NOW), now=lambda: now)
    backlog = Backlog(START, {})
    backlog.add(scan(extent(1, 0, 1000, oldest=7), extent(2, 1000, 1100, oldest=9)))
    reporter.tell(backlog)
    first = load_progress(tmp_path)
    assert first is not None
    assert (first.at, first.node, first.read_to) == (NOW.timestamp(), "n", Position(1, 0))
    assert (first.waiting_bytes, first.oldest_received_us, first.drained_bytes_per_s) == (1100, 7, 0.0)
    assert first.pipelines == {1: Waiting(1000, 7), 2: Waiting(100, 9)}
    backlog.committed(1, Position(1, 500), 500)
    now += 0.5
    reporter.tell(backlog)
    assert load_progress(tmp_path) == first
    now += 1.5
    reporter.tell(backlog)
    second = load_progress(tmp_path)
    assert second is not None and second.drained_bytes_per_s == 250
    backlog.committed(1, Position(1, 1000))
    backlog.committed(2, Position(1, 1100))
    now += 100
    reporter.tell(backlog)
    third = load_progress(tmp_path)
    assert third is not None
    assert (third.waiting_bytes, third.oldest_received_us, third.pipelines) == (0, None, {})
    assert third.drained_bytes_per_s == 250, "time without a backlog says nothing about the rate"


def test_what_is_not_scanned_yet_is_told_by_its_size(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path) as writer:
        for number in range(10):
            writer.append_now(
                workspace_id=1, pipeline_id=number % 2 + 1, form=Form.OBJECT, events=1, body=b"x" * 300_000
            )
    with SpoolReader(tmp_path) as reader:
        whole = Backlog(START, {})
        whole.add(reader.scan(START, 1 << 30))
        backlog = Backlog(START, {})
        backlog.add(reader.scan(START, 500_000))
    assert 0 < sum(backlog.waiting.values()) < sum(whole.waiting.values())
    Reporter(tmp_path, "n", FixedClock(NOW)).tell(backlog, scanned=False)
    told = load_progress(tmp_path)
    assert told is not None and told.scanned_to == backlog.end
    assert told.waiting_bytes == sum(whole.waiting.values())
    assert told.unscanned_bytes == told.waiting_bytes - sum(backlog.waiting.values())
    Reporter(tmp_path, "n", FixedClock(NOW)).tell(whole)
    told = load_progress(tmp_path)
    assert told is not None
    assert (told.unscanned_bytes, told.waiting_bytes) == (0, sum(whole.waiting.values()))
