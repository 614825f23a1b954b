"""Invitations: asking people to join, sending the link again, taking it back; and accepting, for programs.

The page that the link leads to is in `api.routes.invitation_pages`.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import joining
from api.auditing import note, note_read
from api.deps import Services, catalog, person, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Limit, Page, decode_newest, newest_page
from api.routes.members import Attributes, RoleSlug
from api.security import check_same_origin, identify
from api.sign_in import set_cookies
from sluiceway.audit.actions import Action
from sluiceway.identity import invitations
from sluiceway.identity.contracts import Caller
from sluiceway.identity.invitation_mail import link_of, mail_invitation
from sluiceway.identity.permissions import MemberRole, Permission
from sluiceway.identity.teams import get_team, list_teams

router = APIRouter(prefix="/v1/invitations", tags=["members"], route_class=IdempotentRoute)

MayManage = Annotated[Caller, Depends(require(Permission.MEMBER_MANAGE))]


class NewInvitation(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"email": "ada@example.com", "role": "analyst"}}
    )

    email: str = Field(min_length=3, max_length=300)
    role: RoleSlug = MemberRole.VIEWER.value
    teams: Annotated[list[str], Field(max_length=100)] = Field(default=[], description="Slugs.")
    attributes: Attributes = {}
    days: int = Field(default=invitations.DAYS, ge=1, le=invitations.LONGEST_DAYS)


class Invitation(BaseModel):
    """Somebody who was asked to join."""

    id: UUID
    email: str
    role: str
    teams: list[str] = Field(description="Slugs; a team that has gone is left out.")
    attributes: dict[str, list[str]]
    state: Literal["open", "accepted", "revoked", "expired"]
    invited_by: UUID | None
    inviter: str | None = Field(
        description="Name of who invited; null: the command line, or not here any more."
    )
    created_at: datetime
    sent_at: datetime = Field(description="When the link was made that works now.")
    expires_at: datetime
    accepted_at: datetime | None
    mail: Literal["none", "waiting", "sent", "refused"] = Field(description="What became of the mail.")
    mail_problem: str | None = Field(description="What the mail server said when it refused.")


class SentInvitation(BaseModel):
    """An invitation that was just made or sent again."""

    invitation: Invitation
    link: str | None = Field(
        description="The link, where this installation sends no mail: hand it over yourself. It cannot be"
        " shown again. Null: it was mailed."
    )


class Acceptance(BaseModel):
    """The link's token, and what makes an account for who has none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"token": "…", "name": "Ada", "password": "a long phrase of your own"}},
    )

    token: str = Field(min_length=1, max_length=200)
    name: str | None = Field(default=None, max_length=200)
    password: str | None = Field(
        default=None, max_length=1000, description="Null: join as whoever is signed in."
    )


class Joined(BaseModel):
    workspace_id: int
    workspace: str = Field(description="Its name.")
    role: str


@router.get("", summary="List invitations")
def list_invitations(
    request: Request,
    services: Services,
    caller: MayManage,
    limit: Limit = 50,
    cursor: CursorParameter = None,
    state: Annotated[Literal["open"] | None, Query(description="Only those that wait for an answer.")] = None,
) -> Page[Invitation]:
    """Newest first, with what came of them; kept for 90 days after their end."""
    after = decode_newest(cursor)
    now = services.clock.now()
    with catalog(services, caller) as conn:
        found = invitations.list_invitations(
            conn, caller.workspace_id, limit=limit + 1, after=after, open_only=state == "open"
        )
        slugs = _slugs(conn, caller)
        note_read(request, conn, caller, Action.INVITATION_LISTED, target="invitation")
    return newest_page(found, limit, lambda i: _invitation(i, slugs, now))


@router.post("", status_code=201, summary="Invite somebody", responses=problem_responses((404,)))
def create_invitation(
    request: Request, services: Services, caller: MayManage, body: NewInvitation, response: Response
) -> SentInvitation:
    """Mail a link that makes the person a member. It gives nothing that the caller does not hold."""
    with catalog(services, caller) as conn:
        teams = [get_team(conn, caller.workspace_id, slug).id for slug in body.teams]
        made, token = invitations.invite(
            conn, caller.workspace_id, body.email, body.role, giver=caller, now=services.clock.now(),
            teams=teams, attributes=body.attributes, days=body.days,
        )  # fmt: skip
        mailed = mail_invitation(
            conn, services.database.envelope, services.settings, caller.workspace_id, made, token
        )
        note(
            request, conn, caller, Action.MEMBER_INVITED, target="invitation", target_id=made.id,
            after={
                "email": made.email, "role": made.role, "teams": body.teams, "attributes": made.attributes,
            },
            detail={"mailed": mailed is not None, "expires_at": made.expires_at},
        )  # fmt: skip
        return _sent(services, conn, caller, made.id, token if mailed is None else None, response)


