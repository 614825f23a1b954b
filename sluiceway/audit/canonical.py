"""An entry's text, the same for the same entry everywhere: what is hashed, and what of it can be erased.

JSON with sorted keys, no spaces, UTF-8. What is personal stands in texts of their own (`who`, `whom`) with a
random salt; the entry holds their SHA-256 alone. So they can be erased without breaking the chain, and
nobody can guess from the hash what was there.
"""

import enum
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any

from sluiceway.audit.contracts import Entry

MAX_PART_BYTES = 128 * 1024
_HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"(^|_)(password|passphrase|secret|secrets|token|tokens|hash|sealed|private_key|authorization|cookie|otp|"
    r"recovery_codes|client_secret)$"
)
_SECRET_TEXT = re.compile(r"slw_[a-z0-9]{12}_[A-Za-z0-9_-]{43}")
# Of a person, wherever they stand; and names, where the thing is a person.
_PERSONAL = frozenset({"email", "emails", "address", "user_agent", "phone"})
_OF_PEOPLE = frozenset({"user", "person", "member", "invitation", "session", "service_account"})


@dataclass(frozen=True, slots=True)
class Texts:
    """What is stored: the hashed text, and the two that can be erased (None: there is nothing personal)."""

    content: str
    who: str | None
    whom: str | None


def texts(entry: Entry) -> Texts:
    """The entry's texts: of a change only what differs. Each call salts anew."""
    actor = entry.actor
    who = _salted({"name": actor.name, "address": actor.address, "user_agent": actor.user_agent[:300]})
    before, after = entry.before, entry.after
    if before is not None and after is not None:
        before, after = changes(before, after)
    parts, personal = {}, {}
    for name, values in (("before", before), ("after", after), ("detail", entry.detail)):
        if values is not None:
            parts[name], private = _split(_clean(values), entry.target)
            if private:
                personal[name] = private
    whom = _salted(personal) if personal else None
    content = {
        "action": str(entry.action),
        "actor": {"kind": actor.kind, "id": actor.id},
        "request_id": actor.request_id,
        "target": entry.target,
        "target_id": entry.target_id,
        "who": digest(who),
        "whom": None if whom is None else digest(whom),
        **{name: _bounded(part) for name, part in parts.items()},
    }
    return Texts(canonical(content), who, whom)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces. Text that UTF-8 or PostgreSQL cannot hold is replaced."""
    return json.dumps(
        _clean(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs, as it was and as it is: keys that are equal on both sides are left out, at any depth."""
    was: dict[str, Any] = {}
    now: dict[str, Any] = {}
    for key in before.keys() | after.keys():
        if key not in before:
            now[key] = after[key]
        elif key not in after:
            was[key] = before[key]
        elif before[key] != after[key]:
            old, new = before[key], after[key]
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                old, new = changes(old, new)
            was[key], now[key] = old, new
    return was, now


def _salted(values: Mapping[str, Any]) -> str:
    return canonical({**values, "salt": secrets.token_hex(16)})


def _split(values: dict[str, Any], target: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What may stay for ever, and what is personal."""
    names = _PERSONAL | {"name"} if target in _OF_PEOPLE else _PERSONAL
    return (
        {k: v for k, v in values.items() if k not in names},
        {k: v for k, v in values.items() if k in names},
    )


def _bounded(part: dict[str, Any]) -> dict[str, Any]:
    """A part that is very large is kept as its size and hash: the log must stay readable."""
    text = canonical(part)
    size = len(text.encode())
    return part if size <= MAX_PART_BYTES else {"too_large": True, "size_bytes": size, "sha256": digest(text)}


def _clean(value: Any, name: str = "") -> Any:
    """What JSON, UTF-8 and jsonb can hold, without secrets."""
    if value is None or isinstance(value, bool):
        return value
    if name and _SECRET_NAME.search(name.lower()):
        return _HIDDEN
    if isinstance(value, enum.Enum):
        return _clean(value.value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
        except OverflowError:  # the first or the last day there is, in a time zone of its own
            return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_text(str(k)): _clean(v, str(k)) for k, v in value.items()}
    if isinstance(value, Set):
        return sorted((_clean(v) for v in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [_clean(v) for v in value]
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    return _text(str(value))


def _text(text: str) -> str:
    plain = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return _SECRET_TEXT.sub(f"slw_{_HIDDEN}", plain)
