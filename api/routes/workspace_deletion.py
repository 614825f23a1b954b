"""Deleting the workspace that the caller is in: what would go, and doing it."""

from datetime import datetime
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.confirming import confirmed
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.routes.workspaces import Name, WorkspaceId, check_here
from api.security import cookie_name
from api.sign_in import drop_cookie
from sluiceway.audit.actions import Action
from sluiceway.identity import closing, workspaces
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.infra.database import set_identity

router = APIRouter(prefix="/v1/workspaces", tags=["workspaces"])

MayDelete = Annotated[Caller, Depends(require(Permission.WORKSPACE_DELETE))]


class Contents(BaseModel):
    """What is in a workspace, and goes with it."""

    name: str = Field(description="To be typed by whoever deletes it.")
    members: int = Field(description="Who lose it; their accounts stay.")
    invitations: int = Field(description="Open ones.")
    keys: int = Field(description="API keys that work, service accounts' included.")
    links: int = Field(description="Links to dashboards that work.")
    dashboards: int
    pipelines: int
    events: int = Field(description="Loaded in all.")
    dead_letters: int = Field(description="That nobody has resolved.")
    rules: int = Field(description="Row rules and column masks.")
    stored_bytes: int = Field(description="In the lake and in the database, when last measured.")
    audit_entries: int = Field(description="They stay.")
    kept_because: str | None = Field(
        default=None, description="Why this workspace cannot be deleted; null: it can."
    )


class Deletion(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "Logistics"}})

    name: Name = Field(description="The workspace's name, to say that it is meant.")


class Deleted(BaseModel):
    """A workspace that nobody can enter any more; what it held is erased within minutes."""

    id: int
    name: str
    deleted_at: datetime
    contents: Contents


@router.get("/{workspace_id}/deletion", summary="What deleting the workspace would take")
def preview_deletion(
    request: Request, services: Services, caller: MayDelete, workspace_id: WorkspaceId
) -> Contents:
    """Of the one that the caller is in. Nothing is changed."""
    check_here(caller, workspace_id)
    with catalog(services, caller) as conn:
        found = workspaces.get_workspace(conn, workspace_id)
        note_read(request, conn, caller, Action.WORKSPACE_READ, target="workspace", target_id=workspace_id)
        kept = closing.why_kept(conn, workspace_id)
        return _contents(found, closing.contents(conn), kept)


@router.post(
    "/{workspace_id}/deletion",
    status_code=202,
    summary="Delete the workspace",
    dependencies=[Depends(confirmed)],
    responses=problem_responses((409,)),
)
def delete_workspace(
    request: Request,
    services: Services,
    caller: MayDelete,
    workspace_id: WorkspaceId,
    body: Deletion,
    response: Response,
) -> Deleted:
    """For good, with all that is in it: from the answer on nobody is in it, and no event is taken for it.

    The data goes afterwards: tables, the lake, what still waits in spools. The audit log stays, and another
    workspace of the organization is told. Whoever asks is signed out. The caller has confirmed lately who
    they are (403 `confirmation_required`). The installation's first workspace, and the only one of an
    organization, stay (409 `workspace_kept`).
    """
    check_here(caller, workspace_id)
    with catalog(services, caller) as conn:
        closed = closing.delete_workspace(conn, workspace_id, body.name)
        _tell(request, conn, caller, closed)
    drop_cookie(response, services, cookie_name(services.settings))
    return Deleted(
        id=workspace_id,
        name=closed.workspace.name,
        deleted_at=closed.deleted_at,
        contents=_contents(closed.workspace, closed.contents),
    )


def _tell(request: Request, conn: sa.Connection, caller: Caller, closed: closing.Closed) -> None:
    """Its own log has it, and that of a workspace that is still there. Ends acting for that one."""
    for room in (closed.workspace.id, closed.neighbour):
        if room is None:
            continue
        set_identity(conn, workspace_id=room, user_id=str(caller.user_id))
        note(
            request, conn, caller, Action.WORKSPACE_DELETED, target="workspace",
            target_id=closed.workspace.id,
            before={"slug": closed.workspace.slug, "name": closed.workspace.name}, detail=closed.told(),
        )  # fmt: skip


def _contents(
    room: workspaces.Workspace, found: closing.Contents, kept_because: str | None = None
) -> Contents:
    return Contents(
        name=room.name, members=found.members, invitations=found.invitations, keys=found.keys,
        links=found.links, dashboards=found.dashboards, pipelines=found.pipelines, events=found.events,
        dead_letters=found.dead_letters, rules=found.rules, stored_bytes=found.stored_bytes,
        audit_entries=found.audit_entries, kept_because=kept_because,
    )  # fmt: skip
