"""Few large objects of many small ones, without a lock. Private to the slice; `docs/adr/0004-lake.md`.

The order of steps is what keeps readers whole: read the small ones, put the large one, and only then delete
those it contains. An object that cannot be read is never merged, nor is anything deleted because of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa

from sluiceway.ingestion.contracts import Position
from sluiceway.lake import bronze
from sluiceway.lake.contracts import BronzeName, BronzeObject, Compaction, contains, overlaps, unread
from sluiceway.lake.errors import LakeDamaged, LakeUnavailable
from sluiceway.lake.reading import Objects
from sluiceway.lake.repository import ObjectStore, ahead

COMPACTED_BYTES = 64 * 1024 * 1024
DELETE_AT_ONCE = 64
AHEAD_BYTES = 16 * 1024 * 1024
_TRIES = 20


class _Overtaken(Exception):
    """The day is not as it was listed: another compaction, or the writer, was at work in this stretch."""


class Compactor:
    """One day of one pipeline. `on_step` is told the name of every step before it is done (fault tests)."""

    def __init__(self, store: ObjectStore, objects: Objects, on_step: Callable[[str], None]) -> None:
        self._store = store
        self._objects = objects
        self._on_step = on_step
        self._damaged: set[BronzeName] = set()

    def run(self, fewest: int) -> Compaction:
        """Merge neighbours where at least `fewest` (2 or more) become one; delete what others contain.

        Raises `LakeUnavailable`. Memory: one merged object, what was read ahead and a row group.
        """
        for _ in range(_TRIES):
            try:
                return self._compact(fewest)
            except (_Overtaken, FileNotFoundError):
                continue
        raise LakeUnavailable(f"{self._objects.prefix} is being compacted by others again and again.")

    def _compact(self, fewest: int) -> Compaction:
        before = self._objects.all()
        kept: list[BronzeObject] = []
        merged: set[BronzeName] = set()
        for group in _groups(unread(before), self._damaged):
            for item in self._merged(group, fewest, before):
                kept.append(item)
                if item.name not in {one.name for one in group}:
                    merged.add(item.name)
                    self._delete(item.name, before)
        for item in kept:
            if item.name not in merged:
                self._tidy(item, before)
        self._on_step("end")
        self._store.stats.compactions += bool(merged)
        return Compaction(
            objects_before=len(before),
            objects_after=len(kept),
            events=sum(self._count(item) for item in kept),
            size_bytes=sum(item.size_bytes for item in kept),
            damaged=tuple(sorted(name.path for name in self._damaged)),
        )

    def _count(self, item: BronzeObject) -> int:
        """0 for what cannot be read."""
        if item.name in self._damaged:
            return 0
        try:
            return self._objects.count(item)
        except LakeDamaged:
            self._damaged.add(item.name)
            return 0

    def _merged(
        self, group: list[BronzeObject], fewest: int, before: Sequence[BronzeObject]
    ) -> list[BronzeObject]:
        """What holds a group's events from now on: one object, or more where one of it is damaged."""
        if len(group) < fewest:
            return group
        try:
            return [self._merge(group, before)]
        except LakeDamaged as error:
            bad = next((item for item in group if item.name.path == error.extra.get("object")), None)
            if bad is None:
                raise
            self._damaged.add(bad.name)
            at = group.index(bad)
            sides = (self._merged(part, fewest, before) for part in (group[:at], group[at + 1 :]))
            return [*next(sides), bad, *next(sides)]

    def _merge(self, group: list[BronzeObject], before: Sequence[BronzeObject]) -> BronzeObject:
        first, last = group[0].name, group[-1].name
        name = BronzeName(first.prefix, first.day, first.node, first.begin, last.end)
        content = self._content(name, group)
        self._check_listing(name, group, before)
        self._on_step(f"put {name.path}")
        self._store.put(name.path, content)
        if self._store.size(name.path) != len(content):
            raise LakeDamaged(f"{name.path} was put, but is not there with its {len(content)} bytes.")
        self._store.stats.objects_compacted += len(group)
        return BronzeObject(name, len(content), datetime.now(UTC))

    def _content(self, name: BronzeName, group: list[BronzeObject]) -> memoryview:
        target = bronze.ParquetBytes()
        reached: Position | None = None
        expected = 0
        coming = ahead(group, self._objects.load, lambda item: item.size_bytes, AHEAD_BYTES)
        with closing(coming):
            for item, load in coming:
                whole = reached is None or item.name.begin >= reached
                data = load()
                before = target.rows
                for batch in self._objects.batches(item, data, reached):
                    target.write(pa.Table.from_batches([batch]))
                expected += bronze.count_rows(data) if whole else target.rows - before
                reached = item.name.end
        if target.rows != expected:
            raise LakeDamaged(f"{name.path} would hold {target.rows} events instead of {expected}.")
        return target.finish()

    def _check_listing(
        self, name: BronzeName, group: Sequence[BronzeObject], before: Sequence[BronzeObject]
    ) -> None:
        """Raises `_Overtaken` if the stretch holds an object that was not listed, however that came about.

        Putting the merged object would hide the events of that one from every reader.
        """
        known = {item.name for item in before}
        for item in self._objects.all():
            fresh = item.name not in known and not any(contains(read.name, item.name) for read in group)
            if fresh and overlaps(name, item.name):
                raise _Overtaken

    def _tidy(self, item: BronzeObject, before: Sequence[BronzeObject]) -> None:
        """Delete what an older object contains, once that one is known to be whole."""
        if item.name in self._damaged or not _inside(item.name, before):
            return
        try:
            for _ in self._objects.batches(item, self._objects.load(item), None):
                pass
        except LakeDamaged:
            self._damaged.add(item.name)
            return
        self._delete(item.name, before)

    def _delete(self, outer: BronzeName, before: Sequence[BronzeObject]) -> None:
        paths = [name.path for name in _inside(outer, before) if name not in self._damaged]
        for begin in range(0, len(paths), DELETE_AT_ONCE):
            some = paths[begin : begin + DELETE_AT_ONCE]
            self._on_step(f"delete {some[0]}")
            self._store.delete(some)


def _inside(outer: BronzeName, objects: Sequence[BronzeObject]) -> list[BronzeName]:
    return [o.name for o in objects if o.name != outer and contains(outer, o.name)]


def _groups(objects: Sequence[BronzeObject], damaged: set[BronzeName]) -> Iterator[list[BronzeObject]]:
    """Neighbours of one node whose sizes together stay under what a compacted object should have."""
    group: list[BronzeObject] = []
    size = 0
    for item in objects:
        alone = item.name in damaged or (group and group[-1].name in damaged)
        if group and (
            alone or item.name.node != group[0].name.node or size + item.size_bytes > COMPACTED_BYTES
        ):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.size_bytes
    if group:
        yield group
