"""The face of dashboards: apply, keep, find, move, export.

Functions take an open connection that acts for the workspace and do not commit; what browsers are told is
told at commit.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import ValidationError

from sluiceway.dashboards import repository
from sluiceway.dashboards.contracts import (
    AppliedDashboard,
    Dashboard,
    DashboardSpec,
    DashboardSummary,
    Layout,
    Position,
)
from sluiceway.dashboards.errors import (
    DashboardChangedMeanwhile,
    DashboardExists,
    DashboardNotFound,
    InvalidDashboard,
    InvalidLayout,
)
from sluiceway.dashboards.export import to_yaml
from sluiceway.dashboards.layouts import carry_over, place
from sluiceway.kit.errors import FieldError
from sluiceway.kit.ids import uuid7
from sluiceway.kit.yaml_source import read_model
from sluiceway.queries.contracts import QueryRequest

CheckQuery = Callable[[QueryRequest], list[FieldError]]
"""What is wrong with a query against what is there now (`QueryService.check` for somebody)."""


def parse(source: str) -> DashboardSpec:
    """The dashboard in a YAML document. Raises `InvalidDashboard` with field and line of each error."""
    return read_model(source, DashboardSpec, InvalidDashboard)


def list_dashboards(connection: sa.Connection, workspace_id: int) -> list[DashboardSummary]:
    """By title."""
    return [DashboardSummary(**row) for row in repository.find_all(connection, workspace_id)]


def get_dashboard(connection: sa.Connection, workspace_id: int, slug: str) -> Dashboard:
    """Raises `DashboardNotFound`."""
    return _dashboard(_row(connection, workspace_id, slug))


def find_for_change(connection: sa.Connection, workspace_id: int, slug: str) -> Dashboard | None:
    """The dashboard as it is until this transaction changes it, or None: nobody else changes it meanwhile."""
    row = repository.find(connection, workspace_id, slug, lock=True)
    return None if row is None else _dashboard(row)


def what_changed(
    known: Dashboard | None, spec: DashboardSpec, version: int
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Before and after, for the audit log."""
    if known is None:
        return None, {"version": version, "spec": plain(spec)}
    return {"version": known.version, "spec": plain(known.spec)}, {"version": version, "spec": plain(spec)}


def plain(spec: DashboardSpec) -> dict[str, Any]:
    """The spec as JSON can hold it."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def apply_dashboard(
    connection: sa.Connection,
    workspace_id: int,
    source: str,
    by: UUID | None = None,
    *,
    check: CheckQuery | None = None,
    expected_version: int | None = None,
) -> AppliedDashboard:
    """Keep the YAML as the dashboard; the same text again changes nothing.

    Widgets that people moved stay where they are, unless the file gives them another place than before.
    Raises `InvalidDashboard`, or `DashboardChangedMeanwhile` if `expected_version` is not the current one.
    """
    spec = parse(source)
    warnings = check_queries(spec, check)
    row = repository.find(connection, workspace_id, spec.name, lock=True)
    if row is None:
        if expected_version is not None:
            raise _not_found(spec.name)
        _insert(connection, workspace_id, spec, source, by)
        return AppliedDashboard("Dashboard", spec.name, 1, "created", warnings)
    _expect(row, expected_version)
    if row["source"] == source:
        return AppliedDashboard("Dashboard", spec.name, row["version"], "unchanged", warnings)
    version = _replace(connection, workspace_id, row, spec, source, by)
    return AppliedDashboard("Dashboard", spec.name, version, "updated", warnings)


def create_dashboard(
    connection: sa.Connection,
    workspace_id: int,
    spec: DashboardSpec,
    by: UUID | None = None,
    *,
    source: str = "",
) -> Dashboard:
    """`source`: the YAML that `spec` was read from, if it was. Raises `DashboardExists`."""
    _insert(connection, workspace_id, spec, source, by)
    return get_dashboard(connection, workspace_id, spec.name)


def replace_dashboard(
    connection: sa.Connection,
    workspace_id: int,
    spec: DashboardSpec,
    expected_version: int,
    by: UUID | None = None,
) -> Dashboard:
    """A new spec for the dashboard `spec.name`.

    Raises `DashboardNotFound`, or `DashboardChangedMeanwhile` with the current version.
    """
    row = _row(connection, workspace_id, spec.name, lock=True)
    _expect(row, expected_version)
    _replace(connection, workspace_id, row, spec, "", by)
    return get_dashboard(connection, workspace_id, spec.name)


def delete_dashboard(
    connection: sa.Connection, workspace_id: int, slug: str, expected_version: int | None = None
) -> None:
    """Raises `DashboardNotFound`, `DashboardChangedMeanwhile`."""
    _expect(_row(connection, workspace_id, slug, lock=True), expected_version)
    repository.delete(connection, workspace_id, slug)
    repository.notify_changed(connection, workspace_id, slug, None)


def hand_over_dashboards(connection: sa.Connection, workspace_id: int, leaving: UUID, successor: UUID) -> int:
    """What `leaving` made is the successor's from now on; returns how many dashboards."""
    return repository.hand_over(connection, workspace_id, leaving, successor)


