"""Rows of a silver table by their durable sequence. Private to the slice."""

from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg.sql import SQL, Composable, Identifier

from sluiceway.rules.contracts import Mask
from sluiceway.rules.masking import SETTING as PSEUDONYM_KEY
from sluiceway.rules.masking import masked_sql

_HIDDEN = ("workspace_id", "batch_id", "position")


def _driver(connection: sa.Connection) -> "psycopg.Connection[tuple[Any, ...]]":
    return cast("psycopg.Connection[tuple[Any, ...]]", connection.connection.driver_connection)


def find_rows(
    connection: sa.Connection, table: str, after_seq: int, limit: int, masks: dict[str, Mask]
) -> list[dict[str, Any]]:
    """At most `limit` rows with a greater seq, by seq; every column but the platform's inner ones.

    Masked columns come as they are shown, hidden ones not at all.
    """
    shown: list[Composable] = [SQL("*")]
    changed = [name for name, mask in masks.items() if mask.kind != "hide"]
    shown += [masked_sql(Identifier(name), masks[name]) for name in changed]
    cursor = _driver(connection).execute(
        SQL("SELECT {} FROM {} WHERE seq > %s ORDER BY seq LIMIT %s").format(
            SQL(", ").join(shown), Identifier("silver", table)
        ),
        (after_seq, limit),
    )
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    plain = names[: len(names) - len(changed)]
    kept = [(index, name) for index, name in enumerate(plain) if name not in _HIDDEN and name not in masks]
    kept += [(len(plain) + index, name) for index, name in enumerate(changed)]
    return [{name: row[index] for index, name in kept} for row in cursor]


def find_first_seq(connection: sa.Connection, pipeline_id: int, after_seq: int) -> int | None:
    """The next seq that is there at all, whoever may see its row; None: there is none."""
    row = _driver(connection).execute("SELECT app.next_seq(%s, %s)", (pipeline_id, after_seq)).fetchone()
    return None if row is None else row[0]


def set_pseudonym_key(connection: sa.Connection, key: str) -> None:
    """For this transaction: what hashed columns are hashed with."""
    _driver(connection).execute("SELECT set_config(%s, %s, true)", (PSEUDONYM_KEY, key))


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
