"""What routes say to the audit log: who the caller is there, and where the request came from.

Every write, every export and every administrative read says so in its own transaction. Not here: the log
itself (`sluiceway.audit`), keys in use (`api.security`).
"""

from datetime import timedelta
from typing import cast

import sqlalchemy as sa
from starlette.requests import HTTPConnection

from api.addresses import client_address
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import ACTOR_KINDS, Actor, ActorKind, Entry, Values
from sluiceway.audit.service import READ_PAUSE, record, record_once
from sluiceway.identity.contracts import Caller


def note(
    request: HTTPConnection,
    conn: sa.Connection,
    caller: Caller,
    action: Action,
    *,
    target: str | None = None,
    target_id: object = None,
    before: Values | None = None,
    after: Values | None = None,
    detail: Values | None = None,
) -> None:
    """Record what the caller did, in the transaction that does it (role APP, of the caller's workspace).

    `target`: the kind of thing, `target_id`: its id or name. `before`, `after`: what changed of it
    (`sluiceway.audit.service.changes` finds it); no secrets, though they would be taken out.
    """
    subject = None if target_id is None else str(target_id)
    record(conn, Entry(action, actor_of(request, caller), target, subject, before, after, detail))


def note_read(
    request: HTTPConnection,
    conn: sa.Connection,
    caller: Caller,
    action: Action,
    *,
    target: str | None = None,
    target_id: object = None,
    detail: Values | None = None,
    pause: timedelta = READ_PAUSE,
) -> None:
    """Record an administrative read; the same one again within `pause` is left out."""
    subject = None if target_id is None else str(target_id)
    entry = Entry(action, actor_of(request, caller), target, subject, detail=detail)
    record_once(conn, entry, pause)


def actor_of(request: HTTPConnection, caller: Caller) -> Actor:
    """The caller as the log names them, with the request's address, user agent and id."""
    kind, _, subject = caller.subject.partition(":")
    if kind not in ACTOR_KINDS:
        kind, subject = "system", caller.subject
    return _actor(request, cast(ActorKind, kind), subject, caller.email or caller.name)


def anonymous(request: HTTPConnection, name: str = "") -> Actor:
    """Somebody who has not said who they are, or could not prove it; `name`: who they say."""
    return _actor(request, "anonymous", "", name)


def _actor(request: HTTPConnection, kind: ActorKind, subject: str, name: str) -> Actor:
    return Actor(
        kind=kind,
        id=subject,
        name=name,
        address=client_address(request.scope),
        user_agent=request.headers.get("user-agent", ""),
        request_id=str(getattr(request.state, "request_id", "")),
    )
