"""Reads for queries, on a read-only connection that acts for one workspace. Private to the slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg.sql import Composed

from sluiceway.catalog.contracts import Pipeline, PipelineSpec
from sluiceway.catalog.stored import read_spec
from sluiceway.queries.contracts import Quality
from sluiceway.queries.timeranges import DAY, Range
from sluiceway.rules.masking import SETTING as PSEUDONYM_KEY

MODEL_SCHEMA = "marts"
_VERDICTS = ("pass", "warn", "quarantine", "hold")

_HEAD = """
SELECT p.id, p.name, p.version, p.state, p.silver_table, p.created_at, p.updated_at,
  s.last_seq, s.last_event_time, s.last_received_at, s.last_batch_at,
  concat_ws('/', s.xmin, (SELECT max(b.id) FROM silver.batches b WHERE b.pipeline_id = p.id)) AS stamp,
  coalesce((SELECT h.version FROM app.rule_heads h WHERE h.workspace_id = %(workspace)s), 0)
FROM app.pipelines p JOIN app.pipeline_state s ON s.pipeline_id = p.id
WHERE p.workspace_id = %(workspace)s AND p.slug = %(slug)s
"""
_EXTENT = """
SELECT (SELECT min(min_event_time) FROM silver.batches WHERE pipeline_id = %(pipeline)s),
       (SELECT max(max_event_time) FROM silver.batches WHERE pipeline_id = %(pipeline)s)
"""
# Only batches with something to tell, and letters that wait, are in the indexes that answer this. CASE, not
# COALESCE: below row-level security PostgreSQL would not use an index for the latter (migration 0027).
_QUALITY = """
SELECT max(CASE verdict WHEN 'hold' THEN 3 WHEN 'quarantine' THEN 2 WHEN 'warn' THEN 1 ELSE 0 END),
       coalesce(sum(duplicates), 0)::bigint,
       (SELECT count(*) FROM quality.dead_letters
        WHERE pipeline_id = %(pipeline)s AND state IN ('open', 'held')
          AND CASE WHEN event_time IS NULL THEN received_at ELSE event_time END >= %(begin)s
          AND CASE WHEN event_time IS NULL THEN received_at ELSE event_time END < %(end)s),
       coalesce((SELECT version FROM app.rule_heads WHERE workspace_id = %(workspace)s), 0)
FROM silver.batches
WHERE pipeline_id = %(pipeline)s AND (verdict <> 'pass' OR duplicates > 0)
  AND CASE WHEN max_event_time IS NULL THEN max_received_at ELSE max_event_time END >= %(begin)s
  AND coalesce(min_event_time, min_received_at) < %(end)s
"""
# A table that does not isolate its rows, or a view that reads with its maker's rights, would show every
# workspace's to all: there is no such model.
_GUARDED = """(c.relkind IN ('r', 'p') AND c.relrowsecurity
  OR c.relkind = 'v' AND 'security_invoker=true' = ANY (c.reloptions))"""
_MODEL_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), col_description(a.attrelid, a.attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND {guarded}
  AND a.attnum > 0 AND NOT a.attisdropped AND has_table_privilege(c.oid, 'SELECT')
ORDER BY a.attnum
""".replace("{guarded}", _GUARDED)
_MODELS = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id'
WHERE n.nspname = %(schema)s AND {guarded} AND has_table_privilege(c.oid, 'SELECT')
ORDER BY c.relname
""".replace("{guarded}", _GUARDED)


@dataclass(frozen=True, slots=True)
class PipelineHead:
    """A pipeline and where its data stands. `stamp` is another one after every load, retry and replay.

    `rules_version` counts changes of the workspace's rules.
    """

    id: int
    name: str
    version: int
    state: Any
    silver_table: str
    created_at: datetime
    updated_at: datetime
    last_seq: int
    last_event_time: datetime | None
    last_received_at: datetime | None
    last_batch_at: datetime | None
    stamp: str
    rules_version: int

    def pipeline(self, workspace_id: int, slug: str, spec: PipelineSpec) -> Pipeline:
        return Pipeline(
            id=self.id, workspace_id=workspace_id, slug=slug, name=self.name, version=self.version,
            state=self.state, silver_table=self.silver_table, spec=spec,
            created_at=self.created_at, updated_at=self.updated_at,
        )  # fmt: skip


def driver(connection: sa.Connection) -> "psycopg.Connection[tuple[Any, ...]]":
    return cast("psycopg.Connection[tuple[Any, ...]]", connection.connection.driver_connection)


def limits(timeout_ms: int) -> dict[str, str]:
    """Settings of a transaction: how long a statement may take, and no time lost on compiling it."""
    return {"statement_timeout": str(timeout_ms), "jit": "off"}


def set_pipeline(connection: sa.Connection, pipeline_id: int) -> None:
    """For this transaction: of ruled pipelines, policies look at this one's series alone."""
    driver(connection).execute("SELECT set_config('sluiceway.pipeline', %s, true)", (str(pipeline_id),))


