"""Objects that someone flipped bits in or cut short: named, never merged, and nothing else goes with them."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from sluiceway.infra.settings import load_settings
from sluiceway.lake import bronze
from sluiceway.lake.bronze import Damaged, check, read_parquet, rows_of, to_parquet
from sluiceway.lake.contracts import BronzeName, BronzeObject, prefix_of
from sluiceway.lake.errors import LakeDamaged
from sluiceway.lake.service import Lake
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, expected, payloads, pipeline, record

pytestmark = pytest.mark.faults

ORDERS = pipeline()
RECORDS = [record(n) for n in range(9)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(load_settings({"SLUICEWAY_HOME": str(tmp_path / "home")}))


def name_of(begin: int, end: int) -> BronzeName:
    return BronzeName(prefix_of(ORDERS), DAY, "n", RECORDS[begin].position, RECORDS[end - 1].end)


def fill(lake: Lake, stretches: list[tuple[int, int]] | None = None) -> list[BronzeObject]:
    """One object a record, or those stretches."""
    for begin, end in stretches or [(n, n + 1) for n in range(len(RECORDS))]:
        lake.put(name_of(begin, end), to_parquet(rows_of("n", RECORDS[begin:end], split)))
    return lake.objects(ORDERS, DAY)


def flip(data: bytes, at: int, bit: int = 0) -> bytes:
    found = bytearray(data)
    found[at] ^= 1 << bit
    return bytes(found)


def file_of(tmp_path: Path, name: BronzeName) -> Path:
    return tmp_path / "home" / "lake" / name.path


def test_every_flipped_bit_and_every_cut_is_noticed_or_harmless() -> None:
    table = rows_of("n", RECORDS, split)
    data = to_parquet(table)
    check(data)
    noticed = 0
    for at in range(len(data)):
        for bit in range(8):
            try:
                found = list(read_parquet(flip(data, at, bit)))
            except Damaged:
                noticed += 1
            else:
                assert pa.Table.from_batches(found) == table, (at, bit)
    # What may pass is the name of the checksum itself: then there is none, and every row is right.
    assert noticed >= (len(data) - len("sluiceway.crc32")) * 8
    for size in range(len(data)):
        with pytest.raises(Damaged):
            list(read_parquet(data[:size]))


def test_damage_of_several_kinds_in_large_objects_is_noticed() -> None:
    table = pa.concat_tables([rows_of("n", [record(n)], split) for n in range(3000)])
    data = to_parquet(table)
    assert pa.Table.from_batches(read_parquet(data)) == table
    chance = random.Random(4)
    for _ in range(100):
        at, length = chance.randrange(len(data) - 200), chance.randrange(1, 200)
        broken = data[:at] + chance.randbytes(length) + data[at + length :]
        for wrong in (broken, data[:at] + data[at + length :], data[:at] + bytes(length) + data[at:]):
            if wrong != data:
                with pytest.raises(Damaged):
                    list(read_parquet(wrong))


def test_an_object_from_before_there_were_checksums_is_read(lake: Lake) -> None:
    import io

    import pyarrow.parquet as pq

    table = rows_of("n", RECORDS[:2], split)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    lake.put(name_of(0, 2), buffer.getvalue())
    assert payloads(lake, ORDERS) == expected(RECORDS[:2])
    fill(lake, [(2, 5)])
    assert lake.compact_day(ORDERS, DAY).events == 10
    assert payloads(lake, ORDERS) == expected(RECORDS[:5])


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "not_parquet"])
@pytest.mark.parametrize("at", [0, 4, 8])
def test_compaction_goes_round_what_is_damaged(lake: Lake, tmp_path: Path, how: str, at: int) -> None:
    objects = fill(lake)
    bad = next(o.name for o in objects if o.name == name_of(at, at + 1))
    path = file_of(tmp_path, bad)
    good = path.read_bytes()
    half = len(good) // 2
    path.write_bytes(
        {"flipped": flip(good, half), "cut": good[:half], "empty": b"", "not_parquet": b"x" * 900}[how]
    )
    wrong = path.read_bytes()
    with pytest.raises(LakeDamaged, match=bad.path):
        payloads(lake, ORDERS)
    assert list(lake.damaged(ORDERS, DAY)) == [bad.path]
    done = lake.compact_day(ORDERS, DAY)
    assert done.damaged == (bad.path,)
    assert (done.objects_before, done.objects_after) == (9, 2 if at in (0, 8) else 3)
    assert done.events == 16
    # It is as it was, and the rest is whole: with the damaged one out of the way, everything else is read.
    assert path.read_bytes() == wrong
    again = lake.compact_day(ORDERS, DAY)
    assert (again.objects_before, again.objects_after) == (done.objects_after, done.objects_after)
    path.unlink()
    rest = [r for r in RECORDS if r is not RECORDS[at]]
    assert payloads(lake, ORDERS) == expected(rest)
    # Restored from a copy, the day is what it was.
    path.write_bytes(good)
    assert payloads(lake, ORDERS) == expected(RECORDS)
    assert lake.compact_day(ORDERS, DAY).objects_after == 1
    assert payloads(lake, ORDERS) == expected(RECORDS)
    assert lake.damaged(ORDERS, DAY) == {}
    assert lake.stats.objects_damaged > 0


def test_what_a_damaged_object_contains_is_not_deleted_for_it(lake: Lake, tmp_path: Path) -> None:
    """A compaction was stopped before it deleted, then its object was damaged: the small ones are left."""
    fill(lake)
    fill(lake, [(0, 9)])
    path = file_of(tmp_path, name_of(0, 9))
    path.write_bytes(flip(path.read_bytes(), 50))
    done = lake.compact_day(ORDERS, DAY)
    assert done.damaged == (name_of(0, 9).path,)
    path.unlink()
    assert payloads(lake, ORDERS) == expected(RECORDS)


def test_small_tables_are_written_as_few_row_groups() -> None:
    import pyarrow.parquet as pq

    target = bronze.ParquetBytes()
    for n in range(500):
        target.write(rows_of("n", [record(n)], split))
    data = bytes(target.finish())
    assert pq.ParquetFile(pa.BufferReader(data)).num_row_groups == 1
    assert sum(batch.num_rows for batch in read_parquet(data)) == target.rows == 1000
