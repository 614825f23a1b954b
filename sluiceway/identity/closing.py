"""Deleting a workspace: what is in it, and its end. From then on nobody is in it, nothing is taken for it.

Functions take an open connection (role APP) that acts for the workspace, and do not commit. Not here: erasing
what it held, which the worker does afterwards (`sluiceway.runtime.closing`) when it hears `TOPIC`.
"""

from dataclasses import dataclass, fields
from datetime import datetime

import sqlalchemy as sa

from sluiceway.identity import workspaces
from sluiceway.identity.errors import InvalidWorkspace, WorkspaceKept
from sluiceway.infra import outbox
from sluiceway.kit.errors import FieldError, NotFound

TOPIC = "workspace.deleted"
_FIRST = "The installation's first workspace stays: its own measurements are in it."
_LAST = (
    "It is the only workspace of the organization. Make another one first, or ask whoever runs the"
    " installation to delete this one."
)


@dataclass(frozen=True, slots=True)
class Contents:
    """How much a deletion takes. `events`: loaded in all; `stored_bytes`: in the lake and the database, when
    last measured; `audit_entries` stay."""

    members: int
    invitations: int
    keys: int
    links: int
    dashboards: int
    pipelines: int
    events: int
    dead_letters: int
    rules: int
    stored_bytes: int
    audit_entries: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A workspace that is no more. `neighbour`: the oldest one that its organization has left, if any."""

    workspace: workspaces.Workspace
    contents: Contents
    deleted_at: datetime
    neighbour: int | None

    def told(self) -> dict[str, object]:
        """What the audit log says of it."""
        return {"contents": {f.name: getattr(self.contents, f.name) for f in fields(Contents)}}


def contents(conn: sa.Connection) -> Contents:
    """What is in the workspace that is acted for."""
    row = conn.execute(sa.text("SELECT * FROM app.workspace_contents()")).one()
    return Contents(**row._mapping)


def delete_workspace(
    conn: sa.Connection, workspace_id: int, name: str, *, last_of_organization: bool = False
) -> Closed:
    """End it, and have its data erased after the commit. `name` is its name, as typed by whoever means it.

    `last_of_organization`: even if the organization has no other then, which only the installation's operator
    decides. Raises `InvalidWorkspace` for another name, `WorkspaceKept`, or `NotFound`.
    """
    found = workspaces.get_workspace(conn, workspace_id)
    if " ".join(name.split()) != found.name:
        problem = FieldError("name", "should be the workspace's name, letter by letter")
        raise InvalidWorkspace("The name is not that of the workspace.", errors=[problem])
    neighbour = _neighbour(conn, workspace_id)
    kept = why_kept(conn, workspace_id)
    if kept is not None and not (last_of_organization and kept == _LAST):
        raise WorkspaceKept(kept)
    held = contents(conn)
    at: datetime | None = conn.execute(
        sa.text("SELECT app.delete_workspace(:id)"), {"id": workspace_id}
    ).scalar()
    if at is None:
        raise NotFound("There is no such workspace.")
    outbox.put(conn, workspace_id, TOPIC, {"deleted_at": at.isoformat(), "neighbour": neighbour})
    return Closed(found, held, at, neighbour)


def why_kept(conn: sa.Connection, workspace_id: int) -> str | None:
    """Why the workspace that is acted for cannot be deleted; None: it can."""
    first: int = conn.execute(sa.text("SELECT id FROM app.find_workspaces(NULL)")).scalar_one()
    if first == workspace_id:
        return _FIRST
    return _LAST if _neighbour(conn, workspace_id) is None else None


def _neighbour(conn: sa.Connection, workspace_id: int) -> int | None:
    found: int | None = conn.execute(sa.text("SELECT app.neighbour_of(:id)"), {"id": workspace_id}).scalar()
    return found
