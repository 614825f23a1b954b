"""Over the marks and back, several times, on a real spool with a real loader: nothing acknowledged is lost.

What is sent comes in rounds: senders go on until they are refused, then the loader catches up and senders
get in again by themselves. At the end silver holds every acknowledged event once.
"""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.limits import HighWater, Marks
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter, trim
from sluiceway.ingestion.spool.segments import FileOps, used_bytes
from sluiceway.kit.errors import SluicewayError
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.service import Loader
from sluiceway.quality.contracts import NoGate
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import ORDERS, order, query

pytestmark = pytest.mark.faults

LONG_S = 90.0
MIB = 1024 * 1024


@dataclass
class QuotaDisk(FileOps):
    """A disk of `quota_bytes` for the segments in one folder: full it writes what fits, then says so."""

    folder: Path
    quota_bytes: int
    refused: int = 0

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        room = self.quota_bytes - used_bytes(self.folder)
        if room <= 0:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(descriptor, bytes(data)[:room])

    def free_bytes(self, folder: Path) -> int:
        return 1 << 40  # a disk that fills up between looking and writing


@dataclass
class Site:
    """A spool, its marks and its loader; `acknowledged`: ids of events on disk, by pipeline."""

    database: Database
    writer: SpoolWriter
    marks: HighWater
    loader: Loader
    acknowledged: dict[int, list[str]] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)
    sent: int = 0

    def send(self, pipeline_id: int = 1, events: int = 200) -> SluicewayError | None:
        """One request as the event route treats it: asked first, acknowledged when it is on disk."""
        refused = self.marks.refusal(pipeline_id)
        if refused is None:
            orders = [order(self.sent + n) for n in range(events)]
            self.sent += events
            body = b"\n".join(json.dumps(o).encode() for o in orders)
            try:
                self.writer.append_now(
                    workspace_id=1, pipeline_id=pipeline_id, form=Form.NDJSON, events=events, body=body
                )
            except SluicewayError as error:
                refused = error
            else:
                self.acknowledged.setdefault(pipeline_id, []).extend(o["id"] for o in orders)
                return None
        self.codes.add(refused.code)
        assert refused.status in (429, 503) and refused.retryable
        assert refused.retry_after_s is not None and refused.retry_after_s >= 1
        return refused

    def fill(self, pipeline_id: int = 1) -> SluicewayError:
        """Send until nothing is taken any more."""
        while (refused := self.send(pipeline_id)) is None:
            pass
        return refused

    def drain_until_taken(self, pipeline_id: int = 1) -> None:
        """The loader catches up and what is loaded goes; senders try until they get in."""
        deadline = time.monotonic() + LONG_S
        while True:
            while self.loader.step():
                pass
            if self.loader.position is not None:
                trim(self.writer.folder, self.loader.position)
            if self.send(pipeline_id, 1) is None:
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def check_whole(self, table: str = "orders", pipeline_id: int = 1) -> None:
        while self.loader.step():
            pass
        rows = query(self.database, f"SELECT event_id FROM silver.{table}")
        found = [row[0] for row in rows]
        assert sorted(found) == sorted(self.acknowledged[pipeline_id])


Start = Callable[..., Site]


@pytest.fixture
def start(database: Database, tmp_path: Path) -> Iterator[Start]:
    stops: list[Callable[[], object]] = []
    apply_pipeline(database, 1, ORDERS)
    apply_pipeline(database, 1, ORDERS.replace("name: orders", "name: quiet"))

    def make(pipeline_bytes: int = 1 << 40, files: FileOps | None = None, **spool: int) -> Site:
        folder = tmp_path / "spool"
        writer = SpoolWriter(folder, files=files, **spool)
        reader = SpoolReader(folder)
        gate = NoGate()
        loader = Loader(database, reader, gate, "test", PipelineBook(database, gate), folder=folder)
        stops.extend([writer.close, reader.close, loader.close])
        return Site(database, writer, HighWater(writer, Marks(pipeline_bytes, 1e9)), loader)

    yield make
    for stop in reversed(stops):
        stop()


def test_a_full_spool_empties_and_takes_again(start: Start) -> None:
    site = start(max_bytes=MIB, segment_bytes=64 * MIB, reserve_bytes=0)
    for _ in range(3):
        assert site.fill().code == "spool_full"
        site.drain_until_taken()
    assert site.codes == {"spool_full"}
    site.check_whole()


def test_one_pipelines_backlog_stops_only_its_own_senders(start: Start) -> None:
    site = start(pipeline_bytes=MIB // 2, max_bytes=MIB, reserve_bytes=0)
    for _ in range(2):
        assert site.fill(1).code == "pipeline_backlogged"
        for _ in range(5):
            assert site.send(2) is None
        assert site.send(1) is not None
        site.drain_until_taken(1)
    assert site.codes == {"pipeline_backlogged"}
    site.check_whole("orders", 1)
    site.check_whole("quiet", 2)


def test_a_disk_that_fills_up_and_empties_again_loses_nothing(start: Start, tmp_path: Path) -> None:
    """Writes end in the middle of a record; what was acknowledged before and between is all there."""
    disk = QuotaDisk(tmp_path / "spool", MIB)
    site = start(files=disk, segment_bytes=128 * 1024, reserve_bytes=0)
    for round_ in range(4):
        assert site.fill().code == "disk_full"
        site.drain_until_taken()
        disk.quota_bytes += round_ * 1000  # the write that fails ends elsewhere each time
    assert disk.refused >= 4 and site.codes == {"disk_full"}
    site.check_whole()
    with SpoolReader(tmp_path / "spool") as reader:
        assert reader.corrupt_records == 0


def test_a_loader_that_works_meanwhile_lets_senders_in_by_itself(start: Start) -> None:
    """Nobody steers: a loader's thread, a sender that comes back when it was refused, a small spool."""
    site = start(pipeline_bytes=MIB // 2, max_bytes=MIB, reserve_bytes=0)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            if not site.loader.step():
                stop.wait(0.01)
            if site.loader.position is not None:
                trim(site.writer.folder, site.loader.position)

    thread = threading.Thread(target=load)
    site.fill()  # over the mark before the loader begins
    thread.start()
    try:
        deadline = time.monotonic() + LONG_S
        taken = 0
        while taken < 30:
            if site.send() is None:
                taken += 1
            else:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    finally:
        stop.set()
        thread.join(timeout=LONG_S)
    assert not thread.is_alive() and site.codes
    site.check_whole()
