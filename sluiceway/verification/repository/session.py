"""The temporary tables of one verification, filled by COPY, and the snapshot that everything is read in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Position
from sluiceway.verification.contracts import Found
from sluiceway.warehouse.encoding import rows_to_binary

Connection = psycopg.Connection[Any]

_TABLES = """
SET client_min_messages = warning;
SET work_mem = '64MB';
CREATE TEMP TABLE verify_ledger (pipeline_id integer, event_id text COLLATE "C",
  position text COLLATE "C", at timestamptz);
CREATE TEMP TABLE verify_consumer (pipeline_id integer, event_id text COLLATE "C", seq bigint);
CREATE TEMP TABLE verify_read_to (node text COLLATE "C", segment bigint, "offset" bigint);
CREATE TEMP TABLE verify_bronze (position text COLLATE "C", event_id text COLLATE "C",
  event_time timestamptz, received_at timestamptz);
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a pipeline is looked at: events received in [`begin`, `end`) (None: open).

    `bronze_kept`, `silver_kept`: older times of receipt, or of events, are past retention (None: none is).
    """

    pipeline: Pipeline
    begin: datetime | None
    end: datetime | None
    bronze_kept: datetime | None
    silver_kept: datetime | None

    @property
    def ranged(self) -> bool:
        return self.begin is not None or self.end is not None

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier("silver", self.pipeline.silver_table)

    def received(self, alias: str = "") -> sql.Composed:
        """The condition on `received_at`, to be put after a WHERE."""
        column = sql.SQL(alias + "received_at")
        parts: list[sql.Composable] = [sql.SQL("TRUE")]
        if self.begin is not None:
            parts.append(sql.SQL("{} >= {}").format(column, sql.Literal(self.begin)))
        if self.end is not None:
            parts.append(sql.SQL("{} < {}").format(column, sql.Literal(self.end)))
        return sql.SQL("({})").format(sql.SQL(" AND ").join(parts))


class Session:
    """Two connections that see one state of the database: the writer's, and for gold the modelers'."""

    def __init__(self, database: Database, workspace_id: int) -> None:
        self._database = database
        self._workspace_id = workspace_id
        self.connection: Connection = database.connect(Role.WRITER, autocommit=True)
        try:
            self.connection.execute(_TABLES)
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        """The temporary tables go with the connection."""
        self.connection.close()

    def copy(self, table: str, frame: pl.DataFrame) -> None:
        """Append rows to a temporary table."""
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, frame.columns))
        )
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(rows_to_binary(frame))

    def empty(self, table: str) -> None:
        self.connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table)))

    def analyze(self, table: str) -> None:
        self.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))

    def set_read_to(self, positions: Mapping[str, Position]) -> None:
        """How far each node's spool was in the lake before bronze was read."""
        self.empty("verify_read_to")
        for node, position in positions.items():
            self.connection.execute(
                "INSERT INTO verify_read_to VALUES (%s, %s, %s)", (node, position.segment, position.offset)
            )

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One transaction in which every statement sees the same rows; what it makes goes at its end."""
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.connection.execute(
                "SELECT set_config('sluiceway.workspace_id', %s, true)", (str(self._workspace_id),)
            )
            yield self.connection

    @contextmanager
    def modeler(self) -> Iterator[Connection]:
        """Within `snapshot`: a connection that may read gold, and sees the same rows."""
        row = self.connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        connection = self._database.connect(Role.MODELER, autocommit=True)
        try:
            connection.execute("SET work_mem = '64MB'")
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(row[0])))
                connection.execute(
                    "SELECT set_config('sluiceway.workspace_id', %s, true)", (str(self._workspace_id),)
                )
                yield connection
        finally:
            connection.close()


def find(connection: Connection, query: sql.Composable, first: int) -> Found:
    """How many distinct names `query` (one column `name`) gives, and the `first` of them in order."""
    rows = connection.execute(
        sql.SQL(
            "SELECT count(*) OVER (), name FROM (SELECT DISTINCT name FROM ({}) q) n ORDER BY name LIMIT {}"
        ).format(query, sql.Literal(max(first, 1)))
    ).fetchall()
    return Found(rows[0][0], tuple(str(row[1]) for row in rows[:first])) if rows else Found()


def number(connection: Connection, query: sql.SQL | sql.Composed) -> int:
    """The one number that `query` gives; null counts as 0."""
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0
