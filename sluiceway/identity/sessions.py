"""Sign-in sessions: a random token in a cookie, its SHA-256 in the database.

Not here: checking a password (`service`), cookies and headers (the API).
"""

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import NotSignedIn
from sluiceway.identity.policy import wants_second_factor
from sluiceway.kit import ids

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


Method = Literal["password", "passkey", "provider", "invitation", "reset"]
LIFETIME = timedelta(days=1)
"""Of a session that is not to be remembered, at most."""

# Who it is, and whether the session still is one: ended by idleness or its provider it has no `session_id`.
_FIND = sa.text(
    "SELECT f.*, s.id AS session_id, s.second_factor, s.second_factor_for FROM app.find_session(:hash) f"
    " LEFT JOIN LATERAL app.see_session(:hash, :now, :idle) s ON true"
)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is listed. `persistent`: remembered; `current`: the one that asks."""

    id: uuid.UUID
    user_id: uuid.UUID
    email: str
    workspace_id: int
    workspace_name: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    user_agent: str
    address: str
    method: str
    second_factor: bool
    persistent: bool
    current: bool


def create_session(
    conn: sa.Connection,
    *,
    user_id: uuid.UUID,
    workspace_id: int,
    now: datetime,
    lifetime: timedelta,
    user_agent: str = "",
    address: str = "",
    persistent: bool = False,
    method: Method = "password",
    second_factor: bool = False,
    provider_id: uuid.UUID | None = None,
    confirmed: bool = True,
) -> str:
    """Begin a session in one of the person's workspaces and return the cookie's token.

    The transaction must act for that workspace. The person's expired sessions are removed.
    `confirmed`: whether beginning it proves enough for sensitive changes, too.
    """
    token = ids.token(32)
    conn.execute(
        sa.text("DELETE FROM app.sessions WHERE user_id = :user AND expires_at <= :now"),
        {"user": user_id, "now": now},
    )
    conn.execute(
        sa.text(
            "INSERT INTO app.sessions"
            " (token_hash, user_id, workspace_id, created_at, last_seen_at, expires_at, user_agent,"
            " address, persistent, method, second_factor, confirmed_at, provider_id)"
            " VALUES (:hash, :user, :workspace, :now, :now, :expires, :agent, :address, :persistent, :method,"
            " :second, :confirmed, :provider)"
        ),
        {
            "hash": hash_token(token),
            "user": user_id,
            "workspace": workspace_id,
            "now": now,
            "expires": now + lifetime,
            "agent": plain(user_agent)[:300],
            "address": address[:100],
            "persistent": persistent,
            "method": method,
            "second": second_factor,
            "confirmed": now if confirmed else None,
            "provider": provider_id,
        },
    )
    return token


def find_session(conn: sa.Connection, token: str, *, now: datetime, idle: timedelta | None = None) -> Caller:
    """Who holds this token. Needs role APP; no workspace need be set. Raises `NotSignedIn`.

    `idle`: after how long without a request a session that is not remembered ends, where its workspace does
    not say otherwise. Being asked for counts as a request. One statement, as every request asks.
    """
    if not _TOKEN.fullmatch(token):
        raise NotSignedIn("The session is not known; sign in again.")
    row = conn.execute(_FIND, {"hash": hash_token(token), "now": now, "idle": idle}).first()
    if row is None or row.expires_at <= now or row.session_id is None:
        raise NotSignedIn("The session has ended; sign in again.")
    caller = Caller.from_member(
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
    missing = not row.second_factor and wants_second_factor(row.second_factor_for, caller.roles)
    return replace(caller, second_factor_missing=missing)


def confirmed_at(conn: sa.Connection, workspace_id: int, token: str) -> datetime | None:
    """When the holder of the session last proved who they are. The transaction acts for the workspace."""
    found: datetime | None = conn.execute(
        sa.text(
            "SELECT confirmed_at FROM app.sessions WHERE workspace_id = :workspace AND token_hash = :hash"
        ),
        {"workspace": workspace_id, "hash": hash_token(token)},
    ).scalar()
    return found


def confirm(
    conn: sa.Connection, workspace_id: int, token: str, *, now: datetime, second_factor: bool = False
) -> None:
    """Its holder has just proved who they are (with a second factor, from now on, if so)."""
    conn.execute(
        sa.text(
            "UPDATE app.sessions SET confirmed_at = :now, second_factor = second_factor OR :second"
            " WHERE workspace_id = :workspace AND token_hash = :hash"
        ),
        {
            "now": now,
            "second": second_factor,
            "workspace": workspace_id,
            "hash": hash_token(token),
        },
    )


def sessions_of(
    conn: sa.Connection, user_id: uuid.UUID, *, now: datetime, token: str | None = None
) -> list[Session]:
    """The person's sessions in all their workspaces, the one last used first."""
    rows = conn.execute(
        sa.text(
            "SELECT s.*, CAST(:user AS uuid) AS user_id, (SELECT u.email FROM app.users u WHERE u.id = :user)"
            " AS email FROM app.sessions_of(:user, :now) s"
        ),
        {"user": user_id, "now": now},
    )
    own = None if token is None else hash_token(token)
    return [_session(row, own) for row in rows]


