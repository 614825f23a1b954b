"""Whether what tests do through the API leaves entries in the audit log; making entries for tests of it."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import sqlalchemy as sa

from sluiceway.audit.canonical import texts
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.service import record
from sluiceway.infra.database import Database, Role

ADA = Actor("user", "0198c0de-0000-7000-8000-000000000001", "ada@example.com", "192.0.2.7", "Firefox", "r-1")
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
SILENT = re.compile(
    r"/v1/query|/v1/link/query|/scim/v2/(Users/|Groups/)?\.search"  # nothing is kept of a query
    r"|/v1/pipelines/[^/]+/events"  # an event's key is told of by itself
    r"|/v1/(session|session/confirmation|me/passkeys)/(passkey-)?options"  # a question: its answer is told of
    r"|/v1/sign-in/providers/[^/]+/check"  # asks somebody else, changes nothing
    r"|/v1/password-resets|/forgot"  # answers everybody alike; what is mailed is told of
    r"|/v1/dead-letters/(.+/)?retry"  # recorded on a connection that is not watched here
)


@dataclass
class Writes:
    """Writes that went well, by operation: how many there were, and how many recorded something."""

    done: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    recorded: int = 0

    def note(self, method: str, path: str, answer: httpx.Response, before: int) -> None:
        """An answer came; `before`: `recorded` when it was asked for."""
        replayed = "idempotency-replayed" in answer.headers
        bare = path.split("?")[0]
        if method in WRITES and answer.status_code < 400 and not replayed and not SILENT.fullmatch(bare):
            found = self.done[f"{method} {_ID.sub('{id}', bare)}"]
            found[0] += 1
            found[1] += self.recorded > before

    def silent(self) -> list[str]:
        """Operations that went well and never recorded anything."""
        return sorted(name for name, (count, told) in self.done.items() if count and not told)


_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[a-z0-9]{12}(?=/|$)")
WRITTEN = Writes()


@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def _count(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if "app.record_audit" in statement:
        WRITTEN.recorded += 1


def put(database: Database, *entries: Entry, workspace_id: int = 1) -> None:
    """Record entries, each in a transaction of its own."""
    for entry in entries:
        with database.transaction(Role.APP, workspace_id=workspace_id) as conn:
            record(conn, entry)


def put_at(database: Database, at: datetime, entry: Entry, workspace_id: int = 1) -> None:
    """Chain an entry as if its transaction had committed then: what only the owner can do."""
    found = texts(entry)
    with database.engine(Role.OWNER).begin() as conn:
        conn.execute(
            sa.text("SELECT app.append_audit(:workspace, :at, :content, :who, :whom)"),
            {"workspace": workspace_id, "at": at, "content": found.content, "who": found.who,
             "whom": found.whom},
        )  # fmt: skip


def numbered(count: int, action: str = "pipeline.applied", **options: Any) -> list[Entry]:
    """Entries about `p1`, `p2`, …"""
    return [Entry(action, ADA, "pipeline", f"p{i + 1}", **options) for i in range(count)]


def owner(database: Database, statement: str) -> None:
    """As the owner, with the log's triggers off: somebody who has the whole database."""
    with database.connect(Role.OWNER) as connection:
        connection.execute("ALTER TABLE app.audit_entries DISABLE TRIGGER USER")
        connection.execute(statement)
        connection.execute("ALTER TABLE app.audit_entries ENABLE TRIGGER USER")
