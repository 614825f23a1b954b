"""Searching the log, and giving it out as a file. Role APP, acting for the workspace.

Recording that somebody read or exported is the caller's (`service.record_once`, `service.record`).
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import sqlalchemy as sa

from sluiceway.audit.contracts import Actor, AuditEntry, Recorded
from sluiceway.audit.errors import EntryNotFound

Format = Literal["csv", "ndjson"]
FORMATS: tuple[Format, ...] = ("csv", "ndjson")
SEARCH_TIMEOUT_MS = 30_000
_PAGE = 1_000
_COLUMNS = "workspace_id, seq, at, content, who, whom, previous, hash"
_CSV_HEAD = (
    "seq", "at", "action", "actor_kind", "actor_id", "actor_name", "address", "user_agent", "request_id",
    "target", "target_id", "before", "after", "detail", "hash",
)  # fmt: skip
# What people read of an entry; not the names of its own fields.
_SAID = (
    "action, actor_kind, actor_id, target, target_id, content::jsonb ->> 'request_id',"
    " content::jsonb -> 'before', content::jsonb -> 'after', content::jsonb -> 'detail',"
    " who::jsonb ->> 'name', who::jsonb ->> 'address', who::jsonb ->> 'user_agent',"
    " whom::jsonb -> 'before', whom::jsonb -> 'after', whom::jsonb -> 'detail'"
)
# What a spreadsheet would take for a formula: a user agent is anybody's text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; all that is given has to hold.

    `actor`: an id (whole), a kind, or a part of a name; `action`: whole (`key.created`) or what it is about
    (`key`); `target`, `target_id`: whole; `since` (included), `until` (not); `text`: a part of anything that
    the entry says, in any case of letters.
    """

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    target_id: str | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def described(self) -> dict[str, Any]:
        """What was given, for the entry that says that somebody looked."""
        given = {name: getattr(self, name) for name in self.__slots__}
        found = {name: value for name, value in given.items() if value is not None}
        if "address" in found:
            found["from"] = found.pop("address")
        return found


class Transactions(Protocol):
    """Opens a transaction of the workspace (role APP)."""

    def __call__(self) -> AbstractContextManager[sa.Connection]: ...


def search(
    conn: sa.Connection,
    workspace_id: int,
    wanted: Search,
    *,
    limit: int = 50,
    before: int | None = None,
) -> list[AuditEntry]:
    """Newest first; `before`: only entries with a smaller number, to go on from."""
    return [readable(row) for row in _rows(conn, workspace_id, wanted, limit=limit, before=before)]


def find(conn: sa.Connection, workspace_id: int, seq: int) -> tuple[AuditEntry, Recorded]:
    """One entry as people read it, and as it stands. Raises `EntryNotFound`."""
    row = conn.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM app.audit_entries WHERE workspace_id = :w AND seq = :seq"  # noqa: S608  # ours
        ),
        {"w": workspace_id, "seq": seq},
    ).first()
    if row is None:
        raise EntryNotFound(f"The log of this workspace has no entry {seq}, or no longer.")
    found = _recorded(row)
    return readable(found), found


def of_person(conn: sa.Connection) -> list[AuditEntry]:
    """What the log says of the person the transaction acts for, in every workspace; of others, no name."""
    rows = conn.execute(
        sa.text(
            "SELECT p.*, ''::bytea AS previous, ''::bytea AS hash"
            " FROM app.audit_of_person(nullif(current_setting('sluiceway.user_id', true), '')::uuid) p"
        )
    )
    return [readable(_recorded(row)) for row in rows]


def exported(
    transactions: Transactions, workspace_id: int, wanted: Search, format_: Format
) -> Iterator[bytes]:
    """The entries as a file, oldest first, in pieces; each page is read in a transaction of its own.

    NDJSON has each entry's `content`, `previous` and `hash`, so that the chain can be checked anywhere.
    """
    if format_ == "csv":
        yield _csv([_CSV_HEAD])
    after = 0
    while True:
        with transactions() as conn:
            rows = _rows(conn, workspace_id, wanted, limit=_PAGE, after=after)
        if rows:
            yield _csv(_line(readable(r)) for r in rows) if format_ == "csv" else _ndjson(rows)
        if len(rows) < _PAGE:
            return
        after = rows[-1].seq


