"""Invitations: a person is asked by a link to join a workspace, as what, until when; and what came of it.

Of the link's token only SHA-256 is kept; sending again makes a new one, and the link before is worth nothing.
Functions take an open connection (role APP) that acts for the workspace, and do not commit. `giver`: see
`giving`. Not here: the words of the mail (`invitation_mail`), answering it (`accepting`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.identity import seats
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import (
    AlreadyMember,
    InvalidInvitation,
    InvitationOpen,
    InvitationSettled,
)
from sluiceway.identity.giving import (
    Attributes,
    attribute_problems,
    check_gives_attributes,
    check_gives_roles,
    role_problem,
    tidied,
)
from sluiceway.identity.service import EMAIL
from sluiceway.identity.sessions import hash_token
from sluiceway.identity.teams import get_team
from sluiceway.kit import ids
from sluiceway.kit.errors import FieldError, NotFound

State = Literal["open", "accepted", "revoked", "expired"]
MailState = Literal["none", "waiting", "sent", "refused"]
DAYS = 7
LONGEST_DAYS = 30
KEPT = timedelta(days=90)
_SELECT = """
SELECT i.id, i.email, i.role, i.team_ids, i.attributes, i.invited_by, u.name AS inviter, i.created_at,
       i.sent_at, i.expires_at, i.accepted_at, i.accepted_by, i.revoked_at, i.mail_id,
       m.sent_at AS mailed_at, m.refused_at, m.problem