@router.post(
    "/acceptance",
    status_code=201,
    summary="Accept an invitation",
    responses=problem_responses((401, 403, 404, 409)),
)
def accept_invitation(request: Request, services: Services, body: Acceptance, response: Response) -> Joined:
    """With a session: join as whoever is signed in, who has to be the one who was invited.

    Without one, `name` and `password` make the account; the answer sets the cookie `sluiceway_session`.
    """
    check_same_origin(request, services.settings.public_url)
    offer, _ = joining.find_offer(services, body.token)
    if body.password is not None:
        signed_in = joining.join_anew(request, services, offer, body.name or "", body.password)
        set_cookies(response, services, signed_in)
    else:
        joining.join(request, services, person(identify(request, services)), offer)
    response.headers["Cache-Control"] = "no-store"
    return Joined(workspace_id=offer.workspace_id, workspace=offer.workspace, role=offer.role)


@router.get("/{invitation_id}", summary="One invitation")
def get_invitation(
    request: Request, services: Services, caller: MayManage, invitation_id: UUID
) -> Invitation:
    """Who was asked, and what came of it."""
    with catalog(services, caller) as conn:
        note_read(
            request, conn, caller, Action.INVITATION_LISTED, target="invitation", target_id=invitation_id
        )
        found = invitations.get_invitation(conn, caller.workspace_id, invitation_id)
        return _invitation(found, _slugs(conn, caller), services.clock.now())


@router.post("/{invitation_id}/sending", status_code=201, summary="Send an invitation again")
def send_invitation(
    request: Request, services: Services, caller: MayManage, invitation_id: UUID, response: Response
) -> SentInvitation:
    """A new link with a new end; the one before is worth nothing from now on."""
    with catalog(services, caller) as conn:
        found, token = invitations.send_again(
            conn, caller.workspace_id, invitation_id, giver=caller, now=services.clock.now()
        )
        mailed = mail_invitation(
            conn, services.database.envelope, services.settings, caller.workspace_id, found, token
        )
        note(
            request, conn, caller, Action.INVITATION_SENT_AGAIN, target="invitation", target_id=found.id,
            detail={"mailed": mailed is not None, "expires_at": found.expires_at},
        )  # fmt: skip
        return _sent(services, conn, caller, found.id, token if mailed is None else None, response)


@router.delete("/{invitation_id}", summary="Take an invitation back", responses=problem_responses((409,)))
def revoke_invitation(
    request: Request, services: Services, caller: MayManage, invitation_id: UUID
) -> Invitation:
    """Its link is worth nothing from now on."""
    now = services.clock.now()
    with catalog(services, caller) as conn:
        found = invitations.revoke_invitation(conn, caller.workspace_id, invitation_id, now=now)
        note(
            request, conn, caller, Action.INVITATION_REVOKED, target="invitation", target_id=found.id,
            before={"email": found.email, "role": found.role},
        )  # fmt: skip
        return _invitation(found, _slugs(conn, caller), now)


def _sent(
    services: Services,
    conn: sa.Connection,
    caller: Caller,
    invitation_id: UUID,
    token: str | None,
    response: Response,
) -> SentInvitation:
    response.headers["Cache-Control"] = "no-store"
    found = invitations.get_invitation(conn, caller.workspace_id, invitation_id)
    return SentInvitation(
        invitation=_invitation(found, _slugs(conn, caller), services.clock.now()),
        link=None if token is None else link_of(services.settings, token),
    )


def _slugs(conn: sa.Connection, caller: Caller) -> dict[UUID, str]:
    return {team.id: team.slug for team in list_teams(conn, caller.workspace_id)}


def _invitation(found: invitations.Invitation, slugs: dict[UUID, str], now: datetime) -> Invitation:
    return Invitation(
        id=found.id,
        email=found.email,
        role=found.role,
        teams=[slugs[team] for team in found.team_ids if team in slugs],
        attributes=found.attributes,
        state=found.state(now),
        invited_by=found.invited_by,
        inviter=found.inviter,
        created_at=found.created_at,
        sent_at=found.sent_at,
        expires_at=found.expires_at,
        accepted_at=found.accepted_at,
        mail=found.mail,
        mail_problem=found.mail_problem,
    )
