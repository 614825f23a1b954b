"""What a member made or holds in a workspace, counted: what somebody is told before they remove them.

Functions take an open connection (role APP) that acts for the workspace. Not here: handing it over
(`identity.leaving`, `identity.members`), what other slices keep of a person (they count it themselves).
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Belongings:
    """How many of each. `keys`: those that work, made by the person; `invitations`: those that are open."""

    keys: int
    service_accounts: int
    invitations: int
    sessions: int


def belongings(conn: sa.Connection, workspace_id: int, user_id: UUID, *, now: datetime) -> Belongings:
    """All of them at one time."""
    row = conn.execute(
        sa.text(
            "SELECT"
            " (SELECT count(*) FROM app.api_keys WHERE workspace_id = :workspace AND created_by = :user"
            " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)) AS keys,"
            " (SELECT count(*) FROM app.service_accounts WHERE workspace_id = :workspace"
            " AND created_by = :user) AS service_accounts,"
            " (SELECT count(*) FROM app.invitations WHERE workspace_id = :workspace AND invited_by = :user"
            " AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > :now) AS invitations,"
            " (SELECT count(*) FROM app.sessions WHERE workspace_id = :workspace AND user_id = :user"
            " AND expires_at > :now) AS sessions"
        ),
        {"workspace": workspace_id, "user": user_id, "now": now},
    ).one()
    return Belongings(row.keys, row.service_accounts, row.invitations, row.sessions)
