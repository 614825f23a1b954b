"""The members of a workspace: what they are, changing it, handing ownership over, people leaving.

Functions take an open connection (role APP) that acts for the workspace, and do not commit. `giver`: see
`giving`. Nobody changes somebody who holds more than they do. Not here: teams, roles, inviting.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.identity.contracts import Caller, User
from sluiceway.identity.errors import InvalidMember, LastOwner
from sluiceway.identity.giving import (
    Attributes,
    attribute_problems,
    check_gives_attributes,
    check_gives_roles,
    role_problem,
    tidied,
)
from sluiceway.identity.permissions import MemberRole
from sluiceway.identity.teams import set_teams_of
from sluiceway.kit.errors import FieldError, NotFound

Handover = Callable[[sa.Connection, int, UUID, UUID], int]
"""(connection, workspace, from, to) → how many things changed hands. One for each kind of thing."""

_SELECT = """
SELECT u.id, u.email, u.name, u.created_at, u.disabled_at AS locked_at,
       m.role, m.attributes, m.created_at AS joined_at, m.disabled_at,
       (SELECT max(s.last_seen_at) FROM app.sessions s
        WHERE s.workspace_id = m.workspace_id AND s.user_id = m.user_id) AS last_seen_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'slug', t.slug, 'name', t.name)
                                  ORDER BY lower(t.name), t.slug), '[]')
        FROM app.team_members tm JOIN app.teams t ON t.workspace_id = tm.workspace_id AND t.id = tm.team_id
        WHERE tm.workspace_id = m.workspace_id AND tm.user_id = m.user_id) AS teams,
       (SELECT coalesce(array_agg(DISTINCT r.role), '{}')
        FROM app.team_members tm
        JOIN app.team_roles r ON r.workspace_id = tm.workspace_id AND r.team_id = tm.team_id
        WHERE tm.workspace_id = m.workspace_id AND tm.user_id = m.user_id) AS team_roles
FROM app.memberships m JOIN app.users u ON u.id = m.user_id
WHERE m.workspace_id = :workspace
"""


@dataclass(frozen=True, slots=True)
class TeamRef:
    id: UUID
    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """`role`: their own; `team_roles`: what their teams add. `disabled_at`: locked out of this workspace."""

    user: User
    role: str
    attributes: dict[str, list[str]]
    teams: tuple[TeamRef, ...]
    team_roles: tuple[str, ...]
    joined_at: datetime
    disabled_at: datetime | None
    last_seen_at: datetime | None

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(sorted({self.role, *self.team_roles}))


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be different; None: as it is. `teams`: ids, all of them."""

    role: str | None = None
    attributes: Attributes | None = None
    teams: Sequence[UUID] | None = None
    disabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody who is a member no more, who has their things now, and how many of each kind."""

    member: Member
    successor: Member
    handed_over: Mapping[str, int] = field(default_factory=dict)
    sessions: tuple[bytes, ...] = ()
    """Hashes of the tokens of the sessions that ended."""


def list_members(
    conn: sa.Connection,
    workspace_id: int,
    *,
    limit: int = 1000,
    after: tuple[str, UUID] | None = None,
    search: str | None = None,
) -> list[Member]:
    """By address; `after`: (address in small letters, id) to go on from; `search`: part of name or address.

    At most `limit`.
    """
    rows = conn.execute(
        sa.text(
            f"{_SELECT} AND (CAST(:after AS text) IS NULL"
            " OR (lower(u.email), u.id) > (:after, CAST(:id AS uuid)))"
            " AND (CAST(:search AS text) IS NULL"
            " OR strpos(lower(u.email || ' ' || u.name), lower(:search)) > 0)"
            " ORDER BY lower(u.email), u.id LIMIT :limit"
        ),
        {
            "workspace": workspace_id,
            "limit": limit,
            "after": after[0] if after else None,
            "id": after[1] if after else None,
            "search": search or None,
        },
    )
    return [_member(row) for row in rows]


def get_member(conn: sa.Connection, workspace_id: int, user_id: UUID) -> Member:
    """Raises `NotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND m.user_id = :user"), {"workspace": workspace_id, "user": user_id}
    ).first()
    if row is None:
        raise NotFound("There is no such member in this workspace.")
    return _member(row)


def find_member(conn: sa.Connection, workspace_id: int, email: str) -> Member:
    """The member with this address, in any case of letters. Raises `NotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND lower(u.email) = lower(:email)"),
        {"workspace": workspace_id, "email": email.strip()},
    ).first()
    if row is None:
        raise NotFound(f"No member of this workspace has the address {email.strip()}.")
    return _member(row)


