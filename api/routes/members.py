"""Members of the workspace: who they are, changing and removing them, handing ownership over."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.confirming import confirmed
from api.deps import Services, catalog, person_id, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Limit, Page, decode, page
from sluiceway.audit.actions import Action
from sluiceway.dashboards.service import hand_over_dashboards
from sluiceway.identity import members
from sluiceway.identity.contracts import Caller
from sluiceway.identity.giving import MOST_ATTRIBUTES
from sluiceway.identity.leaving import hand_over_keys, hand_over_links, revoke_keys
from sluiceway.identity.permissions import MemberRole, Permission
from sluiceway.identity.teams import get_team

router = APIRouter(prefix="/v1/members", tags=["members"], route_class=IdempotentRoute)

MayRead = Annotated[Caller, Depends(require(Permission.MEMBER_READ))]
MayManage = Annotated[Caller, Depends(require(Permission.MEMBER_MANAGE))]
Attributes = Annotated[
    dict[str, list[str]],
    Field(max_length=MOST_ATTRIBUTES, description="For row rules: lists of texts by name."),
]
RoleSlug = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z][a-z0-9-]*$")]


class TeamRef(BaseModel):
    id: UUID
    slug: str
    name: str


class Member(BaseModel):
    """Somebody who belongs to the workspace."""

    id: UUID = Field(description="The person's id.")
    email: str
    name: str
    role: str = Field(description="Slug of their own role.")
    roles: list[str] = Field(description="Slugs of all roles they hold, their teams' included.")
    teams: list[TeamRef]
    attributes: dict[str, list[str]] = Field(description="Their own; teams may add to them.")
    state: Literal["active", "disabled"] = Field(description="`disabled`: locked out.")
    joined_at: datetime
    last_seen_at: datetime | None = Field(description="In a session that is not over; null: in none.")


class MemberChange(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"role": "analyst", "attributes": {"region": ["emea"]}}}
    )

    role: RoleSlug | None = None
    attributes: Attributes | None = Field(default=None, description="All of them, not only those to change.")
    teams: Annotated[list[str], Field(max_length=100)] | None = Field(
        default=None, description="Slugs of all the teams to be in."
    )
    disabled: bool | None = Field(default=None, description="True locks out, and ends sessions at once.")


class Ownership(BaseModel):
    model_config = ConfigDict(extra="forbid")

    afterwards: RoleSlug = Field(
        default=MemberRole.ADMIN.value, description="The caller's role from then on."
    )


class Removed(BaseModel):
    """Who is a member no more, and what became of their things."""

    id: UUID
    email: str
    successor: UUID = Field(description="Who has their dashboards, links and keys now.")
    handed_over: dict[str, int] = Field(description="How many of each kind changed hands, or were revoked.")


KeysThen = Annotated[
    Literal["hand_over", "revoke"],
    Query(description="`hand_over`: their keys go on working; `revoke`: those they made are refused."),
]
Successor = Annotated[
    UUID | None, Query(description="Who gets what was theirs; absent: the owner who has been here longest.")
]


@router.get("", summary="List members")
def list_members(
    request: Request,
    services: Services,
    caller: MayRead,
    limit: Limit = 50,
    cursor: CursorParameter = None,
    search: Annotated[str | None, Query(max_length=200, description="Part of a name or an address.")] = None,
) -> Page[Member]:
    """By address."""
    after = decode(cursor, str, UUID)
    with catalog(services, caller) as conn:
        found = members.list_members(conn, caller.workspace_id, limit=limit + 1, after=after, search=search)
        note_read(request, conn, caller, Action.MEMBER_LISTED, target="member")
    return page(found, limit, describe_member, lambda m: (m.user.email.lower(), m.user.id))


@router.get("/{user_id}", summary="One member")
def get_member(request: Request, services: Services, caller: MayRead, user_id: UUID) -> Member:
    """What they are here."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.MEMBER_LISTED, target="member", target_id=user_id)
        return describe_member(members.get_member(conn, caller.workspace_id, user_id))


