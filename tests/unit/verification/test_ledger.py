"""Ledgers in every format, what is wrong with one by line, and what is written can be read."""

import gzip
import io
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sluiceway.verification.errors import InvalidLedger
from sluiceway.verification.ledger import ConsumerList, Entry, Ledger, Receipt

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def entries(folder: Path, text: str, pipeline: str | None = None, name: str = "ledger") -> list[Entry]:
    path = folder / name
    path.write_text(text)
    return list(Ledger(path, pipeline))


def test_ndjson(tmp_path: Path) -> None:
    text = (
        '{"pipeline": "orders", "event_id": "a", "at": "2026-11-21T13:00:00+01:00"}\n\n'
        '{"pipeline": "orders", "event_id": 7, "more": true}\r\n'
        '{"pipeline": "clicks", "event_id": ["a", 7, 1.5]}'
    )
    assert entries(tmp_path, text) == [
        Entry("orders", "a", AT, 1), Entry("orders", "7", None, 3), Entry("clicks", "a|7|1.5", None, 4),
    ]  # fmt: skip


def test_csv_with_its_columns_in_any_order(tmp_path: Path) -> None:
    text = 'at,event_id,pipeline\n2026-11-21T12:00:00,"a,b",orders\n,c,orders\n'
    assert entries(tmp_path, text) == [Entry("orders", "a,b", AT, 2), Entry("orders", "c", None, 3)]
    assert entries(tmp_path, "event_id\n17\n", "orders") == [Entry("orders", "17", None, 2)]


def test_one_id_a_line(tmp_path: Path) -> None:
    assert entries(tmp_path, "a\n\n b,c \n", "orders") == [
        Entry("orders", "a", None, 1), Entry("orders", "b,c", None, 3),
    ]  # fmt: skip
    assert entries(tmp_path, "", "orders") == []


def test_a_long_id_is_the_digest_that_the_loader_keeps(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path, "x" * 300, "orders")
    assert entry.event_id.startswith("sha256:") and len(entry.event_id) == 71


def test_positions_stand_for_ids_as_the_answer_told_them(tmp_path: Path) -> None:
    text = '{"pipeline": "orders", "position": "a-b-12-345", "events": 2, "at": "2026-11-21T12:00:00Z"}\n'
    assert entries(tmp_path, text) == [
        Entry("orders", "", AT, 1, "a-b/12/345/0"), Entry("orders", "", AT, 1, "a-b/12/345/1"),
    ]  # fmt: skip
    text = "position,events\nnode-1-2,\n"
    assert entries(tmp_path, text, "orders") == [Entry("orders", "", None, 2, "node/1/2/0")]
    for wrong in ('"position": "node-1"', '"position": 7', '"position": "n-1-2", "events": 0'):
        with pytest.raises(InvalidLedger, match=r"line 1: (position|events) should be"):
            entries(tmp_path, '{"pipeline": "orders", ' + wrong + "}")


def test_compressed_and_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.gz"
    path.write_bytes(gzip.compress(b"a\nb\n"))
    assert [entry.event_id for entry in Ledger(path, "orders")] == ["a", "b"]
    path.write_bytes(gzip.compress(b"a\nb\n" * 1000)[:-9])
    with pytest.raises(InvalidLedger, match="is not whole"):
        list(Ledger(path, "orders"))
    monkeypatch.setattr("sys.stdin", io.StringIO("c\n"))
    assert list(Ledger(Path("-"), "orders")) == [Entry("orders", "c", None, 1)]


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("abc\n", 1, "needs --pipeline"),
        ('{"pipeline": "orders", "event_id": "a"}\nnonsense\n', 2, "should be a JSON object, not 'nonsense'"),
        ('{"pipeline": "orders", "event_id": "a"}\n[1]\n', 2, "should be a JSON object"),
        ('{"event_id": "a"}\n', 1, "pipeline should name a pipeline"),
        ('{"pipeline": 7, "event_id": "a"}\n', 1, "pipeline should be text, not 7"),
        ('{"pipeline": "orders"}\n', 1, "event_id should be text or a number"),
        ('{"pipeline": "orders", "event_id": {"a": 1}}\n', 1, "event_id should be text or a number"),
        ('{"pipeline": "orders", "event_id": ["a", null]}\n', 1, "event_id should be text or a number"),
        ('{"pipeline": "orders", "event_id": "a", "at": "noon"}\n', 1, "at should be an ISO 8601 time"),
        ('{"pipeline": "orders", "event_id": "a", "at": 12}\n', 1, "at should be an ISO 8601 time, not 12"),
        ("event_id,at\na,\n", 1, "pipeline should be a column"),
        ("pipeline,event_id\norders,a\norders\n", 3, "should have 2 columns, but has 1"),
        ("pipeline,event_id\norders,\n", 2, "event_id should be text or a number"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_with_what_was_expected(
    tmp_path: Path, text: str, line: int, expected: str
) -> None:
    with pytest.raises(InvalidLedger) as caught:
        entries(tmp_path, text)
    assert f"ledger, line {line}: " in caught.value.detail and expected in caught.value.detail
    assert caught.value.errors[0].line == line


def test_bytes_that_are_not_utf8_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InvalidLedger, match="line 1: the line is not UTF-8"):
        list(Ledger(path, "orders"))
    with pytest.raises(InvalidLedger, match="cannot be read: No such file"):
        list(Ledger(tmp_path / "nothing"))


def test_what_several_threads_wrote_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "deep" / "ledger.ndjson", "orders")
    with ledger.writer(durable=True) as writer:
        threads = [
            threading.Thread(target=writer.add, args=([f"{name}-{n}" for n in range(500)],))
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.add("one", pipeline="clicks", at=AT)
    found = list(ledger)
    assert {entry.event_id for entry in found[:-1]} == {f"{name}-{n}" for name in "abcd" for n in range(500)}
    assert found[-1] == Entry("clicks", "one", AT, 2001)
    with ledger.writer() as writer:
        writer.add("again")
    assert len(list(ledger)) == 2002


def test_an_id_of_no_pipeline_cannot_be_written(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger").writer() as writer, pytest.raises(ValueError, match="which pipeline"):
        writer.add("a")


def test_a_consumers_list(tmp_path: Path) -> None:
    path = tmp_path / "consumer"
    path.write_text('{"pipeline": "orders", "seq": 5, "event_id": "a"}\n{"pipeline": "orders", "seq": "6"}\n')
    assert list(ConsumerList(path)) == [Receipt("orders", "a", 5, 1), Receipt("orders", None, 6, 2)]
    path.write_text("seq,event_id\n7,b\n,c\n")
    assert list(ConsumerList(path, "orders")) == [
        Receipt("orders", "b", 7, 2), Receipt("orders", "c", None, 3),
    ]  # fmt: skip
    for wrong in (
        '{"pipeline": "o", "seq": 0}',
        '{"pipeline": "o", "seq": "x"}',
        '{"pipeline": "o", "seq": true}',
    ):
        path.write_text(wrong)
        with pytest.raises(InvalidLedger, match="line 1: seq should be a whole number from 1"):
            list(ConsumerList(path))
    path.write_text('{"pipeline": "o"}')
    with pytest.raises(InvalidLedger, match="event_id should be there, or seq"):
        list(ConsumerList(path))
