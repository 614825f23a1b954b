"""Counting what one process accepts, and stopping a workspace at its hard limits, without a query a request.

Counts are kept in memory and added to a table that all processes share, every few seconds; the same thread
asks what is left to each workspace with a hard limit. Between two such looks a process takes no more than
what was left, and it looks again when it has taken an eighth of that: so with up to eight processes a limit
is passed by what the others take in `LEAST_S` at most. While the database is away taking goes on with what
was known. Not here: answers and rates (`ingestion.limits`).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

import psycopg
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.usage.contracts import FIRST_WORKSPACE, OWN_PIPELINE, Measure, next_month, spoken
from sluiceway.usage.errors import QuotaExceeded

log = logging.getLogger("sluiceway.usage")

KEEP_S = 5.0
LEAST_S = 0.2  # between two looks
LOOK_PART = 8  # of what was left: when so much of it is taken, it is time to look again
STORED_RETRY_S = 3600.0
MOST_WAITING = 100_000  # pipelines and days whose counts are kept while the database is away
_NOTE = sa.text("SELECT app.note_usage(:pipelines, :days, :events, :bytes)")
_ROOM = sa.text("SELECT workspace_id, measure, hard, used FROM app.quota_room(:month)")

Key = tuple[int, int]
"""Pipeline, day since 1970 (UTC)."""
Counts = dict[Key, tuple[int, int]]
"""Events and bytes."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One hard limit of a workspace, and what was used of it when last asked."""

    workspace_id: int
    measure: Measure
    hard: int
    used: int


class Store(Protocol):
    """What is shared by all processes; blocks."""

    def keep(self, counts: Mapping[Key, tuple[int, int]]) -> None:
        """Raises `psycopg.Error` or `sqlalchemy.exc.SQLAlchemyError` while the database is away."""
        ...

    def limits(self, month: date) -> list[Limit]:
        """Every hard limit on what may be sent or stored; errors as `keep`."""
        ...


@dataclass(frozen=True)
class DatabaseUsage:
    """The tables."""

    database: Database

    def keep(self, counts: Mapping[Key, tuple[int, int]]) -> None:
        rows = sorted(counts.items())
        with self.database.transaction(Role.APP) as connection:
            connection.execute(
                _NOTE,
                {
                    "pipelines": [pipeline for (pipeline, _), _ in rows],
                    "days": [datetime.fromtimestamp(86_400 * day, UTC).date() for (_, day), _ in rows],
                    "events": [events for _, (events, _) in rows],
                    "bytes": [size for _, (_, size) in rows],
                },
            )

    def limits(self, month: date) -> list[Limit]:
        with self.database.transaction(Role.APP) as connection:
            rows = connection.execute(_ROOM, {"month": month}).all()
        return [Limit(row.workspace_id, Measure(row.measure), row.hard, row.used) for row in rows]


@dataclass(slots=True)
class _Room:
    """What one workspace may still take, as this process knows it; None: no limit."""

    events: int | None = None
    ingested: int | None = None
    stored: int | None = None
    hard: dict[Measure, int] | None = None

    def nears(self, spent: Sequence[int]) -> bool:
        """Whether enough was taken since the last look that others should be looked after."""
        kinds = zip((self.events, self.ingested), spent, strict=True)
        return any(left is not None and taken * LOOK_PART >= left for left, taken in kinds)