def change_member(
    conn: sa.Connection,
    workspace_id: int,
    user_id: UUID,
    wanted: Change,
    *,
    giver: Caller | None,
    now: datetime,
) -> tuple[Member, Member, tuple[bytes, ...]]:
    """Change what is given. Returns the member as they were and as they are, and hashes of ended sessions.

    Sessions end only if the member is locked out; everything else holds for them at once. Raises `NotFound`,
    `InvalidMember`, `NotPermitted` or `LastOwner`.
    """
    _lock(conn, workspace_id)
    before = get_member(conn, workspace_id, user_id)
    role = before.role if wanted.role is None else wanted.role
    attributes = before.attributes if wanted.attributes is None else tidied(wanted.attributes)
    _check(conn, workspace_id, role, attributes)
    check_gives_roles(conn, workspace_id, giver, {*before.roles, role})
    check_gives_attributes(giver, before.attributes, attributes)
    disabled_at = before.disabled_at
    if wanted.disabled is not None:
        disabled_at = (before.disabled_at or now) if wanted.disabled else None
    if role != MemberRole.OWNER or disabled_at is not None:
        _check_not_last(conn, workspace_id, before)
    conn.execute(
        sa.text(
            "UPDATE app.memberships SET role = :role, attributes = CAST(:attributes AS jsonb),"
            " disabled_at = :disabled WHERE workspace_id = :workspace AND user_id = :user"
        ),
        {
            "role": role,
            "attributes": orjson.dumps(attributes).decode(),
            "disabled": disabled_at,
            "workspace": workspace_id,
            "user": user_id,
        },
    )
    if wanted.teams is not None:
        set_teams_of(conn, workspace_id, user_id, wanted.teams, giver=giver)
    ended = end_sessions(conn, workspace_id, user_id) if disabled_at is not None else ()
    return before, get_member(conn, workspace_id, user_id), ended


def hand_over_ownership(
    conn: sa.Connection,
    workspace_id: int,
    owner_id: UUID,
    heir_id: UUID,
    *,
    afterwards: str = MemberRole.ADMIN,
) -> tuple[Member, Member]:
    """Have `heir_id` own the workspace instead of `owner_id`, who becomes `afterwards`.

    Returns owner and heir as they are then. Raises `NotFound`, or `InvalidMember` if the owner does not own
    it, the heir is locked out, or both are one.
    """
    _lock(conn, workspace_id)
    owner = get_member(conn, workspace_id, owner_id)
    heir = get_member(conn, workspace_id, heir_id)
    problems = []
    if owner.role != MemberRole.OWNER:
        problems.append(FieldError("owner", "should own the workspace"))
    if heir_id == owner_id or not _active(heir):
        problems.append(FieldError("to", "should be another member who can sign in"))
    problem = role_problem(conn, workspace_id, afterwards, "afterwards")
    problems += [problem] if problem is not None else []
    _raise(problems)
    for user_id, role in ((heir_id, MemberRole.OWNER.value), (owner_id, str(afterwards))):
        conn.execute(
            sa.text(
                "UPDATE app.memberships SET role = :role WHERE workspace_id = :workspace AND user_id = :user"
            ),
            {"role": role, "workspace": workspace_id, "user": user_id},
        )
    return get_member(conn, workspace_id, owner_id), get_member(conn, workspace_id, heir_id)


def remove_member(
    conn: sa.Connection,
    workspace_id: int,
    user_id: UUID,
    *,
    giver: Caller | None,
    now: datetime,
    successor_id: UUID | None,
    handovers: Mapping[str, Handover],
) -> Left:
    """End a membership: sessions end, invitations are taken back, and what was theirs is the successor's.

    `successor_id` None: the owner who has been here longest. `handovers`: by kind of thing, who hands it
    over. Their account stays, and so do other workspaces. Raises `NotFound`, `InvalidMember`, `NotPermitted`
    or `LastOwner`.
    """
    _lock(conn, workspace_id)
    member = get_member(conn, workspace_id, user_id)
    check_gives_roles(conn, workspace_id, giver, member.roles)
    _check_not_last(conn, workspace_id, member)
    successor = _successor(conn, workspace_id, user_id, successor_id)
    moved = {
        kind: hand_over(conn, workspace_id, user_id, successor.user.id)
        for kind, hand_over in handovers.items()
    }
    ended = end_sessions(conn, workspace_id, user_id)
    found = {"workspace": workspace_id, "user": user_id, "now": now}
    conn.execute(
        sa.text(
            "UPDATE app.invitations SET revoked_at = :now WHERE workspace_id = :workspace"
            " AND invited_by = :user AND accepted_at IS NULL AND revoked_at IS NULL"
        ),
        found,
    )
    conn.execute(
        sa.text("DELETE FROM app.memberships WHERE workspace_id = :workspace AND user_id = :user"), found
    )
    return Left(member, successor, moved, ended)


