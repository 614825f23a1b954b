"""Writes the spool to bronze: a thread of the loader's process with a cursor of its own.

What keeps a crash from losing or doubling anything: before the first object of a stretch is put, the
stretch and the names its pipelines had are fsynced into the cursor file (the intent). A restart that finds an
intent does exactly that stretch again, under exactly the same names; putting an object again replaces it by
itself. Only then does the cursor move.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol

from sluiceway.infra import metrics
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.trouble import describe, growing_pause_s
from sluiceway.ingestion.contracts import Position, SpoolRecord
from sluiceway.kit.errors import SluicewayError
from sluiceway.kit.faults import reach
from sluiceway.lake.bronze import Split, rows_of, to_parquet
from sluiceway.lake.contracts import BronzeName, BronzeWriterState, LakeStats, bronze_prefix
from sluiceway.lake.errors import LakeUnavailable
from sluiceway.lake.service import Lake

FLUSH_BYTES = 32 * 1024 * 1024
FLUSH_EVENTS = 500_000
"""However small they are: each is a row in memory until its object is put."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_ASK_AGAIN_S = 1.0
_US_PER_DAY = 86_400_000_000
_EPOCH = date(1970, 1, 1)

log = logging.getLogger(__name__)

Pipelines = Callable[[int], str | None]
"""Pipeline id → its slug, or None when there is no such pipeline any more."""


