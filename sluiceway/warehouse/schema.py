"""DDL of the time tables: a pipeline's silver table and the partitions everything is loaded into.

Belongs here: whatever must run as the owner because it makes or drops a relation. Names that reach SQL
come from the catalog's patterns and are quoted all the same. Not here: rows (`service`, `repository`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg import sql

from sluiceway.catalog.contracts import Applied, FieldSpec, FieldType, PipelineSpec
from sluiceway.catalog.errors import IncompatibleChange
from sluiceway.catalog.service import Catalog, parse, silver_table_name
from sluiceway.infra.database import Database, Role

Then = Callable[[sa.Connection, Applied], None]
"""What else belongs into the transaction that keeps a pipeline's new version."""

SAMPLES = "samples"
EVENT_KEYS = "event_keys"

COLUMN_TYPES = {
    FieldType.STRING: "text",
    FieldType.INTEGER: "bigint",
    FieldType.NUMBER: "double precision",
    FieldType.BOOLEAN: "boolean",
    FieldType.TIMESTAMP: "timestamp with time zone",
    FieldType.DATE: "date",
    FieldType.JSON: "jsonb",
}

_SYSTEM_DDL = sql.SQL(
    "workspace_id integer NOT NULL, seq bigint NOT NULL, event_id text NOT NULL,"
    " event_time timestamptz NOT NULL, received_at timestamptz NOT NULL,"
    " batch_id bigint NOT NULL, position text NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A leaf in schema `silver` that holds times in [`begin`, `end`)."""

    name: str
    begin: datetime
    end: datetime


def apply_pipeline(
    database: Database, workspace_id: int, source: str, by: UUID | None = None, *, then: Then | None = None
) -> Applied:
    """Make or extend the pipeline's silver table, then keep the document as its next version.

    The table comes first and adding to it is harmless: a failure between the two loses nothing, and
    applying again goes on. `then` is called in the transaction that keeps it.
    Raises `InvalidPipeline`, `IncompatibleChange`.
    """
    spec = parse(source)
    ensure_table(database, silver_table_name(workspace_id, spec.name), spec)
    with database.transaction(Role.APP, workspace_id=workspace_id) as connection:
        applied = Catalog().save(connection, workspace_id, source, by)
        if then is not None:
            then(connection, applied)
    return applied


def ensure_table(database: Database, table: str, spec: PipelineSpec) -> None:
    """Create the silver table, or add the columns it lacks.

    Raises `IncompatibleChange` naming the field whose column has another type.
    """
    with database.connect(Role.OWNER) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 11))", (table,))
        present = _columns(connection, table)
        if not present:
            _create_table(connection, database, table, spec)
            return
        for field in spec.fields:
            wanted = COLUMN_TYPES[field.type]
            found = present.get(field.name)
            if found is None:
                connection.execute(
                    sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
                        _silver(table), sql.Identifier(field.name), _type(field)
                    )
                )
                _comment(connection, table, field)
            elif found != wanted:
                raise IncompatibleChange(
                    f"Field {field.name!r} has type {field.type.value}, but the column that is already there"
                    f" is {found}. Give the field another name, or keep its type."
                )


def _is_hypertable(database: Database, parent: str) -> bool:
    """Event keys are partitioned by us on TimescaleDB too: a hypertable's unique index must hold its time."""
    return database.server.timescaledb is not None and parent != EVENT_KEYS


def _columns(connection: psycopg.Connection[Any], table: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (f'silver."{table}"',),
    )
    return dict(rows.fetchall())


def _create_table(
    connection: psycopg.Connection[Any], database: Database, table: str, spec: PipelineSpec
) -> None:
    fields = [sql.SQL("{} {}").format(sql.Identifier(f.name), _type(f)) for f in spec.fields]
    timescale = database.server.timescaledb is not None
    tail = sql.SQL("") if timescale else sql.SQL(" PARTITION BY RANGE (event_time)")
    name = _silver(table)
    connection.execute(
        sql.SQL("CREATE TABLE {} ({}){}").format(name, sql.SQL(", ").join([_SYSTEM_DDL, *fields]), tail)
    )
    if timescale:
        connection.execute(
            "SELECT create_hypertable(%s::regclass, by_range('event_time'))", (f'silver."{table}"',)
        )
    for column in ("seq", "event_time"):
        connection.execute(sql.SQL("CREATE INDEX ON {} ({})").format(name, sql.Identifier(column)))
    connection.execute("CALL app.isolate(%s::regclass)", (f'silver."{table}"',))
    connection.execute(sql.SQL("GRANT SELECT ON {} TO sluiceway_reader, sluiceway_modeler").format(name))
    connection.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO sluiceway_writer").format(name))
    connection.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(spec.description or spec.title))
    )
    for field in spec.fields:
        _comment(connection, table, field)


