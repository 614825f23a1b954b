"""Who may follow a stream: a stream token, an API key, or a session.

Browsers' `EventSource` sends no header, so a token may stand in the address; it is short-lived and for
following alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Query, Request, Security

from api.deps import Services, bearer_scheme, cookie_scheme
from api.security import identify
from api.services import ApiServices
from sluiceway.identity.contracts import DataAccess
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import Unavailable
from sluiceway.live import tokens
from sluiceway.live.errors import NotInToken
from sluiceway.live.rows import RowFeed
from sluiceway.live.service import LiveBroker

TokenParameter = Annotated[
    str | None, Query(max_length=4096, description="A stream token, for clients that send no header.")
]


@dataclass(frozen=True, slots=True)
class Follower:
    """Who follows, with whose eyes. `pipelines`: the only ones allowed; None: every one of the workspace."""

    access: DataAccess
    pipelines: frozenset[str] | None
    expires_at: datetime | None

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
        _bearer: Annotated[object, Security(bearer_scheme)] = None,
        _cookie: Annotated[object, Security(cookie_scheme)] = None,
    ) -> Follower:
        if token is not None:
            grant = tokens.verify(services.key, token, services.clock.now())
            allowed = None if grant.pipelines is None else frozenset(grant.pipelines)
            return Follower(grant.access, allowed, grant.expires_at)
        caller = identify(request, services)
        caller.check(permission)
        return Follower(caller.access, None, caller.expires_at)

    permitted.permission = permission  # type: ignore[attr-defined]  # read by the test that walks the routes
    return permitted


def broker_of(services: ApiServices) -> LiveBroker:
    """Raises `Unavailable` in a process that has no broker."""
    if services.broker is None:
        raise Unavailable("This process serves no streams.")
    return services.broker


def feed_of(services: ApiServices) -> RowFeed:
    feed: RowFeed = services.extra.setdefault("row_feed", RowFeed(services.database))
    return feed
