"""What somebody who was recognised a while ago may do now: for what outlives the request that it began with.

Belongs here: asking again for a subject (`user:<uuid>`, `key:<id>`), without what it proved itself with. Not
here: recognising anybody (`sessions`, `keys`).
"""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.contracts import Caller
from sluiceway.identity.keys import standing_of
from sluiceway.infra.database import set_identity


def find_standing(conn: sa.Connection, workspace_id: int, subject: str, *, now: datetime) -> Caller | None:
    """Who the subject is in the workspace now; None: nobody any more (removed, locked out, revoked, over).

    Needs role APP; afterwards the transaction acts for the workspace.
    """
    kind, _, name = subject.partition(":")
    if kind == "key":
        set_identity(conn, workspace_id=workspace_id)
        key = standing_of(conn, workspace_id, name, now=now)
        return None if key is None else Caller.from_key(key)
    if kind != "user":
        return None
    set_identity(conn, workspace_id=workspace_id, user_id=name)
    row = conn.execute(
        sa.text(
            "SELECT u.email, u.name, a.* FROM app.member_access(:workspace, CAST(:user AS uuid)) a"
            " JOIN app.users u ON u.id = CAST(:user AS uuid)"
        ),
        {"workspace": workspace_id, "user": name},
    ).first()
    if row is None:
        return None
    return Caller.from_member(
        user_id=UUID(name),
        workspace_id=workspace_id,
        role=row.role,
        email=row.email,
        name=row.name,
        expires_at=None,
        roles=row.roles,
        granted=row.granted,
        attributes=row.attributes,
        owns_organization=row.owns_organization,
    )
