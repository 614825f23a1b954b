"""Answering an invitation: what its link offers, and becoming a member with it, once.

Functions take an open connection (role APP) and do not commit. Not here: inviting (`invitations`), making the
person's account (`service`).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.identity import seats
from sluiceway.identity.contracts import User
from sluiceway.identity.errors import AlreadyMember, InvitationGone, InvitedSomeoneElse, NotPermitted
from sluiceway.identity.giving import Attributes, find_giver
from sluiceway.identity.invitations import check_gives_all, is_member, teams_left
from sluiceway.identity.permissions import Permission
from sluiceway.identity.service import add_member
from sluiceway.identity.sessions import hash_token
from sluiceway.identity.teams import add_to_team

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody with the link is told before they answer."""

    id: UUID
    workspace_id: int
    workspace: str
    organization: str
    email: str
    role: str
    inviter: str | None
    expires_at: datetime


def find_offer(conn: sa.Connection, token: str, *, now: datetime) -> Offer:
    """What a link offers. Needs role APP; no workspace need be set. Raises `InvitationGone`."""
    row = None
    if _TOKEN.fullmatch(token):
        row = conn.execute(
            sa.text("SELECT * FROM app.find_invitation(:hash)"), {"hash": hash_token(token)}
        ).first()
    if row is None or row.accepted_at is not None or row.revoked_at is not None or row.expires_at <= now:
        raise InvitationGone(
            "The link is unknown, was used, was taken back or is too old: ask for a new one."
        )
    return Offer(
        row.id, row.workspace_id, row.workspace_name, row.organization_name, row.email, row.role,
        row.inviter, row.expires_at,
    )  # fmt: skip


def accept(conn: sa.Connection, offer: Offer, user: User, *, now: datetime) -> None:
    """Make the person a member, once. The transaction acts for the offer's workspace and for the person.

    Teams that have gone meanwhile are left out. Raises `InvitedSomeoneElse`, `InvitationGone`,
    `AlreadyMember` or `SeatsExceeded`.
    """
    if user.email.lower() != offer.email.lower():
        raise InvitedSomeoneElse(f"The invitation is for {offer.email}; you are signed in as {user.email}.")
    taken = conn.execute(
        sa.text(
            "UPDATE app.invitations SET accepted_at = :now, accepted_by = :user"
            " WHERE workspace_id = :workspace AND id = :id AND accepted_at IS NULL AND revoked_at IS NULL"
            " AND expires_at > :now RETURNING team_ids, attributes, invited_by"
        ),
        {"now": now, "user": user.id, "workspace": offer.workspace_id, "id": offer.id},
    ).first()
    if taken is None:
        raise InvitationGone("The invitation was answered or taken back a moment ago.")
    teams = teams_left(conn, offer.workspace_id, taken.team_ids)
    _check_inviter(conn, offer, taken.invited_by, taken.attributes, teams)
    if is_member(conn, offer.workspace_id, user.email):
        raise AlreadyMember("You are a member of this workspace already.")
    seats.check(conn, offer.workspace_id)
    add_member(conn, offer.workspace_id, user.id, offer.role)
    conn.execute(
        sa.text(
            "UPDATE app.memberships SET attributes = CAST(:attributes AS jsonb)"
            " WHERE workspace_id = :workspace AND user_id = :user"
        ),
        {
            "attributes": orjson.dumps(taken.attributes).decode(),
            "workspace": offer.workspace_id,
            "user": user.id,
        },
    )
    for team_id in teams:
        add_to_team(conn, offer.workspace_id, team_id, user.id, giver=None)


def _check_inviter(
    conn: sa.Connection, offer: Offer, inviter: UUID | None, attributes: Attributes, teams: list[UUID]
) -> None:
    """What somebody no longer holds, their open invitations do not give. Raises `InvitationGone`."""
    if inviter is None:
        return  # the command line
    giver = find_giver(conn, offer.workspace_id, inviter)
    try:
        if giver is None:
            raise NotPermitted("Whoever invited is here no more.")
        giver.check(Permission.MEMBER_MANAGE)
        check_gives_all(conn, offer.workspace_id, giver, offer.role, attributes, teams)
    except NotPermitted:
        raise InvitationGone("Whoever invited you may not do so any more: ask for a new link.") from None
