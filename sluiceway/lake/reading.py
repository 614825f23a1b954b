"""Listing and reading objects of the lake while a writer and compactions go on. Private to the slice.

Why a reader sees every event once whatever happens meanwhile: `docs/adr/0004-lake.md`.
"""

from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa
import pyarrow.compute as pc

from sluiceway.ingestion.contracts import Position
from sluiceway.lake import bronze
from sluiceway.lake.contracts import BronzeName, BronzeObject, contains, unread
from sluiceway.lake.errors import LakeDamaged
from sluiceway.lake.repository import ObjectStore, ahead

AHEAD_BYTES = 64 * 1024 * 1024
GATHER_ROWS = 8_192
GATHER_BYTES = 4 * 1024 * 1024
_LISTINGS = 10
_FOOTER_BYTES = 16 * 1024


class Objects:
    """The objects of one prefix and day (`…/date=2026-03-14/`)."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self.prefix = prefix

    def all(self) -> list[BronzeObject]:
        """Every object, also those that others contain.

        A listing takes several requests, and a compaction may run in between: it is repeated until two
        agree, so that none is missed.
        """
        found = self._list()
        for _ in range(_LISTINGS):
            again = self._list()
            if {o.name for o in again} == {o.name for o in found}:
                return again
            found = again
        return found

    def load(self, item: BronzeObject) -> bytes:
        """Raises `FileNotFoundError` if it has gone."""
        return self._store.get(item.name.path, item.size_bytes)

    def count(self, item: BronzeObject) -> int:
        """How many events an object holds, from its footer. Raises `FileNotFoundError`, `LakeDamaged`."""
        try:
            tail = self._store.tail(item.name.path, item.size_bytes, _FOOTER_BYTES)
            needed = bronze.footer_bytes(tail)
            if needed > len(tail):
                tail = self._store.tail(item.name.path, item.size_bytes, needed)
            return bronze.count_rows(tail)
        except bronze.Damaged as error:
            raise self.damaged(item, error) from error

    def batches(self, item: BronzeObject, data: bytes, reached: Position | None) -> Iterator[pa.RecordBatch]:
        """An object's rows at or after `reached`. Raises `LakeDamaged`, and before the first."""
        try:
            for batch in bronze.read_parquet(data):
                fresh = batch if reached is None or item.name.begin >= reached else _from(batch, reached)
                if fresh.num_rows:
                    yield fresh
        except bronze.Damaged as error:
            raise self.damaged(item, error) from error

    def damaged(self, item: BronzeObject, error: bronze.Damaged) -> LakeDamaged:
        self._store.stats.objects_damaged += 1
        return LakeDamaged(f"{item.name.path} cannot be read: {error}.", extra={"object": item.name.path})

    def read(self) -> Iterator[pa.RecordBatch]:
        """Every event once, by node and position; compactions and flushes may go on meanwhile."""
        done: dict[str, Position] = {}
        waiting = unread(self.all())
        while waiting:
            gone: BronzeObject | None = None
            coming = ahead(waiting, self.load, lambda item: item.size_bytes, AHEAD_BYTES)
            with closing(coming):
                for item, load in coming:
                    reached = done.get(item.name.node)
                    if reached is not None and item.name.end <= reached:
                        continue
                    try:
                        data = load()
                    except FileNotFoundError:
                        # Compacted away since it was listed: what replaced it holds the same events.
                        gone = item
                        break
                    yield from self.batches(item, data, reached)
                    done[item.name.node] = item.name.end
            waiting = [] if gone is None else self._again(gone, done)

    def _again(self, gone: BronzeObject, done: dict[str, Position]) -> list[BronzeObject]:
        listed = self.all()
        if any(item.name == gone.name for item in listed):
            raise LakeDamaged(f"{gone.name.path} is listed but cannot be read.")
        known = [o for o in unread(listed) if not (reached := done.get(o.name.node)) or o.name.end > reached]
        # Retention may have taken the whole day; then there is nothing left to read.
        if known and not any(contains(o.name, gone.name) for o in known):
            raise LakeDamaged(f"{gone.name.path} has gone, and nothing else holds its events.")
        return known

    def _list(self) -> list[BronzeObject]:
        found = []
        for item in self._store.listing(self.prefix):
            name = BronzeName.parse(item["path"])
            if name is not None:
                found.append(BronzeObject(name, item["size"], item["last_modified"]))
        return found


def gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows with small batches put together: thousands of small objects are read as a few large."""
    waiting: list[pa.RecordBatch] = []
    rows = size_bytes = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        size_bytes += batch.nbytes
        if rows >= GATHER_ROWS or size_bytes >= GATHER_BYTES:
            yield _whole(waiting)
            waiting, rows, size_bytes = [], 0, 0
    if waiting:
        yield _whole(waiting)


def _whole(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _from(batch: pa.RecordBatch, reached: Position) -> pa.RecordBatch:
    """The rows at or after a position."""
    later = pc.greater(batch["segment"], reached.segment)
    same = pc.and_(
        pc.equal(batch["segment"], reached.segment), pc.greater_equal(batch["offset"], reached.offset)
    )
    return batch.filter(pc.or_(later, same))
