"""Who may follow a stream: a stream token, an API key, or a session.

Browsers' `EventSource` sends no header, so a token may stand in the address; it is short-lived and for
following alone. It is worth no more than whoever made it: they are asked about when it is shown, and again
and again while a stream is open (`Follower.still`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Query, Request, Security

from api.deps import Services, bearer_scheme, cookie_scheme
from api.security import identify, session_caller, session_token
from api.services import ApiServices
from api.viewing import AsRole, look
from sluiceway.identity.contracts import Caller, DataAccess
from sluiceway.identity.errors import NotSignedIn
from sluiceway.identity.permissions import Permission
from sluiceway.identity.standing import find_standing
from sluiceway.infra.database import Role
from sluiceway.kit.errors import Unavailable
from sluiceway.live import tokens
from sluiceway.live.errors import InvalidStreamToken, NotInToken
from sluiceway.live.rows import RowFeed
from sluiceway.live.service import LiveBroker

TokenParameter = Annotated[
    str | None, Query(max_length=4096, description="A stream token, for clients that send no header.")
]


@dataclass(frozen=True, slots=True)
class Follower:
    """Who follows, with whose eyes. `pipelines`: the only ones allowed; None: every one of the workspace.

    `still`: whether they may go on, with the same eyes; blocks on the database.
    """

    access: DataAccess
    pipelines: frozenset[str] | None
    expires_at: datetime | None
    still: Callable[[], bool]

    def check(self, pipeline: str) -> None:
        if self.pipelines is not None and pipeline not in self.pipelines:
            raise NotInToken(f"The token is not for the pipeline {pipeline!r}.")

    def seconds_left(self, now: datetime, most: float) -> float:
        if self.expires_at is None:
            return most
        return max(0.0, min(most, (self.expires_at - now).total_seconds()))


def require_follower(permission: Permission) -> Callable[..., Follower]:
    """A dependency that gives the follower, or raises `Unauthenticated` (401) or `Forbidden` (403)."""

    def permitted(
        request: Request,
        services: Services,
        token: TokenParameter = None,
        _as_role: AsRole = None,
        _bearer: Annotated[object, Security(bearer_scheme)] = None,
        _cookie: Annotated[object, Security(cookie_scheme)] = None,
    ) -> Follower:
        if token is not None:
            return _by_token(services, token, permission)
        caller = look(request, services, identify(request, services))
        caller.check(permission)
        if caller.key is not None:
            still = partial(_holds, services, caller.subject, own_eyes(caller.access), permission)
        else:
            session = session_token(request, services.settings) or ""
            still = partial(_session_holds, services, session, own_eyes(caller.access), permission)
        return Follower(caller.access, None, caller.expires_at, still)

    permitted.permission = permission  # type: ignore[attr-defined]  # read by the test that walks the routes
    return permitted


def own_eyes(access: DataAccess) -> DataAccess:
    """Of somebody who views as another: their own."""
    return access.behind or access


def _by_token(services: ApiServices, token: str, permission: Permission) -> Follower:
    """Raises `InvalidStreamToken` where whoever made it could not make it any more."""
    grant = tokens.verify(services.key, token, services.clock.now())
    own = own_eyes(grant.access)
    who = _standing(services, grant.subject, own.workspace_id)
    if who is None or not who.may(permission) or (grant.access.behind is not None and who.access != own):
        raise InvalidStreamToken("Who made the stream token may no longer see this; ask for a new one.")
    access = who.access if grant.access.behind is None else grant.access
    allowed = None if grant.pipelines is None else frozenset(grant.pipelines)
    still = partial(_holds, services, grant.subject, who.access, permission)
    return Follower(access, allowed, grant.expires_at, still)


def _standing(services: ApiServices, subject: str, workspace_id: int) -> Caller | None:
    with services.database.transaction(Role.APP) as connection:
        return find_standing(connection, workspace_id, subject, now=services.clock.now())


def _holds(services: ApiServices, subject: str, eyes: DataAccess, permission: Permission) -> bool:
    who = _standing(services, subject, eyes.workspace_id)
    return who is not None and who.may(permission) and who.access == eyes


def _session_holds(services: ApiServices, session: str, eyes: DataAccess, permission: Permission) -> bool:
    try:
        who = session_caller(services, session)
    except NotSignedIn:
        return False
    return who.may(permission) and own_eyes(who.access) == eyes


def broker_of(services: ApiServices) -> LiveBroker:
    """Raises `Unavailable` in a process that has no broker."""
    if services.broker is None:
        raise Unavailable("This process serves no streams.", retry_after_s=1)
    return services.broker


def feed_of(services: ApiServices) -> RowFeed:
    feed: RowFeed = services.extra.setdefault("row_feed", RowFeed(services.database))
    return feed
