"""The lake: reading a day of bronze, compacting it, dropping what is past retention.

Writing fresh events is `writer`'s work. The protocol between readers, the writer and compactions is in
`docs/adr/0004-lake.md`; it needs no lock, because of the invariant in `contracts`.
"""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Position
from sluiceway.lake import bronze
from sluiceway.lake.contracts import BronzeName, BronzeObject, Compaction, prefix_of, unread
from sluiceway.lake.errors import LakeDamaged
from sluiceway.lake.repository import ObjectStore, open_store

COMPACTED_BYTES = 64 * 1024 * 1024
_LISTINGS = 10
_DAY = "date="


def _nothing(step: str) -> None:
    return None


class Lake:
    """Bronze of every pipeline under one address (`file://` or `s3://`). Safe to use from several threads."""

    def __init__(self, settings: Settings, *, on_step: Callable[[str], None] = _nothing) -> None:
        """`on_step` is told the name of every step of a compaction before it is done (fault tests)."""
        self.url = settings.lake_url
        self._store: ObjectStore = open_store(settings)
        self._on_step = on_step

    def probe(self) -> None:
        """Write, read and remove a small object. Raises `LakeUnavailable`."""
        path = f"probe/{secrets.token_hex(8)}"
        self._store.put(path, b"sluiceway")
        try:
            self._store.get(path)
        finally:
            self._store.delete([path])

    def put(self, name: BronzeName, data: bytes) -> None:
        """Write a whole object; durable when this returns. Raises `LakeUnavailable`."""
        self._store.put(name.path, data)

    def days(self, pipeline: Pipeline) -> list[date]:
        """Days (UTC, of receipt) that have bronze, oldest first."""
        folders = self._store.folders(prefix_of(pipeline) + "/")
        names = [folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders]
        return sorted(date.fromisoformat(n.removeprefix(_DAY)) for n in names if n.startswith(_DAY))

    def objects(self, pipeline: Pipeline, day: date) -> list[BronzeObject]:
        """Every object of the day, also those that others contain.

        A listing takes several requests, and a compaction may run in between: it is repeated until two
        agree, so that none is missed.
        """
        prefix = f"{prefix_of(pipeline)}/{_DAY}{day.isoformat()}/"
        found = self._list(prefix)
        for _ in range(_LISTINGS):
            again = self._list(prefix)
            if {o.name for o in again} == {o.name for o in found}:
                return again
            found = again
        return found

    def _list(self, prefix: str) -> list[BronzeObject]:
        found = []
        for item in self._store.listing(prefix):
            name = BronzeName.parse(item["path"])
            if name is not None:
                found.append(BronzeObject(name, item["size"], item["last_modified"]))
        return found

    def read_bronze(self, pipeline: Pipeline, day: date) -> Iterator[pa.RecordBatch]:
        """All events received on `day` (UTC), each once, by node and position: batches of `bronze.SCHEMA`.

        Compactions and flushes may go on meanwhile. Raises `LakeUnavailable`, `LakeDamaged`.
        """
        done: dict[str, Position] = {}
        waiting = unread(self.objects(pipeline, day))
        while waiting:
            item = waiting.pop(0)
            node = item.name.node
            reached = done.get(node)
            if reached is not None and item.name.end <= reached:
                continue
            try:
                data = self._store.get(item.name.path)
            except FileNotFoundError:
                # Compacted away since it was listed: what replaced it holds the same events.
                waiting = self._again(pipeline, day, item, done)
                continue
            yield from self._batches(item, data, reached)
            done[node] = item.name.end

    def _again(
        self, pipeline: Pipeline, day: date, gone: BronzeObject, done: dict[str, Position]
    ) -> list[BronzeObject]:
        listed = self.objects(pipeline, day)
        if any(item.name == gone.name for item in listed):
            raise LakeDamaged(f"{gone.name.path} is listed but cannot be read.")
        known = [o for o in unread(listed) if not (reached := done.get(o.name.node)) or o.name.end > reached]
        # Retention may have taken the whole day; then there is nothing left to read.
        if known and not any(_contains(o.name, gone.name) for o in known):
            raise LakeDamaged(f"{gone.name.path} has gone, and nothing else holds its events.")
        return known

    def _batches(self, item: BronzeObject, data: bytes, reached: Position | None) -> Iterator[pa.RecordBatch]:
        try:
            for batch in bronze.read_parquet(data):
                yield batch if reached is None or item.name.begin >= reached else _from(batch, reached)
        except pa.ArrowInvalid as error:
            raise LakeDamaged(f"{item.name.path} is not a whole Parquet file: {error}") from error

    def compact_day(self, pipeline: Pipeline, day: date) -> Compaction:
        """Make few large objects of many small ones; the events and their order stay the same.

        New objects are written first, then those they contain are removed: a reader sees either. Stopping
        anywhere leaves a day that reads the same, and doing it again goes on.
        """
        before = self.objects(pipeline, day)
        wanted = unread(before)
        kept: list[BronzeObject] = []
        events = 0
        for group in _groups(wanted):
            if len(group) == 1:
                kept.append(group[0])
                events += bronze.count_rows(self._store.get(group[0].name.path))
            else:
                merged, rows = self._merge(group)
                kept.append(merged)
                events += rows
        names = {item.name for item in kept}
        for item in before:
            if item.name not in names and any(_contains(name, item.name) for name in names):
                self._on_step(f"delete {item.name.path}")
                self._store.delete([item.name.path])
        self._on_step("end")
        return Compaction(len(before), len(kept), events, sum(item.size_bytes for item in kept))

    def _merge(self, group: list[BronzeObject]) -> tuple[BronzeObject, int]:
        first, last = group[0].name, group[-1].name
        name = BronzeName(first.prefix, first.day, first.node, first.begin, last.end)
        target = bronze.ParquetBytes()
        reached: Position | None = None
        expected = 0
        for item in group:
            data = self._store.get(item.name.path)
            if reached is None or item.name.begin >= reached:
                expected += bronze.count_rows(data)
            for batch in self._batches(item, data, reached):
                target.write(pa.Table.from_batches([batch]))
                expected += batch.num_rows if reached is not None and item.name.begin < reached else 0
            reached = item.name.end
        if target.rows != expected:
            raise LakeDamaged(f"{name.path} would hold {target.rows} events instead of {expected}.")
        content = target.finish()
        self._on_step(f"put {name.path}")
        self._store.put(name.path, content)
        return BronzeObject(name, len(content), datetime.now(UTC)), target.rows

    def apply_retention(self, pipeline: Pipeline, now: datetime | None = None) -> int:
        """Remove whole days that are older than the pipeline keeps bronze; returns how many objects."""
        keep = pipeline.spec.retention.bronze
        if keep is None:
            return 0
        oldest = ((now or datetime.now(UTC)) - keep).astimezone(UTC).date()
        removed = 0
        for day in self.days(pipeline):
            if day < oldest:
                paths = [item.name.path for item in self.objects(pipeline, day)]
                self._store.delete(paths)
                removed += len(paths)
        return removed


def _contains(outer: BronzeName, inner: BronzeName) -> bool:
    return outer.node == inner.node and outer.begin <= inner.begin and inner.end <= outer.end


def _from(batch: pa.RecordBatch, reached: Position) -> pa.RecordBatch:
    """The rows at or after a position."""
    later = pc.greater(batch["segment"], reached.segment)
    same = pc.and_(
        pc.equal(batch["segment"], reached.segment), pc.greater_equal(batch["offset"], reached.offset)
    )
    return batch.filter(pc.or_(later, same))


def _groups(objects: list[BronzeObject]) -> Iterator[list[BronzeObject]]:
    """Neighbours of one node whose sizes together stay under what a compacted object should have."""
    group: list[BronzeObject] = []
    size = 0
    for item in objects:
        if group and (item.name.node != group[0].name.node or size + item.size_bytes > COMPACTED_BYTES):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.size_bytes
    if group:
        yield group
