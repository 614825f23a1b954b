"""`apply`, `export` and `schema`: files in, files out."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.infra.database import Database, Role
from sluiceway.kit.errors import InvalidInput, SluicewayError
from sluiceway.runtime.applying import ORDER, apply_source, kind_of
from sluiceway.runtime.auditing import note_command, operator

Echo = Callable[[str], None]
KINDS = ("pipeline", "suite", "dashboard", "rule")


class UnknownName(InvalidInput):
    code = "unknown_kind"
    title = "There is no such kind"


class FileUnreadable(InvalidInput):
    code = "file_unreadable"
    title = "A file cannot be read"


def apply_files(database: Database, workspace_id: int, files: Sequence[Path], echo: Echo) -> bool:
    """Apply suites, then pipelines, rules, dashboards. Returns whether any file failed; all are tried."""
    failed = False
    sources: list[tuple[int, Path, str]] = []
    for path in files:
        source = _read(path)
        try:
            sources.append((ORDER.index(kind_of(source)), path, source))
        except SluicewayError as error:
            failed = True
            _complain(path, error)
    for _, path, source in sorted(sources, key=lambda item: item[0]):
        try:
            applied = apply_source(
                database, workspace_id, source, check=_suite_check(source), actor=operator()
            )
        except SluicewayError as error:
            failed = True
            _complain(path, error)
        else:
            echo(f"{applied.kind} {applied.name}: {applied.outcome}, version {applied.version}")
    return failed


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FileUnreadable(f"{path} cannot be read: {reason}.") from None


def _suite_check(source: str) -> Any:
    """The quality engine's opinion; imported (seconds) only where the file is a suite."""
    if kind_of(source) != "Suite":
        return None
    from expectations.checker import check_suite

    return check_suite


def _complain(path: Path, error: SluicewayError) -> None:
    lines = [f"{path}: {error.detail}"] if not error.errors else []
    for problem in error.errors:
        where = str(path) if problem.line is None else f"{path}:{problem.line}"
        lines.append(f"{where}: {problem.field} {problem.message}".replace(":  ", ": "))
    sys.stderr.write("\n".join(lines) + "\n")


def export_documents(
    database: Database, workspace_id: int, kind: str, names: Sequence[str], into: Path | None, echo: Echo
) -> None:
    """Print (or write as `<name>.yml`) documents as they were applied.

    Raises `UnknownName` for a kind that is none, `NotFound` for a name.
    """
    if kind not in KINDS:
        raise UnknownName(f"--kind should be one of {', '.join(KINDS)}, not {kind!r}.")
    with database.transaction(Role.APP, workspace_id=workspace_id) as connection:
        wanted = list(names) or _names(connection, workspace_id, kind)
        documents = {name: _export(connection, workspace_id, kind, name) for name in wanted}
        for name in documents:
            note_command(connection, Action.EXPORT_MADE, target=kind, target_id=name)
    if into is None:
        echo(
            "---\n".join(text if text.endswith("\n") else text + "\n" for text in documents.values()).rstrip(
                "\n"
            )
        )
        return
    into.mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        (into / f"{name}.yml").write_text(text)
        echo(str(into / f"{name}.yml"))


def _names(connection: sa.Connection, workspace_id: int, kind: str) -> list[str]:
    if kind == "pipeline":
        from sluiceway.catalog.service import Catalog

        return [p.slug for p in Catalog().list(connection, workspace_id) if p.state != "archived"]
    if kind == "suite":
        from sluiceway.quality.service import list_suites

        return [suite.name for suite in list_suites(connection, workspace_id)]
    if kind == "rule":
        from sluiceway.rules.service import list_rules

        return [rule.name for rule in list_rules(connection, workspace_id)]
    from sluiceway.dashboards.service import list_dashboards

    return [dashboard.slug for dashboard in list_dashboards(connection, workspace_id)]


def _export(connection: sa.Connection, workspace_id: int, kind: str, name: str) -> str:
    if kind == "pipeline":
        from sluiceway.catalog.service import Catalog

        return Catalog().export(connection, workspace_id, name)
    if kind == "suite":
        from sluiceway.quality.service import export_suite

        return export_suite(connection, workspace_id, name)
    if kind == "rule":
        from sluiceway.rules.service import get_rule, to_yaml

        return to_yaml(connection, get_rule(connection, workspace_id, name))
    from sluiceway.dashboards.service import export_dashboard

    return export_dashboard(connection, workspace_id, name)


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind of file. Raises `UnknownName`."""
    if kind == "pipeline":
        from sluiceway.catalog.contracts import json_schema as pipeline_schema

        return pipeline_schema()
    if kind == "suite":
        from sluiceway.quality.contracts import json_schema as suite_schema

        return suite_schema()
    if kind == "dashboard":
        from sluiceway.dashboards.contracts import json_schema as dashboard_schema

        return dashboard_schema()
    if kind == "rule":
        from sluiceway.rules.contracts import json_schema as rule_schema

        return rule_schema()
    raise UnknownName(f"A schema is there for {', '.join(KINDS)}, not for {kind!r}.")
