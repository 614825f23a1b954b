"""Readers at every step of a compaction, compactions stopped at every step, retention; on a folder and S3."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sluiceway.infra.settings import Settings, load_settings
from sluiceway.ingestion.contracts import Position
from sluiceway.lake import compaction, reading
from sluiceway.lake.bronze import rows_of, to_parquet
from sluiceway.lake.contracts import BronzeName, prefix_of
from sluiceway.lake.errors import LakeDamaged, LakeUnavailable
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, ListReader, expected, payloads, pipeline, record

ORDERS = pipeline(retention={"bronze": "30d"})
RECORDS = [record(n) for n in range(9)]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def s3_settings(endpoint: str, bucket: str, tmp_path: Path) -> Settings:
    return load_settings(
        {
            "SLUICEWAY_HOME": str(tmp_path / "home"),
            "SLUICEWAY_LAKE_URL": f"s3://{bucket}/some/prefix",
            "SLUICEWAY_S3_ENDPOINT": endpoint,
            "SLUICEWAY_S3_ACCESS_KEY_ID": "key",
            "SLUICEWAY_S3_SECRET_ACCESS_KEY": "a secret of the test",
        }
    )


@pytest.fixture(params=["file", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "file":
        return load_settings({"SLUICEWAY_HOME": str(tmp_path / "home")})
    endpoint = request.getfixturevalue("s3")
    bucket = "b" + tmp_path.name.replace("_", "-").lower()[:50].strip("-")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="a secret of the test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    return s3_settings(endpoint, bucket, tmp_path)


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are deleted and given to readers singly, so that there is a step between any two."""
    monkeypatch.setattr(compaction, "DELETE_AT_ONCE", 1)
    monkeypatch.setattr(reading, "GATHER_ROWS", 1)
    monkeypatch.setattr(reading, "AHEAD_BYTES", 1)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


def fill(lake: Lake, folder: Path, records: int = len(RECORDS)) -> BronzeWriter:
    """One object a record."""
    writer = BronzeWriter(
        ListReader(RECORDS[:records]), lake, folder, "n", split, {1: "orders"}.get, flush_bytes=1
    )
    while writer.position < RECORDS[records - 1].end:
        writer.step()
    return writer


def test_many_objects_become_one(lake: Lake, tmp_path: Path) -> None:
    fill(lake, tmp_path)
    assert len(lake.objects(ORDERS, DAY)) == 9
    done = lake.compact_day(ORDERS, DAY)
    assert (done.objects_before, done.objects_after, done.events) == (9, 1, 18)
    (only,) = lake.objects(ORDERS, DAY)
    assert (only.name.begin, only.name.end) == (RECORDS[0].position, RECORDS[-1].end)
    assert only.size_bytes == done.size_bytes
    assert payloads(lake, ORDERS) == expected(RECORDS)
    again = lake.compact_day(ORDERS, DAY)
    assert (again.objects_before, again.objects_after, again.events) == (1, 1, 18)
    assert lake.days(ORDERS) == [DAY]


@pytest.mark.faults
def test_a_reader_sees_the_same_at_every_step(settings: Settings, tmp_path: Path) -> None:
    plain = Lake(settings)
    fill(plain, tmp_path)
    seen: list[str] = []
    # Readers that began at each earlier step and go on while objects vanish under them.
    readers: list[tuple[str, list[bytes], Iterator[list[bytes]]]] = []

    def batches() -> Iterator[list[bytes]]:
        for batch in plain.read_bronze(ORDERS, DAY):
            yield batch["payload"].to_pylist()

    def look(step: str) -> None:
        seen.append(step)
        assert payloads(plain, ORDERS) == expected(RECORDS), step
        for _, found, rest in readers:
            found += next(rest, [])
        opened = batches()
        readers.append((step, next(opened), opened))

    Lake(settings, on_step=look).compact_day(ORDERS, DAY)
    assert [step.split()[0] for step in seen] == ["put"] + ["delete"] * 9 + ["end"]
    for step, found, rest in readers:
        for more in rest:
            found += more
        assert found == expected(RECORDS), step
    assert len(plain.objects(ORDERS, DAY)) == 1


class Killed(BaseException):
    pass


@pytest.mark.faults
@pytest.mark.parametrize("at", [0, 1, 5, 10])
def test_a_compaction_stopped_anywhere_can_go_on(settings: Settings, tmp_path: Path, at: int) -> None:
    fill(Lake(settings), tmp_path)
    steps = iter(range(100))

    def kill(step: str) -> None:
        if next(steps) == at:
            raise Killed(step)

    with pytest.raises(Killed):
        Lake(settings, on_step=kill).compact_day(ORDERS, DAY)
    lake = Lake(settings)
    assert payloads(lake, ORDERS) == expected(RECORDS)
    assert lake.compact_day(ORDERS, DAY).objects_after == 1
    assert payloads(lake, ORDERS) == expected(RECORDS)
    assert len(lake.objects(ORDERS, DAY)) == 1


