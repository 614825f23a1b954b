"""Teams: members under one name, who get its roles and attributes besides their own.

Functions take an open connection (role APP) that acts for the workspace, and do not commit. `giver`: see
`giving`; putting somebody into a team gives them what the team has.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidTeam, TeamExists
from sluiceway.identity.giving import (
    Attributes,
    attribute_problems,
    check_gives_attributes,
    check_gives_roles,
    role_problem,
    slug_of,
    tidied,
)
from sluiceway.identity.permissions import MemberRole
from sluiceway.kit.checks import length_problems, name_problems, refuse
from sluiceway.kit.errors import FieldError, NotFound
from sluiceway.kit.ids import uuid7

NAME_LENGTH = 80
DESCRIPTION_LENGTH = 500
MOST_ROLES = 20
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SELECT = """
SELECT t.id, t.slug, t.name, t.description, t.attributes, t.created_at, t.updated_at,
       (SELECT coalesce(array_agg(r.role ORDER BY r.role), '{}') FROM app.team_roles r
        WHERE r.workspace_id = t.workspace_id AND r.team_id = t.id) AS roles,
       (SELECT count(*) FROM app.team_members m
        WHERE m.workspace_id = t.workspace_id AND m.team_id = t.id) AS members
FROM app.teams t WHERE t.workspace_id = :workspace
"""


@dataclass(frozen=True, slots=True)
class Team:
    """`roles`: slugs; `attributes`: for row rules, by name; `members`: how many."""

    id: UUID
    slug: str
    name: str
    description: str
    roles: tuple[str, ...]
    attributes: dict[str, list[str]]
    members: int
    created_at: datetime
    updated_at: datetime


def list_teams(conn: sa.Connection, workspace_id: int) -> list[Team]:
    """By name."""
    rows = conn.execute(sa.text(f"{_SELECT} ORDER BY lower(t.name), t.slug"), {"workspace": workspace_id})
    return [_team(row) for row in rows]


def get_team(conn: sa.Connection, workspace_id: int, team: UUID | str) -> Team:
    """By id or slug. Raises `NotFound`."""
    column = "id" if isinstance(team, UUID) else "slug"
    row = conn.execute(
        sa.text(f"{_SELECT} AND t.{column} = :team"), {"workspace": workspace_id, "team": team}
    ).first()
    if row is None:
        raise NotFound("There is no such team in this workspace.")
    return _team(row)


def create_team(
    conn: sa.Connection,
    workspace_id: int,
    name: str,
    *,
    giver: Caller | None,
    slug: str | None = None,
    description: str = "",
    roles: Iterable[str] = (),
    attributes: Attributes | None = None,
) -> Team:
    """Make a team; without a `slug` it gets one from its name.

    Raises `InvalidTeam` (naming the field), `TeamExists`, or `NotPermitted`.
    """
    team_id, wanted = uuid7(), slug or slug_of(name, "team")
    held, given = sorted(set(roles)), tidied(attributes or {})
    _check(conn, workspace_id, name, description, wanted, held, given)
    check_gives_roles(conn, workspace_id, giver, held)
    check_gives_attributes(giver, {}, given)
    made = conn.execute(
        sa.text(
            "INSERT INTO app.teams (id, workspace_id, slug, name, description, attributes)"
            " VALUES (:id, :workspace, :slug, :name, :description, CAST(:attributes AS jsonb))"
            " ON CONFLICT DO NOTHING RETURNING 1"
        ),
        {
            "id": team_id,
            "workspace": workspace_id,
            "slug": wanted,
            "name": name.strip(),
            "description": description.strip(),
            "attributes": orjson.dumps(given).decode(),
        },
    ).first()
    if made is None:
        raise TeamExists(f"There is a team {wanted!r} already.")
    _set_roles(conn, workspace_id, team_id, held)
    return get_team(conn, workspace_id, team_id)


def change_team(
    conn: sa.Connection,
    workspace_id: int,
    team_id: UUID,
    *,
    giver: Caller | None,
    now: datetime,
    name: str | None = None,
    description: str | None = None,
    roles: Iterable[str] | None = None,
    attributes: Attributes | None = None,
) -> tuple[Team, Team]:
    """Change what is given; it holds for the team's members at once. Returns it as it was and as it is.

    Raises `NotFound`, `InvalidTeam` or `NotPermitted`.
    """
    _lock(conn, workspace_id, team_id)
    before = get_team(conn, workspace_id, team_id)
    held = sorted(set(before.roles if roles is None else roles))
    given = before.attributes if attributes is None else tidied(attributes)
    label = before.name if name is None else name
    text = before.description if description is None else description
    _check(conn, workspace_id, label, text, before.slug, held, given)
    check_gives_roles(conn, workspace_id, giver, {*before.roles, *held})
    check_gives_attributes(giver, before.attributes, given)
    conn.execute(
        sa.text(
            "UPDATE app.teams SET name = :name, description = :description,"
            " attributes = CAST(:attributes AS jsonb), updated_at = :now"
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {
            "name": label.strip(),
            "description": text.strip(),
            "attributes": orjson.dumps(given).decode(),
            "now": now,
            "workspace": workspace_id,
            "id": team_id,
        },
    )
    _set_roles(conn, workspace_id, team_id, held)
    return before, get_team(conn, workspace_id, team_id)


def delete_team(conn: sa.Connection, workspace_id: int, team_id: UUID, *, giver: Caller | None) -> Team:
    """Remove the team; its members lose what it gave. Gives it as it was.

    Raises `NotFound` or `NotPermitted`.
    """
    found = get_team(conn, workspace_id, team_id)
    check_gives_roles(conn, workspace_id, giver, found.roles)
    check_gives_attributes(giver, found.attributes, {})
    conn.execute(
        sa.text("DELETE FROM app.teams WHERE workspace_id = :workspace AND id = :id"),
        {"workspace": workspace_id, "id": team_id},
    )
    return found


def members_of(conn: sa.Connection, workspace_id: int, team_id: UUID) -> list[UUID]:
    """Ids of the team's members, the longest-standing first."""
    rows: Iterable[UUID] = conn.execute(
        sa.text(
            "SELECT user_id FROM app.team_members WHERE workspace_id = :workspace AND team_id = :team"
            " ORDER BY added_at, user_id"
        ),
        {"workspace": workspace_id, "team": team_id},
    ).scalars()
    return list(rows)


