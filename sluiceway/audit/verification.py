"""Checking a workspace's chain: that nothing in it was changed, taken out, put in or cut off.

It is read from the first entry that is kept to the newest, and every hash is computed again here. Whoever
owns the database can write a whole new chain; that shows only against a head that was noted elsewhere
(`expected`). Services take an open connection of role APP that acts for the workspace.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.canonical import digest
from sluiceway.audit.chain import START, link
from sluiceway.audit.contracts import Recorded
from sluiceway.audit.errors import InvalidHead

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain: an entry's number and its hash. `0` and 32 zero bytes: before the first one."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """From `<seq>:<hash in hex>`. Raises `InvalidHead`."""
        seq, _, hexed = text.strip().partition(":")
        if not (seq.isascii() and seq.isdigit() and len(seq) < 19 and len(hexed) == 64):
            raise InvalidHead("A head looks like 17:4bf5…: an entry's number, a colon, its hash in hex.")
        try:
            return cls(int(seq), bytes.fromhex(hexed))
        except ValueError:
            raise InvalidHead("The hash after the colon should be 64 hexadecimal digits.") from None


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry that is not as it was written, and what is wrong with it."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `start`: where the kept chain begins (what was before was dropped by retention).

    `erased`: entries of which somebody's name and address were erased. `broken`: None if all is well.
    """

    workspace_id: int
    entries: int
    start: Head
    head: Head
    first_at: datetime | None
    last_at: datetime | None
    erased: int
    broken: Broken | None

    @property
    def intact(self) -> bool:
        return self.broken is None


def find_head(conn: sa.Connection, workspace_id: int) -> Head:
    """The newest entry: note it elsewhere, and nobody can rewrite what was before it unseen."""
    row = conn.execute(
        sa.text("SELECT seq, hash FROM app.audit_heads WHERE workspace_id = :workspace"),
        {"workspace": workspace_id},
    ).first()
    return Head(0, START) if row is None else Head(row.seq, bytes(row.hash))


def verify(conn: sa.Connection, workspace_id: int, expected: Head | None = None) -> Verification:
    """Read and check the whole chain of the workspace; stops at the first entry that is broken.

    `expected`: a head noted earlier, which has to be in the chain.
    """
    while True:
        start, head = _anchor(conn, workspace_id), find_head(conn, workspace_id)
        walk = _Walk(workspace_id, start, head, expected)
        walk.over(_entries(conn, workspace_id))
        if walk.broken is None:
            walk.finish(find_head(conn, workspace_id))
        # Retention may have dropped the beginning meanwhile: then it begins elsewhere.
        if walk.broken is None or _anchor(conn, workspace_id) == start:
            return walk.result()


class _Walk:
    """From entry to entry; `broken` once one is not as it should be."""

    def __init__(self, workspace_id: int, start: Head, head: Head, expected: Head | None) -> None:
        self._workspace_id = workspace_id
        self._start = start
        self._at_begin = head
        self._expected = expected
        self._here = start
        self._vouched = start.seq == 0
        self._count = self._erased = 0
        self._first_at: datetime | None = None
        self._last_at: datetime | None = None
        self.broken: Broken | None = None
        if expected is not None:
            self._meet(expected, start)

    def over(self, entries: Iterable[Recorded]) -> None:
        for entry in entries:
            what = self._fault(entry)
            if what is not None:
                missing = entry.seq != self._here.seq + 1
                self.broken = Broken(self._here.seq + 1 if missing else entry.seq, what)
                return
            self._here = Head(entry.seq, entry.hash)
            self._count += 1
            self._first_at = self._first_at or entry.at
            self._last_at = entry.at
            for known in (self._at_begin, self._expected):
                if known is not None and self.broken is None:
                    self._meet(known, self._here)
            if self.broken is not None:
                return

    def finish(self, head_now: Head) -> None:
        """What can only be said at the end of the chain."""
        here, expected = self._here, self._expected
        if not self._vouched:
            self.broken = Broken(
                self._start.seq + 1, "What was dropped before this entry is vouched for by none in the chain."
            )
        elif here.seq < self._at_begin.seq:
            gone = self._at_begin.seq - here.seq
            self.broken = Broken(here.seq + 1, f"The newest entries are missing: {gone} of them.")
        elif here.seq > head_now.seq:
            self.broken = Broken(head_now.seq + 1, "This entry and what follows were put after the head.")
        elif expected is not None and expected.seq > here.seq:
            self.broken = Broken(
                here.seq + 1, f"The chain ends here, but entry {expected.seq} was noted elsewhere."
            )
        elif expected is not None and expected.seq < self._start.seq:
            self.broken = Broken(
                expected.seq,
                f"This entry was dropped by retention, which kept what follows entry {self._start.seq}:"
                " it cannot be compared any more.",
            )

    def result(self) -> Verification:
        return Verification(
            workspace_id=self._workspace_id,
            entries=self._count,
            start=self._start,
            head=self._here,
            first_at=self._first_at,
            last_at=self._last_at,
            erased=self._erased,
            broken=self.broken,
        )

    def _meet(self, known: Head, here: Head) -> None:
        """At the place of a head that is known: is it the same chain?"""
        if known.seq == here.seq and known.hash != here.hash:
            self.broken = Broken(here.seq, "Its hash is not the one that was noted: the chain was rewritten.")

    def _fault(self, entry: Recorded) -> str | None:
        here = self._here
        if entry.seq != here.seq + 1:
            gone = entry.seq - here.seq - 1
            return "It is missing." if gone == 1 else f"It is missing, with the {gone - 1} after it."
        if entry.previous != here.hash:
            return f"It does not follow entry {here.seq} as that one now stands."
        if entry.hash != link(entry.previous, entry.workspace_id, entry.seq, entry.at, entry.content):
            return "It was changed: its content, time or place is not what was hashed."
        content: dict[str, Any] = json.loads(entry.content)
        for part, text in (("who", entry.who), ("whom", entry.whom)):
            if text is not None and digest(text) != content.get(part):
                return f"Its personal part ({part}) was changed."
        self._erased += entry.who is None or (entry.whom is None and content.get("whom") is not None)
        if content["action"] == Action.AUDIT_DROPPED:
            self._vouch(content)
        return None

    def _vouch(self, content: dict[str, Any]) -> None:
        said = content.get("detail") or {}
        if said.get("through") == str(self._start):
            self._vouched = True


def _anchor(conn: sa.Connection, workspace_id: int) -> Head:
    row = conn.execute(
        sa.text(
            "SELECT seq, hash FROM app.audit_anchors WHERE workspace_id = :workspace"
            " ORDER BY seq DESC LIMIT 1"
        ),
        {"workspace": workspace_id},
    ).first()
    return Head(0, START) if row is None else Head(row.seq, bytes(row.hash))


def _entries(conn: sa.Connection, workspace_id: int) -> Iterator[Recorded]:
    """By number, in pages: the log may be larger than memory, and grows while it is read."""
    after = -1
    while True:
        rows = conn.execute(
            sa.text(
                "SELECT workspace_id, seq, at, content, who, whom, previous, hash FROM app.audit_entries"
                " WHERE workspace_id = :workspace AND seq > :after ORDER BY seq LIMIT :page"
            ),
            {"workspace": workspace_id, "after": after, "page": _PAGE},
        ).all()
        for row in rows:
            yield Recorded(
                row.workspace_id, row.seq, row.at, row.content, row.who, row.whom,
                bytes(row.previous), bytes(row.hash),
            )  # fmt: skip
        if len(rows) < _PAGE:
            return
        after = rows[-1].seq
