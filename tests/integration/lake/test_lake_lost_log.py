"""A log, or a cursor, that is not what it was: bronze goes on, and nothing in the lake is lost for it."""

from pathlib import Path

import pytest

from sluiceway.infra.settings import load_settings
from sluiceway.ingestion.contracts import Position, SpoolRecord
from sluiceway.lake.contracts import contains
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, ListReader, expected, payloads, pipeline, record

pytestmark = pytest.mark.faults

ORDERS = pipeline()
SLUGS = {1: "orders", 2: "clicks"}


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(load_settings({"SLUICEWAY_HOME": str(tmp_path / "home")}))


def write(lake: Lake, folder: Path, records: list[SpoolRecord]) -> BronzeWriter:
    """A writer of this process's, as far as the log goes."""
    writer = BronzeWriter(ListReader(records), lake, folder, "n", split, SLUGS.get, flush_s=3600)
    while writer.step(force=True):
        pass
    return writer


def killed(lake: Lake, folder: Path, records: list[SpoolRecord], before: str) -> None:
    def die(step: str) -> None:
        if step.startswith(before):
            raise Killed

    with pytest.raises(Killed):
        BronzeWriter(
            ListReader(records), lake, folder, "n", split, SLUGS.get, flush_s=3600, on_step=die
        ).step(force=True)


def test_a_log_that_begins_anew_hides_nothing_of_the_one_before(lake: Lake, tmp_path: Path) -> None:
    write(lake, tmp_path / "lost", [record(0), record(1)])
    write(lake, tmp_path / "lost", [record(n) for n in range(4)])
    fresh = [record(20), record(21)]  # the same node, the same day, a volume that is empty
    write(lake, tmp_path / "new", fresh)
    names = [item.name for item in lake.objects(ORDERS, DAY)]
    assert len(names) == 3
    assert not any(a != b and contains(a, b) for a in names for b in names)
    everything = expected([record(n) for n in range(4)] + fresh)
    assert payloads(lake, ORDERS) == everything
    assert lake.compact_day(ORDERS, DAY).events == len(everything)
    assert payloads(lake, ORDERS) == everything


def test_an_intent_whose_end_is_lost_is_done_with_what_there_is(
    lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [record(n) for n in range(4)]
    killed(lake, tmp_path / "c", records, "put")
    rest = [*records[:2], record(10)]
    writer = write(lake, tmp_path / "c", rest)
    write(lake, tmp_path / "c", rest)
    assert payloads(lake, ORDERS) == expected(rest)
    assert writer.position >= records[-1].end
    assert "nothing readable" in caplog.text and str(records[-1].end) in caplog.text


def test_an_intent_of_which_nothing_is_left_is_passed(lake: Lake, tmp_path: Path) -> None:
    records = [record(0), record(1)]
    killed(lake, tmp_path / "c", records, "put")
    write(lake, tmp_path / "c", [record(10)])
    assert payloads(lake, ORDERS) == expected([record(10)])


def test_a_larger_object_is_not_replaced_by_what_damage_left(lake: Lake, tmp_path: Path) -> None:
    records = [record(0), record(1), record(2)]
    killed(lake, tmp_path / "c", records, "commit")
    write(lake, tmp_path / "c", [records[0], records[2]])
    assert payloads(lake, ORDERS) == expected(records)


def test_a_larger_object_that_cannot_be_read_is_replaced(lake: Lake, tmp_path: Path) -> None:
    records = [record(0), record(1), record(2)]
    killed(lake, tmp_path / "c", records, "commit")
    [item] = lake.objects(ORDERS, DAY)
    path = tmp_path / "home" / "lake" / item.name.path
    path.write_bytes(path.read_bytes()[:-20])
    write(lake, tmp_path / "c", records[:2])
    assert payloads(lake, ORDERS) == expected(records[:2])


def test_a_pipeline_that_only_a_second_look_finds_has_a_name(lake: Lake, tmp_path: Path) -> None:
    other = record(1, pipeline_id=2)
    killed(lake, tmp_path / "c", [record(0), record(2)], "put")
    write(lake, tmp_path / "c", [record(0), other, record(2)])
    assert payloads(lake, ORDERS) == expected([record(0), record(2)])
    assert payloads(lake, pipeline(2, "clicks")) == expected([other])


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"position": [1]}', '{"position": [1, 0], "intent": 3}'])
def test_a_torn_cursor_begins_again_and_doubles_nothing(
    lake: Lake, tmp_path: Path, torn: str, caplog: pytest.LogCaptureFixture
) -> None:
    records = [record(n) for n in range(9)]
    write(lake, tmp_path / "c", records[:3])
    write(lake, tmp_path / "c", records[:7])
    (tmp_path / "c" / "bronze.cursor").write_text(torn)
    # The first segment (five records) was trimmed meanwhile.
    writer = write(lake, tmp_path / "c", records[5:])
    assert writer.position == records[-1].end
    assert "bronze.cursor cannot be read" in caplog.text
    assert payloads(lake, ORDERS) == expected(records)
    lake.compact_day(ORDERS, DAY, fewest=2)
    assert payloads(lake, ORDERS) == expected(records)


def test_an_intent_of_an_earlier_version_keeps_its_name(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "bronze.cursor").write_text(
        '{"position": [1, 50], "intent": {"end": [1, 200], "slugs": {"1": "orders"}}}'
    )
    write(lake, folder, [record(1)])
    [item] = lake.objects(ORDERS, DAY)
    assert (item.name.begin, item.name.end) == (Position(1, 50), record(1).end)
