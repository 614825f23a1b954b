"""Erasing what a deleted workspace held in the database: its tables, and its rows in everybody's.

Tables are found in PostgreSQL's own catalogue by their column `workspace_id`, so that a new one is not
forgotten. Everything may be done again: a load that was under way may leave something behind the first time.
Runs as the owner. Not here: the lake (`sluiceway.lake`), when it is done (`sluiceway.runtime.closing`).
"""

import logging
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import psycopg
from psycopg import sql

from sluiceway.infra.database import Database, Role

log = logging.getLogger(__name__)

KEPT = frozenset(
    {
        "app.workspaces", "app.audit_entries", "app.audit_heads", "app.audit_anchors", "app.audit_seen",
        "app.audit_waiting", "app.outbox",
    }
)  # fmt: skip
"""What stays of a workspace: its name and its audit log. What erases it is in the outbox."""
_SCHEMAS = ["app", "silver", "gold", "quality", "staging", "marts"]
_PAGES = 8192  # 64 MB of a table a transaction
_LOCK_TIMEOUT = "10s"

_TABLES = """
SELECT c.oid, n.nspname || '.' || c.relname AS name, n.nspname AS schema, c.relname AS relation,
       (SELECT g.name FROM gold.aggregates g WHERE to_regclass(g.materialized) = c.oid) AS aggregate
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped
WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 2
"""
_REFERENCES = """
SELECT DISTINCT k.conrelid, k.confrelid FROM pg_constraint k
WHERE k.contype = 'f' AND k.conrelid <> k.confrelid AND k.conrelid = ANY(%s) AND k.confrelid = ANY(%s)
"""
# A hypertable has children and is no partitioned table: its chunks are deleted from through it.
_LEAVES = """
SELECT n.nspname, c.relname, pg_relation_size(c.oid) / current_setting('block_size')::int,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (c.oid = %(table)s::oid AND c.relkind = 'r')
   OR c.oid IN (SELECT relid FROM pg_partition_tree(%(table)s::oid::regclass) WHERE isleaf)
"""
_ORPHANS = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'silver'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND starts_with(c.relname, %s) AND NOT EXISTS (SELECT FROM app.pipelines p WHERE p.silver_table = c.relname)
"""


@dataclass(frozen=True, slots=True)
class _Table:
    oid: int
    name: str
    schema: str
    relation: str
    aggregate: str | None
    """The continuous aggregate that is kept in it."""


def erase_rows(database: Database, workspace_id: int, *, but_topic: str) -> int:
    """Empty its silver tables and delete its rows everywhere else; returns how many were deleted one by one.

    `but_topic`: what stays in the outbox. Raises psycopg's errors, among them `LockNotAvailable` if a table
    stays in use.
    """
    with database.connect(Role.OWNER, autocommit=True) as connection:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        ruled = _ruled_marts(connection, workspace_id)
        own = _own_tables(connection, workspace_id)
        for name in own:
            connection.execute(sql.SQL("TRUNCATE silver.{}").format(sql.Identifier(name)))
        deleted = sum(
            _delete_rows(connection, table, workspace_id)
            for table in _children_first(connection)
            if table.schema != "silver" or table.relation not in own
        )
        if database.server.timescaledb is not None:
            deleted += _delete_aggregated(connection, workspace_id)
        connection.execute(
            "DELETE FROM app.outbox WHERE workspace_id = %s AND topic <> %s", (workspace_id, but_topic)
        )
        for mart in ruled:
            connection.execute("CALL app.enforce_rules(%s::regclass)", (mart,))
    return deleted


def drop_tables(database: Database, workspace_id: int) -> list[str]:
    """Drop silver tables that no pipeline of the workspace has any more; those left that something stands on.

    A view that dbt made over a table goes when gold is built without it: then call again.
    """
    left = []
    with database.connect(Role.OWNER, autocommit=True) as connection:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        for (name,) in connection.execute(_ORPHANS, (f"w{workspace_id}_",)).fetchall():
            try:
                connection.execute(sql.SQL("DROP TABLE silver.{}").format(sql.Identifier(name)))
            except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.LockNotAvailable) as error:
                log.info("silver.%s is not dropped yet: %s", name, type(error).__name__)
                left.append(name)
    return left


def _own_tables(connection: "psycopg.Connection[Any]", workspace_id: int) -> frozenset[str]:
    """Silver tables that hold rows of this workspace's pipelines alone."""
    rows = connection.execute(
        "SELECT silver_table FROM app.pipelines WHERE workspace_id = %s"
        " AND to_regclass(format('silver.%%I', silver_table)) IS NOT NULL",
        (workspace_id,),
    ).fetchall()
    rows += connection.execute(_ORPHANS, (f"w{workspace_id}_",)).fetchall()
    return frozenset(row[0] for row in rows)


