"""The tables by which loaders know of one another. Times are the database's, so hosts' clocks do not matter.

`now` is None but in tests, which have a clock of their own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[Any]

FORGET_AFTER = timedelta(minutes=10)
_NOW = "coalesce(%(now)s::timestamptz, clock_timestamp())"


@dataclass(frozen=True, slots=True)
class LiveLoader:
    """A loader that has told within its time that it lives. `spools`: node → id of the spool's folder."""

    id: UUID
    host: str
    pid: int
    spools: Mapping[str, str]


def beat(
    connection: Connection,
    loader_id: UUID,
    host: str,
    pid: int,
    spools: Mapping[str, str],
    expiry: timedelta,
    now: datetime | None,
) -> None:
    """Say that a loader lives and what it sees; forget those that have been dead for long."""
    connection.execute(
        f"""
        INSERT INTO app.loaders (id, host, pid, spools, started_at, beat_at, expires_at)
        VALUES (%(id)s, %(host)s, %(pid)s, %(spools)s, {_NOW}, {_NOW}, {_NOW} + %(expiry)s)
        ON CONFLICT (id) DO UPDATE SET
          spools = EXCLUDED.spools, beat_at = EXCLUDED.beat_at, expires_at = EXCLUDED.expires_at
        """,  # noqa: S608  # nothing of a caller's
        {
            "id": loader_id,
            "host": host,
            "pid": pid,
            "spools": Jsonb(dict(spools)),
            "expiry": expiry,
            "now": now,
        },
    )
    connection.execute(
        f"DELETE FROM app.loaders WHERE expires_at < {_NOW} - %(long)s",  # noqa: S608
        {"long": FORGET_AFTER, "now": now},
    )


def live(connection: Connection, now: datetime | None) -> list[LiveLoader]:
    """Those that live, the oldest first."""
    rows = connection.execute(
        f"SELECT id, host, pid, spools FROM app.loaders WHERE expires_at > {_NOW} ORDER BY started_at, id",  # noqa: S608
        {"now": now},
    )
    return [LiveLoader(*row) for row in rows.fetchall()]


def leave(connection: Connection, loader_id: UUID) -> None:
    """A loader ends; its leases go with it."""
    connection.execute("DELETE FROM app.loaders WHERE id = %s", (loader_id,))


def held(connection: Connection, loader_id: UUID) -> dict[str, set[int]]:
    """What a loader holds, by node."""
    found: dict[str, set[int]] = {}
    rows = connection.execute(
        "SELECT node, pipeline_id FROM app.spool_leases WHERE loader_id = %s", (loader_id,)
    )
    for node, pipeline_id in rows.fetchall():
        found.setdefault(node, set()).add(pipeline_id)
    return found


def take(
    connection: Connection,
    node: str,
    loader_id: UUID,
    pipelines: Collection[int],
    now: datetime | None,
) -> set[int]:
    """Take what is free or whose holder is dead, or does not see the spool any more; what was got."""
    rows = connection.execute(
        f"""
        INSERT INTO app.spool_leases AS known (node, pipeline_id, loader_id, taken_at)
        SELECT %(node)s, wanted, %(id)s, {_NOW} FROM unnest(%(pipelines)s::int[]) AS wanted ORDER BY wanted
        ON CONFLICT (node, pipeline_id) DO UPDATE
          SET loader_id = EXCLUDED.loader_id, taken_at = EXCLUDED.taken_at
          WHERE known.loader_id = EXCLUDED.loader_id OR NOT EXISTS (
            SELECT FROM app.loaders l
            WHERE l.id = known.loader_id AND l.expires_at > {_NOW} AND l.spools ? known.node
          )
        RETURNING pipeline_id
        """,  # noqa: S608
        {"node": node, "id": loader_id, "pipelines": sorted(pipelines), "now": now},
    )
    return {row[0] for row in rows.fetchall()}


def give_back(connection: Connection, node: str, loader_id: UUID, pipelines: Sequence[int]) -> None:
    connection.execute(
        "DELETE FROM app.spool_leases WHERE node = %s AND loader_id = %s AND pipeline_id = ANY(%s)",
        (node, loader_id, list(pipelines)),
    )