def set_pseudonym_key(connection: sa.Connection, key: str) -> None:
    """For this transaction: what hashed columns are hashed with."""
    driver(connection).execute("SELECT set_config(%s, %s, true)", (PSEUDONYM_KEY, key))


def find_head(connection: sa.Connection, workspace_id: int, slug: str) -> PipelineHead | None:
    row = driver(connection).execute(_HEAD, {"workspace": workspace_id, "slug": slug}).fetchone()
    return None if row is None else PipelineHead(*row)


def find_slugs(connection: sa.Connection, workspace_id: int) -> list[str]:
    rows = driver(connection).execute(
        "SELECT slug FROM app.pipelines WHERE workspace_id = %s ORDER BY slug", (workspace_id,)
    )
    return [row[0] for row in rows]


def find_specs(connection: sa.Connection, pipeline_id: int, version: int) -> list[PipelineSpec]:
    """The specs of every version up to `version`, oldest first."""
    rows = driver(connection).execute(
        "SELECT spec, version FROM app.pipeline_versions WHERE pipeline_id = %s AND version <= %s"
        " ORDER BY version",
        (pipeline_id, version),
    )
    return [read_spec(row[0], f"Version {row[1]} of pipeline {pipeline_id}") for row in rows]


def find_extent(connection: sa.Connection, pipeline_id: int) -> Range | None:
    """Whole UTC days that hold every event ever loaded; None: there is none."""
    row = driver(connection).execute(_EXTENT, {"pipeline": pipeline_id}).fetchone()
    return None if row is None or row[0] is None or row[1] is None else whole_days(row[0], row[1])


def whole_days(first: datetime, last: datetime) -> Range:
    low, high = first.astimezone(UTC), last.astimezone(UTC)
    midnight = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    return Range(low.replace(**midnight), high.replace(**midnight) + DAY)  # type: ignore[arg-type]


def find_quality(
    connection: sa.Connection, workspace_id: int, head: PipelineHead, span: Range
) -> tuple[Quality, int]:
    """What is known of the range's batches; and the version of the workspace's rules at this moment."""
    values = {"workspace": workspace_id, "pipeline": head.id, "begin": span.begin, "end": span.end}
    row = driver(connection).execute(_QUALITY, values).fetchone()
    assert row is not None
    worst, duplicates, dead_letters, rules_version = row
    found = Quality(
        verdict=None if head.last_batch_at is None else _VERDICTS[worst or 0],  # type: ignore[arg-type]
        dead_letters=dead_letters,
        duplicates=duplicates,
        as_of=head.last_batch_at,
    )
    return found, rules_version


def find_model_columns(connection: sa.Connection, name: str) -> Sequence[tuple[str, str, str | None]]:
    """Columns of `marts.<name>` with their types and comments; empty: readers have no such relation."""
    rows = driver(connection).execute(_MODEL_COLUMNS, {"schema": MODEL_SCHEMA, "name": name})
    return [(row[0], row[1], row[2]) for row in rows]


def find_models(connection: sa.Connection) -> list[str]:
    return [row[0] for row in driver(connection).execute(_MODELS, {"schema": MODEL_SCHEMA})]


def find_time_extent(connection: sa.Connection, text: Composed, values: dict[str, Any]) -> Range | None:
    row = driver(connection).execute(text, values).fetchone()
    return None if row is None or row[0] is None else whole_days(row[0], row[1] + timedelta(0))


def fetch(connection: sa.Connection, text: Composed, values: dict[str, Any]) -> "list[tuple[Any, ...]]":
    # Not prepared: a generic plan would not know which partitions a range touches.
    return driver(connection).execute(text, values, prepare=False).fetchall()
