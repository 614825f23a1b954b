"""What is begun and not done yet: random tokens, each for one purpose, for a short while, good once.

Kept as SHA-256. The holder of a token is whoever began; what it may be used for is its kind.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
import sqlalchemy as sa

from sluiceway.kit import ids

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class Kind(StrEnum):
    SECOND_FACTOR = "second_factor"
    """The password was right; the second factor is awaited."""
    PASSKEY = "passkey"
    """A challenge that a passkey is to sign."""
    NEW_PASSKEY = "new_passkey"
    NEW_TOTP = "new_totp"
    """An authenticator app's secret that no code has come from yet."""
    PROVIDER = "provider"
    """Somebody is at their identity provider."""
    RESET = "reset"
    """A link to set a new password."""


LIFETIMES = {
    Kind.SECOND_FACTOR: timedelta(minutes=10),
    Kind.PASSKEY: timedelta(minutes=5),
    Kind.NEW_PASSKEY: timedelta(minutes=10),
    Kind.NEW_TOTP: timedelta(minutes=20),
    Kind.PROVIDER: timedelta(minutes=15),
    Kind.RESET: timedelta(hours=1),
}


@dataclass(frozen=True, slots=True)
class Step:
    """`user_id` is None while nobody is known."""

    user_id: uuid.UUID | None
    payload: dict[str, Any]
    created_at: datetime
    sealed: bytes | None = field(default=None, repr=False)


def put(
    conn: sa.Connection,
    kind: Kind,
    *,
    now: datetime,
    user_id: uuid.UUID | None = None,
    payload: Mapping[str, Any] | None = None,
    sealed: bytes | None = None,
) -> str:
    """Begin, and return the token that goes on."""
    token = ids.token(32)
    conn.execute(
        sa.text(
            "SELECT app.put_sign_in_step(:hash, :kind, :user, CAST(:payload AS jsonb), :sealed, :now, :ends)"
        ),
        {
            "hash": _hash(token),
            "kind": kind.value,
            "user": user_id,
            "payload": orjson.dumps(payload or {}).decode(),
            "sealed": sealed,
            "now": now,
            "ends": now + LIFETIMES[kind],
        },
    )
    return token


def find(conn: sa.Connection, kind: Kind, token: str | None, *, now: datetime) -> Step | None:
    """What was begun with this token, without ending it."""
    return _asked(conn, "find_sign_in_step", kind, token, now)


def take(conn: sa.Connection, kind: Kind, token: str | None, *, now: datetime) -> Step | None:
    """What was begun with this token; it is good no more."""
    return _asked(conn, "take_sign_in_step", kind, token, now)


def drop(conn: sa.Connection, user_id: uuid.UUID, kind: Kind | None = None) -> None:
    """Forget what this person began (of one kind)."""
    conn.execute(
        sa.text("SELECT app.drop_sign_in_steps(:user, :kind)"),
        {"user": user_id, "kind": None if kind is None else kind.value},
    )


def _asked(conn: sa.Connection, function: str, kind: Kind, token: str | None, now: datetime) -> Step | None:
    if token is None or not _TOKEN.fullmatch(token):
        return None
    row = conn.execute(
        sa.text(f"SELECT * FROM app.{function}(:hash, :kind, :now)"),  # noqa: S608  # one of our two names
        {"hash": _hash(token), "kind": kind.value, "now": now},
    ).first()
    if row is None:
        return None
    sealed = None if row.sealed is None else bytes(row.sealed)
    return Step(row.user_id, row.payload, row.created_at, sealed)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
