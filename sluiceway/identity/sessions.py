"""Sign-in sessions: a random token in a cookie, its SHA-256 in the database.

Not here: checking a password (`service`), cookies and headers (the API).
"""

import hashlib
import re
import uuid
from datetime import datetime, timedelta

import sqlalchemy as sa

from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import NotSignedIn
from sluiceway.kit import ids

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def create_session(
    conn: sa.Connection,
    *,
    user_id: uuid.UUID,
    workspace_id: int,
    now: datetime,
    lifetime: timedelta,
    user_agent: str = "",
    address: str = "",
) -> str:
    """Begin a session in one of the person's workspaces and return the cookie's token.

    The transaction must act for that workspace. The person's expired sessions are removed.
    """
    token = ids.token(32)
    conn.execute(
        sa.text("DELETE FROM app.sessions WHERE user_id = :user AND expires_at <= :now"),
        {"user": user_id, "now": now},
    )
    conn.execute(
        sa.text(
            "INSERT INTO app.sessions"
            " (token_hash, user_id, workspace_id, created_at, last_seen_at, expires_at, user_agent, address)"
            " VALUES (:hash, :user, :workspace, :now, :now, :expires, :agent, :address)"
        ),
        {
            "hash": hash_token(token),
            "user": user_id,
            "workspace": workspace_id,
            "now": now,
            "expires": now + lifetime,
            "agent": user_agent[:300],
            "address": address[:100],
        },
    )
    return token


def find_session(conn: sa.Connection, token: str, *, now: datetime) -> Caller:
    """Who holds this token. Needs role APP; no workspace need be set. Raises `NotSignedIn`."""
    if not _TOKEN.fullmatch(token):
        raise NotSignedIn("The session is not known; sign in again.")
    row = conn.execute(sa.text("SELECT * FROM app.find_session(:hash)"), {"hash": hash_token(token)}).first()
    if row is None or row.expires_at <= now:
        raise NotSignedIn("The session has ended; sign in again.")
    return Caller.from_member(
        user_id=row.user_id,
        workspace_id=row.workspace_id,
        role=row.role,
        email=row.email,
        name=row.name,
        expires_at=row.expires_at,
        roles=row.roles,
        granted=row.granted,
        attributes=row.attributes,
        owns_organization=row.owns_organization,
    )


def end_session(conn: sa.Connection, workspace_id: int, token: str) -> None:
    """Forget the session, if it is there."""
    conn.execute(
        sa.text("DELETE FROM app.sessions WHERE workspace_id = :workspace AND token_hash = :hash"),
        {"workspace": workspace_id, "hash": hash_token(token)},
    )


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
