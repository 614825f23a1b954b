"""What every route depends on: the services, who is asking, permission, and transactions on their behalf.

Permission is asked here and nowhere else: `caller: Annotated[Caller, Depends(require(Permission.X))]`.
How a caller is recognised is in `api.security`.

Dependencies that only look at what is there are coroutines: each that is not costs a thread's turn, which a
busy process pays many times over. Who asks the database does so in one thread's turn together.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, cast
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyCookie, HTTPBearer

from api.security import COOKIE, identify
from api.services import ApiServices
from api.viewing import look
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import PeopleOnly
from sluiceway.identity.permissions import Permission
from sluiceway.infra.database import Role

bearer_scheme = HTTPBearer(
    scheme_name="api_key", description="An API key, `slw_<id>_<secret>`.", auto_error=False
)
cookie_scheme = APIKeyCookie(
    name=COOKIE,
    scheme_name="session",
    description="The sign-in session. Writes also need the header `X-Sluiceway-Request: 1`.",
    auto_error=False,
)


def services(request: Request) -> ApiServices:
    """The application's services."""
    return cast(ApiServices, request.app.state.services)


async def _services(request: Request) -> ApiServices:
    return services(request)


Services = Annotated[ApiServices, Depends(_services)]


async def caller(
    request: Request,
    _bearer: Annotated[object, Security(bearer_scheme)] = None,
    _cookie: Annotated[object, Security(cookie_scheme)] = None,
) -> Caller:
    """Whoever is asking. Raises `Unauthenticated` (401), or `Forbidden` for another site's write."""
    return await run_in_threadpool(_recognised, request)


def _recognised(request: Request) -> Caller:
    known = services(request)
    return look(request, known, identify(request, known))


def require(permission: Permission) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """A dependency that gives the caller, or raises `Unauthenticated` (401) or `Forbidden` (403)."""

    async def permitted(who: Annotated[Caller, Depends(caller)]) -> Caller:
        who.check(permission)
        return who

    permitted.permission = permission  # type: ignore[attr-defined]  # read by the test that walks the routes
    return permitted


def person(who: Caller) -> Caller:
    """The caller, if it is a person who is signed in. Raises `PeopleOnly` (403) for a key."""
    person_id(who)
    return who


async def _person(who: Annotated[Caller, Depends(caller)]) -> Caller:
    """A person who is signed in, whatever they may do: for what is about themselves.

    Raises `Unauthenticated` (401), or `PeopleOnly` (403) for a key.
    """
    return person(who)


def person_id(who: Caller) -> UUID:
    """The person's id. Raises `PeopleOnly` for a key."""
    if who.user_id is None:
        raise PeopleOnly("A key is nobody: sign in to do this.")
    return who.user_id


Person = Annotated[Caller, Depends(_person)]


async def _whole_person(who: Person) -> Caller:
    """The same, with the second factor if their workspace asks for one: for what a thief must not do.

    Raises `SecondFactorMissing` (403), too.
    """
    who.check_second_factor()
    return who


WholePerson = Annotated[Caller, Depends(_whole_person)]


@contextmanager
def catalog(services: ApiServices, caller: Caller) -> Iterator[sa.Connection]:
    """One transaction as the role APP in the caller's workspace; committed when the block ends well."""
    with services.database.transaction(Role.APP, user_id=_user(caller), access=caller.access) as connection:
        yield connection


@contextmanager
def reader(services: ApiServices, caller: Caller) -> Iterator[sa.Connection]:
    """One read-only transaction as the role READER (statement timeout), with the caller's eyes."""
    with services.database.transaction(
        Role.READER, user_id=_user(caller), access=caller.access
    ) as connection:
        yield connection


def _user(caller: Caller) -> str | None:
    return None if caller.user_id is None else str(caller.user_id)