def end_sessions(conn: sa.Connection, workspace_id: int, user_id: UUID) -> tuple[bytes, ...]:
    """Sign the person out of this workspace everywhere; returns hashes of the sessions' tokens."""
    ended: Iterable[bytes] = conn.execute(
        sa.text(
            "DELETE FROM app.sessions WHERE workspace_id = :workspace AND user_id = :user"
            " RETURNING token_hash"
        ),
        {"workspace": workspace_id, "user": user_id},
    ).scalars()
    return tuple(bytes(hashed) for hashed in ended)


def _successor(conn: sa.Connection, workspace_id: int, leaving: UUID, chosen: UUID | None) -> Member:
    if chosen is None:
        row = conn.execute(
            sa.text(
                f"{_SELECT} AND m.role = 'owner' AND m.disabled_at IS NULL AND u.disabled_at IS NULL"
                " AND m.user_id <> :leaving ORDER BY m.created_at, m.user_id LIMIT 1"
            ),
            {"workspace": workspace_id, "leaving": leaving},
        ).first()
        if row is None:
            raise LastOwner("Name a member who takes over what this one leaves behind.")
        return _member(row)
    if chosen == leaving:
        _raise([FieldError("hand_over_to", "should be another member")])
    found = get_member(conn, workspace_id, chosen)
    if not _active(found):
        _raise([FieldError("hand_over_to", "should be a member who can sign in")])
    return found


def _check_not_last(conn: sa.Connection, workspace_id: int, member: Member) -> None:
    """Raise `LastOwner` if nobody else owns the workspace. `_lock` was called before."""
    if member.role != MemberRole.OWNER:
        return
    others: int = conn.execute(
        sa.text(
            "SELECT count(*) FROM app.memberships m JOIN app.users u ON u.id = m.user_id"
            " WHERE m.workspace_id = :workspace AND m.role = 'owner' AND m.user_id <> :user"
            " AND m.disabled_at IS NULL AND u.disabled_at IS NULL"
        ),
        {"workspace": workspace_id, "user": member.user.id},
    ).scalar_one()
    if others == 0:
        raise LastOwner(
            f"{member.user.email} is the only owner of this workspace: hand its ownership over first."
        )


def _lock(conn: sa.Connection, workspace_id: int) -> None:
    """One change of members at a time: two owners must not lay it down at the same moment."""
    conn.execute(
        sa.text(
            "SELECT 1 FROM app.memberships WHERE workspace_id = :workspace AND role = 'owner'"
            " ORDER BY user_id FOR UPDATE"
        ),
        {"workspace": workspace_id},
    )


def _check(conn: sa.Connection, workspace_id: int, role: str, attributes: dict[str, list[str]]) -> None:
    problem = role_problem(conn, workspace_id, role)
    _raise(([problem] if problem is not None else []) + attribute_problems(attributes))


def _raise(problems: list[FieldError]) -> None:
    if problems:
        raise InvalidMember("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)


def _active(member: Member) -> bool:
    return member.disabled_at is None and member.user.disabled_at is None


def _member(row: sa.Row[tuple[object, ...]]) -> Member:
    found = row._mapping
    return Member(
        user=User(found["id"], found["email"], found["name"], found["created_at"], found["locked_at"]),
        role=found["role"],
        attributes={name: list(values) for name, values in found["attributes"].items()},
        teams=tuple(TeamRef(UUID(t["id"]), t["slug"], t["name"]) for t in found["teams"]),
        team_roles=tuple(found["team_roles"]),
        joined_at=found["joined_at"],
        disabled_at=found["disabled_at"],
        last_seen_at=found["last_seen_at"],
    )
