"""A workspace's roles: the five that every one has, and its own, made of permissions from the list.

Functions take an open connection (role APP) that acts for the workspace, and do not commit. `giver`: see
`giving`. Not here: who has which role (`members`, `teams`), looking up what roles allow (`role_permissions`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidRole, RoleExists, RoleInUse
from sluiceway.identity.giving import slug_of
from sluiceway.identity.permissions import GRANTABLE, MemberRole, Permission, permissions_of_role
from sluiceway.kit.errors import Conflict, FieldError, NotFound

NAME_LENGTH = 60
DESCRIPTION_LENGTH = 500
_RESERVED = frozenset(MemberRole) | {"link"}
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,62}")
_BUILTIN = {
    MemberRole.OWNER: "Everything, and handing the workspace over.",
    MemberRole.ADMIN: "People, keys and rules, and all that an editor does.",
    MemberRole.EDITOR: "Pipelines, quality and replays, and all that an analyst does.",
    MemberRole.ANALYST: "Makes dashboards and takes data out.",
    MemberRole.VIEWER: "Looks at dashboards and data.",
}
_NAMED = sa.text("""
SELECT (SELECT count(*) FROM app.service_accounts
        WHERE workspace_id = :workspace AND :slug = ANY(roles)) AS accounts,
       (SELECT count(*) FROM app.identity_providers
        WHERE (default_workspace_id = :workspace AND default_role = :slug) OR group_roles @>
          jsonb_build_array(jsonb_build_object(
            'workspace_id', CAST(:workspace AS integer), 'role', CAST(:slug AS text)))) AS providers,
       EXISTS (SELECT FROM app.sign_in_policies
               WHERE workspace_id = :workspace AND :slug = ANY(second_factor_for)) AS asked
""")


@dataclass(frozen=True, slots=True)
class Role:
    """`builtin`: one of the five, which cannot be changed. `members`: who has it as their own role."""

    slug: str
    name: str
    description: str
    permissions: frozenset[Permission]
    builtin: bool
    members: int
    teams: int
    created_at: datetime | None = None
    updated_at: datetime | None = None


def list_roles(conn: sa.Connection, workspace_id: int) -> list[Role]:
    """The five from the most to the least, then the workspace's own by name."""
    members = _counts(conn, workspace_id, "app.memberships")
    teams = _counts(conn, workspace_id, "app.team_roles")
    found = [
        Role(
            role.value,
            role.value.capitalize(),
            text,
            permissions_of_role(role) - {Permission.ORGANIZATION_MANAGE},
            True,
            members.get(role, 0),
            teams.get(role, 0),
        )
        for role, text in _BUILTIN.items()
    ]
    rows = conn.execute(
        sa.text(
            "SELECT slug, name, description, permissions, created_at, updated_at FROM app.roles"
            " WHERE workspace_id = :workspace ORDER BY lower(name), slug"
        ),
        {"workspace": workspace_id},
    )
    for row in rows:
        allowed = frozenset(Permission(name) for name in row.permissions if name in GRANTABLE)
        found.append(
            Role(
                row.slug, row.name, row.description, allowed, False,
                members.get(row.slug, 0), teams.get(row.slug, 0), row.created_at, row.updated_at,
            )
        )  # fmt: skip
    return found


def get_role(conn: sa.Connection, workspace_id: int, slug: str) -> Role:
    """Raises `NotFound`."""
    for role in list_roles(conn, workspace_id):
        if role.slug == slug:
            return role
    raise NotFound("There is no such role in this workspace.")


def create_role(
    conn: sa.Connection,
    workspace_id: int,
    name: str,
    permissions: Iterable[str],
    *,
    giver: Caller | None,
    slug: str | None = None,
    description: str = "",
    created_by: UUID | None = None,
) -> Role:
    """Make a role; without a `slug` it gets one from its name.

    Raises `InvalidRole` (naming the field), `RoleExists`, or `NotPermitted` for a right the giver lacks.
    """
    wanted = slug or slug_of(name, "role")
    allowed = _checked(name, description, permissions, wanted)
    _check_gives(giver, allowed)
    made = conn.execute(
        sa.text(
            "INSERT INTO app.roles (workspace_id, slug, name, description, permissions, created_by)"
            " VALUES (:workspace, :slug, :name, :description, :permissions, :by)"
            " ON CONFLICT DO NOTHING RETURNING 1"
        ),
        {
            "workspace": workspace_id,
            "slug": wanted,
            "name": name.strip(),
            "description": description.strip(),
            "permissions": sorted(allowed),
            "by": created_by,
        },
    ).first()
    if made is None:
        raise RoleExists(f"There is a role {wanted!r} already.")
    return get_role(conn, workspace_id, wanted)