def readable(row: Recorded) -> AuditEntry:
    """What was taken apart for erasure, put together again."""
    content: dict[str, Any] = json.loads(row.content)
    who: dict[str, Any] = json.loads(row.who) if row.who else {}
    whom: dict[str, Any] = json.loads(row.whom) if row.whom else {}
    parts: dict[str, dict[str, Any] | None] = {}
    for name in ("before", "after", "detail"):
        kept, private = content.get(name), whom.get(name)
        parts[name] = None if kept is None else {**kept, **(private or {})}
    actor = content["actor"]
    return AuditEntry(
        seq=row.seq,
        at=row.at,
        action=content["action"],
        actor=Actor(
            kind=actor["kind"],
            id=actor["id"],
            name=who.get("name", ""),
            address=who.get("address", ""),
            user_agent=who.get("user_agent", ""),
            request_id=content["request_id"],
        ),
        target=content["target"],
        target_id=content["target_id"],
        before=parts["before"],
        after=parts["after"],
        detail=parts["detail"],
        erased=row.who is None,
        previous=row.previous,
        hash=row.hash,
    )


def _rows(
    conn: sa.Connection,
    workspace_id: int,
    wanted: Search,
    *,
    limit: int,
    before: int | None = None,
    after: int | None = None,
) -> list[Recorded]:
    conditions, values = _conditions(wanted)
    if before is not None:
        conditions.append("seq < :before")
    if after is not None:
        conditions.append("seq > :after")
    # A search for a text reads all of the log: it must not do so for ever.
    conn.execute(sa.text(f"SET LOCAL statement_timeout = {SEARCH_TIMEOUT_MS}"))
    where = " AND ".join(["workspace_id = :workspace", *conditions])
    rows = conn.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM app.audit_entries WHERE {where}"  # noqa: S608  # our own conditions
            f" ORDER BY seq {'ASC' if after is not None else 'DESC'} LIMIT :limit"
        ),
        {"workspace": workspace_id, "limit": limit, "before": before, "after": after, **values},
    )
    return [_recorded(row) for row in rows]


def _conditions(wanted: Search) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    values: dict[str, Any] = {}

    def add(condition: str, name: str, value: Any) -> None:
        conditions.append(condition)
        values[name] = value

    if wanted.actor is not None:
        add(
            "(actor_id = :actor OR actor_kind = :actor OR who::jsonb ->> 'name' ILIKE :actor_part)",
            "actor", wanted.actor,
        )  # fmt: skip
        values["actor_part"] = _part(wanted.actor)
    if wanted.action is not None:
        whole = "." in wanted.action
        add("action = :action" if whole else "split_part(action, '.', 1) = :action", "action", wanted.action)
    if wanted.target is not None:
        add("target = :target", "target", wanted.target)
    if wanted.target_id is not None:
        add("target_id = :target_id", "target_id", wanted.target_id)
    if wanted.address is not None:
        add("who::jsonb ->> 'address' = :address", "address", wanted.address)
    if wanted.since is not None:
        add("at >= :since", "since", wanted.since)
    if wanted.until is not None:
        add("at < :until", "until", wanted.until)
    if wanted.text is not None:
        add(f"concat_ws(' ', {_SAID}) ILIKE :text", "text", _part(wanted.text))
    return conditions, values


def _part(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{plain}%"


def _recorded(row: Any) -> Recorded:
    return Recorded(
        row.workspace_id,
        row.seq,
        row.at,
        row.content,
        row.who,
        row.whom,
        bytes(row.previous),
        bytes(row.hash),
    )


def as_dict(entry: AuditEntry) -> dict[str, Any]:
    """For JSON: times as ISO 8601, hashes in hex."""
    actor = entry.actor
    return {
        "seq": entry.seq,
        "at": entry.at.isoformat(),
        "action": entry.action,
        "actor": {
            "kind": actor.kind,
            "id": actor.id,
            "name": actor.name,
            "address": actor.address,
            "user_agent": actor.user_agent,
        },
        "request_id": actor.request_id,
        "target": entry.target,
        "target_id": entry.target_id,
        "before": entry.before,
        "after": entry.after,
        "detail": entry.detail,
        "erased": entry.erased,
        "hash": entry.hash.hex(),
    }


def _ndjson(rows: Iterable[Recorded]) -> bytes:
    return b"".join(
        json.dumps(
            {
                **as_dict(readable(row)),
                "workspace_id": row.workspace_id,
                "content": row.content,
                "previous": row.previous.hex(),
            },
            ensure_ascii=False,
        ).encode()
        + b"\n"
        for row in rows
    )


def _line(entry: AuditEntry) -> tuple[str, ...]:
    actor = entry.actor
    texts = (
        str(entry.seq), entry.at.isoformat(), entry.action, actor.kind, actor.id, actor.name, actor.address,
        actor.user_agent, actor.request_id, entry.target or "", entry.target_id or "",
        *("" if part is None else json.dumps(part, ensure_ascii=False) for part in _parts(entry)),
        entry.hash.hex(),
    )  # fmt: skip
    return tuple(f"'{text}" if text.startswith(_FORMULA) else text for text in texts)


def _parts(entry: AuditEntry) -> tuple[dict[str, Any] | None, ...]:
    return entry.before, entry.after, entry.detail


def _csv(lines: Iterable[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()
