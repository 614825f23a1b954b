"""Nobody gives, or takes away, what they do not hold: asked wherever roles, teams and attributes change.

`giver` is whoever does it; None is the platform itself (the command line, provisioning), which may do all.
Roles and attributes also decide what row rules let through. So who may not manage rules gives only roles that
they hold themselves, and changes no attributes: a rule may ask that a value is there or that it is not, so
that giving one and taking one away can both show more.
"""

import re
from collections.abc import Iterable, Mapping
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import NotPermitted
from sluiceway.identity.permissions import MemberRole, Permission
from sluiceway.identity.role_permissions import permissions_of_roles
from sluiceway.kit.errors import FieldError

Attributes = Mapping[str, Iterable[str]]
MOST_ATTRIBUTES = 50
MOST_VALUES = 200
VALUE_LENGTH = 200
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OWN = frozenset({"id", "email"})
"""Every person has these of themselves (`Caller.access`); nobody gives them."""


def check_gives_roles(
    conn: sa.Connection, workspace_id: int, giver: Caller | None, roles: Iterable[str]
) -> None:
    """Raises `NotPermitted` unless `giver` may give, and take away, all of these roles."""
    if giver is None:
        return
    wanted = set(roles)
    giver.check_gives(permissions_of_roles(conn, workspace_id, wanted))
    foreign = sorted(wanted.difference(giver.roles))
    if foreign and not giver.may(Permission.RULE_MANAGE):
        raise NotPermitted(
            f"Without the permission {Permission.RULE_MANAGE} you give only roles that you have yourself,"
            f" not {', '.join(foreign)}: rules hang on them."
        )


def check_gives_attributes(giver: Caller | None, before: Attributes, after: Attributes) -> None:
    """Raises `NotPermitted` unless `giver` may change attributes like this: who manages rules may."""
    if giver is None or giver.may(Permission.RULE_MANAGE):
        return
    changed = sorted(
        name for name in {*before, *after} if set(before.get(name, ())) != set(after.get(name, ()))
    )
    if changed:
        raise NotPermitted(
            f"Without the permission {Permission.RULE_MANAGE} you change no attributes, not"
            f" {', '.join(changed)}: rules hang on them."
        )


def find_giver(conn: sa.Connection, workspace_id: int, user_id: UUID) -> Caller | None:
    """What a member holds now, whoever acts; None: not a member any more, or locked out."""
    row = conn.execute(
        sa.text(
            "SELECT a.*, u.email, u.name FROM app.member_access(:workspace, :user) a"
            " JOIN app.users u ON u.id = :user"
        ),
        {"workspace": workspace_id, "user": user_id},
    ).first()
    if row is None:
        return None
    return Caller.from_member(
        user_id=user_id, workspace_id=workspace_id, role=row.role, email=row.email, name=row.name,
        expires_at=None, roles=row.roles, granted=row.granted, attributes=row.attributes,
        owns_organization=row.owns_organization,
    )  # fmt: skip


def known_roles(conn: sa.Connection, workspace_id: int) -> frozenset[str]:
    """Slugs of all roles of the workspace, built in or its own."""
    own: Iterable[str] = conn.execute(
        sa.text("SELECT slug FROM app.roles WHERE workspace_id = :workspace"), {"workspace": workspace_id}
    ).scalars()
    return frozenset(MemberRole) | frozenset(own)


def role_problem(conn: sa.Connection, workspace_id: int, role: str, field: str = "role") -> FieldError | None:
    """What is wrong with a role that somebody is to have; None: it is one of the workspace's."""
    known = known_roles(conn, workspace_id)
    return None if role in known else FieldError(field, f"should be one of {', '.join(sorted(known))}")


def attribute_problems(attributes: Mapping[str, list[str]]) -> list[FieldError]:
    """What is wrong with names or values."""
    if len(attributes) > MOST_ATTRIBUTES:
        return [FieldError("attributes", f"should have at most {MOST_ATTRIBUTES} names")]
    found = []
    for name, values in attributes.items():
        if not _ATTRIBUTE.fullmatch(name):
            found.append(
                FieldError("attributes", f"{name[:80]!r} is no name: small letters, digits and _ are")
            )
        elif name in _OWN:
            found.append(FieldError(f"attributes.{name}", "is every person's own and cannot be given"))
        elif len(values) > MOST_VALUES or any(not 1 <= len(value) <= VALUE_LENGTH for value in values):
            message = f"should be at most {MOST_VALUES} texts of 1 to {VALUE_LENGTH} characters"
            found.append(FieldError(f"attributes.{name}", message))
    return found


def tidied(attributes: Attributes) -> dict[str, list[str]]:
    """Values sorted and once each; names without any left out."""
    found = {name: sorted(set(values)) for name, values in attributes.items()}
    return {name: found[name] for name in sorted(found) if found[name]}


def slug_of(name: str, fallback: str) -> str:
    """A short name for addresses, from a name for people: `Sales, EMEA` → `sales-emea`."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower().strip()).strip("-")[:60].strip("-")
    return plain if re.match(r"[a-z]", plain) else f"{fallback}-{plain}".strip("-")[:60]
