"""Sessions that began at an identity provider: what they are called there, so that one ends with the other.

Transactions need the role APP. Not here: asking the provider (`oidc`), sessions themselves (`sessions`).
"""

import uuid
from dataclasses import dataclass, field

import sqlalchemy as sa

from sluiceway.identity.oidc import Claims, LoggedOut
from sluiceway.identity.sessions import hash_token
from sluiceway.infra.envelope import CannotOpen, Envelope

LONGEST_TOKEN = 4000
"""A longer ID token would not fit into an address: the provider then asks the person instead."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who a session is at its provider. `session`: the provider's own name for it, if it has told one."""

    subject: str
    session: str | None = None
    id_token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, claims: Claims) -> "Origin":
        return cls(claims.subject, claims.session, claims.id_token)


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that ended because its provider said so."""

    session_id: uuid.UUID
    token_hash: bytes
    user_id: uuid.UUID
    email: str
    workspace_id: int


def remember(
    conn: sa.Connection,
    envelope: Envelope,
    token: str,
    provider_id: uuid.UUID,
    user_id: uuid.UUID,
    origin: Origin,
) -> None:
    """Keep where the session of this token began. Acts for its person and its workspace."""
    session_id = _id_of(conn, token)
    told = origin.id_token
    keeps = told is not None and len(told) <= LONGEST_TOKEN
    conn.execute(
        sa.text(
            "INSERT INTO app.provider_sessions"
            " (session_id, provider_id, user_id, subject, provider_session, sealed)"
            " VALUES (:id, :provider, :user, :subject, :session, :sealed)"
        ),
        {
            "id": session_id,
            "provider": provider_id,
            "user": user_id,
            "subject": origin.subject,
            "session": origin.session,
            "sealed": envelope.seal(told.encode(), _context(session_id)) if keeps and told else None,
        },
    )


def find(conn: sa.Connection, envelope: Envelope, token: str) -> tuple[uuid.UUID, Origin] | None:
    """The provider, and who the session of this token is there. Acts for its person and its workspace."""
    row = conn.execute(
        sa.text("SELECT * FROM app.provider_sessions WHERE session_id = :id"), {"id": _id_of(conn, token)}
    ).first()
    if row is None:
        return None
    told = None
    if row.sealed is not None:
        try:
            told = envelope.open(bytes(row.sealed), _context(row.session_id)).decode()
        except CannotOpen:  # the provider asks the person then
            told = None
    return row.provider_id, Origin(row.subject, row.provider_session, told)


def end(conn: sa.Connection, provider_id: uuid.UUID, said: LoggedOut) -> list[Ended]:
    """End what the provider says is over: one of its sessions, or all of a person's, that began before."""
    rows = conn.execute(
        sa.text("SELECT * FROM app.end_provider_sessions(:provider, :who, :session, :at)"),
        {"provider": provider_id, "who": said.subject, "session": said.session, "at": said.at},
    )
    return [
        Ended(row.session_id, bytes(row.token_hash), row.user_id, row.email, row.workspace_id) for row in rows
    ]


def _id_of(conn: sa.Connection, token: str) -> uuid.UUID | None:
    found: uuid.UUID | None = conn.execute(
        sa.text("SELECT id FROM app.sessions WHERE token_hash = :hash"), {"hash": hash_token(token)}
    ).scalar()
    return found


def _context(session_id: uuid.UUID | None) -> str:
    return f"provider-session:{session_id}"
