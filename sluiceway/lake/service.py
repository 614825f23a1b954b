"""The lake: reading a day of bronze, compacting and checking it, dropping what is past retention.

Writing fresh events is `writer`'s work. The protocol between readers, the writer and compactions is in
`docs/adr/0004-lake.md`; it needs no lock, because of the invariant in `contracts`.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime

import pyarrow as pa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.settings import Settings
from sluiceway.lake import bronze
from sluiceway.lake.compaction import Compactor
from sluiceway.lake.contracts import (
    BronzeName,
    BronzeObject,
    Compaction,
    LakeStats,
    bronze_prefix,
    prefix_of,
)
from sluiceway.lake.errors import LakeDamaged
from sluiceway.lake.local import FileOps
from sluiceway.lake.reading import Objects, gathered
from sluiceway.lake.repository import ObjectStore, open_store

_DAY = "date="


def _nothing(step: str) -> None:
    return None


class Lake:
    """Bronze of every pipeline under one address (`file://` or `s3://`). Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_step: Callable[[str], None] = _nothing,
        files: FileOps | None = None,
    ) -> None:
        """`on_step` is told the name of every step of a compaction before it is done; `files` makes the file
        calls of a lake that is a folder (fault tests).
        """
        self.url = settings.lake_url
        self._store: ObjectStore = open_store(settings, files)
        self._on_step = on_step

    @property
    def stats(self) -> LakeStats:
        """What this process asked of the lake since the object was made."""
        return self._store.stats

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

    def rows(self, name: BronzeName) -> int | None:
        """How many events the object of this very name holds; None if there is none that can be read whole.

        Raises `LakeUnavailable`.
        """
        try:
            return sum(int(batch.num_rows) for batch in bronze.read_parquet(self._store.get(name.path)))
        except (FileNotFoundError, bronze.Damaged):
            return None

    def days(self, pipeline: Pipeline) -> list[date]:
        """Days (UTC, of receipt) that have bronze, oldest first."""
        folders = self._store.folders(prefix_of(pipeline) + "/")
        names = [folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders]
        return sorted(date.fromisoformat(n.removeprefix(_DAY)) for n in names if n.startswith(_DAY))

    def objects(self, pipeline: Pipeline, day: date) -> list[BronzeObject]:
        """Every object of the day, also those that others contain."""
        return self._of(pipeline, day).all()

    def stored_bytes(self, workspace_id: int, slug: str) -> int:
        """Bytes of everything that is kept of a pipeline. Lists it whole. Raises `LakeUnavailable`."""
        return sum(item["size"] for item in self._store.listing(bronze_prefix(workspace_id, slug) + "/"))

    def read_bronze(self, pipeline: Pipeline, day: date) -> Iterator[pa.RecordBatch]:
        """All events received on `day` (UTC), each once, by node and position: batches of `bronze.SCHEMA`.

        Compactions and flushes may go on meanwhile. Raises `LakeUnavailable`, and `LakeDamaged` with the
        object's name before any of its rows is given.
        """
        return gathered(self._of(pipeline, day).read())

    def compact_day(self, pipeline: Pipeline, day: date, *, fewest: int = 2) -> Compaction:
        """Make few large objects of many small ones; the events and their order stay the same.

        Neighbours are merged where at least `fewest` become one. New objects are written first, then those
        they contain are removed: a reader sees either. Stopping anywhere leaves a day that reads the same,
        and doing it again goes on. What cannot be read is left as it is and named in `Compaction.damaged`.
        Raises `LakeUnavailable`.
        """
        return Compactor(self._store, self._of(pipeline, day), self._on_step).run(fewest)

    def damaged(self, pipeline: Pipeline, day: date) -> dict[str, str]:
        """Objects of the day that cannot be read, each with a sentence about it. Reads every byte."""
        objects = self._of(pipeline, day)
        found = {}
        for item in objects.all():
            # What is compacted away meanwhile is in another object, which was read before it was deleted.
            with suppress(FileNotFoundError):
                try:
                    for _ in objects.batches(item, objects.load(item), None):
                        pass
                except LakeDamaged as error:
                    found[item.name.path] = error.detail
        return found

    def apply_retention(self, pipeline: Pipeline, now: datetime | None = None) -> int:
        """Remove whole days that are older than the pipeline keeps bronze; returns how many objects."""
        self._store.sweep()
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

    def erase(self, workspace_id: int) -> int:
        """Remove every object of a workspace, whatever pipeline wrote it; returns how many."""
        paths = [item["path"] for item in self._store.listing(bronze_prefix(workspace_id, ""))]
        self._store.delete(paths)
        return len(paths)

    def _of(self, pipeline: Pipeline, day: date) -> Objects:
        return Objects(self._store, f"{prefix_of(pipeline)}/{_DAY}{day.isoformat()}/")
