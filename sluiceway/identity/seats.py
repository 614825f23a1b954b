"""Seats: how many members a workspace may have, asked where one more is about to come.

Not here: setting the limit, and usage as people see it (`sluiceway.usage`).
"""

import sqlalchemy as sa

from sluiceway.identity.errors import SeatsExceeded

_LOCK = 14
_LIMIT = sa.text(
    "SELECT least(hard, ceiling) FROM app.quotas WHERE workspace_id = :workspace AND measure = 'seats'"
)
_MEMBERS = sa.text(
    "SELECT count(*) FROM app.memberships m JOIN app.users u ON u.id = m.user_id"
    " WHERE m.workspace_id = :workspace AND m.disabled_at IS NULL AND u.disabled_at IS NULL"
)
_INVITED = sa.text(
    "SELECT count(*) FROM app.invitations WHERE workspace_id = :workspace"
    " AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()"
)


def count(conn: sa.Connection, workspace_id: int) -> int:
    """Members who can sign in. The transaction acts for the workspace."""
    found: int = conn.execute(_MEMBERS, {"workspace": workspace_id}).scalar_one()
    return found


def invited(conn: sa.Connection, workspace_id: int) -> int:
    """Open invitations: seats that whoever invites one more finds taken."""
    found: int = conn.execute(_INVITED, {"workspace": workspace_id}).scalar_one()
    return found


def check(conn: sa.Connection, workspace_id: int, *, inviting: bool = False) -> None:
    """Ask before a member is added, in the transaction that adds them; two such wait for one another.

    `inviting`: before somebody is invited; open invitations count as taken then. Raises `SeatsExceeded`.
    """
    limit: int | None = conn.execute(_LIMIT, {"workspace": workspace_id}).scalar()
    if limit is None:
        return
    conn.execute(
        sa.text("SELECT pg_advisory_xact_lock(:lock, :workspace)"), {"lock": _LOCK, "workspace": workspace_id}
    )
    taken = count(conn, workspace_id)
    open_ones = invited(conn, workspace_id) if inviting else 0
    if taken + open_ones >= limit:
        waiting = f" and {open_ones} open invitation{'s' if open_ones > 1 else ''}" if open_ones else ""
        raise SeatsExceeded(
            f"The workspace has {limit} seats, and {taken} members{waiting} take them: remove one, or"
            " raise the quota.",
            extra={"measure": "seats", "limit": limit, "used": taken + open_ones},
        )
