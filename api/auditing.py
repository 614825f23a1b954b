"""What routes say to the audit log: who the caller is there, and where the request came from.

Every write, every export and every administrative read says so in its own transaction. Not here: the log
itself (`sluiceway.audit`), keys in use (`api.security`).
"""

import re
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import sqlalchemy as sa
from starlette.requests import HTTPConnection

from api.addresses import client_address
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import ACTOR_KINDS, Actor, ActorKind, Entry, Values
from sluiceway.audit.service import READ_PAUSE, record, record_once
from sluiceway.identity import service
from sluiceway.identity.contracts import Caller, User
from sluiceway.infra.database import Database, Role, set_identity

if TYPE_CHECKING:
    from sluiceway.identity.federation import Admitted
    from sluiceway.identity.providers import Provider

FIRST_WORKSPACE = 1
_ADDRESS = re.compile(r"[^\s@]{1,64}@[^\s@]{1,190}")


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

    `target`: the kind of thing, `target_id`: its id or name. `before`, `after`: it as it was and as it is
    (what differs is kept); no secrets, though they would be taken out.
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


def note_started(
    request: HTTPConnection, conn: sa.Connection, user: User, *, method: str, detail: Values | None = None
) -> None:
    """Record that a person's session began; the transaction acts for its workspace.

    `method`: what they proved themselves with (`password`, `passkey`, a provider's name).
    """
    actor = _actor(request, "user", str(user.id), user.email)
    entry = Entry(Action.SESSION_STARTED, actor, "session", detail={"method": method, **(detail or {})})
    record(conn, entry)


def note_asked(request: HTTPConnection, conn: sa.Connection, user: User, rooms: Sequence[int]) -> None:
    """Record that a password was right and a second factor is awaited; acts for the first room afterwards."""
    if rooms:
        set_identity(conn, workspace_id=rooms[0], user_id=str(user.id))
        actor = _actor(request, "anonymous", "", user.email)
        record(conn, Entry(Action.SECOND_FACTOR_ASKED, actor, "user", str(user.id)))


def note_refused(
    request: HTTPConnection, database: Database, email: str, *, method: str, reason: str
) -> None:
    """Record, in a transaction of its own, that somebody was not let in; `reason`: the answer's code.

    It is told to the person's first workspace, and to the installation's first one if nobody has this
    address: both cost the same, so that time does not tell who exists.
    """
    with database.transaction(Role.APP) as conn:
        user = service.find_user(conn, email)
        rooms = service.memberships(conn, user.id if user is not None else uuid.UUID(int=0))
        set_identity(conn, workspace_id=rooms[0].workspace_id if rooms else FIRST_WORKSPACE)
        # What is no address may be a password in the wrong field.
        claimed = email.strip()[:200] if user is not None or _ADDRESS.fullmatch(email.strip()) else ""
        record(
            conn,
            Entry(
                Action.SESSION_REFUSED,
                anonymous(request, claimed),
                "user",
                None if user is None else str(user.id),
                detail={"method": method, "reason": reason},
            ),
        )


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


def note_federated(
    request: HTTPConnection, conn: sa.Connection, admitted: "Admitted", provider: "Provider"
) -> None:
    """Record what a sign-in through a provider changed: in the workspace that it changed.

    Leaves the transaction acting for no workspace.
    """
    user = admitted.user
    actor = _actor(request, "user", str(user.id), user.email)
    for change in admitted.changes:
        set_identity(conn, workspace_id=change.workspace_id, user_id=str(user.id))
        if change.before is None:
            action = Action.MEMBER_JOINED
        else:
            action = Action.MEMBER_DISABLED if change.after is None else Action.MEMBER_ROLE_CHANGED
        record(
            conn,
            Entry(
                action,
                actor,
                "member",
                str(user.id),
                before=None if change.before is None else {"role": change.before},
                after=None if change.after is None else {"role": change.after},
                detail={"provider": provider.spec.name, "account_made": admitted.made},
            ),
        )
    set_identity(conn, workspace_id=None, user_id=str(user.id))
