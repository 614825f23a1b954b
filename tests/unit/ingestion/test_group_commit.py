"""Many requests share one sync, and the event loop never waits for the disk."""

import asyncio
import time
from pathlib import Path

from sluiceway.ingestion.contracts import START, Form, Position
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.ingestion.spool.segments import FileOps


class SlowDisk(FileOps):
    """A sync takes 20 ms, as on a spinning disk."""

    def sync(self, descriptor: int) -> None:
        time.sleep(0.02)
        super().sync(descriptor)


async def append(writer: SpoolWriter, index: int) -> Position:
    return await writer.append(
        workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b'{"n":%d}' % index
    )


def test_many_records_share_a_sync(tmp_path: Path) -> None:
    async def run() -> tuple[list[Position], int]:
        with SpoolWriter(tmp_path, files=SlowDisk()) as writer:
            found = await asyncio.gather(*(append(writer, i) for i in range(500)))
            return found, writer.stats.syncs

    positions, syncs = asyncio.run(run())
    assert len(set(positions)) == 500
    assert syncs <= 5
    with SpoolReader(tmp_path) as reader:
        found = reader.read(START, 1 << 20)
    assert [r.position for r in found] == sorted(positions)
    assert {r.body for r in found} == {b'{"n":%d}' % i for i in range(500)}


def test_the_event_loop_goes_on_during_a_sync(tmp_path: Path) -> None:
    async def run() -> int:
        with SpoolWriter(tmp_path, files=SlowDisk()) as writer:
            await append(writer, 0)
            task = asyncio.ensure_future(append(writer, 1))
            turns = 0
            while not task.done():
                await asyncio.sleep(0)
                turns += 1
            return turns

    assert asyncio.run(run()) > 20, "the loop stood still while the disk worked"


def test_a_group_larger_than_one_write_keeps_its_order(tmp_path: Path) -> None:
    async def run() -> list[Position]:
        with SpoolWriter(tmp_path, segment_bytes=4_000_000, files=SlowDisk()) as writer:
            tasks = [
                writer.append(
                    workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b"x" * 1_000_000
                )
                for _ in range(20)
            ]
            return await asyncio.gather(*tasks)

    positions = asyncio.run(run())
    assert positions == sorted(positions)
    assert len({p.segment for p in positions}) > 1


def test_an_abandoned_request_does_not_stop_the_others(tmp_path: Path) -> None:
    async def run() -> None:
        with SpoolWriter(tmp_path, files=SlowDisk()) as writer:
            first = asyncio.ensure_future(append(writer, 1))
            second = asyncio.ensure_future(append(writer, 2))
            await asyncio.sleep(0)
            first.cancel()
            await second

    asyncio.run(run())


def test_close_makes_durable_what_was_taken(tmp_path: Path) -> None:
    async def run() -> None:
        writer = SpoolWriter(tmp_path, files=SlowDisk())
        tasks = [asyncio.ensure_future(append(writer, i)) for i in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(writer.close)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    with SpoolReader(tmp_path) as reader:
        assert len(reader.read(START, 1 << 20)) == 50
