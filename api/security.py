"""Recognising who makes a request: a Bearer key, or the session cookie with checks against other sites.

Not here: what they may do (`sluiceway.identity.permissions`, asked by `api.deps.require`).
"""

import time
from collections.abc import Iterable
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

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
        self.forget_hash(sessions.hash_token(token))

    def forget_hash(self, found: bytes) -> None:
        with self._lock:
            self._found.pop(found, None)

    def forget_people(self, workspace_id: int, user_id: UUID | None = None) -> None:
        """What somebody, or everybody, holds in the workspace may have changed."""
        with self._lock:
            for hashed, (_, caller) in list(self._found.items()):
                if caller.workspace_id == workspace_id and user_id in (None, caller.user_id):
                    del self._found[hashed]


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
    """Who holds the session token. Raises `NotSignedIn`. Blocks on the database at most every few seconds."""
    cache: SessionCache = services.extra.setdefault("sessions", SessionCache())
    now = services.clock.now()
    found = cache.get(token)
    if found is None or (found.expires_at is not None and found.expires_at <= now):
        with services.database.transaction(Role.APP) as connection:
            found = sessions.find_session(connection, token, now=now, idle=idle_limit(services.settings))
        cache.put(token, found)
    return found


def forget_session(services: "ApiServices", token: str) -> None:
    cache: SessionCache = services.extra.setdefault("sessions", SessionCache())
    cache.forget(token)


def forget_people(services: "ApiServices", workspace_id: int, user_id: UUID | None = None) -> None:
    """Have this process ask anew what a member (None: any member) holds; others do within seconds."""
    cache: SessionCache = services.extra.setdefault("sessions", SessionCache())
    cache.forget_people(workspace_id, user_id)


def forget_sessions(services: "ApiServices", hashes: Iterable[bytes]) -> None:
    """Of sessions that have just ended, by the hashes of their tokens."""
    cache: SessionCache = services.extra.setdefault("sessions", SessionCache())
    for found in hashes:
        cache.forget_hash(found)


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
    "COOKIE", "CrossSiteRequest", "NotSignedIn", "SessionCache", "check_same_origin", "cookie_name",
    "count_caller", "forget_people", "forget_session", "forget_sessions", "identify", "idle_limit",
    "is_https",
    "session_caller", "session_token",
]  # fmt: skip