def change_role(
    conn: sa.Connection,
    workspace_id: int,
    slug: str,
    *,
    giver: Caller | None,
    now: datetime,
    name: str | None = None,
    description: str | None = None,
    permissions: Iterable[str] | None = None,
) -> tuple[Role, Role]:
    """Change what is given; who has the role can do so at once. Returns it as it was and as it is.

    Raises `NotFound`, `InvalidRole`, `Conflict` for a built-in role, or `NotPermitted` if the role holds, or
    would hold, a right that the giver lacks.
    """
    before = _own(conn, workspace_id, slug)
    wanted = before.permissions if permissions is None else permissions
    names = (
        before.name if name is None else name,
        before.description if description is None else description,
    )
    allowed = _checked(names[0], names[1], wanted, slug)
    _check_gives(giver, before.permissions | allowed)
    conn.execute(
        sa.text(
            "UPDATE app.roles SET name = :name, description = :description, permissions = :permissions,"
            " updated_at = :now WHERE workspace_id = :workspace AND slug = :slug"
        ),
        {
            "name": names[0].strip(),
            "description": names[1].strip(),
            "permissions": sorted(allowed),
            "now": now,
            "workspace": workspace_id,
            "slug": slug,
        },
    )
    return before, get_role(conn, workspace_id, slug)


def delete_role(
    conn: sa.Connection, workspace_id: int, slug: str, *, giver: Caller | None, rules: int
) -> Role:
    """Remove a role that nobody has any more; open invitations to it go with it. Gives it as it was.

    `rules`: how many row rules name it. They would concern nobody any more, and so show everything; an
    identity provider would let people in with a role that is not there. Raises `NotFound`, `RoleInUse`,
    `Conflict` for a built-in role, or `NotPermitted`.
    """
    found = _own(conn, workspace_id, slug)
    _check_gives(giver, found.permissions)
    named = conn.execute(_NAMED, {"workspace": workspace_id, "slug": slug}).one()
    if found.members or found.teams or named.accounts:
        raise RoleInUse(
            f"{found.members} members, {found.teams} teams and {named.accounts} service accounts have the"
            f" role {slug}: give them another one first."
        )
    if rules or named.providers or named.asked:
        where = [
            what
            for what, there in (
                (f"row rules ({rules})", rules),
                (f"identity providers ({named.providers})", named.providers),
                ("what is asked of those who sign in", named.asked),
            )
            if there
        ]
        raise RoleInUse(f"The role {slug} is named by {' and '.join(where)}: change that first.")
    conn.execute(
        sa.text("DELETE FROM app.roles WHERE workspace_id = :workspace AND slug = :slug"),
        {"workspace": workspace_id, "slug": slug},
    )
    return found


def _own(conn: sa.Connection, workspace_id: int, slug: str) -> Role:
    conn.execute(
        sa.text("SELECT 1 FROM app.roles WHERE workspace_id = :workspace AND slug = :slug FOR UPDATE"),
        {"workspace": workspace_id, "slug": slug},
    )
    found = get_role(conn, workspace_id, slug)
    if found.builtin:
        raise Conflict(f"The role {slug} is the same in every workspace and cannot be changed.")
    return found


def _check_gives(giver: Caller | None, permissions: frozenset[Permission]) -> None:
    if giver is not None:
        giver.check_gives(permissions)


def _checked(name: str, description: str, permissions: Iterable[str], slug: str) -> frozenset[Permission]:
    problems: list[FieldError] = []
    if not name.strip() or len(name) > NAME_LENGTH:
        problems.append(FieldError("name", f"should have 1 to {NAME_LENGTH} characters"))
    if len(description) > DESCRIPTION_LENGTH:
        problems.append(FieldError("description", f"should have at most {DESCRIPTION_LENGTH} characters"))
    if not _SLUG.fullmatch(slug):
        problems.append(FieldError("slug", "should be small letters, digits and -, beginning with a letter"))
    elif slug in _RESERVED:
        problems.append(FieldError("slug", f"should be none of {', '.join(sorted(_RESERVED))}"))
    wanted = list(permissions)
    problems += [
        FieldError(f"permissions.{i}", f"{text!r} is no permission that a role can have")
        for i, text in enumerate(wanted)
        if text not in GRANTABLE
    ]
    if not wanted:
        problems.append(FieldError("permissions", "should name at least one"))
    if problems:
        raise InvalidRole("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)
    return frozenset(Permission(text) for text in wanted)


def _counts(conn: sa.Connection, workspace_id: int, table: str) -> dict[str, int]:
    rows = conn.execute(
        sa.text(
            f"SELECT role, count(*) AS found FROM {table}"  # noqa: S608  # our own two
            " WHERE workspace_id = :workspace GROUP BY role"
        ),
        {"workspace": workspace_id},
    )
    return {row.role: row.found for row in rows}
