"""People whom an identity provider keeps: made, changed, deactivated and removed as members of a workspace.

To be provisioned is to be a member here, and no more: somebody of this organization gets a membership, and
their account is left as it is unless provisioning made it and it belongs nowhere else. Nobody else who has an
account is made a member unasked: whoever guesses an address would be told who has it. Functions take an open
connection (role APP) that acts for the workspace, and do not commit. `giver`: see `giving`. Not here: groups
(`provisioned_groups`), the protocol (SCIM, in the API).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.identity import members, seats, service
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidProvisioning, InvitationNeeded, ProvisionedTwice
from sluiceway.identity.members import Change, Handover, Left
from sluiceway.identity.permissions import MemberRole
from sluiceway.identity.service import EMAIL, NAME_LENGTH
from sluiceway.kit.errors import FieldError, NotFound

FIRST_ROLE = MemberRole.VIEWER
"""What somebody who is provisioned is at first; groups (teams) give more."""
MOST_BYTES = 16 * 1024
_LOCK = 15
_SELECT = """
SELECT u.id, u.email, u.name, m.disabled_at IS NULL AND u.disabled_at IS NULL AS active,
       coalesce(p.user_name, u.email) AS user_name, p.external_id, coalesce(p.attributes, '{}') AS attributes,
       coalesce(p.made_account, false) AS made_account,
       coalesce(p.created_at, m.created_at) AS created_at,
       coalesce(p.updated_at, m.created_at) AS updated_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'name', t.name)
                                  ORDER BY lower(t.name)), '[]')
        FROM app.team_members tm JOIN app.teams t ON t.workspace_id = tm.workspace_id AND t.id = tm.team_id
        WHERE tm.workspace_id = m.workspace_id AND tm.user_id = m.user_id) AS teams
