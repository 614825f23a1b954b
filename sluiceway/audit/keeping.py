"""What happens to old entries, and to what is personal in them. The chain stays verifiable after both.

Retention drops from the front, in every workspace: an anchor keeps the last dropped entry's hash, and an
entry in the chain vouches for the anchor. Erasing a person empties their names and addresses, of which the
chain holds only hashes.
"""

import logging
import uuid
from datetime import timedelta

import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.service import record
from sluiceway.audit.verification import Head
from sluiceway.infra.database import Database, Role, set_identity

log = logging.getLogger(__name__)

LEAST_DAYS = 30


def drop_old(database: Database, kept: timedelta, actor: Actor) -> int:
    """Drop what is older than `kept` (at least 30 days) in every workspace; returns how many entries."""
    with database.transaction(Role.WRITER) as conn:
        rows = conn.execute(sa.text("SELECT * FROM app.drop_audit(:kept)"), {"kept": kept}).all()
        for row in rows:
            set_identity(conn, workspace_id=row.workspace_id)
            through = Head(row.seq, bytes(row.hash))
            detail = {"through": str(through), "entries": row.dropped, "kept_days": kept.days}
            record(conn, Entry(Action.AUDIT_DROPPED, actor, "audit", detail=detail))
            log.info(
                "audit log of workspace %d: %d entries through %s dropped",
                row.workspace_id,
                row.dropped,
                through,
            )
    return sum(row.dropped for row in rows)


def note_heads(database: Database) -> dict[int, Head]:
    """Every workspace's head, by workspace, written to this process's log: a place outside the database."""
    with database.transaction(Role.WRITER) as conn:
        rows = conn.execute(sa.text("SELECT * FROM app.audited_workspaces()")).all()
    found = {row.workspace_id: Head(row.seq, bytes(row.hash)) for row in rows}
    for workspace_id, head in found.items():
        log.info("audit log of workspace %d: head %s", workspace_id, head)
    return found


def erase_person(conn: sa.Connection, user_id: uuid.UUID, email: str) -> int:
    """Empty the names, addresses and browsers of a person whose account goes, in the log of every workspace.

    What stays is that somebody of this id acted. Returns how many entries were touched; say so in the log
    with `Action.PERSON_ERASED`.
    """
    found: int = conn.execute(
        sa.text("SELECT app.erase_audit_person(:person, :email)"), {"person": user_id, "email": email}
    ).scalar_one()
    return found
