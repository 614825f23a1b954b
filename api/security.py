"""Recognising who makes a request: a Bearer key, or the session cookie with checks against other sites.

Not here: what they may do (`sluiceway.identity.permissions`, asked by `api.deps.require`).
"""

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request

from api.addresses import client_address
from api.key_uses import KeyUses, note_request
from sluiceway.identity import keys, sessions
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidKey, NotSignedIn
from sluiceway.infra.database import Role
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import Forbidden, Unauthenticated

if TYPE_CHECKING:
    from api.rate_limits import RateLimits
    from api.services import ApiServices

COOKIE = "sluiceway_session"
"""The session's cookie; over https its name begins with `__Host-` (`cookie_name`)."""
REQUEST_HEADER = "x-sluiceway-request"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class CrossSiteRequest(Forbidden):
    code = "cross_site_request"
    title = "The request does not come from this site"


def identify(request: Request, services: "ApiServices") -> Caller:
    """The caller, once a request. A key goes before a cookie.

    Raises `Unauthenticated`, `TooManyRequests`, or `CrossSiteRequest` for a write with a cookie and
    without our header, or from another origin.
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    found = (
        _by_key(request, services) if "authorization" in request.headers else _by_cookie(request, services)
    )
    count_caller(services, request, found)
    request.state.caller = found
    return found


def count_caller(services: "ApiServices", connection: HTTPConnection, caller: Caller) -> None:
    """Count the request against its caller's limit. Raises `TooManyRequests`."""
    limits: RateLimits | None = services.extra.get("rate_limits")
    if limits is not None:
        limits.recognise(connection, caller)


def session_caller(services: "ApiServices", token: str) -> Caller:
    """Who holds the session token, as the database says at this moment. Raises `NotSignedIn`. Blocks.

    Nothing is remembered: what has ended or changed, wherever that was done, holds for the next request.
    """
    now, idle = services.clock.now(), idle_limit(services.settings)
    with services.database.single(Role.APP) as connection:
        return sessions.find_session(connection, token, now=now, idle=idle)


def idle_limit(settings: Settings) -> timedelta:
    """After how long without a request a session that is not remembered ends."""
    return timedelta(minutes=settings.session_idle_minutes)


def is_https(settings: Settings) -> bool:
    """Whether people reach the platform over https: cookies are Secure then, and browsers told to stay."""
    return settings.public_url.startswith("https://")


def cookie_name(settings: Settings, base: str = COOKIE) -> str:
    """The name under which a cookie is set and read.

    Over https it begins with `__Host-`: browsers take such a cookie from this very host alone, over https
    alone, so that a neighbouring subdomain can neither plant one nor replace it.
    """
    return f"__Host-{base}" if is_https(settings) else base


def session_token(connection: HTTPConnection, settings: Settings) -> str | None:
    """The session's token as the browser sent it, or None."""
    return connection.cookies.get(cookie_name(settings))


def check_same_origin(connection: HTTPConnection, public_url: str, *, socket: bool = False) -> None:
    """Raise `CrossSiteRequest` if the browser says that another site made this request.

    Browsers send `Origin` with every write; a program without one is judged by our header alone. With every
    socket they send one too, and cannot send a header of ours: a `socket` without is refused.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        if socket or connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise CrossSiteRequest("The request was made by another site.")
        return
    said, public = urlsplit(origin), urlsplit(public_url)
    if not said.netloc or said.netloc not in (connection.headers.get("host"), public.netloc):
        raise CrossSiteRequest("The request's Origin is another site.")
    if public.scheme == "https" and said.scheme != "https":
        raise CrossSiteRequest("The request's Origin is not under https.")


def _by_key(request: Request, services: "ApiServices") -> Caller:
    scheme, _, text = request.headers["authorization"].partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise InvalidKey("Send the API key as 'Authorization: Bearer slw_…'.")
    now = services.clock.now()
    uses: KeyUses = services.extra.setdefault("key_uses", KeyUses(services.database))
    address = client_address(request.scope)
    with services.database.transaction(Role.APP) as connection:
        found = keys.authenticate(connection, text.strip(), now=now)
        keys.touch_key(connection, found, now, address)
        known = uses.is_known(found.key_id, address)
        if not known:
            note_request(request, connection, found)
    if not known:
        uses.told(found.key_id, address)
    return Caller.from_key(found)


def _by_cookie(request: Request, services: "ApiServices") -> Caller:
    token = session_token(request, services.settings)
    if token is None:
        raise Unauthenticated("Sign in, or send an API key as 'Authorization: Bearer slw_…'.")
    found = session_caller(services, token)
    if request.method not in SAFE_METHODS:
        if request.headers.get(REQUEST_HEADER) != "1":
            raise CrossSiteRequest("A write with a session needs the header 'X-Sluiceway-Request: 1'.")
        check_same_origin(request, services.settings.public_url)
    return found


__all__ = [
    "COOKIE", "CrossSiteRequest", "NotSignedIn", "check_same_origin", "cookie_name", "count_caller",
    "identify", "idle_limit", "is_https", "session_caller", "session_token",
]  # fmt: skip
