"""Recording in the audit log. Services take an open connection (role APP or WRITER) and do not commit.

Not here: searching and exporting (`reading`), checking the chain (`verification`), dropping what is old
(`keeping`).
"""

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sluiceway.audit.canonical import canonical, changes, texts
from sluiceway.audit.contracts import Actor, Entry

if TYPE_CHECKING:
    import psycopg

READ_PAUSE = timedelta(minutes=10)
"""The same person reading the same thing again from the same address is not said again for so long."""
USE_PAUSE = timedelta(hours=1)
"""The same for a key and an address that it is used from."""

__all__ = ["READ_PAUSE", "USE_PAUSE", "Actor", "Entry", "changes", "record", "record_once", "record_raw"]


def record(conn: sa.Connection, entry: Entry) -> None:
    """Put an entry into the log of the workspace that the transaction acts for, in the same transaction.

    It stands at any place of the transaction: entries are chained when it commits, in the order they were
    recorded; what is rolled back leaves none.
    """
    conn.execute(sa.text("SELECT app.record_audit(:content, :who, :whom)"), _stored(entry))


def record_raw(connection: "psycopg.Connection[Any]", entry: Entry) -> None:
    """`record` for a transaction on a connection of psycopg's own."""
    connection.execute("SELECT app.record_audit(%(content)s, %(who)s, %(whom)s)", _stored(entry))


def record_once(conn: sa.Connection, entry: Entry, pause: timedelta = READ_PAUSE) -> bool:
    """The same for what happens over and over: left out if it was said within `pause`; True: it is said now.

    The same means: who, from which address, did what, to what.
    """
    actor = entry.actor
    same = canonical([str(entry.action), actor.kind, actor.id, actor.address, entry.target, entry.target_id])
    found: Any = conn.execute(
        sa.text("SELECT app.record_audit_once(:fold, :pause, :content, :who, :whom)"),
        {"fold": hashlib.sha256(same.encode()).hexdigest(), "pause": pause, **_stored(entry)},
    ).scalar_one()
    return bool(found)


def _stored(entry: Entry) -> dict[str, str | None]:
    found = texts(entry)
    return {"content": found.content, "who": found.who, "whom": found.whom}
