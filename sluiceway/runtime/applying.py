"""Applies a file by what its `kind:` says: a pipeline, a suite, a dashboard or a rule."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa
import yaml

from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Actor, Entry, Values
from sluiceway.audit.service import record
from sluiceway.catalog.contracts import Applied
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.kit.errors import FieldError, InvalidInput
from sluiceway.kit.yaml_source import unreadable
from sluiceway.runtime.auditing import PLATFORM

if TYPE_CHECKING:
    from sluiceway.quality.service import SuiteChecker

EXAMPLES = Path(__file__).parents[2] / "examples"
SUITES = Path(__file__).parents[2] / "expectations" / "suites"
# A pipeline names its suite, a rule its pipeline, a dashboard its pipelines.
ORDER = ("Suite", "Pipeline", "Rule", "Dashboard")


class UnknownKind(InvalidInput):
    code = "unknown_kind"
    title = "The file does not say what it is"


def kind_of(source: str) -> str:
    """`Pipeline`, `Suite`, `Rule` or `Dashboard`. Raises `UnknownKind`."""
    try:
        document = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise unreadable(error, UnknownKind) from None
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in ORDER:
        raise UnknownKind(
            f"kind should be one of {', '.join(ORDER)}, not {kind!r}.",
            errors=[FieldError("kind", f"should be one of {', '.join(ORDER)}")],
        )
    return str(kind)


def apply_source(
    database: Database,
    workspace_id: int,
    source: str,
    *,
    by: UUID | None = None,
    check: "SuiteChecker | None" = None,
    actor: Actor = PLATFORM,
) -> Applied:
    """Apply one document in a transaction of its own. `check` is the quality engine's view of a suite.

    `actor`: who the audit log says it was; what changes nothing is not told.

    Raises the slice's own error with field and line of each problem.
    """
    return _APPLIERS[kind_of(source)](_Given(database, workspace_id, source, by, check, actor))


@dataclass(frozen=True, slots=True)
class _Given:
    database: Database
    workspace_id: int
    source: str
    by: UUID | None
    check: "SuiteChecker | None"
    actor: Actor

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        return self.database.transaction(Role.APP, workspace_id=self.workspace_id)

    def tell(
        self,
        conn: sa.Connection,
        action: Action,
        target: str,
        name: str,
        before: Values | None,
        after: Values,
    ) -> None:
        record(conn, Entry(action, self.actor, target, name, before, after))


def _apply_pipeline(given: _Given) -> Applied:
    from sluiceway.catalog.service import Catalog
    from sluiceway.loading.catching_up import apply_pipeline

    def then(connection: sa.Connection, applied: Applied) -> None:
        if applied.outcome != "unchanged":
            before, after = Catalog().what_changed(connection, given.workspace_id, applied)
            given.tell(connection, Action.PIPELINE_APPLIED, "pipeline", applied.name, before, after)

    return apply_pipeline(
        given.database, given.workspace_id, given.source, given.by, now=SystemClock().now(), flush_s=0.0,
        then=then,
    )  # fmt: skip


def _apply_suite(given: _Given) -> Applied:
    from sluiceway.quality.service import apply_suite, what_changed

    with given.transaction() as connection:
        applied = apply_suite(connection, given.workspace_id, given.source, given.check)
        if applied.outcome != "unchanged":
            before, after = what_changed(connection, given.workspace_id, applied)
            given.tell(connection, Action.SUITE_APPLIED, "suite", applied.name, before, after)
    return applied


def _apply_dashboard(given: _Given) -> Applied:
    from sluiceway.dashboards import service

    spec = service.parse(given.source)
    with given.transaction() as connection:
        known = service.find_for_change(connection, given.workspace_id, spec.name)
        applied = service.apply_dashboard(connection, given.workspace_id, given.source, given.by)
        if applied.outcome != "unchanged":
            action = Action.DASHBOARD_CREATED if known is None else Action.DASHBOARD_UPDATED
            before, after = service.what_changed(known, spec, applied.version)
            given.tell(connection, action, "dashboard", spec.name, before, after)
    return applied


def _apply_rule(given: _Given) -> Applied:
    from sluiceway.rules import service
    from sluiceway.rules.contracts import Saved

    spec = service.parse(given.source)

    def beside(connection: sa.Connection, saved: Saved) -> None:
        before = {} if saved.before is None else saved.before.document()
        action = Action.RULE_CREATED if saved.before is None else Action.RULE_CHANGED
        given.tell(connection, action, "rule", spec.name, before, saved.rule.spec.document())

    saved = service.save_rule(
        given.database, given.workspace_id, spec, source=given.source, by=given.by, beside=beside
    )
    return Applied("Rule", spec.name, saved.rule.version, saved.outcome)


_APPLIERS: dict[str, Callable[[_Given], Applied]] = {
    "Pipeline": _apply_pipeline,
    "Suite": _apply_suite,
    "Rule": _apply_rule,
    "Dashboard": _apply_dashboard,
}


def example_files(only: str | None = None) -> list[Path]:
    """Suites, pipelines and dashboards that come with the platform, in the order to apply them.

    `only` keeps those of one name.
    """
    found = [
        *sorted(SUITES.glob("*.yml")),
        *sorted((EXAMPLES / "pipelines").glob("*.yml")),
        *sorted((EXAMPLES / "dashboards").glob("*.yml")),
    ]
    return [path for path in found if only is None or path.stem == only]
