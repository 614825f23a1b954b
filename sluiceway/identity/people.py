"""Managing the people of a workspace: who they are, locking them out, ending their sessions.

Making people and checking passwords is `service`'s work. Functions take an open connection (role APP)
that acts for the workspace, and do not commit.
"""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.contracts import User
from sluiceway.identity.service import act_for


def list_members(conn: sa.Connection, workspace_id: int) -> list[tuple[User, str]]:
    """Every member of the workspace with their role, by address."""
    rows = conn.execute(
        sa.text(
            "SELECT u.id, u.email, u.name, u.created_at, u.disabled_at, m.role FROM app.memberships m"
            " JOIN app.users u ON u.id = m.user_id WHERE m.workspace_id = :workspace ORDER BY lower(u.email)"
        ),
        {"workspace": workspace_id},
    )
    return [(User(row.id, row.email, row.name, row.created_at, row.disabled_at), row.role) for row in rows]


def set_disabled(conn: sa.Connection, user_id: UUID, at: datetime | None) -> None:
    """Lock the person out from `at` on, or let them in again (None)."""
    act_for(conn, user_id)
    conn.execute(sa.text("UPDATE app.users SET disabled_at = :at WHERE id = :id"), {"at": at, "id": user_id})


def end_sessions(conn: sa.Connection, workspace_id: int, user_id: UUID) -> int:
    """Sign the person out of this workspace everywhere; returns how many sessions ended."""
    done = conn.execute(
        sa.text("DELETE FROM app.sessions WHERE workspace_id = :workspace AND user_id = :id"),
        {"workspace": workspace_id, "id": user_id},
    )
    return done.rowcount
