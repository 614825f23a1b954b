"""What one turn of the loader reads, mapped to rows: now, or while the database works on the turn before.

Not here: whose turn it is (`shares`), where a pipeline goes on (`backlog`), committing (`committing`).
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.clock import Clock
from sluiceway.infra.trouble import describe
from sluiceway.ingestion.contracts import LogReader, Position, SpoolRecord
from sluiceway.kit.faults import reach
from sluiceway.loading.backlog import Span
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.preparing import is_loadable, prepare
from sluiceway.loading.reading import Taken, fetch
from sluiceway.warehouse.contracts import CursorMove, PreparedBatch
from sluiceway.warehouse.service import Warehouse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one turn read: batches in order, and where each pipeline is when they are committed."""

    batches: list[PreparedBatch]
    taken: dict[int, Taken]
    unknown: int
    unloadable: list[tuple[Pipeline, int]]
    """Pipelines not to be loaded, and when the oldest of what was read of each was received, in µs."""

    @property
    def size_bytes(self) -> int:
        return sum(taken.size_bytes for taken in self.taken.values())


@dataclass(frozen=True, slots=True)
class _Ahead:
    """The next batch of a pipeline, in the making while another is committed."""

    pipeline_id: int
    chunk: Future[Chunk]


class Chunks:
    """Reads for one loader, whose thread calls it; what is prepared ahead is made in a thread of its own."""

    def __init__(
        self, reader: LogReader, node: str, book: PipelineBook, warehouse: Warehouse, clock: Clock
    ) -> None:
        self._reader = reader
        self._node = node
        self._book = book
        self._warehouse = warehouse
        self._clock = clock
        self._ahead: _Ahead | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="loader-prepare")

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    @property
    def ahead_of(self) -> int | None:
        """The pipeline whose next batch is made ahead."""
        return None if self._ahead is None else self._ahead.pipeline_id

    def prepare(self, pipeline_id: int, spans: Sequence[Span], max_bytes: int) -> None:
        """Begin to make a pipeline's next batch."""
        made = self._executor.submit(self._read_ahead, {pipeline_id: spans}, max_bytes)
        self._ahead = _Ahead(pipeline_id, made)

    def take(self, pipelines: Sequence[int]) -> Chunk | None:
        """What was made ahead, if it is of these pipelines and could be made; waits for it."""
        if self._ahead is None or tuple(pipelines) != (self._ahead.pipeline_id,):
            return None
        ahead, self._ahead = self._ahead, None
        try:
            return ahead.chunk.result()
        except Exception as error:  # whatever it was: read now, it is met where it is dealt with
            log.warning("what was prepared ahead is prepared again: %s", describe(error))
            return None

    def forget(self, pipeline_id: int | None = None) -> None:
        """Drop what is made ahead; `pipeline_id`: if it is this pipeline's."""
        if pipeline_id not in (None, self.ahead_of):
            return
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.chunk.cancel():
            ahead.chunk.exception()  # wait: what it uses is not for two

    def read(self, wanted: Mapping[int, Sequence[Span]], max_bytes: int) -> Chunk:
        """Read and map each pipeline's spans, about `max_bytes` in all."""
        now = self._clock.now()
        batches: list[PreparedBatch] = []
        taken: dict[int, Taken] = {}
        unloadable: list[tuple[Pipeline, int]] = []
        unknown = 0
        entries = {pipeline_id: self._book.get(pipeline_id) for pipeline_id in wanted}
        splitting = {p for p, entry in entries.items() if entry and entry.pipeline.spec.source.split}
        read = fetch(self._reader, wanted, max_bytes, splitting=splitting)
        reach("loader.read")
        for pipeline_id, found in read.items():
            taken[pipeline_id] = replace(found, records=[])
            entry = entries[pipeline_id]
            if entry is None or not is_loadable(entry.pipeline):
                unknown += sum(record.events for record in found.records)
                if entry is not None and found.records:
                    oldest_us = min(record.received_us for record in found.records)
                    unloadable.append((entry.pipeline, oldest_us))
                continue
            # A restored database may give out the id of a pipeline that it has forgotten to another tenant's.
            own = [r for r in found.records if r.workspace_id == entry.pipeline.workspace_id]
            unknown += sum(r.events for r in found.records) - sum(r.events for r in own)
            batch = prepare(self._node, entry, own, now) if own else None
            if batch is not None:
                if len(own) < len(found.records):  # the cursor passes them all
                    batch = replace(batch, cursor=CursorMove(self._node, *_stretch(found.records)))
                batches.append(batch)
        reach("loader.mapped")
        return Chunk(batches, taken, unknown, unloadable)

    def _read_ahead(self, wanted: Mapping[int, Sequence[Span]], max_bytes: int) -> Chunk:
        """The next chunk, its leaves made and the gate asked: there is time while the database works."""
        chunk = self.read(wanted, max_bytes)
        for batch in chunk.batches:
            self._warehouse.ensure_leaves(batch)
        return replace(chunk, batches=[self._judge_ahead(batch) for batch in chunk.batches])

    def _judge_ahead(self, batch: PreparedBatch) -> PreparedBatch:
        try:
            return self._warehouse.judge.ahead(batch)
        except Exception as error:
            log.warning("the gate of %s failed ahead: %s", batch.pipeline.slug, describe(error))
            return batch  # it is asked again with the commit, which knows what to do with a gate that fails


def _stretch(records: Sequence[SpoolRecord]) -> tuple[Position, Position]:
    return records[0].position, records[-1].end