class Reader(Protocol):
    def read(self, start: Position, max_bytes: int) -> list[SpoolRecord]: ...

    def begun(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Intent:
    """The stretch being written, and the slug of every pipeline in it when that began.

    `begin` is where its first record lies, not where the last stretch ended: in between may be positions of
    a log that was lost, and the objects that hold their events must not look contained in a new one.
    """

    begin: Position
    end: Position
    slugs: dict[int, str]


class Cursor:
    """The cursor file: what is safely in the lake, and what is being written. Replaced whole, fsynced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.position = Position(0, 0)
        self.intent: Intent | None = None
        if path.exists():
            try:
                self._restore(json.loads(path.read_text()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                # Safe: what is in the log still is written again, under names that begin at its records.
                self.position, self.intent = Position(0, 0), None
                log.error("%s cannot be read (%r): bronze begins with the log's first record", path, error)

    def _restore(self, found: Any) -> None:
        segment, offset = map(int, found["position"])
        self.position = Position(segment, offset)
        intent = found["intent"]
        if intent is not None:
            slugs = {int(key): str(value) for key, value in intent["slugs"].items()}
            begin, end = map(int, intent.get("begin", found["position"])), map(int, intent["end"])
            self.intent = Intent(Position(*begin), Position(*end), slugs)

    def save(self, position: Position, intent: Intent | None) -> None:
        document = {
            "position": [position.segment, position.offset],
            "intent": None
            if intent is None
            else {
                "begin": [intent.begin.segment, intent.begin.offset],
                "end": [intent.end.segment, intent.end.offset],
                "slugs": intent.slugs,
            },
        }
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.position, self.intent = position, intent


class BronzeWriter:
    """One node's spool → bronze. `run` until stopped; a lake that fails is tried again, ever more seldom.

    `folder` keeps the cursor file; `split` gives the events in a body; `pipelines` gives a pipeline's slug;
    `on_step` is told every step before it is done (fault tests raise there). Not for several threads, but
    for `state` and `position`: the spool may be trimmed up to `position`.
    """

    def __init__(
        self,
        reader: Reader,
        lake: Lake,
        folder: Path,
        node: str,
        split: Split,
        pipelines: Pipelines,
        *,
        flush_s: float = 10.0,
        flush_bytes: int = FLUSH_BYTES,
        clock: Clock | None = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._reader = reader
        self._lake = lake
        self._node = node
        self._split = split
        self._pipelines = pipelines
        self._flush_s = flush_s
        self._flush_bytes = flush_bytes
        self._clock = clock or SystemClock()
        self._on_step = on_step
        folder.mkdir(parents=True, exist_ok=True)
        self._cursor = Cursor(folder / "bronze.cursor")
        self._records: list[SpoolRecord] = []
        self._size_bytes = self._events = 0
        self._oldest = 0.0
        self._failures = 0
        self._gone: set[int] = set()
        self._again = False  # the records come from the log a second time, perhaps fewer of them
        self.state = BronzeWriterState(self._cursor.position, 0, 0, 0, 0, None, None, None)

    @property
    def position(self) -> Position:
        """Everything before this is in the lake."""
        return self._cursor.position

    @property
    def traffic(self) -> LakeStats:
        """What was asked of the lake: requests, failures, bytes and seconds of each kind."""
        return self._lake.stats

    def run(self, stop: threading.Event) -> None:
        """Until `stop`. Whatever fails is logged and tried again; nothing is raised."""
        while not stop.is_set():
            try:
                busy = self.step()
            except Exception as error:  # the spool keeps everything: a failure here only costs time
                stop.wait(self._pause_after(error))
                continue
            if not busy:
                stop.wait(min(1.0, self._flush_s / 4))

    def step(self, *, force: bool = False) -> bool:
        """Read what is new and write it if it is much or old (`force`: at once). True: there may be more.

        Raises `LakeUnavailable`, or whatever `pipelines` raises; then call again.
        """
        if self._cursor.intent is None:
            room = self._flush_bytes - self._size_bytes
            if room > 0 and self._events < FLUSH_EVENTS:
                self._keep(_first(self._reader.read(self._next(), room), FLUSH_EVENTS - self._events))
        elif not self._records:
            self._keep(self._intended(self._cursor.intent))
            self._again = True
            if not self._records:
                self._cursor.save(self._cursor.intent.end, None)
                self._again = False
                self._done(0, 0, 0)
                return True
        begun = self._cursor.intent is not None
        full = self._size_bytes >= self._flush_bytes or self._events >= FLUSH_EVENTS
        due = begun or full or force or time.monotonic() - self._oldest >= self._flush_s
        if not self._records or not due:
            self.state = replace(self.state, waiting_bytes=self._size_bytes)
            return False
        self._flush()
        return begun or full

    def _next(self) -> Position:
        return self._records[-1].end if self._records else self._cursor.position

    def _keep(self, records: list[SpoolRecord]) -> None:
        if records and not self._records:
            self._oldest = time.monotonic()
        self._records += records
        self._size_bytes += sum(len(record.body) for record in records)
        self._events += sum(record.events for record in records)

    def _intended(self, intent: Intent) -> list[SpoolRecord]:
        """The records of a stretch that was begun before a restart: those that can be read still.

        Raises `LakeUnavailable` if there is no log at all.
        """
        found: list[SpoolRecord] = []
        at = self._cursor.position
        while at < intent.end:
            more = [r for r in self._reader.read(at, self._flush_bytes) if r.end <= intent.end]
            if not more:
                if not self._reader.begun():
                    raise LakeUnavailable(f"The spool does not hold {at} to {intent.end} any more.")
                log.error(
                    "bronze: the spool of %s has nothing readable from %s to %s", self._node, at, intent.end
                )
                break
            found += more
            at = more[-1].end
        return found

    def _flush(self) -> None:
        intent = self._cursor.intent
        known = {} if intent is None else intent.slugs
        new = sorted({r.pipeline_id for r in self._records} - known.keys())
        if intent is None or new:
            slugs = known | {id_: self._slug(id_) for id_ in new}
            begin, end = self._records[0].position, self._records[-1].end
            intent = Intent(begin, end, slugs) if intent is None else replace(intent, slugs=slugs)
            self._on_step("intent")
            self._cursor.save(self._cursor.position, intent)
            reach("lake.intent_saved")
        objects = events = size_bytes = 0
        for workspace_id, pipeline_id, day, records in _groups(self._records):
            prefix = bronze_prefix(workspace_id, intent.slugs[pipeline_id])
            table = rows_of(self._node, records, self._split)
            data = to_parquet(table)
            name = BronzeName(prefix, day, self._node, intent.begin, intent.end)
            if self._again and (kept := self._lake.rows(name)) is not None and kept > table.num_rows:
                log.error("%s holds %d events, the spool %d now: it stays", name.path, kept, table.num_rows)
                continue
            self._on_step(f"put {name.path}")
            reach("lake.before_put")
            self._put(name, data)
            reach("lake.after_put")
            objects, events, size_bytes = objects + 1, events + table.num_rows, size_bytes + len(data)
        self._on_step("commit")
        self._cursor.save(intent.end, None)
        self._on_step("committed")
        reach("lake.cursor_saved")
        self._records, self._again = [], False
        self._size_bytes = self._events = 0
        self._done(objects, events, size_bytes)

    def _put(self, name: BronzeName, data: bytes) -> None:
        began = time.perf_counter()
        try:
            self._lake.put(name, data)
            metrics.LAKE_PUT_BYTES.inc(len(data))
        finally:
            spent = time.perf_counter() - began
            metrics.LAKE_PUT_SECONDS.observe(spent)
            self.state = replace(self.state, put_seconds=self.state.put_seconds + spent)

    def _slug(self, pipeline_id: int) -> str:
        found = self._pipelines(pipeline_id)
        if found is None and pipeline_id not in self._gone:
            # Who answers may not have heard of a new pipeline yet, and the name is for ever: ask again.
            time.sleep(_ASK_AGAIN_S)
            found = self._pipelines(pipeline_id)
            if found is None:
                self._gone.add(pipeline_id)
        return found or f"_unknown-{pipeline_id}"

    def _done(self, objects: int, events: int, size_bytes: int) -> None:
        if self._failures:
            log.info("bronze is being written again, after %d failures", self._failures)
        self._failures = 0
        metrics.LAKE_EVENTS.inc(events)
        self.state = replace(
            self.state,
            position=self._cursor.position,
            waiting_bytes=0,
            objects=self.state.objects + objects,
            events=self.state.events + events,
            size_bytes=self.state.size_bytes + size_bytes,
            last_flush_at=self._clock.now(),
            failing_since=None,
            last_error=None,
            reason=None,
        )

    def _pause_after(self, error: Exception) -> float:
        """Seconds until the next try: doubling up to a quarter of a minute, a little random."""
        self._failures += 1
        metrics.LAKE_FAILURES.inc()
        reason = error.detail if isinstance(error, SluicewayError) else f"{type(error).__name__}: {error}"
        log.warning("bronze cannot be written (try %d): %s", self._failures, reason)
        self.state = replace(
            self.state,
            waiting_bytes=self._size_bytes,
            failing_since=self.state.failing_since or self._clock.now(),
            last_error=reason[:500],
            reason=describe(error),
            failures=self.state.failures + 1,
        )
        return growing_pause_s(self._failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)


def _first(records: list[SpoolRecord], events: int) -> list[SpoolRecord]:
    """As many records from the first on as hold so many events, and at least that one."""
    found = 0
    for number, record in enumerate(records):
        found += record.events
        if found >= events:
            return records[: number + 1]
    return records


def _groups(records: list[SpoolRecord]) -> Iterator[tuple[int, int, date, list[SpoolRecord]]]:
    """Records by workspace, pipeline and day of receipt (UTC), in an order that is always the same."""
    found: dict[tuple[int, int, int], list[SpoolRecord]] = {}
    for record in records:
        key = (record.workspace_id, record.pipeline_id, record.received_us // _US_PER_DAY)
        found.setdefault(key, []).append(record)
    for (workspace_id, pipeline_id, day), group in sorted(found.items(), key=lambda item: item[0]):
        yield workspace_id, pipeline_id, _EPOCH + timedelta(days=day), group
