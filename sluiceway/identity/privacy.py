"""A person's own data: everything that is kept about them, and deleting the account.

Services take an open connection (role APP) that acts for the person, and do not commit. What is told is found
by the database's own references to the person (`app.personal_data`), so that a new table is part of it.
Not here: what becomes of things the person made (`leaving`), the audit log's own words (`sluiceway.audit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.service import Actor, Entry, record
from sluiceway.identity.errors import LastOwner
from sluiceway.identity.members import Handover, remove_member
from sluiceway.infra.database import set_identity
from sluiceway.kit.errors import NotFound

_WORKSPACES = sa.text("SELECT workspace_id, workspace_name FROM app.memberships_of(:person)")
_LAST_OWNER = sa.text("SELECT name FROM app.last_owner_of(:person)")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was done: workspaces that were left, and hashes of the sessions that ended there."""

    workspaces: tuple[int, ...]
    ended: tuple[bytes, ...]


def export_person(conn: sa.Connection, person: UUID, now: datetime) -> dict[str, Any]:
    """Everything that is kept about the person, in every workspace, by table; no hash, key or sealed value.

    Things that the person only made (pipelines, dashboards, keys) are told by name and time: they belong to
    their workspace. Raises `NotFound`.
    """
    found: dict[str, Any] | None = conn.execute(
        sa.text("SELECT app.personal_data(:person)"), {"person": person}
    ).scalar()
    if found is None:
        raise NotFound("There is no such person.")
    entries = conn.execute(sa.text("SELECT * FROM app.audit_of_person(:person)"), {"person": person})
    return {
        "person": str(person),
        "exported_at": now.isoformat(),
        "data": found,
        "audit": [
            {
                "workspace_id": row.workspace_id,
                "seq": row.seq,
                "at": row.at.isoformat(),
                "entry": orjson.loads(row.content),
                "who": _without_salt(row.who),
                "whom": _without_salt(row.whom),
            }
            for row in entries
        ],
    }


def delete_person(
    conn: sa.Connection,
    person: UUID,
    *,
    now: datetime,
    handovers: Mapping[str, Handover],
    by: Actor | None = None,
) -> Deleted:
    """Delete the account. What the person made stays with each workspace's longest owner; their keys too.

    `by`: who does it, None: the person. The audit log keeps that somebody acted, under the person's id, which
    leads to nobody any more. Raises `LastOwner` naming the workspaces that would be left without an owner;
    then nothing has been done.
    """
    alone: Sequence[str] = conn.execute(_LAST_OWNER, {"person": person}).scalars().all()
    if alone:
        raise LastOwner(
            f"You are the only owner of {_spoken(alone)}: hand the ownership over first, or have the operator"
            " remove the workspace."
        )
    rooms = conn.execute(_WORKSPACES, {"person": person}).all()
    ended: list[bytes] = []
    for room in rooms:
        set_identity(conn, workspace_id=room.workspace_id, user_id=str(person))
        left = remove_member(
            conn,
            room.workspace_id,
            person,
            giver=None,
            now=now,
            successor_id=None,
            handovers=handovers,
        )
        ended += left.sessions
        # Of the person no name, no address: this entry is what remains.
        record(conn, Entry(Action.PERSON_ERASED, by or Actor("user", str(person), ""), "person", str(person)))
    conn.execute(sa.text("SELECT app.forget_person(:person)"), {"person": person})
    return Deleted(tuple(room.workspace_id for room in rooms), tuple(ended))


def _without_salt(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    found: dict[str, Any] = orjson.loads(text)
    found.pop("salt", None)
    return found


def _spoken(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