def test_a_flush_done_again_after_a_compaction_doubles_nothing(lake: Lake, tmp_path: Path) -> None:
    fill(lake, tmp_path)
    (third,) = [o for o in lake.objects(ORDERS, DAY) if o.name.begin == RECORDS[1].end]
    lake.compact_day(ORDERS, DAY)
    lake.put(third.name, to_parquet(rows_of("n", [RECORDS[2]], split)))
    assert len(lake.objects(ORDERS, DAY)) == 2
    assert payloads(lake, ORDERS) == expected(RECORDS)
    assert lake.compact_day(ORDERS, DAY).objects_after == 1
    assert len(lake.objects(ORDERS, DAY)) == 1


def test_objects_that_overlap_in_part_are_read_once(lake: Lake, tmp_path: Path) -> None:
    """What two compactions of one day at the same time can leave behind."""
    for begin, end in ((0, 5), (3, 9)):
        name = BronzeName(prefix_of(ORDERS), DAY, "n", RECORDS[begin].position, RECORDS[end - 1].end)
        lake.put(name, to_parquet(rows_of("n", RECORDS[begin:end], split)))
    assert payloads(lake, ORDERS) == expected(RECORDS)
    assert lake.compact_day(ORDERS, DAY).events == 18
    assert payloads(lake, ORDERS) == expected(RECORDS)


def test_writing_goes_on_after_a_compaction_of_the_same_day(lake: Lake, tmp_path: Path) -> None:
    fill(lake, tmp_path, 4)
    lake.compact_day(ORDERS, DAY)
    fill(lake, tmp_path)
    assert len(lake.objects(ORDERS, DAY)) == 6
    assert payloads(lake, ORDERS) == expected(RECORDS)


def test_large_objects_are_left_alone(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake, tmp_path)
    size = max(item.size_bytes for item in lake.objects(ORDERS, DAY))
    monkeypatch.setattr(compaction, "COMPACTED_BYTES", size * 3)
    assert lake.compact_day(ORDERS, DAY).objects_after == 3
    assert payloads(lake, ORDERS) == expected(RECORDS)


def test_two_nodes_keep_to_themselves(lake: Lake, tmp_path: Path) -> None:
    fill(lake, tmp_path / "a")
    other = BronzeWriter(
        ListReader(RECORDS[:2]), lake, tmp_path / "b", "another-node.7", split, {1: "orders"}.get
    )
    other.step(force=True)
    both = expected(RECORDS[:2]) + expected(RECORDS)
    assert payloads(lake, ORDERS) == both
    assert lake.compact_day(ORDERS, DAY).objects_after == 2
    assert payloads(lake, ORDERS) == both


def test_retention_takes_whole_days(lake: Lake, tmp_path: Path) -> None:
    fill(lake, tmp_path)
    day_after = datetime(2026, 3, 15, tzinfo=UTC)
    assert lake.apply_retention(ORDERS, day_after + timedelta(days=29, hours=23)) == 0
    assert lake.apply_retention(pipeline(), day_after + timedelta(days=3000)) == 0
    assert lake.apply_retention(ORDERS, day_after + timedelta(days=30)) == 9
    assert payloads(lake, ORDERS) == [] and lake.days(ORDERS) == []


def test_nothing_there_is_nothing_read(lake: Lake) -> None:
    assert payloads(lake, ORDERS, date(2020, 1, 1)) == []
    assert lake.compact_day(ORDERS, DAY).objects_after == 0
    lake.probe()


def test_a_damaged_object_is_named(lake: Lake, tmp_path: Path) -> None:
    writer = fill(lake, tmp_path, 1)
    (item,) = lake.objects(ORDERS, DAY)
    lake.put(item.name, b"not parquet")
    with pytest.raises(LakeDamaged, match=r"n-1-0-1-100\.parquet"):
        payloads(lake, ORDERS)
    assert writer.position == RECORDS[0].end


def test_a_missing_bucket_is_one_clear_line(s3: str, tmp_path: Path) -> None:
    lake = Lake(s3_settings(s3, "nobody-made-this", tmp_path))
    with pytest.raises(LakeUnavailable, match="s3://nobody-made-this") as caught:
        lake.probe()
    assert "a secret of the test" not in caught.value.detail


@pytest.mark.parametrize(
    "make", [lambda node: f"{node}", lambda node: f"{node}-1", lambda node: f"{node}.x-9-9"]
)
def test_names_survive_being_read_back(make: Callable[[str], str]) -> None:
    name = BronzeName("bronze/w1/orders", DAY, make("node"), Position(1, 2), Position(30, 400))
    assert BronzeName.parse(name.path) == name
    assert BronzeName.parse("bronze/w1/orders/date=2026-03-14/readme.txt") is None
