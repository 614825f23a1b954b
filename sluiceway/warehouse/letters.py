"""Dead letters as the retry and the replay need them: found with their bytes, and marked as done."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that waits. `headers` are those the pipeline's paths read."""

    id: UUID
    pipeline_id: int
    position: str
    code: str
    payload: bytes
    headers: dict[str, str]
    received_at: datetime


def find_waiting(connection: Connection, workspace_id: int, ids: Sequence[UUID]) -> list[Letter]:
    """Those of `ids` that are open or held, in the order in which they were received."""
    rows = connection.execute(
        "SELECT id, pipeline_id, position, code, payload, headers, received_at FROM quality.dead_letters"
        " WHERE workspace_id = %s AND id = ANY(%s) AND state IN ('open', 'held') ORDER BY received_at, id",
        (workspace_id, list(ids)),
    )
    return [Letter(*row) for row in rows.fetchall()]


def lock_waiting(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those still open or held, locked until the end of the transaction."""
    rows = connection.execute(
        "SELECT id FROM quality.dead_letters WHERE id = ANY(%s) AND state IN ('open', 'held')"
        " ORDER BY id FOR UPDATE",
        (list(ids),),
    )
    return {row[0] for row in rows.fetchall()}


def mark_retried(connection: Connection, pipeline_id: int, positions: Sequence[str]) -> int:
    """The events at `positions` are silver now; returns how many dead letters that ends."""
    found = connection.execute(
        "UPDATE quality.dead_letters SET state = 'retried', resolved_at = now()"
        " WHERE pipeline_id = %s AND position = ANY(%s) AND state IN ('open', 'held')",
        (pipeline_id, list(positions)),
    )
    return found.rowcount


def find_discarded(connection: Connection, pipeline_id: int, begin: datetime, end: datetime) -> set[str]:
    """Positions that a person discarded, received in [`begin`, `end`)."""
    rows = connection.execute(
        "SELECT position FROM quality.dead_letters WHERE pipeline_id = %s AND state = 'discarded'"
        " AND received_at >= %s AND received_at < %s",
        (pipeline_id, begin, end),
    )
    return {row[0] for row in rows.fetchall()}