FROM app.invitations i
LEFT JOIN app.users u ON u.id = i.invited_by
LEFT JOIN app.mails m ON m.id = i.mail_id
WHERE i.workspace_id = :workspace
"""


@dataclass(frozen=True, slots=True)
class Invitation:
    """`inviter`: their name; None: the command line, or not a member any more.

    `mail`: `none`, `waiting`, `sent` or `refused` (`mail_problem` says why).
    """

    id: UUID
    email: str
    role: str
    team_ids: tuple[UUID, ...]
    attributes: dict[str, list[str]]
    invited_by: UUID | None
    inviter: str | None
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    accepted_by: UUID | None
    revoked_at: datetime | None
    mail: MailState
    mail_problem: str | None

    def state(self, now: datetime) -> State:
        if self.accepted_at is not None:
            return "accepted"
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now else "open"


def invite(
    conn: sa.Connection,
    workspace_id: int,
    email: str,
    role: str,
    *,
    giver: Caller | None,
    now: datetime,
    teams: Sequence[UUID] = (),
    attributes: Attributes | None = None,
    days: int = DAYS,
) -> tuple[Invitation, str]:
    """Ask somebody to join; returns the invitation and its link's token, which cannot be had again.

    Raises `InvalidInvitation` (naming the field), `AlreadyMember`, `InvitationOpen`, `NotPermitted` for what
    the giver does not hold, `NotFound` for a team, `SeatsExceeded`.
    """
    address, given = email.strip(), tidied(attributes or {})
    _check(conn, workspace_id, address, role, given, days)
    check_gives_all(conn, workspace_id, giver, role, given, teams)
    _sweep(conn, workspace_id, now)
    _check_new(conn, workspace_id, address, now)
    seats.check(conn, workspace_id, inviting=True)
    token, invitation_id = ids.token(32), ids.uuid7()
    made = conn.execute(
        sa.text(
            "INSERT INTO app.invitations (id, workspace_id, email, role, team_ids, attributes, token_hash,"
            " invited_by, created_at, sent_at, expires_at)"
            " VALUES (:id, :workspace, :email, :role, :teams, CAST(:attributes AS jsonb), :hash,"
            " :by, :now, :now, :expires) ON CONFLICT DO NOTHING RETURNING 1"
        ),
        {
            "id": invitation_id,
            "workspace": workspace_id,
            "email": address,
            "role": role,
            "teams": sorted(set(teams)),
            "attributes": orjson.dumps(given).decode(),
            "hash": hash_token(token),
            "by": None if giver is None else giver.user_id,
            "now": now,
            "expires": now + timedelta(days=days),
        },
    ).first()
    if made is None:
        raise _open_already(address)
    return get_invitation(conn, workspace_id, invitation_id), token


def send_again(
    conn: sa.Connection,
    workspace_id: int,
    invitation_id: UUID,
    *,
    giver: Caller | None,
    now: datetime,
    days: int = DAYS,
) -> tuple[Invitation, str]:
    """A new link with a new end; the one before is worth nothing. Returns the invitation and the token.

    Raises `NotFound`, `InvitationSettled`, `NotPermitted` or `SeatsExceeded`.
    """
    found = _unsettled(conn, workspace_id, invitation_id)
    left = teams_left(conn, workspace_id, found.team_ids)
    check_gives_all(conn, workspace_id, giver, found.role, found.attributes, left)
    if found.expires_at <= now:
        seats.check(conn, workspace_id, inviting=True)
    token = ids.token(32)
    conn.execute(
        sa.text(
            "UPDATE app.invitations SET token_hash = :hash, sent_at = :now, expires_at = :expires,"
            " mail_id = NULL, invited_by = :by WHERE workspace_id = :workspace AND id = :id"
        ),
        {
            "hash": hash_token(token),
            "now": now,
            "expires": now + timedelta(days=days),
            "by": None if giver is None else giver.user_id,
            "workspace": workspace_id,
            "id": invitation_id,
        },
    )
    return get_invitation(conn, workspace_id, invitation_id), token


def revoke_invitation(
    conn: sa.Connection, workspace_id: int, invitation_id: UUID, *, now: datetime
) -> Invitation:
    """Take it back: its link is worth nothing. Raises `NotFound` or `InvitationSettled`."""
    _unsettled(conn, workspace_id, invitation_id)
    conn.execute(
        sa.text("UPDATE app.invitations SET revoked_at = :now WHERE workspace_id = :workspace AND id = :id"),
        {"now": now, "workspace": workspace_id, "id": invitation_id},
    )
    return get_invitation(conn, workspace_id, invitation_id)


def list_invitations(
    conn: sa.Connection,
    workspace_id: int,
    *,
    limit: int = 1000,
    after: tuple[datetime, UUID] | None = None,
    open_only: bool = False,
) -> list[Invitation]:
    """Newest first; `after`: (created_at, id) to go on from; `open_only`: nobody has answered them."""
    rows = conn.execute(
        sa.text(
            f"{_SELECT} AND (CAST(:at AS timestamptz) IS NULL"
            " OR (i.created_at, i.id) < (:at, CAST(:id AS uuid)))"
            " AND (NOT :open OR (i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > now()))"
            " ORDER BY i.created_at DESC, i.id DESC LIMIT :limit"
        ),
        {
            "workspace": workspace_id,
            "limit": limit,
            "at": after[0] if after else None,
            "id": after[1] if after else None,
            "open": open_only,
        },
    )
    return [_invitation(row) for row in rows]


def get_invitation(conn: sa.Connection, workspace_id: int, invitation_id: UUID) -> Invitation:
    """Raises `NotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND i.id = :id"), {"workspace": workspace_id, "id": invitation_id}
    ).first()
    if row is None:
        raise NotFound("There is no such invitation in this workspace.")
    return _invitation(row)


def note_mail(conn: sa.Connection, workspace_id: int, invitation_id: UUID, mail_id: UUID) -> None:
    """Remember with which mail the link went out."""
    conn.execute(
        sa.text("UPDATE app.invitations SET mail_id = :mail WHERE workspace_id = :workspace AND id = :id"),
        {"mail": mail_id, "workspace": workspace_id, "id": invitation_id},
    )


def check_gives_all(
    conn: sa.Connection,
    workspace_id: int,
    giver: Caller | None,
    role: str,
    attributes: Attributes,
    teams: Iterable[UUID],
) -> None:
    """Whether `giver` may give all that an invitation gives. Raises `NotPermitted`, `NotFound` for a team."""
    check_gives_roles(conn, workspace_id, giver, [role])
    check_gives_attributes(giver, {}, attributes)
    for team_id in teams:
        team = get_team(conn, workspace_id, team_id)
        check_gives_roles(conn, workspace_id, giver, team.roles)
        check_gives_attributes(giver, {}, team.attributes)


def teams_left(conn: sa.Connection, workspace_id: int, team_ids: Iterable[UUID]) -> list[UUID]:
    """Those of the teams that are still there."""
    rows: Iterable[UUID] = conn.execute(
        sa.text("SELECT id FROM app.teams WHERE workspace_id = :workspace AND id = ANY(:ids) ORDER BY id"),
        {"workspace": workspace_id, "ids": list(team_ids)},
    ).scalars()
    return list(rows)


def is_member(conn: sa.Connection, workspace_id: int, email: str) -> bool:
    """Whether somebody with this address is one."""
    found = conn.execute(
        sa.text(
            "SELECT 1 FROM app.memberships m JOIN app.users u ON u.id = m.user_id"
            " WHERE m.workspace_id = :workspace AND lower(u.email) = lower(:email)"
        ),
        {"workspace": workspace_id, "email": email},
    ).first()
    return found is not None


def _check_new(conn: sa.Connection, workspace_id: int, email: str, now: datetime) -> None:
    """Raise if the address needs no invitation. One that has run out makes room for a new one."""
    if is_member(conn, workspace_id, email):
        raise AlreadyMember(f"{email} is a member of this workspace already.")
    conn.execute(
        sa.text(
            "UPDATE app.invitations SET revoked_at = :now WHERE workspace_id = :workspace"
            " AND lower(email) = lower(:email) AND accepted_at IS NULL AND revoked_at IS NULL"
            " AND expires_at <= :now"
        ),
        {"now": now, "workspace": workspace_id, "email": email},
    )


def _unsettled(conn: sa.Connection, workspace_id: int, invitation_id: UUID) -> Invitation:
    conn.execute(
        sa.text("SELECT 1 FROM app.invitations WHERE workspace_id = :workspace AND id = :id FOR UPDATE"),
        {"workspace": workspace_id, "id": invitation_id},
    )
    found = get_invitation(conn, workspace_id, invitation_id)
    if found.accepted_at is not None or found.revoked_at is not None:
        raise InvitationSettled("The invitation was accepted or taken back: invite anew.")
    return found


def _sweep(conn: sa.Connection, workspace_id: int, now: datetime) -> None:
    conn.execute(
        sa.text(
            "DELETE FROM app.invitations WHERE workspace_id = :workspace"
            " AND coalesce(accepted_at, revoked_at, expires_at) < :until"
        ),
        {"workspace": workspace_id, "until": now - KEPT},
    )


def _check(
    conn: sa.Connection,
    workspace_id: int,
    email: str,
    role: str,
    attributes: dict[str, list[str]],
    days: int,
) -> None:
    problems: list[FieldError] = []
    if not EMAIL.fullmatch(email):
        problems.append(FieldError("email", "should be an e-mail address"))
    problem = role_problem(conn, workspace_id, role)
    problems += [problem] if problem is not None else []
    problems += attribute_problems(attributes)
    if not 1 <= days <= LONGEST_DAYS:
        problems.append(FieldError("days", f"should be 1 to {LONGEST_DAYS}"))
    if problems:
        raise InvalidInvitation("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)


def _open_already(email: str) -> InvitationOpen:
    return InvitationOpen(f"{email} was invited already: send that invitation again, or take it back.")


def _invitation(row: sa.Row[tuple[object, ...]]) -> Invitation:
    found = row._mapping
    mail: MailState = "none"
    if found["mail_id"] is not None:
        mail = "sent" if found["mailed_at"] else "refused" if found["refused_at"] else "waiting"
    return Invitation(
        id=found["id"],
        email=found["email"],
        role=found["role"],
        team_ids=tuple(found["team_ids"]),
        attributes={name: list(values) for name, values in found["attributes"].items()},
        invited_by=found["invited_by"],
        inviter=found["inviter"],
        created_at=found["created_at"],
        sent_at=found["sent_at"],
        expires_at=found["expires_at"],
        accepted_at=found["accepted_at"],
        accepted_by=found["accepted_by"],
        revoked_at=found["revoked_at"],
        mail=mail,
        mail_problem=found["problem"],
    )
