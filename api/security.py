"""Recognising who makes a request: a Bearer key, or the session cookie with checks against other sites.

Not here: what they may do (`sluiceway.identity.permissions`, asked by `api.deps.require`).
"""

import time
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request

from sluiceway.identity import keys, sessions
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidKey, NotSignedIn
from sluiceway.infra.database import Role
from sluiceway.kit.errors import Forbidden, Unauthenticated

if TYPE_CHECKING:
    from api.services import ApiServices

COOKIE = "sluiceway_session"
REQUEST_HEADER = "x-sluiceway-request"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SESSION_CACHE_S = 5.0
_SESSION_CACHE_SIZE = 2048


class CrossSiteRequest(Forbidden):
    code = "cross_site_request"
    title = "The request does not come from this site"


class SessionCache:
    """Callers by session token for a few seconds, so that a page's dozen requests cost one look-up.

    Signing out in this process forgets at once; another process notices within `SESSION_CACHE_S`.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[bytes, tuple[float, Caller]] = {}

    def get(self, token: str) -> Caller | None:
        with self._lock:
            entry = self._found.get(sessions.hash_token(token))
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    def put(self, token: str, caller: Caller) -> None:
        with self._lock:
            if len(self._found) >= _SESSION_CACHE_SIZE:
                self._found.clear()
            self._found[sessions.hash_token(token)] = (time.monotonic() + SESSION_CACHE_S, caller)

    def forget(self, token: str) -> None:
        with self._lock:
            self._found.pop(sessions.hash_token(token), None)


def identify(request: Request, services: "ApiServices") -> Caller:
    """The caller, once a request. A key goes before a cookie.

    Raises `Unauthenticated`, or `CrossSiteRequest` for a cookie-authenticated write without our header or
    from another origin.
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    found = (
        _by_key(request, services) if "authorization" in request.headers else _by_cookie(request, services)
    )
    request.state.caller = found
    return found


def session_caller(services: "ApiServices", token: str) -> Caller:
    """Who holds the session token. Raises `NotSignedIn`. Blocks on the database at most every few seconds."""
    cache: SessionCache = services.extra.setdefault("sessions", SessionCache())
    now = services.clock.now()
    found = cache.get(token)
    if found is None or (found.expires_at is not None and found.expires_at <= now):
        with services.database.transaction(Role.APP) as connection:
            found = sessions.find_session(connection, token, now=now)
        cache.put(token, found)
    return found


def forget_session(services: "ApiServices", token: str) -> None:
    cache: SessionCache = services.extra.setdefault("sessions", SessionCache())
    cache.forget(token)


def check_same_origin(connection: HTTPConnection, public_url: str) -> None:
    """Raise `CrossSiteRequest` if the browser says that another site made this request.

    Browsers send `Origin` with every write; a program without one is judged by our header alone.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        if connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise CrossSiteRequest("The request was made by another site.")
        return
    host = urlsplit(origin).netloc
    if host not in (connection.headers.get("host"), urlsplit(public_url).netloc) or not host:
        raise CrossSiteRequest("The request's Origin is another site.")


def _by_key(request: Request, services: "ApiServices") -> Caller:
    scheme, _, text = request.headers["authorization"].partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise InvalidKey("Send the API key as 'Authorization: Bearer slw_…'.")
    now = services.clock.now()
    with services.database.transaction(Role.APP) as connection:
        found = keys.authenticate(connection, text.strip(), now=now)
        connection.exec_driver_sql(
            "SELECT set_config('sluiceway.workspace_id', %(workspace)s, true)",
            {"workspace": str(found.workspace_id)},
        )
        keys.touch_key(connection, found.workspace_id, found.key_id, now)
    return Caller.from_key(found)


def _by_cookie(request: Request, services: "ApiServices") -> Caller:
    token = request.cookies.get(COOKIE)
    if token is None:
        raise Unauthenticated("Sign in, or send an API key as 'Authorization: Bearer slw_…'.")
    found = session_caller(services, token)
    if request.method not in SAFE_METHODS:
        if request.headers.get(REQUEST_HEADER) != "1":
            raise CrossSiteRequest("A write with a session needs the header 'X-Sluiceway-Request: 1'.")
        check_same_origin(request, services.settings.public_url)
    return found


__all__ = [
    "COOKIE", "CrossSiteRequest", "NotSignedIn", "SessionCache", "check_same_origin", "forget_session",
    "identify", "session_caller",
]  # fmt: skip
