"""The pipelines a loader knows, with their transforms; kept fresh by notifications and by age."""

import time
from dataclasses import dataclass
from threading import Lock
from typing import Any

import orjson
import psycopg

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.announcing import CHANNEL
from sluiceway.infra.database import Database, Role
from sluiceway.quality.contracts import Gate
from sluiceway.transforms.service import DEFAULT_MAX_EVENT_BYTES, Transform

_MAX_AGE_S = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    pipeline: Pipeline
    transform: Transform


class PipelineBook:
    """Every pipeline by id. `get` may be called from any thread."""

    def __init__(
        self, database: Database, gate: Gate, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES
    ) -> None:
        self._database = database
        self._gate = gate
        self._max_event_bytes = max_event_bytes
        self._lock = Lock()
        self._entries: dict[int, Entry] = {}
        self._absent: set[int] = set()
        self._read_at: float | None = None
        self._listening: psycopg.Connection[Any] | None = None

    def get(self, pipeline_id: int) -> Entry | None:
        """The pipeline as it is now, or None. Raises psycopg's and SQLAlchemy's errors."""
        with self._lock:
            age = None if self._read_at is None else time.monotonic() - self._read_at
            # What is not there is looked for once after it was first asked about: whoever asks has an event
            # of it, so that a catalog read before, however lately, cannot say that there is no such pipeline.
            unknown = pipeline_id not in self._entries and pipeline_id not in self._absent
            if age is None or age > _MAX_AGE_S or unknown:
                self._read()
            found = self._entries.get(pipeline_id)
            if found is None:
                self._absent.add(pipeline_id)
            return found

    def slug(self, pipeline_id: int) -> str | None:
        """The pipeline's name in the lake. It never changes, so it is known while the database is away."""
        entry = self._entries.get(pipeline_id) or self.get(pipeline_id)
        return None if entry is None else entry.pipeline.slug

    def active(self) -> list[Pipeline]:
        """Every active pipeline."""
        self.get(-1)
        return [e.pipeline for e in self._entries.values() if e.pipeline.state == "active"]

    def listen(self) -> None:
        """Take in what was notified since the last call; cheap. Raises psycopg's errors."""
        if self._listening is None:
            self._listening = self._database.connect(Role.WRITER, autocommit=True)
            self._listening.execute(f"LISTEN {CHANNEL}")
            self._stale()
            self._gate.invalidate()
        for notice in self._listening.notifies(timeout=0):
            kind = _kind(notice.payload)
            if kind == "catalog":
                self._stale()
            elif kind == "suite":
                self._gate.invalidate()

    def disconnect(self) -> None:
        """Drop the connection; the next `listen` makes another and takes everything for changed."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def _stale(self) -> None:
        with self._lock:
            self._read_at = None

    def _read(self) -> None:
        with self._database.transaction(Role.WRITER) as connection:
            found = Catalog().all(connection)
        fresh: dict[int, Entry] = {}
        for pipeline in found:
            known = self._entries.get(pipeline.id)
            if known is not None and known.pipeline.version == pipeline.version:
                fresh[pipeline.id] = Entry(pipeline, known.transform)
            else:
                transform = Transform(pipeline.spec, max_event_bytes=self._max_event_bytes)
                fresh[pipeline.id] = Entry(pipeline, transform)
        self._entries, self._absent = fresh, set()
        self._read_at = time.monotonic()


def _kind(payload: str) -> str | None:
    # Batches are by far the most, and of no interest here.
    if payload.startswith('{"t":"batch"'):
        return None
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return found.get("t") if isinstance(found, dict) else None