def workspace_sessions(
    conn: sa.Connection,
    workspace_id: int,
    *,
    now: datetime,
    limit: int,
    after: tuple[datetime, uuid.UUID] | None = None,
    user_id: uuid.UUID | None = None,
    token: str | None = None,
) -> list[Session]:
    """Everybody's sessions in the workspace that is acted for, the one last begun first.

    `after`: (created_at, id) to go on from; `user_id`: one person's alone.
    """
    rows = conn.execute(
        sa.text(
            "SELECT s.id, s.user_id, u.email, s.workspace_id, w.name AS workspace_name, s.created_at,"
            " s.last_seen_at, s.expires_at, s.user_agent, s.address, s.method, s.second_factor, s.persistent,"
            " s.token_hash FROM app.sessions s JOIN app.users u ON u.id = s.user_id"
            " JOIN app.workspaces w ON w.id = s.workspace_id"
            " WHERE s.workspace_id = :workspace AND s.expires_at > :now"
            " AND (CAST(:user AS uuid) IS NULL OR s.user_id = :user)"
            " AND (CAST(:at AS timestamptz) IS NULL"
            " OR (s.created_at, s.id) < (CAST(:at AS timestamptz), CAST(:id AS uuid)))"
            " ORDER BY s.created_at DESC, s.id DESC LIMIT :limit"
        ),
        {
            "workspace": workspace_id,
            "now": now,
            "user": user_id,
            "at": after[0] if after else None,
            "id": after[1] if after else None,
            "limit": limit,
        },
    )
    own = None if token is None else hash_token(token)
    return [_session(row, own) for row in rows]


def end_own(
    conn: sa.Connection,
    user_id: uuid.UUID,
    *,
    session_id: uuid.UUID | None = None,
    keep: str | None = None,
) -> list[bytes]:
    """End one of the person's sessions, or all but the one of the token `keep`, in every workspace.

    Returns the hashes of their tokens, for caches to forget.
    """
    rows: Iterable[bytes] = conn.execute(
        sa.text("SELECT app.end_sessions_of(:user, :id, :keep)"),
        {"user": user_id, "id": session_id, "keep": None if keep is None else hash_token(keep)},
    ).scalars()
    return [bytes(row) for row in rows]


def end_in_workspace(
    conn: sa.Connection, workspace_id: int, session_id: uuid.UUID
) -> tuple[uuid.UUID, bytes] | None:
    """End a session of anybody in the workspace; returns whose it was and its token's hash."""
    row = conn.execute(
        sa.text(
            "DELETE FROM app.sessions WHERE workspace_id = :workspace AND id = :id"
            " RETURNING user_id, token_hash"
        ),
        {"workspace": workspace_id, "id": session_id},
    ).first()
    return None if row is None else (row.user_id, bytes(row.token_hash))


def end_by_token(conn: sa.Connection, token: str) -> None:
    """Forget the session of this token, whatever workspace it is in."""
    conn.execute(sa.text("SELECT app.end_session_by_hash(:hash)"), {"hash": hash_token(token)})


def end_session(conn: sa.Connection, workspace_id: int, token: str) -> None:
    """Forget the session, if it is there."""
    conn.execute(
        sa.text("DELETE FROM app.sessions WHERE workspace_id = :workspace AND token_hash = :hash"),
        {"workspace": workspace_id, "hash": hash_token(token)},
    )


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def plain(text: str) -> str:
    """Text that the database can hold and a page can show."""
    return "".join(c for c in text if c.isprintable())


def _session(row: sa.Row[Any], own: bytes | None) -> Session:
    found = row._mapping
    names = [f.name for f in fields(Session) if f.name != "current"]
    return Session(**{name: found[name] for name in names}, current=bytes(found["token_hash"]) == own)
