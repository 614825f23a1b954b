"""Rows of a silver table by their durable sequence. Private to the slice."""

from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg.sql import SQL, Identifier

_HIDDEN = ("workspace_id", "batch_id", "position")


def _driver(connection: sa.Connection) -> "psycopg.Connection[tuple[Any, ...]]":
    return cast("psycopg.Connection[tuple[Any, ...]]", connection.connection.driver_connection)


def find_rows(connection: sa.Connection, table: str, after_seq: int, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows with a greater seq, by seq; every column but the platform's inner ones."""
    cursor = _driver(connection).execute(
        SQL("SELECT * FROM {} WHERE seq > %s ORDER BY seq LIMIT %s").format(Identifier("silver", table)),
        (after_seq, limit),
    )
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    kept = [(index, name) for index, name in enumerate(names) if name not in _HIDDEN]
    return [{name: row[index] for index, name in kept} for row in cursor]


def find_last_seq(connection: sa.Connection, pipeline_id: int) -> int:
    row = (
        _driver(connection)
        .execute("SELECT last_seq FROM app.pipeline_state WHERE pipeline_id = %s", (pipeline_id,))
        .fetchone()
    )
    return 0 if row is None else int(row[0])


def find_pipeline(connection: sa.Connection, workspace_id: int, slug: str) -> tuple[int, str] | None:
    """Id and silver table of a pipeline."""
    row = (
        _driver(connection)
        .execute(
            "SELECT id, silver_table FROM app.pipelines WHERE workspace_id = %s AND slug = %s",
            (workspace_id, slug),
        )
        .fetchone()
    )
    return None if row is None else (row[0], row[1])
