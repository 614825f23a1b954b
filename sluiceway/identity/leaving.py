"""What becomes of keys when the person who made them leaves a workspace. Other things have it in their slice.

Functions take an open connection (role APP) that acts for the workspace, and do not commit.
"""

from collections.abc import Iterable
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.keys import tell_changed


def hand_over_keys(conn: sa.Connection, workspace_id: int, leaving: UUID, successor: UUID) -> int:
    """Keys and service accounts that `leaving` made are the successor's now, and go on working."""
    found = {"workspace": workspace_id, "from": leaving, "to": successor}
    moved = 0
    for table in ("app.api_keys", "app.service_accounts"):
        moved += conn.execute(
            sa.text(
                f"UPDATE {table} SET created_by = :to"  # noqa: S608  # our own two
                " WHERE workspace_id = :workspace AND created_by = :from"
            ),
            found,
        ).rowcount
    return moved


def revoke_keys(conn: sa.Connection, workspace_id: int, leaving: UUID, successor: UUID) -> int:
    """Keys that `leaving` made, and may know by heart, are refused from now on; they too change hands."""
    revoked: Iterable[str] = conn.execute(
        sa.text(
            "UPDATE app.api_keys SET revoked_at = now()"
            " WHERE workspace_id = :workspace AND created_by = :from AND revoked_at IS NULL RETURNING id"
        ),
        {"workspace": workspace_id, "from": leaving},
    ).scalars()
    ids = list(revoked)
    for key_id in ids:
        tell_changed(conn, workspace_id, key_id)
    hand_over_keys(conn, workspace_id, leaving, successor)
    return len(ids)


def hand_over_links(conn: sa.Connection, workspace_id: int, leaving: UUID, successor: UUID) -> int:
    """Links to dashboards that `leaving` made are the successor's now."""
    return conn.execute(
        sa.text(
            "UPDATE app.dashboard_links SET created_by = :to"
            " WHERE workspace_id = :workspace AND created_by = :from"
        ),
        {"workspace": workspace_id, "from": leaving, "to": successor},
    ).rowcount
