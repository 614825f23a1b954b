"""A bucket that is slow, failing, refusing, cut off or hanging: events are taken all the same, and each is in
bronze once when it is well again. The bucket is moto's behind a real HTTP server and the fault proxy.

Short by default; `FAULT_LONG=1` (`make faults`) has the bucket down for 60 seconds.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluiceway.infra.settings import Settings
from sluiceway.lake import bronze
from sluiceway.lake.contracts import BronzeName
from sluiceway.lake.errors import LakeUnavailable
from sluiceway.lake.service import Lake
from tests.support.bronze import DAY, payloads, pipeline
from tests.support.fault_proxy import Cut, FaultProxy, Faults
from tests.support.faults.plugin import Record
from tests.support.lake_world import World, wait_until
from tests.support.s3_server import HttpFault, S3Server, s3_settings

pytestmark = pytest.mark.faults

ORDERS = pipeline()
DOWN_S = 60.0 if os.environ.get("FAULT_LONG") else 0.0


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@dataclass
class Bucket:
    name: str
    server: S3Server
    proxy: FaultProxy
    settings: Settings

    def well(self) -> None:
        self.server.set(None)
        self.proxy.set(Faults())

    def check_whole(self) -> int:
        """Everything that can be seen is a whole object; returns how many there are."""
        seen = self.server.objects(self.name)
        for path, data in seen.items():
            assert BronzeName.parse(path) is not None, path
            assert sum(batch.num_rows for batch in bronze.read_parquet(data)) > 0
        return len(seen)


@pytest.fixture
def bucket(
    s3: S3Server, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    monkeypatch.setattr("sluiceway.lake.writer._LONGEST_PAUSE_S", 0.5)
    monkeypatch.setattr("sluiceway.lake.writer._FIRST_PAUSE_S", 0.05)
    name = s3.make_bucket(f"bucket-{abs(hash(request.node.name)):x}")
    with FaultProxy(s3.address) as proxy:
        settings = s3_settings(proxy.url, name, tmp_path / "home", SLUICEWAY_LAKE_TIMEOUT_S="1")
        found = Bucket(name, s3, proxy, settings)
        yield found
        found.well()


def network(faults: Faults) -> Callable[[Bucket], None]:
    def begin(bucket: Bucket) -> None:
        bucket.proxy.set(faults)
        bucket.proxy.drop()

    return begin


def answers(fault: HttpFault) -> Callable[[Bucket], None]:
    return lambda bucket: bucket.server.set(fault)


NETWORK_FAULTS = {
    "refusing": Faults(refuse=True),
    "cut_in_mid_upload": Faults(cut=Cut("up", 700)),
    "upload_ends_early": Faults(cut=Cut("up", 700, "half")),
    "answers_cut_off": Faults(cut=Cut("down", 10)),
    "hanging": Faults(stall="both"),
    "hears_but_does_not_answer": Faults(stall="down"),
}
FAULTS = {
    **{name: network(faults) for name, faults in NETWORK_FAULTS.items()},
    "slow_down_503": answers(HttpFault(503)),
    "stored_but_answered_500": answers(HttpFault(500, when="after")),
}


@pytest.mark.parametrize("how", FAULTS)
def test_nothing_is_lost_or_doubled_by_a_bucket_that_is(bucket: Bucket, how: str, fault: Record) -> None:
    with World(bucket.settings) as world:
        wait_until("an object", lambda: world.bronze.state.objects > 0)
        FAULTS[how](bucket)
        failures = world.bronze.state.failures
        stood = world.bronze.position
        wait_until("the writer fails", lambda: world.bronze.state.failures >= failures + 2)
        assert world.bronze.state.failing_since is not None
        assert bucket.check_whole() > 0
        world.wait_for_more()
        assert world.refused == 0
        bucket.check_whole()
        bucket.well()
        wait_until("the writer goes on", lambda: world.bronze.position > stood)
        world.finish_sending()
        world.wait_for_bronze()
        assert world.bronze.state.failing_since is None
        world.check(f"lake {how.replace('_', ' ')}", fault, payloads(Lake(bucket.settings), ORDERS))
    assert bucket.check_whole() == len(Lake(bucket.settings).objects(ORDERS, DAY))
    assert bucket.server.unfinished_uploads(bucket.name) == []


def test_a_slow_bucket_only_costs_time(bucket: Bucket, fault: Record) -> None:
    bucket.proxy.set(Faults(connect_delay_s=0.05, chunk_delay_s=0.05, bytes_per_s=100_000))
    with World(bucket.settings) as world:
        world.wait_for_more(100)
        world.finish_sending()
        world.wait_for_bronze()
        world.check("lake slow", fault, payloads(world.lake, ORDERS))
    assert bucket.proxy.counts.delayed > 0


def test_down_until_the_spool_is_full_and_then_back(bucket: Bucket, fault: Record) -> None:
    """Acknowledging goes on to the high-water mark; then it is 503 until the bucket is back, by itself."""
    bucket.proxy.set(Faults(refuse=True))
    began = time.monotonic()
    with World(bucket.settings, max_bytes=128 * 1024) as world:
        wait_until("the spool is full", lambda: world.refused > 0)
        before = len(world.acknowledged)
        assert before > 200
        assert world.refusal is not None
        assert (world.refusal.status, world.refusal.code) == (503, "spool_full")
        assert world.refusal.retry_after_s is not None
        wait_until("the writer has failed often", lambda: world.bronze.state.failures >= 3)
        wait_until("it was down long enough", lambda: time.monotonic() - began >= DOWN_S, pause_s=0.1)
        assert bucket.server.objects(bucket.name) == {}
        bucket.well()
        wait_until("events are taken again", lambda: len(world.acknowledged) >= before + 50)
        world.finish_sending()
        world.wait_for_bronze()
        world.check("lake down until the spool is full", fault, payloads(world.lake, ORDERS))
        wait_until("the spool is trimmed", lambda: len(list(world.spool.folder.glob("*.seg"))) == 1)


def test_a_large_object_goes_up_whole_or_not_at_all(bucket: Bucket) -> None:
    """Larger than a part of a multipart upload would be: still one request, and nothing is left behind."""
    lake = Lake(bucket.settings)
    name = next(BronzeName.parse(p) for p in ["bronze/w1/orders/date=2026-03-14/n-0-0-1-1.parquet"])
    assert name is not None
    data = os.urandom(20 * 1024 * 1024)
    bucket.proxy.set(Faults(cut=Cut("up", 12 * 1024 * 1024)))
    with pytest.raises(LakeUnavailable):
        lake.put(name, data)
    assert bucket.proxy.counts.cuts >= 1
    assert bucket.server.objects(bucket.name) == {}
    assert bucket.server.unfinished_uploads(bucket.name) == []
    bucket.well()
    lake.put(name, data)
    assert list(bucket.server.objects(bucket.name).values()) == [data]
    assert lake.stats.put.failures == 1 and lake.stats.put.size_bytes == len(data)


@pytest.mark.parametrize("stall", ["up", "down", "both"])
def test_a_stuck_request_ends_by_itself(bucket: Bucket, stall: str) -> None:
    lake = Lake(bucket.settings)
    lake.probe()
    bucket.proxy.set(Faults(stall=stall))  # type: ignore[arg-type]
    with pytest.raises(LakeUnavailable, match="no answer in time") as caught:
        lake.objects(ORDERS, DAY)
    assert "a secret" not in caught.value.detail
    with pytest.raises(LakeUnavailable, match="no answer in time"):
        lake.probe()
    bucket.well()
    lake.probe()


def test_compactions_that_fail_again_and_again_while_events_come_in_and_are_read(
    bucket: Bucket, fault: Record
) -> None:
    """Two compactions behind a network of their own; a reader beside them always sees a whole prefix."""
    direct = Lake(bucket.settings)
    stop = threading.Event()
    compacted: list[int] = []
    failures: list[str] = []

    def compact(settings: Settings) -> None:
        lake = Lake(settings)
        while not stop.is_set():
            try:
                compacted.append(lake.compact_day(ORDERS, DAY).objects_before)
            except LakeUnavailable as error:
                failures.append(error.detail)
            stop.wait(0.02)

    with FaultProxy(bucket.server.address) as proxy, World(bucket.settings) as world:
        settings = s3_settings(proxy.url, bucket.name, bucket.settings.home, SLUICEWAY_LAKE_TIMEOUT_S="1")
        compactors = [threading.Thread(target=compact, args=(settings,)) for _ in range(2)]
        for thread in compactors:
            thread.start()
        try:
            for faults in NETWORK_FAULTS.values():
                proxy.set(faults)
                proxy.drop()
                failed = len(failures)
                wait_until("a compaction fails", lambda failed=failed: len(failures) > failed)
                check_prefix(direct, world)
                proxy.set(Faults())
                done = len(compacted)
                wait_until("a compaction goes through", lambda done=done: len(compacted) > done)
                check_prefix(direct, world)
        finally:
            stop.set()
            for thread in compactors:
                thread.join(60)
        world.finish_sending()
        world.wait_for_bronze()
        world.check("lake failing under two compactions", fault, payloads(direct, ORDERS))
    assert max(compacted) > 1
    assert direct.compact_day(ORDERS, DAY).objects_after == 1
    assert payloads(direct, ORDERS) == world.acknowledged
    assert bucket.check_whole() == 1
    assert bucket.server.unfinished_uploads(bucket.name) == []


def check_prefix(lake: Lake, world: World) -> None:
    """A reader sees every event that was in the lake when it began, once, in order; perhaps newer ones."""
    least = world.bronze.state.events
    found = payloads(lake, ORDERS)
    assert len(found) >= least
    wait_until("what is in bronze is acknowledged", lambda: len(world.acknowledged) >= len(found))
    assert found == world.acknowledged[: len(found)]
