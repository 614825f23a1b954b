"""Groups that an identity provider keeps: teams, whose roles and attributes the workspace's people decide.

Functions take an open connection (role APP) that acts for the workspace, and do not commit. `giver`: see
`giving`. Not here: users (`provisioning`), what a team gives (`teams`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity import teams
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidProvisioning, InvalidTeam, ProvisionedTwice, TeamExists
from sluiceway.kit.errors import FieldError, NotFound

MOST_MEMBERS = 5_000
_SELECT = """
SELECT t.id, t.name, p.external_id, t.created_at, greatest(t.updated_at, p.updated_at) AS updated_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('id', u.id, 'name', u.name)
                                  ORDER BY m.added_at, m.user_id), '[]')
        FROM app.team_members m JOIN app.users u ON u.id = m.user_id
        WHERE m.workspace_id = t.workspace_id AND m.team_id = t.id) AS members
FROM app.teams t
LEFT JOIN app.provisioned_groups p ON p.workspace_id = t.workspace_id AND p.team_id = t.id
WHERE t.workspace_id = :workspace
"""


@dataclass(frozen=True, slots=True)
class Group:
    """What the provider says of a group. `members`: ids of users."""

    name: str
    external_id: str | None = None
    members: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class ProvisionedGroup:
    """A team as the provider sees it. `members`: (id, name)."""

    id: UUID
    name: str
    external_id: str | None
    members: tuple[tuple[UUID, str], ...]
    created_at: datetime
    updated_at: datetime


def list_groups(conn: sa.Connection, workspace_id: int) -> list[ProvisionedGroup]:
    """Every team of the workspace, in the order they were made."""
    rows = conn.execute(sa.text(f"{_SELECT} ORDER BY t.created_at, t.id"), {"workspace": workspace_id})
    return [_group(row) for row in rows]


def get_group(conn: sa.Connection, workspace_id: int, group_id: UUID) -> ProvisionedGroup:
    """Raises `NotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND t.id = :team"), {"workspace": workspace_id, "team": group_id}
    ).first()
    if row is None:
        raise NotFound("There is no such group in this workspace.")
    return _group(row)


def create_group(
    conn: sa.Connection, workspace_id: int, group: Group, *, giver: Caller | None, now: datetime
) -> ProvisionedGroup:
    """A team that gives nothing yet. Raises `InvalidProvisioning`, `ProvisionedTwice` or `NotPermitted`."""
    _check_free(conn, workspace_id, group, None)
    try:
        made = teams.create_team(conn, workspace_id, group.name, giver=giver)
    except TeamExists as error:
        raise ProvisionedTwice(error.detail) from None
    except InvalidTeam as error:
        raise _invalid(error) from None
    _keep(conn, workspace_id, made.id, group, now)
    _set_members(conn, workspace_id, made.id, (), group.members, giver)
    return get_group(conn, workspace_id, made.id)


def replace_group(
    conn: sa.Connection,
    workspace_id: int,
    group_id: UUID,
    group: Group,
    *,
    giver: Caller | None,
    now: datetime,
) -> tuple[ProvisionedGroup, ProvisionedGroup]:
    """Have the team be as the provider says; its roles and attributes stay.

    Returns it as it was and as it is. Raises `NotFound`, `InvalidProvisioning`, `ProvisionedTwice` or
    `NotPermitted`.
    """
    before = get_group(conn, workspace_id, group_id)
    _check_free(conn, workspace_id, group, group_id)
    if group.name != before.name:
        try:
            teams.change_team(conn, workspace_id, group_id, giver=giver, now=now, name=group.name)
        except InvalidTeam as error:
            raise _invalid(error) from None
    _keep(conn, workspace_id, group_id, group, now)
    held = tuple(member for member, _ in before.members)
    _set_members(conn, workspace_id, group_id, held, group.members, giver)
    return before, get_group(conn, workspace_id, group_id)


def remove_group(
    conn: sa.Connection, workspace_id: int, group_id: UUID, *, giver: Caller | None
) -> ProvisionedGroup:
    """Remove the team; its members lose what it gave. Gives it as it was. Raises as `teams.delete_team`."""
    found = get_group(conn, workspace_id, group_id)
    teams.delete_team(conn, workspace_id, group_id, giver=giver)
    conn.execute(
        sa.text("DELETE FROM app.provisioned_groups WHERE workspace_id = :workspace AND team_id = :team"),
        {"workspace": workspace_id, "team": group_id},
    )
    return found


def _check_free(conn: sa.Connection, workspace_id: int, group: Group, own: UUID | None) -> None:
    if len(group.members) > MOST_MEMBERS:
        problem = FieldError("members", f"should be at most {MOST_MEMBERS}")
        raise InvalidProvisioning("The group is too large.", errors=[problem])
    taken = conn.execute(
        sa.text(
            "SELECT 1 FROM app.teams WHERE workspace_id = :workspace AND lower(name) = lower(:name)"
            " AND (CAST(:own AS uuid) IS NULL OR id <> :own)"
        ),
        {"workspace": workspace_id, "name": group.name.strip(), "own": own},
    ).first()
    if taken is not None:
        raise ProvisionedTwice("Another group of this workspace has this displayName.")


def _set_members(
    conn: sa.Connection,
    workspace_id: int,
    team_id: UUID,
    held: Iterable[UUID],
    wanted: Iterable[UUID],
    giver: Caller | None,
) -> None:
    before, after = set(held), set(wanted)
    for user_id in sorted(before - after):
        teams.take_from_team(conn, workspace_id, team_id, user_id, giver=giver)
    for user_id in sorted(after - before):
        try:
            teams.add_to_team(conn, workspace_id, team_id, user_id, giver=giver)
        except NotFound:
            problem = FieldError("members", f"{user_id} is no user of this workspace")
            raise InvalidProvisioning("A member is unknown.", errors=[problem]) from None


def _keep(conn: sa.Connection, workspace_id: int, team_id: UUID, group: Group, now: datetime) -> None:
    conn.execute(
        sa.text(
            "INSERT INTO app.provisioned_groups (workspace_id, team_id, external_id, created_at, updated_at)"
            " VALUES (:workspace, :team, :external, :now, :now) ON CONFLICT (workspace_id, team_id)"
            " DO UPDATE SET external_id = excluded.external_id, updated_at = excluded.updated_at"
        ),
        {"workspace": workspace_id, "team": team_id, "external": group.external_id, "now": now},
    )


def _invalid(error: InvalidTeam) -> InvalidProvisioning:
    renamed = {"name": "displayName", "slug": "displayName"}
    errors = [FieldError(renamed.get(e.field, e.field), e.message) for e in error.errors]
    return InvalidProvisioning("; ".join(f"{e.field} {e.message}" for e in errors), errors=errors)


def _group(row: sa.Row[tuple[object, ...]]) -> ProvisionedGroup:
    found = row._mapping
    return ProvisionedGroup(
        id=found["id"],
        name=found["name"],
        external_id=found["external_id"],
        members=tuple((UUID(member["id"]), member["name"]) for member in found["members"]),
        created_at=found["created_at"],
        updated_at=found["updated_at"],
    )