class QuotaGate:
    """Of one process that takes events in. Called on its event loop; a thread of its own keeps the counts.

    `look` and `take` cost a dictionary look-up for workspaces without a hard limit.
    """

    def __init__(
        self, store: Store, *, time_s: Callable[[], float] = time.time, every_s: float = KEEP_S
    ) -> None:
        self._store = store
        self._time_s = time_s
        self._every_s = every_s
        self._lock = threading.Lock()
        self._counts: Counts = {}
        self._rooms: dict[int, _Room] = {}
        # Of workspaces with a room: what was taken and is not in the table yet, and what of it is on disk.
        self._spent: dict[int, list[int]] = {}
        self._counted: dict[int, list[int]] = {}
        self._stop = threading.Event()
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Keep what waits, then end."""
        self._stop.set()
        self._due.set()
        self._thread.join(timeout=5)

    def look(self, workspace_id: int, slug: str) -> QuotaExceeded | None:
        """Why nothing at all is taken for the workspace just now."""
        return self._refusal(workspace_id, slug, 1, 1) if workspace_id in self._rooms else None

    def take(self, workspace_id: int, slug: str, events: int, size_bytes: int) -> QuotaExceeded | None:
        """Count a request against what is left; None: it may pass, and `count` or `give_back` follows."""
        room = self._rooms.get(workspace_id)
        if room is None:
            return None
        refusal = self._refusal(workspace_id, slug, events, size_bytes)
        if refusal is not None:
            return refusal
        if not _is_own(workspace_id, slug):
            with self._lock:
                spent = self._spent.setdefault(workspace_id, [0, 0])
                spent[0] += events
                spent[1] += size_bytes
            if room.nears(spent) and not self._due.is_set():
                self._due.set()
        return None

    def give_back(self, workspace_id: int, events: int, size_bytes: int) -> None:
        """What was taken did not get to the disk."""
        if workspace_id in self._spent:
            with self._lock:
                _reduce(self._spent, workspace_id, events, size_bytes)

    def count(self, workspace_id: int, pipeline_id: int, events: int, size_bytes: int) -> None:
        """Note what was accepted: it is on disk."""
        key = (pipeline_id, int(self._time_s()) // 86_400)
        with self._lock:
            known = self._counts.get(key)
            if known is not None:
                self._counts[key] = (known[0] + events, known[1] + size_bytes)
            elif len(self._counts) < MOST_WAITING:
                self._counts[key] = (events, size_bytes)
            if workspace_id in self._spent:
                counted = self._counted.setdefault(workspace_id, [0, 0])
                counted[0] += events
                counted[1] += size_bytes

    def keep(self) -> bool:
        """Add what waits to the shared table and ask what is left; False: what cannot be kept waits."""
        with self._lock:
            counts, self._counts = self._counts, {}
            counted, self._counted = self._counted, {}
        try:
            if counts:
                self._store.keep(counts)
        except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
            log.debug("usage is kept later: %s", type(error).__name__)
            self._restore(counts, counted)
            return False
        try:
            limits = self._store.limits(self._month())
        except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
            log.debug("quotas are asked for later: %s", type(error).__name__)
            self._restore({}, counted)
            return False
        self._learn(limits, counted)
        return True

    def _restore(self, counts: Counts, counted: dict[int, list[int]]) -> None:
        with self._lock:
            for key, (events, size) in counts.items():
                known = self._counts.get(key, (0, 0))
                self._counts[key] = (known[0] + events, known[1] + size)
            for workspace, (events, size) in counted.items():
                again = self._counted.setdefault(workspace, [0, 0])
                again[0] += events
                again[1] += size

    def _learn(self, limits: list[Limit], counted: Mapping[int, list[int]]) -> None:
        rooms: dict[int, _Room] = {}
        for limit in limits:
            room = rooms.setdefault(limit.workspace_id, _Room(hard={}))
            left = limit.hard - limit.used
            assert room.hard is not None
            room.hard[limit.measure] = limit.hard
            match limit.measure:
                case Measure.EVENTS:
                    room.events = left
                case Measure.INGESTED_BYTES:
                    room.ingested = left
                case Measure.STORED_BYTES:
                    room.stored = left
        with self._lock:
            # What is in the table now is no longer held against the workspace a second time.
            for workspace, (events, size) in counted.items():
                _reduce(self._spent, workspace, events, size)
            for workspace in self._spent.keys() - rooms.keys():
                del self._spent[workspace]
            self._rooms = rooms

    def _refusal(self, workspace_id: int, slug: str, events: int, size_bytes: int) -> QuotaExceeded | None:
        room = self._rooms.get(workspace_id)
        if room is None or _is_own(workspace_id, slug):
            return None
        spent = self._spent.get(workspace_id, (0, 0))
        if room.events is not None and events > room.events - spent[0]:
            return self._exceeded(room, Measure.EVENTS)
        if room.ingested is not None and size_bytes > room.ingested - spent[1]:
            return self._exceeded(room, Measure.INGESTED_BYTES)
        if room.stored is not None and room.stored <= 0:
            return self._exceeded(room, Measure.STORED_BYTES)
        return None

    def _exceeded(self, room: _Room, measure: Measure) -> QuotaExceeded:
        assert room.hard is not None
        limit = room.hard[measure]
        if measure is Measure.STORED_BYTES:
            wait = STORED_RETRY_S
            when = "it is measured every hour, and retention or a higher quota makes room"
        else:
            end = next_month(self._month())
            wait = max(1.0, end.timestamp() - self._time_s())
            when = f"this much is not left until {end:%Y-%m-%d} (UTC), or until the quota is raised"
        what = "stored" if measure is Measure.STORED_BYTES else "a month"
        return QuotaExceeded(
            f"The workspace's quota is {spoken(measure, limit)} {what}: {when}.",
            retry_after_s=wait,
            extra={"measure": measure.value, "limit": limit},
        )

    def _month(self) -> date:
        return datetime.fromtimestamp(self._time_s(), UTC).date().replace(day=1)

    def _run(self) -> None:
        self.keep()
        while not self._stop.is_set():
            self._due.wait(self._every_s)
            self._due.clear()
            kept = self.keep()
            self._stop.wait(LEAST_S if kept else self._every_s)
        self.keep()


def _is_own(workspace_id: int, slug: str) -> bool:
    return workspace_id == FIRST_WORKSPACE and slug == OWN_PIPELINE


def _reduce(spent: dict[int, list[int]], workspace_id: int, events: int, size_bytes: int) -> None:
    known = spent.get(workspace_id)
    if known is not None:
        known[0], known[1] = max(0, known[0] - events), max(0, known[1] - size_bytes)
