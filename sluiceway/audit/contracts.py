"""What the audit log is given and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

ActorKind = Literal["user", "key", "system", "service_account", "link", "anonymous"]
ACTOR_KINDS: tuple[ActorKind, ...] = ("user", "key", "system", "service_account", "link", "anonymous")
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, and from where. `id`: a person's UUID, a key's id, `cli` or a process's name for `system`.

    `name` (for a person the e-mail address), `address` and `user_agent` are erased with the person.
    """

    kind: ActorKind
    id: str
    name: str
    address: str = ""
    user_agent: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded. Values are what JSON can hold, times, UUIDs and enumerations.

    `target`: the kind of thing (`key`, `pipeline`, …), `target_id`: its id or name. `before`, `after`: it as
    it was and as it is, of which what differs is kept; both None where nothing changed. Secrets are taken
    out, whatever the caller gives.
    """

    action: str
    actor: Actor
    target: str | None = None
    target_id: str | None = None
    before: Values | None = None
    after: Values | None = None
    detail: Values | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as it stands in the log of a workspace.

    `seq` counts from 1 without a gap. `hash` is SHA-256 over `previous` and the entry (see `chain`).
    `who`, `whom`: what is personal of the actor and of the target, as JSON text; None: erased, or nothing.
    """

    workspace_id: int
    seq: int
    at: datetime
    content: str = field(repr=False)
    who: str | None = field(repr=False)
    whom: str | None = field(repr=False)
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry as people read it. `erased`: the actor's name and address are gone."""

    seq: int
    at: datetime
    action: str
    actor: Actor
    target: str | None
    target_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    detail: dict[str, Any] | None
    erased: bool
    previous: bytes
    hash: bytes
