"""Browsers that a person has signed in with: a random cookie, its SHA-256 by person.

Knowing one gives no right; it only keeps others' failed attempts from holding that browser up (`attempts`).
"""

import hashlib
import re
import uuid
from datetime import datetime, timedelta

import sqlalchemy as sa

from sluiceway.kit import ids

LIFETIME = timedelta(days=365)
_MOST = 20
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def known(conn: sa.Connection, user_id: uuid.UUID, token: str | None, *, now: datetime) -> bytes | None:
    """The hash of the browser's token if this person has signed in with it. The transaction acts for them."""
    if token is None or not _TOKEN.fullmatch(token):
        return None
    found: bytes | None = conn.execute(
        sa.text(
            "SELECT device_hash FROM app.known_devices"
            " WHERE user_id = :user AND device_hash = :hash AND last_used_at > :since"
        ),
        {"user": user_id, "hash": _hash(token), "since": now - LIFETIME},
    ).scalar()
    return None if found is None else bytes(found)


def remember(conn: sa.Connection, user_id: uuid.UUID, token: str | None, *, now: datetime) -> str:
    """Know this browser from now on; returns its token, a new one if it had none. Acts for the person."""
    kept = token if token is not None and _TOKEN.fullmatch(token) else ids.token(32)
    conn.execute(
        sa.text(
            "INSERT INTO app.known_devices (user_id, device_hash, created_at, last_used_at)"
            " VALUES (:user, :hash, :now, :now)"
            " ON CONFLICT (user_id, device_hash) DO UPDATE SET last_used_at = excluded.last_used_at"
        ),
        {"user": user_id, "hash": _hash(kept), "now": now},
    )
    conn.execute(
        sa.text(
            "DELETE FROM app.known_devices WHERE user_id = :user AND device_hash IN (SELECT device_hash"
            " FROM app.known_devices WHERE user_id = :user ORDER BY last_used_at DESC, device_hash"
            " OFFSET :most)"
        ),
        {"user": user_id, "most": _MOST},
    )
    return kept


def forget_all(conn: sa.Connection, user_id: uuid.UUID) -> None:
    """Know none of the person's browsers any more. Acts for the person."""
    conn.execute(sa.text("DELETE FROM app.known_devices WHERE user_id = :user"), {"user": user_id})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
