"""Rules in the database. Private to the slice.

Reading needs any role that acts for the workspace; writing needs the owner, since a rule becomes a policy.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import orjson
import psycopg
import sqlalchemy as sa

from sluiceway.rules.contracts import Rule, RuleSpec, RuleVersion

LOCK_TIMEOUT = "3s"
_COLUMNS = "id, workspace_id, name, version, pipeline_id, model, spec, created_at, updated_at, updated_by"

_SAVE = f"""
INSERT INTO app.rules AS r (workspace_id, name, version, pipeline_id, model, roles, exempt, spec, condition,
  series_condition, updated_by)
VALUES (:w, :name, (SELECT coalesce(max(v.version), 0) + 1 FROM app.rule_versions v
                    WHERE v.workspace_id = :w AND v.name = :name),
  :pipeline, :model, :roles, :exempt, CAST(:spec AS jsonb), :condition, :series, :by)
ON CONFLICT (workspace_id, name) DO UPDATE SET version = excluded.version, pipeline_id = excluded.pipeline_id,
  model = excluded.model, roles = excluded.roles, exempt = excluded.exempt, spec = excluded.spec,
  condition = excluded.condition, series_condition = excluded.series_condition,
  updated_by = excluded.updated_by, updated_at = now()
RETURNING {_COLUMNS}
"""  # noqa: S608  # our own list


def find_version(connection: sa.Connection, workspace_id: int) -> int:
    """How often the workspace's rules have changed."""
    # Asked before every query: past SQLAlchemy, it takes half the time.
    driver = cast("psycopg.Connection[tuple[int]]", connection.connection.driver_connection)
    row = driver.execute(
        "SELECT version FROM app.rule_heads WHERE workspace_id = %s", (workspace_id,)
    ).fetchone()
    return 0 if row is None else row[0]


def list_rules(connection: sa.Connection, workspace_id: int) -> list[Rule]:
    """By name."""
    rows = connection.execute(
        sa.text(f"SELECT {_COLUMNS} FROM app.rules WHERE workspace_id = :w ORDER BY name"),  # noqa: S608  # ours
        {"w": workspace_id},
    )
    return [_rule(row) for row in rows]


def find(connection: sa.Connection, workspace_id: int, name: str) -> Rule | None:
    row = connection.execute(
        sa.text(f"SELECT {_COLUMNS} FROM app.rules WHERE workspace_id = :w AND name = :name"),  # noqa: S608
        {"w": workspace_id, "name": name},
    ).first()
    return None if row is None else _rule(row)


def list_versions(connection: sa.Connection, workspace_id: int, name: str) -> list[RuleVersion]:
    """Newest first."""
    rows = connection.execute(
        sa.text(
            "SELECT name, version, deleted, spec, source, created_by, created_at FROM app.rule_versions"
            " WHERE workspace_id = :w AND name = :name ORDER BY version DESC"
        ),
        {"w": workspace_id, "name": name},
    )
    return [
        RuleVersion(r.name, r.version, r.deleted, r.spec, r.source, r.created_by, r.created_at) for r in rows
    ]


def lock(connection: sa.Connection, workspace_id: int) -> None:
    """Until the transaction ends, nobody else changes the workspace's rules."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended('app.rules', :w))"), {"w": workspace_id}
    )


def save(
    connection: sa.Connection,
    workspace_id: int,
    spec: RuleSpec,
    *,
    pipeline_id: int | None,
    compiled: tuple[str, str] | None,
    by: UUID | None,
) -> Rule:
    """Create or replace. `compiled`: the conditions over the table and the series; None: it only masks."""
    condition, series_condition = compiled if compiled is not None else (None, None)
    row = connection.execute(
        sa.text(_SAVE),
        {
            "w": workspace_id,
            "name": spec.name,
            "pipeline": pipeline_id,
            "model": spec.model_name,
            "roles": spec.roles,
            "exempt": spec.exempt,
            "spec": _json(spec.document()),
            "condition": condition,
            "series": series_condition,
            "by": by,
        },
    ).one()
    return _rule(row)


def delete(connection: sa.Connection, workspace_id: int, name: str) -> None:
    connection.execute(
        sa.text("DELETE FROM app.rules WHERE workspace_id = :w AND name = :name"),
        {"w": workspace_id, "name": name},
    )


def note_version(
    connection: sa.Connection, rule: Rule, *, version: int, deleted: bool, source: str, by: UUID | None
) -> None:
    """Keep the version for good, and tell everyone who keeps something that the rules are others now."""
    connection.execute(
        sa.text(
            "INSERT INTO app.rule_versions (workspace_id, name, version, deleted, spec, source, created_by)"
            " VALUES (:w, :name, :version, :deleted, CAST(:spec AS jsonb), :source, :by)"
        ),
        {
            "w": rule.workspace_id,
            "name": rule.name,
            "version": version,
            "deleted": deleted,
            "spec": _json(rule.spec.document()),
            "source": source,
            "by": by,
        },
    )
    connection.execute(
        sa.text(
            "INSERT INTO app.rule_heads AS h (workspace_id, version) VALUES (:w, 1)"
            " ON CONFLICT (workspace_id) DO UPDATE SET version = h.version + 1"
        ),
        {"w": rule.workspace_id},
    )


def enforce(connection: sa.Connection, relation: str) -> None:
    """Make the policies of `schema.table` (quoted where need be) those of its rules."""
    # Whoever reads or loads waits behind whoever waits for the table: not for long.
    connection.execute(sa.text("SELECT set_config('lock_timeout', :most, true)"), {"most": LOCK_TIMEOUT})
    connection.execute(sa.text("CALL app.enforce_rules(CAST(:relation AS regclass))"), {"relation": relation})


def find_model_columns(connection: sa.Connection, name: str) -> Sequence[tuple[str, str]]:
    """Columns of the table `marts.<name>` with their types; none: there is no such table."""
    rows = connection.execute(
        sa.text(
            "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a"
            " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'marts' AND c.relname = :name AND c.relkind IN ('r', 'p')"
            " AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
        {"name": name},
    )
    return [(row[0], row[1]) for row in rows]


def _rule(row: Any) -> Rule:
    return Rule(
        id=row.id,
        workspace_id=row.workspace_id,
        name=row.name,
        version=row.version,
        pipeline_id=row.pipeline_id,
        model=row.model,
        spec=RuleSpec.model_validate(row.spec),
        created_at=row.created_at,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


def _json(document: Mapping[str, Any]) -> str:
    return orjson.dumps(document).decode()
