"""The whole platform with its lake in a bucket that goes away while events come in, are loaded and streamed.

Short by default; `FAULT_LONG=1` (`make faults`) keeps each fault for 60 seconds.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from tests.support.fault_proxy import Cut, FaultProxy, Faults
from tests.support.faults.plugin import Record
from tests.support.faults.stage import Stage, wait_until
from tests.support.faults.world import World, clear, run_under_load
from tests.support.s3_server import S3Server, s3_environment

AWAY_S = 60.0 if os.environ.get("FAULT_LONG") else 0.0
FAULTS = {
    "refusing": Faults(refuse=True),
    "hanging": Faults(stall="both"),
    "cut in mid upload": Faults(cut=Cut("up", 900)),
}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def bucket() -> Iterator[tuple[S3Server, FaultProxy]]:
    with S3Server() as server, FaultProxy(server.address) as proxy:
        server.make_bucket("the-lake")
        yield server, proxy


@pytest.fixture
def world(
    stage: Stage,
    orders_database: Database,
    orders_url: str,
    tmp_path: Path,
    bucket: tuple[S3Server, FaultProxy],
) -> Iterator[World]:
    home = tmp_path / "home"
    environment = s3_environment(bucket[1].url, "the-lake", SLUICEWAY_LAKE_TIMEOUT_S="1")
    yield World(
        stage, orders_database, orders_url, home, environment=environment | {"SLUICEWAY_BRONZE_FLUSH_S": "1"}
    )
    clear(home)


def test_the_bucket_goes_away_under_load(
    world: World, bucket: tuple[S3Server, FaultProxy], fault: Record
) -> None:
    """Acknowledging, silver and the stream go on; bronze follows when the bucket is back."""
    server, proxy = bucket

    def script(world: World) -> None:
        world.wait_for_more(40)
        wait_until("an object", lambda: world.check_all() and len(server.objects("the-lake")) > 0)
        for faults in FAULTS.values():
            take_away(world, server, proxy, faults)

    outcome = run_under_load(world, "bucket", script)
    verdict = outcome.verdict
    fault(
        f"bucket away{' for 60 s' if AWAY_S else ''} while events are loaded", times=len(FAULTS),
        acknowledged=verdict.acknowledged, lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.fine, str(verdict)
    assert server.unfinished_uploads("the-lake") == []


def take_away(world: World, server: S3Server, proxy: FaultProxy, faults: Faults) -> None:
    """The bucket fails until a write has failed and silver has grown, then it is back and bronze grows."""
    log, failure = world.children["loader"].log, "bronze cannot be written"
    failures, loaded, begun = log.read_text().count(failure), world.loaded(), time.monotonic()
    proxy.set(faults)
    proxy.drop()
    wait_until("a failed write", lambda: log.read_text().count(failure) > failures)
    world.wait_for_more(40)
    wait_until("silver goes on", lambda: world.loaded() > loaded)
    wait_until("the time", lambda: world.check_all() and time.monotonic() - begun >= AWAY_S, pause_s=0.2)
    there = len(server.objects("the-lake"))
    proxy.set(Faults())
    wait_until("new objects", lambda: len(server.objects("the-lake")) > there, pause_s=0.1)
