"""What limits and marks refused, by pipeline and minute, so that people can see who is throttled just now.

Counted in memory as it happens; a few seconds apart it is added to a table that all processes share.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import psycopg
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role

log = logging.getLogger("sluiceway.ingestion")

KEEP_S = 5.0
MOST_WAITING = 10_000  # refusals of so many minutes and pipelines are remembered while nobody takes them
_NOTE = sa.text("SELECT app.note_refusals(:pipelines, :minutes, :codes, :counts)")
_RECENT = sa.text(
    "SELECT code, sum(requests)::bigint AS requests, max(minute) AS last_minute FROM app.intake_refusals"
    " WHERE workspace_id = :workspace AND pipeline_id = :pipeline"
    " AND minute > now() - make_interval(mins => :minutes)"
    " GROUP BY code ORDER BY code"
)

_HELD_BACK = sa.text(
    "SELECT pipeline_id, sum(requests)::bigint AS requests FROM app.intake_refusals"
    " WHERE workspace_id = :workspace AND minute > now() - make_interval(mins => :minutes)"
    " AND code <> 'batch_exceeds_burst' GROUP BY pipeline_id"
)

Key = tuple[int, int, str]
"""Pipeline, minute since 1970, code."""


@dataclass(frozen=True, slots=True)
class RecentRefusals:
    """How many requests to one pipeline were refused with `code`, and the last minute in which one was."""

    code: str
    requests: int
    last_minute: datetime


class RefusalBook:
    """Counts of one process. `by_code` goes on for ever; what is not kept yet is given out by `drain`."""

    def __init__(self, *, time_s: Callable[[], float] = time.time) -> None:
        self.by_code: Counter[str] = Counter()
        self._time_s = time_s
        self._fresh: Counter[Key] = Counter()
        self._lock = threading.Lock()

    def note(self, pipeline_id: int, code: str) -> None:
        self.by_code[code] += 1
        key = (pipeline_id, int(self._time_s()) // 60, code)
        with self._lock:
            if key in self._fresh or len(self._fresh) < MOST_WAITING:
                self._fresh[key] += 1

    def drain(self) -> Counter[Key]:
        """What was noted since the last call."""
        with self._lock:
            found, self._fresh = self._fresh, Counter()
        return found

    def restore(self, counts: Counter[Key]) -> None:
        """Take back what could not be kept."""
        with self._lock:
            self._fresh.update(counts)


class Keep(Protocol):
    """Adds counts to what is kept; blocks."""

    def __call__(self, counts: Counter[Key]) -> None:
        """Raises `psycopg.Error` or `sqlalchemy.exc.SQLAlchemyError` while the database is away."""
        ...


@dataclass(frozen=True)
class DatabaseRefusals:
    """The table."""

    database: Database

    def __call__(self, counts: Counter[Key]) -> None:
        rows = sorted(counts.items())
        with self.database.transaction(Role.APP) as connection:
            connection.execute(
                _NOTE,
                {
                    "pipelines": [key[0] for key, _ in rows],
                    "minutes": [datetime.fromtimestamp(60 * key[1], UTC) for key, _ in rows],
                    "codes": [key[2] for key, _ in rows],
                    "counts": [count for _, count in rows],
                },
            )


def recent_refusals(
    connection: sa.Connection, workspace_id: int, pipeline_id: int, minutes: int
) -> Sequence[RecentRefusals]:
    """What was refused in the last `minutes`, by code; a process tells of it within seconds."""
    rows = connection.execute(
        _RECENT, {"workspace": workspace_id, "pipeline": pipeline_id, "minutes": minutes}
    )
    return [RecentRefusals(row.code, row.requests, row.last_minute) for row in rows]


def held_back(connection: sa.Connection, workspace_id: int, minutes: int) -> dict[int, int]:
    """How many requests were told to come again in the last `minutes`, by pipeline; only those with any."""
    rows = connection.execute(_HELD_BACK, {"workspace": workspace_id, "minutes": minutes})
    return {row.pipeline_id: row.requests for row in rows}


class RefusalKeeper:
    """A thread that keeps what a book noted, every few seconds and once more at the end."""

    def __init__(self, book: RefusalBook, keep: Keep, *, every_s: float = KEEP_S) -> None:
        self._book = book
        self._keep = keep
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def keep(self) -> None:
        """Keep what waits now; what cannot be kept waits for the next time."""
        counts = self._book.drain()
        if not counts:
            return
        try:
            self._keep(counts)
        except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
            log.debug("refusals are kept later: %s", type(error).__name__)
            self._book.restore(counts)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.keep()
        self.keep()
