"""How many dashboards, and links to them, a person made: what is told before they leave a workspace.

Functions take an open connection (role APP) that acts for the workspace.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Belongings:
    """`links`: those that still show something."""

    dashboards: int
    links: int


def belongings(conn: sa.Connection, workspace_id: int, user_id: UUID, *, now: datetime) -> Belongings:
    """Both at one time."""
    row = conn.execute(
        sa.text(
            "SELECT"
            " (SELECT count(*) FROM app.dashboards WHERE workspace_id = :workspace AND created_by = :user)"
            " AS dashboards,"
            " (SELECT count(*) FROM app.dashboard_links WHERE workspace_id = :workspace"
            " AND created_by = :user AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now))"
            " AS links"
        ),
        {"workspace": workspace_id, "user": user_id, "now": now},
    ).one()
    return Belongings(row.dashboards, row.links)