FROM app.memberships m JOIN app.users u ON u.id = m.user_id
LEFT JOIN app.provisioned_users p ON p.workspace_id = m.workspace_id AND p.user_id = m.user_id
WHERE m.workspace_id = :workspace
"""


@dataclass(frozen=True, slots=True)
class Person:
    """What the provider says of somebody. `attributes`: further ones, to be given back as they are."""

    user_name: str
    email: str
    name: str
    external_id: str | None = None
    active: bool = True
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProvisionedUser:
    """A member as the provider sees them, those among them whom it did not make. `teams`: (id, name)."""

    id: UUID
    user_name: str
    email: str
    name: str
    external_id: str | None
    active: bool
    attributes: Mapping[str, Any]
    made_account: bool
    teams: tuple[tuple[UUID, str], ...]
    created_at: datetime
    updated_at: datetime


def lock(conn: sa.Connection, workspace_id: int) -> None:
    """One change at a time in a workspace: what was read stays true until the commit.

    Providers send changes of one group at the same moment, each of them a difference to what it is.
    """
    conn.execute(
        sa.text("SELECT pg_advisory_xact_lock(:lock, :workspace)"), {"lock": _LOCK, "workspace": workspace_id}
    )


def list_users(conn: sa.Connection, workspace_id: int) -> list[ProvisionedUser]:
    """Every member, deactivated ones included, in the order they came."""
    rows = conn.execute(sa.text(f"{_SELECT} ORDER BY m.created_at, u.id"), {"workspace": workspace_id})
    return [_user(row) for row in rows]


def get_user(conn: sa.Connection, workspace_id: int, user_id: UUID) -> ProvisionedUser:
    """Raises `NotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND u.id = :user"), {"workspace": workspace_id, "user": user_id}
    ).first()
    if row is None:
        raise NotFound("There is no such user in this workspace.")
    return _user(row)


def create_user(conn: sa.Connection, workspace_id: int, person: Person, *, now: datetime) -> ProvisionedUser:
    """Make somebody a member, with an account of their own if nobody has the address yet.

    Raises `InvalidProvisioning`, `ProvisionedTwice`, `InvitationNeeded` or `SeatsExceeded`.
    """
    _check(person)
    _check_free(conn, workspace_id, person, None)
    if person.active:
        seats.check(conn, workspace_id)
    found = service.find_user(conn, person.email)
    made = found is None
    if found is not None and not _is_of_organization(conn, found.id):
        raise InvitationNeeded(
            f"{person.email} has an account that this organization did not make. Invite them, and provision"
            " them once they have accepted."
        )
    user = found or service.add_person(conn, person.email, person.name, None)
    service.add_member(conn, workspace_id, user.id, FIRST_ROLE)
    if made:
        conn.execute(
            sa.text("UPDATE app.users SET made_in = app.current_organization() WHERE id = :id"),
            {"id": user.id},
        )
    if not person.active:
        members.change_member(conn, workspace_id, user.id, Change(disabled=True), giver=None, now=now)
    _keep(conn, workspace_id, user.id, person, made_account=made, now=now)
    return get_user(conn, workspace_id, user.id)


def replace_user(
    conn: sa.Connection,
    workspace_id: int,
    user_id: UUID,
    person: Person,
    *,
    giver: Caller | None,
    now: datetime,
) -> tuple[ProvisionedUser, ProvisionedUser]:
    """Have the member be as the provider says; whoever is not active any more is signed out at once.

    Returns them as they were and as they are. Raises `NotFound`, `InvalidProvisioning`, `ProvisionedTwice`,
    `LastOwner`, `NotPermitted` or `SeatsExceeded`.
    """
    _check(person)
    before = get_user(conn, workspace_id, user_id)
    _check_free(conn, workspace_id, person, user_id)
    if person.active != before.active:
        if person.active:
            seats.check(conn, workspace_id)
        change = Change(disabled=not person.active)
        members.change_member(conn, workspace_id, user_id, change, giver=giver, now=now)
    if before.made_account and _belongs_here_alone(conn, workspace_id, user_id):
        _change_account(conn, user_id, before, person)
    _keep(conn, workspace_id, user_id, person, made_account=before.made_account, now=now)
    return before, get_user(conn, workspace_id, user_id)


def remove_user(
    conn: sa.Connection,
    workspace_id: int,
    user_id: UUID,
    *,
    giver: Caller | None,
    now: datetime,
    handovers: Mapping[str, Handover],
) -> Left:
    """End the membership; what was theirs is the longest-standing owner's. Their account stays.

    Raises `NotFound`, `LastOwner` or `NotPermitted`.
    """
    left = members.remove_member(
        conn, workspace_id, user_id, giver=giver, now=now, successor_id=None, handovers=handovers
    )
    conn.execute(
        sa.text("DELETE FROM app.provisioned_users WHERE workspace_id = :workspace AND user_id = :user"),
        {"workspace": workspace_id, "user": user_id},
    )
    return left


def _check(person: Person) -> None:
    problems: list[FieldError] = []
    if not 1 <= len(person.user_name.strip()) <= 200:
        problems.append(FieldError("userName", "should have 1 to 200 characters"))
    if not EMAIL.fullmatch(person.email):
        problems.append(FieldError("emails", "should have an address, or userName should be one"))
    if not person.name.strip() or len(person.name) > NAME_LENGTH:
        problems.append(FieldError("displayName", f"should have 1 to {NAME_LENGTH} characters"))
    if person.external_id is not None and len(person.external_id) > 300:
        problems.append(FieldError("externalId", "should have at most 300 characters"))
    if len(orjson.dumps(dict(person.attributes or {}))) > MOST_BYTES:
        problems.append(FieldError("", f"all attributes together should take at most {MOST_BYTES} bytes"))
    if problems:
        raise InvalidProvisioning("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)


def _check_free(conn: sa.Connection, workspace_id: int, person: Person, own: UUID | None) -> None:
    """Raise `ProvisionedTwice` if another member has this name or this address."""
    taken = conn.execute(
        sa.text(
            "SELECT lower(coalesce(p.user_name, u.email)) = lower(:name) AS same_name"
            " FROM app.memberships m JOIN app.users u ON u.id = m.user_id LEFT JOIN app.provisioned_users p"
            " ON p.workspace_id = m.workspace_id AND p.user_id = m.user_id"
            " WHERE m.workspace_id = :workspace AND (CAST(:own AS uuid) IS NULL OR m.user_id <> :own)"
            " AND (lower(coalesce(p.user_name, u.email)) = lower(:name) OR lower(u.email) = lower(:email))"
            " LIMIT 1"
        ),
        {"workspace": workspace_id, "own": own, "name": person.user_name, "email": person.email},
    ).first()
    if taken is not None:
        what = "userName" if taken.same_name else "address"
        raise ProvisionedTwice(f"Another user of this workspace has this {what}.")


def _is_of_organization(conn: sa.Connection, user_id: UUID) -> bool:
    """Whether they are in one of its workspaces, or were made by its provider and are nobody else's."""
    found: bool = conn.execute(
        sa.text("SELECT app.is_of_organization(:user)"), {"user": user_id}
    ).scalar_one()
    return found


def _belongs_here_alone(conn: sa.Connection, workspace_id: int, user_id: UUID) -> bool:
    rooms = (room.workspace_id for room in service.memberships(conn, user_id))
    return all(room == workspace_id for room in rooms)


def _change_account(conn: sa.Connection, user_id: UUID, before: ProvisionedUser, person: Person) -> None:
    if person.name.strip() != before.name:
        service.set_name(conn, user_id, person.name)
    if person.email.lower() == before.email.lower():
        return
    if service.find_user(conn, person.email) is not None:
        raise ProvisionedTwice("Somebody else has this address.")
    conn.execute(
        sa.text("UPDATE app.users SET email = :email WHERE id = :id"), {"email": person.email, "id": user_id}
    )


def _keep(
    conn: sa.Connection,
    workspace_id: int,
    user_id: UUID,
    person: Person,
    *,
    made_account: bool,
    now: datetime,
) -> None:
    conn.execute(
        sa.text(
            "INSERT INTO app.provisioned_users (workspace_id, user_id, user_name, external_id, made_account,"
            " attributes, created_at, updated_at)"
            " VALUES (:workspace, :user, :name, :external, :made, CAST(:attributes AS jsonb), :now, :now)"
            " ON CONFLICT (workspace_id, user_id) DO UPDATE SET user_name = excluded.user_name,"
            " external_id = excluded.external_id, attributes = excluded.attributes,"
            " updated_at = excluded.updated_at"
        ),
        {
            "workspace": workspace_id,
            "user": user_id,
            "name": person.user_name.strip(),
            "external": person.external_id,
            "made": made_account,
            "attributes": orjson.dumps(dict(person.attributes or {})).decode(),
            "now": now,
        },
    )


def _user(row: sa.Row[tuple[object, ...]]) -> ProvisionedUser:
    found = row._mapping
    return ProvisionedUser(
        id=found["id"],
        user_name=found["user_name"],
        email=found["email"],
        name=found["name"],
        external_id=found["external_id"],
        active=found["active"],
        attributes=found["attributes"],
        made_account=found["made_account"],
        teams=tuple((UUID(team["id"]), team["name"]) for team in found["teams"]),
        created_at=found["created_at"],
        updated_at=found["updated_at"],
    )
