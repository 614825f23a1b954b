"""What a workspace asks of those who sign in: for whom a second factor, whether browsers may be remembered.

Not here: what the installation asks of everyone (settings).
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from sluiceway.identity.errors import InvalidSignInPolicy
from sluiceway.kit.errors import FieldError

EVERYONE = "*"
IDLE_MINUTES = (5, 43_200)


@dataclass(frozen=True, slots=True)
class SignInPolicy:
    """`second_factor_for`: slugs of roles, or `*`. `idle_minutes`: None is as the installation says."""

    second_factor_for: tuple[str, ...] = ()
    remember_me: bool = True
    idle_minutes: int | None = None


def wants_second_factor(wanted: Iterable[str], roles: Iterable[str]) -> bool:
    """Whether somebody with these roles needs a second factor."""
    names = set(wanted)
    return EVERYONE in names or not names.isdisjoint(roles)


def get_policy(conn: sa.Connection, workspace_id: int) -> SignInPolicy:
    """What the workspace asks; the transaction acts for it."""
    row = conn.execute(
        sa.text(
            "SELECT second_factor_for, remember_me, idle_minutes FROM app.sign_in_policies"
            " WHERE workspace_id = :workspace"
        ),
        {"workspace": workspace_id},
    ).first()
    if row is None:
        return SignInPolicy()
    return SignInPolicy(tuple(row.second_factor_for), row.remember_me, row.idle_minutes)


def set_policy(
    conn: sa.Connection, workspace_id: int, wanted: SignInPolicy, *, by: uuid.UUID | None
) -> tuple[SignInPolicy, SignInPolicy]:
    """Change it; returns what it was and what it is. Holds for running sessions at once.

    Raises `InvalidSignInPolicy`.
    """
    before = get_policy(conn, workspace_id)
    after = _checked(conn, workspace_id, wanted)
    conn.execute(
        sa.text(
            "INSERT INTO app.sign_in_policies"
            " (workspace_id, second_factor_for, remember_me, idle_minutes, updated_by)"
            " VALUES (:workspace, :roles, :remember, :idle, :by) ON CONFLICT (workspace_id) DO UPDATE SET"
            " second_factor_for = excluded.second_factor_for, remember_me = excluded.remember_me,"
            " idle_minutes = excluded.idle_minutes, updated_by = excluded.updated_by, updated_at = now()"
        ),
        {
            "workspace": workspace_id,
            "roles": list(after.second_factor_for),
            "remember": after.remember_me,
            "idle": after.idle_minutes,
            "by": by,
        },
    )
    return before, after


def _checked(conn: sa.Connection, workspace_id: int, wanted: SignInPolicy) -> SignInPolicy:
    problems = []
    roles = tuple(sorted(set(wanted.second_factor_for)))
    known = {EVERYONE, "owner", "admin", "editor", "analyst", "viewer"}
    known |= set(
        conn.execute(
            sa.text("SELECT slug FROM app.roles WHERE workspace_id = :workspace"),
            {"workspace": workspace_id},
        ).scalars()
    )
    if unknown := [role for role in roles if role not in known]:
        problems.append(
            FieldError("second_factor_for", f"names roles that are not there: {', '.join(unknown)[:200]}")
        )
    low, high = IDLE_MINUTES
    if wanted.idle_minutes is not None and not low <= wanted.idle_minutes <= high:
        problems.append(FieldError("idle_minutes", f"should be from {low} to {high}"))
    if problems:
        raise InvalidSignInPolicy("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)
    return SignInPolicy((EVERYONE,) if EVERYONE in roles else roles, wanted.remember_me, wanted.idle_minutes)
