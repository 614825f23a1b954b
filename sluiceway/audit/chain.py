"""How entries hang together: each one's hash is over the hash before it.

    hash = SHA-256(previous (32 bytes) || UTF-8 of "<workspace>\n<seq>\n<at>\n<content>")

`at` is UTC with microseconds (`2026-11-21T16:42:26.000123Z`); the first entry's `previous` is 32 zeros. The
database does the same as it appends (`app.append_audit`); here it is done again, to check it.
"""

import hashlib
from datetime import UTC, datetime

START = bytes(32)


def link(previous: bytes, workspace_id: int, seq: int, at: datetime, content: str) -> bytes:
    text = f"{workspace_id}\n{seq}\n{time_text(at)}\n{content}"
    return hashlib.sha256(previous + text.encode()).digest()


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
