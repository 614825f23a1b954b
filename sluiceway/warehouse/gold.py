"""Gold as the rest of the platform sees it: refresh it, set its floor, ask what there is.

Belongs here: calling what migration 0002 made. Not here: building the aggregates (dbt, by
`sluiceway.runtime.gold`), reading their rows (`queries`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row

from sluiceway.infra import metrics
from sluiceway.infra.database import Database, Role
from sluiceway.kit.faults import reach


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`name` is what readers read (`gold.samples_1h`), `source` what it aggregates."""

    name: str
    level: str
    source: str
    bucket_width: timedelta
    columns: list[str]
    rank: int


def refresh_dirty(database: Database) -> int:
    """Recompute every dirty bucket of every aggregate; returns how many there were. Loads do not wait."""
    with _modeler(database) as connection:
        reach("gold.before_refresh")
        with metrics.GOLD_REFRESH_SECONDS.time():
            row = connection.execute("CALL gold.refresh_dirty()").fetchone()
        reach("gold.after_refresh")
    count = int(row[0]) if row else 0
    metrics.GOLD_BUCKETS.inc(count)
    return count


def refresh_aggregate(
    database: Database,
    name: str,
    begin: datetime | None = None,
    end: datetime | None = None,
    *,
    force: bool = False,
) -> None:
    """Recompute the dirty buckets that lie wholly in [begin, end), or by force all of them."""
    with _modeler(database) as connection:
        connection.execute(
            "CALL gold.refresh_continuous_aggregate(%s::regclass, %s::timestamptz, %s::timestamptz, %s)",
            (name, begin, end, force),
        )


def set_floor(database: Database, source: str, before: datetime) -> None:
    """Call before rows of `source` (`silver.samples`) older than `before` are dropped.

    What reads it is refreshed for the last time there; afterwards no refresh goes below the day of `before`.
    """
    with _modeler(database) as connection:
        connection.execute("CALL gold.set_floor(%s, %s::timestamptz)", (source, before))


def aggregates(database: Database) -> list[Aggregate]:
    """What dbt has built, lowest level first; empty before the first build."""
    with _modeler(database) as connection, connection.cursor(row_factory=class_row(Aggregate)) as cursor:
        return cursor.execute(
            "SELECT name, level, source, bucket_width, columns, rank FROM gold.aggregates ORDER BY rank, name"
        ).fetchall()


@contextmanager
def _modeler(database: Database) -> Iterator["psycopg.Connection[Any]"]:
    # Each statement commits by itself: on TimescaleDB a refresh begins its own transactions.
    connection = database.connect(Role.MODELER, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()
