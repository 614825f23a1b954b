"""Applies a file by what its `kind:` says: a pipeline, a suite or a dashboard."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import yaml

from sluiceway.catalog.contracts import Applied
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.kit.errors import FieldError, InvalidInput

if TYPE_CHECKING:
    from sluiceway.quality.service import SuiteChecker

EXAMPLES = Path(__file__).parents[2] / "examples"
SUITES = Path(__file__).parents[2] / "expectations" / "suites"
# A pipeline names its suite, a dashboard its pipelines.
ORDER = ("Suite", "Pipeline", "Dashboard")


class UnknownKind(InvalidInput):
    code = "unknown_kind"
    title = "The file does not say what it is"


def kind_of(source: str) -> str:
    """`Pipeline`, `Suite` or `Dashboard`. Raises `UnknownKind`."""
    try:
        document = yaml.safe_load(source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        where = "" if line is None else f" (line {line})"
        raise UnknownKind(
            f"This is not YAML{where}: {getattr(error, 'problem', None) or error}.",
            errors=[FieldError("", "is not YAML", line)],
        ) from None
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
) -> Applied:
    """Apply one document in a transaction of its own. `check` is the quality engine's view of a suite.

    Raises the slice's own error with field and line of each problem.
    """
    return _APPLIERS[kind_of(source)](database, workspace_id, source, by, check)


def _apply_pipeline(
    database: Database, workspace_id: int, source: str, by: UUID | None, _check: "SuiteChecker | None"
) -> Applied:
    from sluiceway.loading.catching_up import apply_pipeline

    return apply_pipeline(database, workspace_id, source, by, now=SystemClock().now(), flush_s=0.0)


def _apply_suite(
    database: Database, workspace_id: int, source: str, _by: UUID | None, check: "SuiteChecker | None"
) -> Applied:
    from sluiceway.quality.service import apply_suite

    with database.transaction(Role.APP, workspace_id=workspace_id) as connection:
        return apply_suite(connection, workspace_id, source, check)


def _apply_dashboard(
    database: Database, workspace_id: int, source: str, by: UUID | None, _check: "SuiteChecker | None"
) -> Applied:
    from sluiceway.dashboards.service import apply_dashboard

    with database.transaction(Role.APP, workspace_id=workspace_id) as connection:
        return apply_dashboard(connection, workspace_id, source, by)


_Applier = Callable[[Database, int, str, UUID | None, "SuiteChecker | None"], Applied]
_APPLIERS: dict[str, _Applier] = {
    "Pipeline": _apply_pipeline,
    "Suite": _apply_suite,
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
