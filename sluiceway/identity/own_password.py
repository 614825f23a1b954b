"""People's own passwords: changing them, and resetting forgotten ones by a link.

Transactions need the role APP. Not here: comparing and hashing (`passwords`), strength (`strength`), signing
in (`service.check_password`).
"""

import uuid
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from sluiceway.identity import passwords, sessions, steps
from sluiceway.identity.contracts import User
from sluiceway.identity.errors import InvalidPerson, ResetLinkInvalid
from sluiceway.identity.strength import password_problem
from sluiceway.infra.database import set_identity
from sluiceway.kit.errors import FieldError


def state(conn: sa.Connection, user_id: uuid.UUID) -> tuple[bool, datetime | None]:
    """Whether there is a password, and when it was last changed (None: never since it was first set)."""
    row = conn.execute(sa.text("SELECT * FROM app.password_state(:user)"), {"user": user_id}).one()
    return row.is_set, row.set_at


def change(
    conn: sa.Connection, user_id: uuid.UUID, password: str, *, about: Iterable[str], now: datetime
) -> None:
    """Replace it, and forget reset links that are under way. `about`: what a guesser tries first.

    Raises `InvalidPerson`.
    """
    problem = password_problem(password, about)
    if problem is not None:
        raise InvalidPerson(
            f"The password {problem}" + ("" if problem.endswith(".") else "."),
            errors=[FieldError("password", problem)],
        )
    conn.execute(
        sa.text("SELECT app.set_password(:user, :hash, :now)"),
        {"user": user_id, "hash": passwords.hash_password(password), "now": now},
    )
    steps.drop(conn, user_id, steps.Kind.RESET)


def begin_reset(conn: sa.Connection, user_id: uuid.UUID, *, now: datetime) -> str:
    """A link's token, good for an hour and once; links that were made before are good no more."""
    steps.drop(conn, user_id, steps.Kind.RESET)
    return steps.put(conn, steps.Kind.RESET, user_id=user_id, now=now)


def whose_reset(conn: sa.Connection, token: str | None, *, now: datetime) -> User:
    """Whose link it is; it stays good. Ends acting for them. Raises `ResetLinkInvalid`."""
    found = steps.find(conn, steps.Kind.RESET, token, now=now)
    if found is None or found.user_id is None:
        raise ResetLinkInvalid("The link is too old, or was used. Ask for a new one.")
    set_identity(conn, workspace_id=None, user_id=str(found.user_id))
    row = conn.execute(
        sa.text("SELECT id, email, name, created_at, disabled_at FROM app.users WHERE id = :id"),
        {"id": found.user_id},
    ).one()
    if row.disabled_at is not None:
        raise ResetLinkInvalid("The link is too old, or was used. Ask for a new one.")
    return User(row.id, row.email, row.name, row.created_at)


def reset(conn: sa.Connection, token: str, password: str, *, now: datetime) -> tuple[User, list[bytes]]:
    """Set the password that was forgotten. A second factor stays, and is asked for as ever.

    Returns whose it is, and the hashes of the tokens of their sessions, which all end. Raises
    `ResetLinkInvalid` or `InvalidPerson` (then the link stays good).
    """
    user = whose_reset(conn, token, now=now)
    change(conn, user.id, password, about=(user.email, user.name), now=now)
    return user, sessions.end_own(conn, user.id)
