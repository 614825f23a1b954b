"""The face of the rules: parse, save, find, delete.

Saving opens its own transaction as the database's owner, since a rule becomes a policy of the table it is on.
What has to be true together with it (the audit log's entry) is written by `beside`, in that transaction.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import psycopg
import sqlalchemy as sa
import yaml
from psycopg.sql import Identifier

from sluiceway.catalog.contracts import FieldRole, FieldType, Pipeline
from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.catalog.model_types import MODEL_TYPES
from sluiceway.catalog.service import Catalog
from sluiceway.identity.giving import known_roles
from sluiceway.identity.permissions import Scope
from sluiceway.infra.database import Database, Role
from sluiceway.kit.errors import FieldError
from sluiceway.kit.yaml_source import read_model
from sluiceway.rules import conditions, policies, repository
from sluiceway.rules.contracts import Rule, RuleSpec, RuleVersion, Saved
from sluiceway.rules.errors import InvalidRule, RuleChanged, RuleNotFound, RulesBusy
from sluiceway.rules.policies import ColumnInfo

Beside = Callable[[sa.Connection, Saved], None]
"""Work that belongs to the same transaction as a change."""
NOT_MASKED = frozenset({"workspace_id", "seq", "event_time", "received_at", "batch_id", "position"})
"""Columns of every silver table that the platform itself reads by: they cannot be masked."""
PROGRAMS_ROLES = frozenset({"link", *(f"key:{scope}" for scope in Scope)})
"""What whoever opens a dashboard's link has, and keys that are of no service account."""


def parse(source: str) -> RuleSpec:
    """The rule in a YAML document. Raises `InvalidRule` with field and line of each error."""
    return read_model(source, RuleSpec, InvalidRule)


def list_rules(connection: sa.Connection, workspace_id: int) -> list[Rule]:
    """Every rule of the workspace, by name."""
    return repository.list_rules(connection, workspace_id)


def get_rule(connection: sa.Connection, workspace_id: int, name: str) -> Rule:
    """Raises `RuleNotFound`."""
    found = repository.find(connection, workspace_id, name)
    if found is None:
        raise RuleNotFound(f"There is no rule {name!r} in this workspace.")
    return found


def count_naming(connection: sa.Connection, workspace_id: int, role: str) -> int:
    """How many rules name the role, as one that they concern or one that they spare."""
    held = repository.list_rules(connection, workspace_id)
    return sum(role in (*rule.spec.roles, *rule.spec.exempt) for rule in held)


def list_versions(connection: sa.Connection, workspace_id: int, name: str) -> list[RuleVersion]:
    """Newest first, those of a deleted rule too. Raises `RuleNotFound` if there never was one."""
    found = repository.list_versions(connection, workspace_id, name)
    if not found:
        raise RuleNotFound(f"There is no rule {name!r} in this workspace.")
    return found


def to_yaml(connection: sa.Connection, rule: Rule) -> str:
    """The rule as applied, comments included; one that was made without a file is written out."""
    newest = repository.list_versions(connection, rule.workspace_id, rule.name)[0]
    if newest.source:
        return newest.source
    return yaml.safe_dump(rule.spec.document(), sort_keys=False, allow_unicode=True)


def save_rule(
    database: Database,
    workspace_id: int,
    spec: RuleSpec,
    *,
    source: str = "",
    by: UUID | None = None,
    expected_version: int | None = None,
    beside: Beside | None = None,
) -> Saved:
    """Create or replace a rule; from the commit on the database holds to it.

    Raises `InvalidRule` (names what does not fit), `RuleChanged` (it has another version than expected) or
    `RulesBusy` (the table was in use all the time; nothing was changed).
    """
    with _changing(database, workspace_id) as connection:
        before = repository.find(connection, workspace_id, spec.name)
        _expect(before, expected_version, spec.name)
        if before is not None and before.spec == spec:
            return Saved("unchanged", before, before.spec)
        _check_roles(connection, workspace_id, spec)
        pipeline, columns = _columns(connection, workspace_id, spec)
        compiled = _compiled(spec, columns)
        left = None if before is None else _relation(connection, workspace_id, before.spec)
        pipeline_id = None if pipeline is None else pipeline.id
        rule = repository.save(
            connection, workspace_id, spec, pipeline_id=pipeline_id, compiled=compiled, by=by
        )
        repository.note_version(connection, rule, version=rule.version, deleted=False, source=source, by=by)
        for relation in {left, _relation(connection, workspace_id, spec)} - {None}:
            assert relation is not None
            repository.enforce(connection, relation)
        was = None if before is None else before.spec
        saved = Saved("created" if before is None else "updated", rule, was)
        if beside is not None:
            beside(connection, saved)
        return saved


