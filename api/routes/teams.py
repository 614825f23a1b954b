"""Teams of the workspace: what they give, who is in them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import Page
from api.routes.members import Attributes, RoleSlug
from sluiceway.audit.actions import Action
from sluiceway.identity import teams
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission

router = APIRouter(prefix="/v1/teams", tags=["members"], route_class=IdempotentRoute)

MayRead = Annotated[Caller, Depends(require(Permission.MEMBER_READ))]
MayManage = Annotated[Caller, Depends(require(Permission.MEMBER_MANAGE))]
Slug = Annotated[str, Path(min_length=1, max_length=63, pattern="^[a-z0-9][a-z0-9-]*$")]
Roles = Annotated[
    list[RoleSlug],
    Field(max_length=teams.MOST_ROLES, description="Slugs of the roles it gives; never `owner`."),
]


class Team(BaseModel):
    """Members under one name, who get its roles and attributes besides their own."""

    id: UUID
    slug: str
    name: str
    description: str
    roles: list[str]
    attributes: dict[str, list[str]]
    members: int = Field(description="How many.")
    created_at: datetime
    updated_at: datetime


class TeamWithMembers(Team):
    member_ids: list[UUID]


class NewTeam(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "EMEA", "attributes": {"region": ["emea"]}}},
    )

    name: str = Field(min_length=1, max_length=teams.NAME_LENGTH)
    slug: str | None = Field(
        default=None, min_length=1, max_length=63, description="Stays as it is; absent: made from the name."
    )
    description: str = Field(default="", max_length=teams.DESCRIPTION_LENGTH)
    roles: Roles = []
    attributes: Attributes = {}


class TeamChange(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=teams.NAME_LENGTH)
    description: str | None = Field(default=None, max_length=teams.DESCRIPTION_LENGTH)
    roles: Roles | None = None
    attributes: Attributes | None = None


@router.get("", summary="List teams")
def list_teams(request: Request, services: Services, caller: MayRead) -> Page[Team]:
    """By name. One page holds them all."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.TEAM_LISTED, target="team")
        return Page(items=[Team(**_team(found)) for found in teams.list_teams(conn, caller.workspace_id)])


@router.post("", status_code=201, summary="Make a team")
def create_team(request: Request, services: Services, caller: MayManage, body: NewTeam) -> Team:
    """A team without members yet. It gives nothing that the caller does not hold."""
    with catalog(services, caller) as conn:
        made = teams.create_team(
            conn, caller.workspace_id, body.name, giver=caller, slug=body.slug,
            description=body.description, roles=body.roles, attributes=body.attributes,
        )  # fmt: skip
        note(request, conn, caller, Action.TEAM_CREATED, target="team", target_id=made.slug, after=told(made))
    return Team(**_team(made))


@router.get("/{slug}", summary="One team with its members")
def get_team(request: Request, services: Services, caller: MayRead, slug: Slug) -> TeamWithMembers:
    """What it gives, and who is in it."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.TEAM_LISTED, target="team", target_id=slug)
        found = teams.get_team(conn, caller.workspace_id, slug)
        inside = teams.members_of(conn, caller.workspace_id, found.id)
    return TeamWithMembers(**_team(found), member_ids=inside)


@router.patch("/{slug}", summary="Change a team")
def change_team(
    request: Request, services: Services, caller: MayManage, slug: Slug, body: TeamChange
) -> Team:
    """It holds at once for whoever is in the team."""
    with catalog(services, caller) as conn:
        found = teams.get_team(conn, caller.workspace_id, slug)
        before, after = teams.change_team(
            conn, caller.workspace_id, found.id, giver=caller, now=services.clock.now(), name=body.name,
            description=body.description, roles=body.roles, attributes=body.attributes,
        )  # fmt: skip
        note(
            request, conn, caller, Action.TEAM_CHANGED, target="team", target_id=slug,
            before=told(before), after=told(after),
        )  # fmt: skip
    return Team(**_team(after))


@router.delete("/{slug}", status_code=204, summary="Remove a team")
def delete_team(request: Request, services: Services, caller: MayManage, slug: Slug) -> Response:
    """Its members stay members, without what the team gave."""
    with catalog(services, caller) as conn:
        found = teams.get_team(conn, caller.workspace_id, slug)
        gone = teams.delete_team(conn, caller.workspace_id, found.id, giver=caller)
        note(request, conn, caller, Action.TEAM_DELETED, target="team", target_id=slug, before=told(gone))
    return Response(status_code=204)


@router.put("/{slug}/members/{user_id}", status_code=204, summary="Put a member into a team")
def add_to_team(
    request: Request, services: Services, caller: MayManage, slug: Slug, user_id: UUID
) -> Response:
    """They get what the team gives, at once. Doing it again changes nothing."""
    return _move(request, services, caller, slug, user_id, inside=True)


@router.delete(
    "/{slug}/members/{user_id}",
    status_code=204,
    summary="Take a member out of a team",
    responses=problem_responses((404,)),
)
def take_from_team(
    request: Request, services: Services, caller: MayManage, slug: Slug, user_id: UUID
) -> Response:
    """They lose what the team gave, at once."""
    return _move(request, services, caller, slug, user_id, inside=False)


def _move(
    request: Request, services: Services, caller: Caller, slug: str, user_id: UUID, *, inside: bool
) -> Response:
    move = teams.add_to_team if inside else teams.take_from_team
    action = Action.TEAM_MEMBER_ADDED if inside else Action.TEAM_MEMBER_REMOVED
    with catalog(services, caller) as conn:
        found = teams.get_team(conn, caller.workspace_id, slug)
        moved = move(conn, caller.workspace_id, found.id, user_id, giver=caller)
        note(
            request, conn, caller, action, target="team", target_id=slug,
            detail={"member": user_id, "changed": moved},
        )  # fmt: skip
    return Response(status_code=204)


def told(team: teams.Team) -> dict[str, object]:
    """A team as the audit log has it."""
    return {
        "name": team.name,
        "description": team.description,
        "roles": list(team.roles),
        "attributes": team.attributes,
    }


def _team(team: teams.Team) -> dict[str, Any]:
    return {
        "id": team.id,
        "slug": team.slug,
        "name": team.name,
        "description": team.description,
        "roles": list(team.roles),
        "attributes": team.attributes,
        "members": team.members,
        "created_at": team.created_at,
        "updated_at": team.updated_at,
    }