@router.patch("/{user_id}", summary="Change a member", responses=problem_responses((409,)))
def change_member(
    request: Request, services: Services, caller: MayManage, user_id: UUID, body: MemberChange
) -> Member:
    """Role, attributes, teams, or locking out.

    Nobody changes who holds more than they do, and the last owner stays one.
    """
    with catalog(services, caller) as conn:
        teams = _team_ids(conn, caller.workspace_id, body.teams)
        wanted = members.Change(body.role, body.attributes, teams, body.disabled)
        before, after, _ = members.change_member(
            conn, caller.workspace_id, user_id, wanted, giver=caller, now=services.clock.now()
        )
        note(
            request, conn, caller, _action(before, after),
            target="member", target_id=user_id, before=told(before), after=told(after),
        )  # fmt: skip
    return describe_member(after)


@router.delete(
    "/{user_id}",
    summary="Remove a member",
    dependencies=[Depends(confirmed)],
    responses=problem_responses((409,)),
)
def remove_member(
    request: Request,
    services: Services,
    caller: MayManage,
    user_id: UUID,
    hand_over_to: Successor = None,
    keys: KeysThen = "hand_over",
) -> Removed:
    """Sessions end, invitations they made are taken back, and what was theirs here is the successor's.

    Their account stays, and so do their other workspaces.
    """
    with catalog(services, caller) as conn:
        left = members.remove_member(
            conn, caller.workspace_id, user_id, giver=caller, now=services.clock.now(),
            successor_id=hand_over_to, handovers=handovers(keys),
        )  # fmt: skip
        note(
            request, conn, caller, Action.MEMBER_REMOVED, target="member", target_id=user_id,
            before=told(left.member), detail=left_detail(left, keys),
        )  # fmt: skip
    return describe_left(left)


@router.post("/{user_id}/ownership", summary="Hand ownership over", dependencies=[Depends(confirmed)])
def hand_over_ownership(
    request: Request,
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.WORKSPACE_MANAGE))],
    user_id: UUID,
    body: Ownership,
) -> Member:
    """Have the member own the workspace instead of the caller. Answers the new owner."""
    with catalog(services, caller) as conn:
        _, heir = members.hand_over_ownership(
            conn, caller.workspace_id, person_id(caller), user_id, afterwards=body.afterwards
        )
        note(
            request, conn, caller, Action.WORKSPACE_HANDED_OVER, target="workspace",
            target_id=caller.workspace_id, before={"owner": caller.user_id}, after={"owner": user_id},
            detail={"afterwards": body.afterwards},
        )  # fmt: skip
    return describe_member(heir)


def handovers(keys: str) -> dict[str, members.Handover]:
    """Who hands over, or revokes, what somebody leaves behind, by kind."""
    return {
        "dashboards": hand_over_dashboards,
        "links": hand_over_links,
        "keys": revoke_keys if keys == "revoke" else hand_over_keys,
    }


def told(member: members.Member) -> dict[str, object]:
    """A member as the audit log has them."""
    return {
        "email": member.user.email,
        "role": member.role,
        "teams": [team.slug for team in member.teams],
        "attributes": member.attributes,
        "disabled": member.disabled_at is not None,
    }


def left_detail(left: members.Left, keys: str) -> dict[str, object]:
    return {"successor": left.successor.user.id, "handed_over": dict(left.handed_over), "keys": keys}


def describe_left(left: members.Left) -> Removed:
    return Removed(
        id=left.member.user.id,
        email=left.member.user.email,
        successor=left.successor.user.id,
        handed_over=dict(left.handed_over),
    )


def describe_member(member: members.Member) -> Member:
    locked = member.disabled_at is not None or member.user.disabled_at is not None
    return Member(
        id=member.user.id,
        email=member.user.email,
        name=member.user.name,
        role=member.role,
        roles=list(member.roles),
        teams=[TeamRef(id=team.id, slug=team.slug, name=team.name) for team in member.teams],
        attributes=member.attributes,
        state="disabled" if locked else "active",
        joined_at=member.joined_at,
        last_seen_at=member.last_seen_at,
    )


def _action(before: members.Member, after: members.Member) -> Action:
    """The most telling of what changed."""
    locked = after.disabled_at is not None
    if locked != (before.disabled_at is not None):
        return Action.MEMBER_DISABLED if locked else Action.MEMBER_ENABLED
    return Action.MEMBER_ROLE_CHANGED if before.role != after.role else Action.MEMBER_CHANGED


def _team_ids(conn: sa.Connection, workspace_id: int, slugs: list[str] | None) -> list[UUID] | None:
    return None if slugs is None else [get_team(conn, workspace_id, slug).id for slug in slugs]
