"""The organization and its workspaces: what the caller belongs to, making and naming them, owners."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note
from api.confirming import confirmed
from api.deps import Services, catalog, person_id, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import Page
from api.routes.session import WorkspaceRef
from sluiceway.audit.actions import Action
from sluiceway.identity import members, service, workspaces
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import NotFound

router = APIRouter(prefix="/v1", tags=["workspaces"], route_class=IdempotentRoute)

MayRead = Annotated[Caller, Depends(require(Permission.WORKSPACE_READ))]
MayManageAll = Annotated[Caller, Depends(require(Permission.ORGANIZATION_MANAGE))]
WorkspaceId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Name = Annotated[str, Field(min_length=1, max_length=workspaces.NAME_LENGTH)]
Slug = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z][a-z0-9-]*$")]


class Workspace(BaseModel):
    """A room of the organization, which owns its pipelines, data and dashboards."""

    id: int
    slug: str
    name: str
    created_at: datetime
    members: int


class NewWorkspace(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "Logistics"}})

    name: Name
    slug: Slug | None = Field(default=None, description="Absent: made from the name.")


class Naming(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    slug: Slug | None = Field(default=None, description="Addresses that name it have to follow.")


class Owner(BaseModel):
    user_id: UUID
    email: str
    name: str
    since: datetime


class Organization(BaseModel):
    """The tenant. `workspaces` and `owners` are for its owners to see; null for others."""

    id: int
    slug: str
    name: str
    created_at: datetime
    workspaces: list[Workspace] | None
    owners: list[Owner] | None


@router.get("/workspaces", summary="Workspaces of the caller")
def list_workspaces(services: Services, caller: MayRead) -> Page[WorkspaceRef]:
    """Every workspace the person may enter, the one they were in last first; an API key has exactly one.

    One page holds them all.
    """
    with catalog(services, caller) as conn:
        if caller.user_id is None:
            slug, name, _ = service.workspace(conn, caller.workspace_id)
            return Page(items=[WorkspaceRef(id=caller.workspace_id, slug=slug, name=name, role=None)])
        found = service.memberships(conn, caller.user_id)
    return Page(
        items=[
            WorkspaceRef(id=m.workspace_id, slug=m.workspace_slug, name=m.workspace_name, role=m.role)
            for m in found
        ]
    )


@router.post("/workspaces", status_code=201, summary="Make a workspace")
def create_workspace(
    request: Request, services: Services, caller: MayManageAll, body: NewWorkspace
) -> Workspace:
    """A workspace of the same organization, which the caller owns.

    Go there with `PUT /v1/session/workspace`.
    """
    with catalog(services, caller) as conn:
        of = workspaces.organization(conn)
        made = workspaces.create_workspace(conn, of.id, body.name, person_id(caller), slug=body.slug)
        note(
            request, conn, caller, Action.WORKSPACE_CREATED, target="workspace", target_id=made.id,
            after={"slug": made.slug, "name": made.name},
        )  # fmt: skip
    return _workspace(made)


@router.get("/workspaces/{workspace_id}", summary="The workspace")
def get_workspace(services: Services, caller: MayRead, workspace_id: WorkspaceId) -> Workspace:
    """The one that the caller is in; another one is not found from here."""
    check_here(caller, workspace_id)
    with catalog(services, caller) as conn:
        return _workspace(workspaces.get_workspace(conn, workspace_id))


@router.patch(
    "/workspaces/{workspace_id}", summary="Rename the workspace", responses=problem_responses((409,))
)
def rename_workspace(
    request: Request,
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.WORKSPACE_MANAGE))],
    workspace_id: WorkspaceId,
    body: Naming,
) -> Workspace:
    """Name and slug of the one that the caller is in.

    Senders' addresses that name the slug have to follow.
    """
    check_here(caller, workspace_id)
    with catalog(services, caller) as conn:
        before, after = workspaces.rename_workspace(conn, workspace_id, name=body.name, slug=body.slug)
        note(
            request, conn, caller, Action.WORKSPACE_RENAMED, target="workspace", target_id=workspace_id,
            before=_naming(before), after=_naming(after),
        )  # fmt: skip
    return _workspace(after)


@router.get("/organization", summary="The organization")
def get_organization(services: Services, caller: MayRead) -> Organization:
    """The one of the caller's workspace; its owners also see all its workspaces and who owns it."""
    with catalog(services, caller) as conn:
        return _organization(conn, caller)


@router.patch("/organization", summary="Rename the organization", responses=problem_responses((409,)))
def rename_organization(
    request: Request, services: Services, caller: MayManageAll, body: Naming
) -> Organization:
    """Name and slug."""
    with catalog(services, caller) as conn:
        before, after = workspaces.rename_organization(conn, name=body.name, slug=body.slug)
        note(
            request, conn, caller, Action.ORGANIZATION_RENAMED, target="organization", target_id=after.id,
            before=_naming(before), after=_naming(after),
        )  # fmt: skip
        return _organization(conn, caller)


@router.put(
    "/organization/owners/{user_id}",
    summary="Make somebody an owner of the organization",
    dependencies=[Depends(confirmed)],
)
def add_organization_owner(
    request: Request, services: Services, caller: MayManageAll, user_id: UUID
) -> Organization:
    """A member of the caller's workspace. Doing it again changes nothing."""
    with catalog(services, caller) as conn:
        found = members.get_member(conn, caller.workspace_id, user_id)
        of = workspaces.organization(conn)
        workspaces.add_owner(conn, of.id, user_id)
        note(
            request, conn, caller, Action.ORGANIZATION_OWNER_ADDED, target="organization", target_id=of.id,
            detail={"owner": found.user.id},
        )  # fmt: skip
        answer = _organization(conn, caller)
    return answer


@router.delete(
    "/organization/owners/{user_id}",
    status_code=204,
    summary="Take the organization's ownership from somebody",
    dependencies=[Depends(confirmed)],
    responses=problem_responses((409,)),
)
def remove_organization_owner(
    request: Request, services: Services, caller: MayManageAll, user_id: UUID
) -> Response:
    """Never from the last one. What they are in the workspaces stays as it is."""
    with catalog(services, caller) as conn:
        of = workspaces.organization(conn)
        workspaces.remove_owner(conn, of.id, user_id)
        note(
            request, conn, caller, Action.ORGANIZATION_OWNER_REMOVED, target="organization",
            target_id=of.id, detail={"owner": user_id},
        )  # fmt: skip
    return Response(status_code=204)


def check_here(caller: Caller, workspace_id: int) -> None:
    """Raises `NotFound` for any other than the caller's."""
    if workspace_id != caller.workspace_id:
        raise NotFound("There is no such workspace where you are; go there first.")


def _naming(found: workspaces.Workspace | workspaces.Organization) -> dict[str, object]:
    return {"name": found.name, "slug": found.slug}


def _workspace(found: workspaces.Workspace) -> Workspace:
    return Workspace(
        id=found.id, slug=found.slug, name=found.name, created_at=found.created_at, members=found.members
    )


def _organization(conn: sa.Connection, caller: Caller) -> Organization:
    found = workspaces.organization(conn)
    shown = owners = None
    if caller.may(Permission.ORGANIZATION_MANAGE):
        shown = [_workspace(w) for w in workspaces.list_workspaces(conn, found.id)]
        owners = [
            Owner(user_id=o.user_id, email=o.email, name=o.name, since=o.since)
            for o in workspaces.owners(conn, found.id)
        ]
    return Organization(
        id=found.id, slug=found.slug, name=found.name, created_at=found.created_at, workspaces=shown,
        owners=owners,
    )  # fmt: skip