def ensure_partitions(
    database: Database, parent: str, times: Iterable[datetime], span: Literal["month", "week"] = "month"
) -> dict[str, Partition]:
    """The leaves of `silver.<parent>` that hold `times`, created where missing; by leaf name.

    A leaf carries no row-level policy and is granted to the writer alone, so that it can be the target of
    COPY. On TimescaleDB hypertables have no leaves of ours: the result is empty.
    """
    if _is_hypertable(database, parent):
        return {}
    wanted = {p.name: p for p in (partition_of(parent, at, span) for at in times)}
    if not wanted:
        return {}
    with database.connect(Role.OWNER) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 12))", (parent,))
        present = {
            row[0]
            for row in connection.execute(
                "SELECT relname FROM pg_class"
                " WHERE relnamespace = 'silver'::regnamespace AND relname = ANY(%s)",
                (list(wanted),),
            )
        }
        for partition in wanted.values():
            if partition.name not in present:
                _create_partition(connection, parent, partition)
    return wanted


def _create_partition(connection: psycopg.Connection[Any], parent: str, partition: Partition) -> None:
    leaf = _silver(partition.name)
    # Made apart and attached, a partition asks the parent for a lock that loads and reads can share.
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)"
        ).format(leaf, _silver(parent))
    )
    if parent == EVENT_KEYS:
        # Day and slot before the id: random ids then touch the pages of three hours, which stay in memory.
        connection.execute(
            sql.SQL("CREATE UNIQUE INDEX ON {} (pipeline_id, day, slot, event_id)").format(leaf)
        )
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            _silver(parent),
            leaf,
            sql.Literal(partition.begin.isoformat()),
            sql.Literal(partition.end.isoformat()),
        )
    )
    connection.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO sluiceway_writer").format(leaf))


def drop_partitions_before(database: Database, parent: str, before: datetime) -> list[str]:
    """Drop every leaf of `silver.<parent>` that ends at or before `before`; returns their names.

    The caller makes sure that gold no longer needs them (`sluiceway.warehouse.retention`).
    """
    dropped: list[str] = []
    with database.connect(Role.OWNER) as connection:
        if _is_hypertable(database, parent):
            rows = connection.execute(
                "SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz)",
                (f'silver."{parent}"', before),
            )
            return [str(row[0]) for row in rows]
        for partition in _list(connection, parent):
            if partition.end <= before:
                connection.execute(sql.SQL("DROP TABLE {}").format(_silver(partition.name)))
                dropped.append(partition.name)
    return dropped


def list_partitions(database: Database, parent: str) -> list[Partition]:
    """The leaves of `silver.<parent>`, oldest first."""
    with database.connect(Role.OWNER) as connection:
        return _list(connection, parent)


def _list(connection: psycopg.Connection[Any], parent: str) -> list[Partition]:
    rows = connection.execute(
        "SELECT c.relname, bound[1]::timestamptz, bound[2]::timestamptz"
        " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,"
        r" regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)') AS bound"
        " WHERE i.inhparent = to_regclass(%s) ORDER BY 2",
        (f'silver."{parent}"',),
    )
    return [Partition(*row) for row in rows]


def partition_of(parent: str, at: datetime, span: Literal["month", "week"] = "month") -> Partition:
    """The leaf that holds `at`: calendar months, or ISO weeks, in UTC."""
    moment = at.astimezone(UTC)
    if span == "week":
        year, week, day = moment.isocalendar()
        begin = datetime(moment.year, moment.month, moment.day, tzinfo=UTC) - timedelta(days=day - 1)
        return Partition(f"{parent}_p{year}w{week:02d}", begin, begin + timedelta(days=7))
    begin = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    return Partition(f"{parent}_p{begin:%Y_%m}", begin, (begin + timedelta(days=32)).replace(day=1))


def _silver(name: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(sql.Identifier("silver"), sql.Identifier(name))


def _type(field: FieldSpec) -> sql.SQL:
    return sql.SQL(COLUMN_TYPES[field.type])


def _comment(connection: psycopg.Connection[Any], table: str, field: FieldSpec) -> None:
    text = " ".join(filter(None, [field.title, f"[{field.unit}]" if field.unit else "", field.description]))
    connection.execute(
        sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
            _silver(table), sql.Identifier(field.name), sql.Literal(text)
        )
    )