def save_layout(
    connection: sa.Connection,
    workspace_id: int,
    slug: str,
    layout: Mapping[str, Position],
    *,
    expected_version: int,
    client_id: str,
    by: UUID | None = None,
) -> int:
    """Keep where widgets were moved to and tell the other browsers; the layout's new version.

    Widgets that are not named stay. Raises `DashboardNotFound`, `InvalidLayout` (an unknown widget), or
    `DashboardChangedMeanwhile` with the current version and layout.
    """
    row = _row(connection, workspace_id, slug, lock=True)
    current = _dashboard(row)
    unknown = [name for name in layout if name not in current.layout]
    if unknown:
        errors = [FieldError(f"layout.{name}", "is not a widget of this dashboard") for name in unknown]
        raise InvalidLayout(f"The dashboard has no widget {unknown[0]!r}.", errors=errors)
    if current.layout_version != expected_version:
        raise DashboardChangedMeanwhile(
            f"The layout has version {current.layout_version} by now, not {expected_version}.",
            extra={"layout_version": current.layout_version, "layout": row["layout"]},
        )
    wanted: Layout = {**current.layout, **layout}
    if wanted == current.layout:
        return current.layout_version
    version, document = current.layout_version + 1, _layout_document(wanted)
    repository.update(
        connection, workspace_id, slug, {"layout": document, "layout_version": version, "updated_by": by}
    )
    repository.notify_layout(connection, workspace_id, slug, version, client_id, document)
    return version


def export_dashboard(connection: sa.Connection, workspace_id: int, slug: str) -> str:
    """The YAML as applied, with the widgets where they are now. Raises `DashboardNotFound`."""
    row = _row(connection, workspace_id, slug)
    found = _dashboard(row)
    return to_yaml(found.spec, found.layout, row["source"])


def check_queries(spec: DashboardSpec, check: CheckQuery | None) -> tuple[FieldError, ...]:
    """What the widgets' queries name and is not there: warnings, for a pipeline may come later."""
    if check is None:
        return ()
    return tuple(
        FieldError(f"widgets.{index}.query.{error.field}".rstrip("."), error.message)
        for index, widget in enumerate(spec.widgets)
        if widget.query is not None
        for error in check(widget.query)
    )


def _insert(
    connection: sa.Connection, workspace_id: int, spec: DashboardSpec, source: str, by: UUID | None
) -> None:
    made = repository.insert_new(
        connection,
        {
            "id": uuid7(),
            "workspace_id": workspace_id,
            "slug": spec.name,
            "version": 1,
            "layout_version": 1,
            "layout": _layout_document(place(spec)),
            **_content(spec, source),
            **repository.created_by(by),
        },
    )
    if not made:
        raise DashboardExists(f"There is a dashboard {spec.name!r} already.")
    repository.notify_changed(connection, workspace_id, spec.name, 1)


def _replace(
    connection: sa.Connection,
    workspace_id: int,
    row: repository.Row,
    spec: DashboardSpec,
    source: str,
    by: UUID | None,
) -> int:
    current = _dashboard(row)
    layout = carry_over(current.spec, current.layout, spec)
    version = current.version + 1
    values: dict[str, Any] = {"version": version, "updated_by": by, **_content(spec, source)}
    if layout != current.layout:
        values |= {"layout": _layout_document(layout), "layout_version": current.layout_version + 1}
    repository.update(connection, workspace_id, spec.name, values)
    repository.notify_changed(connection, workspace_id, spec.name, version)
    return version


def _content(spec: DashboardSpec, source: str) -> dict[str, Any]:
    return {
        "title": spec.title or spec.name,
        "description": spec.description,
        "spec": spec.document(),
        "source": source,
    }


def _row(connection: sa.Connection, workspace_id: int, slug: str, *, lock: bool = False) -> repository.Row:
    row = None if "\x00" in slug else repository.find(connection, workspace_id, slug, lock=lock)
    if row is None:
        raise _not_found(slug)
    return row


def _not_found(slug: str) -> DashboardNotFound:
    return DashboardNotFound(f"There is no dashboard {slug!r} in this workspace.")


def _expect(row: repository.Row, version: int | None) -> None:
    if version is not None and row["version"] != version:
        raise DashboardChangedMeanwhile(
            f"The dashboard has version {row['version']} by now, not {version}.",
            extra={"version": row["version"]},
        )


def _layout_document(layout: Layout) -> dict[str, Any]:
    return {name: position.model_dump() for name, position in layout.items()}


def _dashboard(row: repository.Row) -> Dashboard:
    try:
        spec = DashboardSpec.model_validate(row["spec"])
    except ValidationError as error:
        raise InvalidDashboard(f"The dashboard {row['slug']!r} was kept by another version.") from error
    kept = {name: Position.model_validate(position) for name, position in row["layout"].items()}
    return Dashboard(
        id=row["id"], slug=row["slug"], title=row["title"], description=row["description"],
        version=row["version"], layout_version=row["layout_version"], spec=spec, layout=place(spec, kept),
        created_by=row["created_by"], updated_by=row["updated_by"],
        created_at=row["created_at"], updated_at=row["updated_at"],
    )  # fmt: skip