def _ruled_marts(connection: "psycopg.Connection[Any]", workspace_id: int) -> list[str]:
    """Marts on which a rule of the workspace stands, as a policy that has to go with it."""
    rows = connection.execute(
        "SELECT DISTINCT format('marts.%%I', model) FROM app.rules WHERE workspace_id = %s"
        " AND model IS NOT NULL AND to_regclass(format('marts.%%I', model)) IS NOT NULL",
        (workspace_id,),
    )
    return [row[0] for row in rows]


def _children_first(connection: "psycopg.Connection[Any]") -> list[_Table]:
    """Every table with rows of workspaces, each before those that it refers to."""
    rows = connection.execute(_TABLES, (_SCHEMAS,)).fetchall()
    found = {table.oid: table for table in (_Table(*row) for row in rows) if table.name not in KEPT}
    oids = list(found)
    order: TopologicalSorter[int] = TopologicalSorter({oid: set() for oid in oids})
    for child, parent in connection.execute(_REFERENCES, (oids, oids)):
        order.add(parent, child)
    return [found[oid] for oid in order.static_order()]


def _delete_rows(connection: "psycopg.Connection[Any]", table: _Table, workspace_id: int) -> int:
    """By stretches of pages, a transaction each: a lock is never held for long."""
    deleted = 0
    for schema, name, pages, has_children in connection.execute(_LEAVES, {"table": table.oid}).fetchall():
        for within in _stretches(0 if has_children else pages):
            with connection.transaction():
                if table.aggregate is not None:  # a refresh is not to write what it read before
                    connection.execute(
                        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
                        (f"gold.aggregates {table.aggregate}",),
                    )
                statement = sql.SQL("DELETE FROM {} WHERE workspace_id = %s{}").format(
                    sql.Identifier(schema, name), within
                )
                deleted += connection.execute(statement, (workspace_id,)).rowcount
    return deleted


def _stretches(pages: int) -> list[sql.Composable]:
    """Conditions that together are about a whole table, the last one open: it may grow meanwhile."""
    if pages <= _PAGES:
        return [sql.SQL("")]
    found: list[sql.Composable] = []
    for first in range(0, pages, _PAGES):
        last: sql.Composable = sql.SQL("")
        if first + _PAGES < pages:
            last = sql.SQL(" AND ctid < {}::tid").format(sql.Literal(f"({first + _PAGES},0)"))
        found.append(sql.SQL(" AND ctid >= {}::tid{}").format(sql.Literal(f"({first},0)"), last))
    return found


def _delete_aggregated(connection: "psycopg.Connection[Any]", workspace_id: int) -> int:
    """TimescaleDB keeps what gold's continuous aggregates have in hypertables of its own."""
    rows = connection.execute(
        "SELECT materialization_hypertable_schema, materialization_hypertable_name"
        " FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'gold'"
    ).fetchall()
    deleted = 0
    for schema, name in rows:
        known = connection.execute(
            "SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'workspace_id'",
            (f'"{schema}"."{name}"',),
        ).fetchone()
        if known is not None:
            statement = sql.SQL("DELETE FROM {} WHERE workspace_id = %s").format(sql.Identifier(schema, name))
            deleted += connection.execute(statement, (workspace_id,)).rowcount
    return deleted