def delete_rule(
    database: Database,
    workspace_id: int,
    name: str,
    *,
    by: UUID | None = None,
    expected_version: int | None = None,
    beside: Beside | None = None,
) -> Rule:
    """End a rule; its versions stay. Raises `RuleNotFound`, `RuleChanged`, `RulesBusy`."""
    with _changing(database, workspace_id) as connection:
        rule = get_rule(connection, workspace_id, name)
        _expect(rule, expected_version, name)
        relation = _relation(connection, workspace_id, rule.spec)
        repository.delete(connection, workspace_id, name)
        repository.note_version(connection, rule, version=rule.version + 1, deleted=True, source="", by=by)
        if relation is not None:
            repository.enforce(connection, relation)
        if beside is not None:
            beside(connection, Saved("updated", rule, rule.spec))
        return rule


@contextmanager
def _changing(database: Database, workspace_id: int) -> Iterator[sa.Connection]:
    try:
        with database.transaction(Role.OWNER, workspace_id=workspace_id) as connection:
            repository.lock(connection, workspace_id)
            yield connection
    except sa.exc.OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise RulesBusy(
                "The data that the rule is on is in use; nothing was changed. Try again in a moment.",
                retry_after_s=5,
            ) from None
        raise


def _expect(found: Rule | None, version: int | None, name: str) -> None:
    if version is not None and version != (found.version if found is not None else 0):
        now = "is not there" if found is None else f"has version {found.version}"
        raise RuleChanged(
            f"The rule {name!r} {now}.", extra={"version": found.version if found is not None else None}
        )


def _check_roles(connection: sa.Connection, workspace_id: int, spec: RuleSpec) -> None:
    """Raise `InvalidRule` for a role that nobody can have: a rule of it would keep nothing from anybody."""
    known = known_roles(connection, workspace_id) | PROGRAMS_ROLES
    errors = [
        FieldError(field, f"{role!r} is no role of this workspace; there are: {', '.join(sorted(known))}")
        for field, named in (("roles", spec.roles), ("except", spec.exempt))
        for role in named
        if role not in known
    ]
    if errors:
        raise InvalidRule(f"{errors[0].field}: {errors[0].message}.", errors=errors)


def _columns(
    connection: sa.Connection, workspace_id: int, spec: RuleSpec
) -> tuple[Pipeline | None, Mapping[str, ColumnInfo]]:
    if spec.pipeline is not None:
        try:
            pipeline = Catalog().get(connection, workspace_id, spec.pipeline)
        except PipelineNotFound:
            problem = FieldError("pipeline", "is not a pipeline of this workspace")
            raise InvalidRule(
                f"There is no pipeline {spec.pipeline!r} in this workspace.", errors=[problem]
            ) from None
        fields = {f.name: ColumnInfo(f.type, f.role is FieldRole.DIMENSION) for f in pipeline.spec.fields}
        return pipeline, {**fields, "event_id": ColumnInfo(FieldType.STRING)}
    assert spec.model_name is not None
    found = repository.find_model_columns(connection, spec.model_name)
    if not any(name == "workspace_id" for name, _ in found):
        problem = FieldError("model", "is not a table of schema marts with a column workspace_id")
        raise InvalidRule(f"There is no model {spec.model!r} that a rule can be on.", errors=[problem])
    columns = {}
    for name, database_type in found:
        kind = MODEL_TYPES.get(database_type.partition("(")[0])
        if kind is not None and name != "workspace_id":
            columns[name] = ColumnInfo(kind, cast=kind is not FieldType.JSON and database_type != "text")
    return None, columns


def _compiled(spec: RuleSpec, columns: Mapping[str, ColumnInfo]) -> tuple[str, str] | None:
    errors = [
        FieldError(f"masks.{index}.field", _unmaskable(mask.field, columns))
        for index, mask in enumerate(spec.masks)
        if _unmaskable(mask.field, columns)
    ]
    condition = None if spec.rows is None else conditions.parse(spec.rows)
    if condition is not None:
        errors += [FieldError("rows", message) for message in policies.misfits(condition, columns)]
    if errors:
        sentence = "; ".join(f"{e.field}: {e.message}" for e in errors[:5])
        raise InvalidRule(f"{sentence}.", errors=errors)
    if condition is None:
        return None
    return (
        policies.table_condition(spec, condition, columns),
        policies.series_condition(spec, condition, columns),
    )


def _unmaskable(name: str, columns: Mapping[str, ColumnInfo]) -> str:
    if name in NOT_MASKED:
        return f"{name!r} is the platform's own and cannot be masked"
    if name not in columns:
        return f"{name!r} is not a field; there are: {', '.join(sorted(columns)[:12])}"
    return ""


def _relation(connection: sa.Connection, workspace_id: int, spec: RuleSpec) -> str | None:
    """The table that carries the rule's policy, quoted; None: it is not there any more."""
    if spec.model_name is not None:
        there = repository.find_model_columns(connection, spec.model_name)
        return Identifier("marts", spec.model_name).as_string(None) if there else None
    assert spec.pipeline is not None
    pipeline = Catalog().get(connection, workspace_id, spec.pipeline)
    return Identifier("silver", pipeline.silver_table).as_string(None)
