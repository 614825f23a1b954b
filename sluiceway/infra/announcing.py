"""Telling every process at once, at commit, that something is another one now.

A message says what changed, never the data itself: whoever cares asks the database with a right of their own.
What messages there are, and hearing them, stands with those who listen (`sluiceway.live`,
`sluiceway.ingestion.changes`, `sluiceway.loading.book`).
"""

from collections.abc import Mapping

import orjson
import sqlalchemy as sa

CHANNEL = "sluiceway_live"


def announce(connection: sa.Connection, message: Mapping[str, object] | bytes) -> None:
    """Send `message` (bytes: its JSON) at commit; PostgreSQL takes less than 8,000 bytes of it."""
    text = message if isinstance(message, bytes) else orjson.dumps(message)
    connection.execute(
        sa.text("SELECT pg_notify(:channel, :message)"), {"channel": CHANNEL, "message": text.decode()}
    )
