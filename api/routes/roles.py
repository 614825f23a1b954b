"""Roles of the workspace: the five that every one has, and its own."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import Page
from sluiceway.audit.actions import Action
from sluiceway.identity import roles
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import GRANTABLE, Permission
from sluiceway.rules.service import count_naming

router = APIRouter(prefix="/v1/roles", tags=["members"], route_class=IdempotentRoute)

MayRead = Annotated[Caller, Depends(require(Permission.MEMBER_READ))]
MayManage = Annotated[Caller, Depends(require(Permission.ROLE_MANAGE))]
Slug = Annotated[str, Path(min_length=1, max_length=63, pattern="^[a-z][a-z0-9-]*$")]
Permissions = Annotated[
    list[Permission],
    Field(
        min_length=1,
        max_length=len(Permission),
        description=f"Of {', '.join(f'`{p}`' for p in sorted(GRANTABLE))}; none that the caller lacks.",
    ),
]


class Role(BaseModel):
    """What somebody with it may do."""

    slug: str
    name: str
    description: str
    permissions: list[Permission]
    builtin: bool = Field(description="One of the five that every workspace has and nobody changes.")
    members: int = Field(description="How many have it as their own role.")
    teams: int = Field(description="How many teams give it.")
    created_at: datetime | None
    updated_at: datetime | None


class NewRole(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "Support", "permissions": ["dashboard:read", "data:read", "dead_letter:read"]}
        },
    )

    name: str = Field(min_length=1, max_length=roles.NAME_LENGTH)
    slug: str | None = Field(
        default=None, min_length=1, max_length=63, description="Stays as it is; absent: made from the name."
    )
    description: str = Field(default="", max_length=roles.DESCRIPTION_LENGTH)
    permissions: Permissions


class RoleChange(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=roles.NAME_LENGTH)
    description: str | None = Field(default=None, max_length=roles.DESCRIPTION_LENGTH)
    permissions: Permissions | None = None


@router.get("", summary="List roles")
def list_roles(request: Request, services: Services, caller: MayRead) -> Page[Role]:
    """The five of every workspace, from the most to the least, then its own. One page holds them all."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.ROLE_LISTED, target="role")
        return Page(items=[_role(found) for found in roles.list_roles(conn, caller.workspace_id)])


@router.post("", status_code=201, summary="Make a role")
def create_role(request: Request, services: Services, caller: MayManage, body: NewRole) -> Role:
    """A role of the workspace's own, with rights that the caller holds."""
    with catalog(services, caller) as conn:
        made = roles.create_role(
            conn, caller.workspace_id, body.name, body.permissions, giver=caller, slug=body.slug,
            description=body.description, created_by=caller.user_id,
        )  # fmt: skip
        note(request, conn, caller, Action.ROLE_CREATED, target="role", target_id=made.slug, after=told(made))
    return _role(made)


@router.get("/{slug}", summary="One role")
def get_role(request: Request, services: Services, caller: MayRead, slug: Slug) -> Role:
    """What somebody with it may do."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.ROLE_LISTED, target="role", target_id=slug)
        return _role(roles.get_role(conn, caller.workspace_id, slug))


@router.patch("/{slug}", summary="Change a role", responses=problem_responses((409,)))
def change_role(
    request: Request, services: Services, caller: MayManage, slug: Slug, body: RoleChange
) -> Role:
    """It holds at once for whoever has the role. A role with rights that the caller lacks stays as it is."""
    with catalog(services, caller) as conn:
        before, after = roles.change_role(
            conn, caller.workspace_id, slug, giver=caller, now=services.clock.now(), name=body.name,
            description=body.description, permissions=body.permissions,
        )  # fmt: skip
        note(
            request, conn, caller, Action.ROLE_CHANGED, target="role", target_id=slug,
            before=told(before), after=told(after),
        )  # fmt: skip
    return _role(after)


@router.delete("/{slug}", status_code=204, summary="Remove a role", responses=problem_responses((409,)))
def delete_role(request: Request, services: Services, caller: MayManage, slug: Slug) -> Response:
    """Only once nobody has it and no rule or sign-in setting names it; open invitations to it go with it."""
    with catalog(services, caller) as conn:
        rules = count_naming(conn, caller.workspace_id, slug)
        gone = roles.delete_role(conn, caller.workspace_id, slug, giver=caller, rules=rules)
        note(request, conn, caller, Action.ROLE_DELETED, target="role", target_id=slug, before=told(gone))
    return Response(status_code=204)


def told(role: roles.Role) -> dict[str, object]:
    """A role as the audit log has it."""
    return {"name": role.name, "description": role.description, "permissions": sorted(role.permissions)}


def _role(role: roles.Role) -> Role:
    return Role(
        slug=role.slug,
        name=role.name,
        description=role.description,
        permissions=sorted(role.permissions),
        builtin=role.builtin,
        members=role.members,
        teams=role.teams,
        created_at=role.created_at,
        updated_at=role.updated_at,
    )