def add_to_team(
    conn: sa.Connection, workspace_id: int, team_id: UUID, user_id: UUID, *, giver: Caller | None
) -> bool:
    """Put a member into the team; False: they were in it.

    Raises `NotFound` (team or member) or `NotPermitted`.
    """
    _check_moves(conn, workspace_id, team_id, giver)
    _check_member(conn, workspace_id, user_id)
    done = conn.execute(
        sa.text(
            "INSERT INTO app.team_members (workspace_id, team_id, user_id)"
            " VALUES (:workspace, :team, :user) ON CONFLICT DO NOTHING"
        ),
        {"workspace": workspace_id, "team": team_id, "user": user_id},
    )
    return done.rowcount > 0


def take_from_team(
    conn: sa.Connection, workspace_id: int, team_id: UUID, user_id: UUID, *, giver: Caller | None
) -> bool:
    """Take a member out of the team; False: they were not in it. Raises `NotFound` or `NotPermitted`."""
    _check_moves(conn, workspace_id, team_id, giver)
    done = conn.execute(
        sa.text(
            "DELETE FROM app.team_members"
            " WHERE workspace_id = :workspace AND team_id = :team AND user_id = :user"
        ),
        {"workspace": workspace_id, "team": team_id, "user": user_id},
    )
    return done.rowcount > 0


def set_teams_of(
    conn: sa.Connection, workspace_id: int, user_id: UUID, wanted: Iterable[UUID], *, giver: Caller | None
) -> None:
    """Have a member be in exactly these teams. Raises `NotFound` or `NotPermitted`."""
    current: set[UUID] = set(
        conn.execute(
            sa.text(
                "SELECT team_id FROM app.team_members WHERE workspace_id = :workspace AND user_id = :user"
            ),
            {"workspace": workspace_id, "user": user_id},
        ).scalars()
    )
    teams = set(wanted)
    for team_id in sorted(teams - current):
        add_to_team(conn, workspace_id, team_id, user_id, giver=giver)
    for team_id in sorted(current - teams):
        take_from_team(conn, workspace_id, team_id, user_id, giver=giver)


def _check_moves(conn: sa.Connection, workspace_id: int, team_id: UUID, giver: Caller | None) -> None:
    """Whether `giver` may put people in and take them out. The team stays as it is until the commit."""
    _lock(conn, workspace_id, team_id)
    team = get_team(conn, workspace_id, team_id)
    check_gives_roles(conn, workspace_id, giver, team.roles)
    check_gives_attributes(giver, {}, team.attributes)


def _lock(conn: sa.Connection, workspace_id: int, team_id: UUID) -> None:
    conn.execute(
        sa.text("SELECT 1 FROM app.teams WHERE workspace_id = :workspace AND id = :id FOR UPDATE"),
        {"workspace": workspace_id, "id": team_id},
    )


def _check_member(conn: sa.Connection, workspace_id: int, user_id: UUID) -> None:
    found = conn.execute(
        sa.text("SELECT 1 FROM app.memberships WHERE workspace_id = :workspace AND user_id = :user"),
        {"workspace": workspace_id, "user": user_id},
    ).first()
    if found is None:
        raise NotFound("There is no such member in this workspace.")


def _set_roles(conn: sa.Connection, workspace_id: int, team_id: UUID, roles: list[str]) -> None:
    found = {"workspace": workspace_id, "team": team_id, "roles": roles}
    conn.execute(
        sa.text(
            "DELETE FROM app.team_roles"
            " WHERE workspace_id = :workspace AND team_id = :team AND role <> ALL(:roles)"
        ),
        found,
    )
    conn.execute(
        sa.text(
            "INSERT INTO app.team_roles (workspace_id, team_id, role)"
            " SELECT :workspace, :team, r FROM unnest(CAST(:roles AS text[])) r ON CONFLICT DO NOTHING"
        ),
        found,
    )


def _check(
    conn: sa.Connection,
    workspace_id: int,
    name: str,
    description: str,
    slug: str,
    roles: list[str],
    attributes: dict[str, list[str]],
) -> None:
    problems = name_problems(name, NAME_LENGTH) + length_problems(description, DESCRIPTION_LENGTH)
    if not _SLUG.fullmatch(slug):
        problems.append(FieldError("slug", "should be small letters, digits and -"))
    if len(roles) > MOST_ROLES:
        problems.append(FieldError("roles", f"should be at most {MOST_ROLES}"))
    if MemberRole.OWNER in roles:
        problems.append(FieldError("roles", "should not be owner: ownership is a person's"))
    found = (role_problem(conn, workspace_id, role, "roles") for role in roles)
    problems += [problem for problem in found if problem is not None]
    problems += attribute_problems(attributes)
    refuse(InvalidTeam, problems)


def _team(row: sa.Row[tuple[object, ...]]) -> Team:
    found = row._mapping
    return Team(
        id=found["id"],
        slug=found["slug"],
        name=found["name"],
        description=found["description"],
        roles=tuple(found["roles"]),
        attributes={name: list(values) for name, values in found["attributes"].items()},
        members=found["members"],
        created_at=found["created_at"],
        updated_at=found["updated_at"],
    )
