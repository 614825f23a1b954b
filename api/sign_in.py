"""Signing in and out, for the JSON route and for the page alike: throttling, the cookie, safe ways back.

Not here: passwords and sessions themselves (`sluiceway.identity`).
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from threading import BoundedSemaphore, Lock
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from api.addresses import client_address, source_of
from api.auditing import note, note_refused, note_started
from api.security import cookie_name, forget_session, is_https, session_token
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import service, sessions
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import NotPermitted, SignInThrottled, WrongCredentials
from sluiceway.infra.database import Role, set_identity

FREE_ATTEMPTS = 5
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 300.0
FORGET_AFTER_S = 900.0
_ADDRESSES = 10_000
# argon2id takes 19 MiB and a core for a moment: a burst of attempts must not take all of them.
_hashing = BoundedSemaphore(2)


@dataclass(slots=True)
class _Failures:
    count: int
    last: float
    blocked_until: float


class Throttle:
    """Failed attempts by address: the first few are free, then the wait doubles up to five minutes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise `SignInThrottled` while the address has to wait."""
        now = time.monotonic()
        with self._lock:
            found = self._failures.get(address)
            wait_s = found.blocked_until - now if found is not None else 0.0
        if wait_s > 0:
            raise SignInThrottled(
                f"Too many attempts from this address. Try again in {_spoken(wait_s)}.", retry_after_s=wait_s
            )

    def failed(self, address: str) -> None:
        now = time.monotonic()
        with self._lock:
            found = self._failures.pop(address, None)
            if found is None or now - found.last > FORGET_AFTER_S:
                found = _Failures(0, now, now)
            found.count, found.last = found.count + 1, now
            if (over := found.count - FREE_ATTEMPTS) >= 0:
                found.blocked_until = now + min(FIRST_WAIT_S * 2 ** min(over, 20), LONGEST_WAIT_S)
            self._failures[address] = found
            while len(self._failures) > _ADDRESSES:
                self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        with self._lock:
            self._failures.pop(address, None)


def sign_in(request: Request, services: ApiServices, email: str, password: str) -> tuple[str, Caller]:
    """Check the password and begin a session; returns the cookie's token and who it is.

    Raises `SignInThrottled`, `WrongCredentials`, or `NotPermitted` for someone without any workspace.
    """
    throttle: Throttle = services.extra.setdefault("sign_in", Throttle())
    address = client_address(request.scope)
    source = source_of(address)
    throttle.check(source)
    now = services.clock.now()
    lifetime = timedelta(days=services.settings.session_days)
    with _hashing, services.database.transaction(Role.APP) as conn:
        try:
            user = service.check_password(conn, email, password)
        except WrongCredentials as error:
            throttle.failed(source)
            note_refused(request, services.database, email, method="password", reason=error.code)
            raise
        rooms = service.memberships(conn, user.id)
        if not rooms:
            raise NotPermitted("You do not belong to any workspace yet; ask its owner to add you.")
        set_identity(conn, workspace_id=rooms[0].workspace_id, user_id=str(user.id))
        token = sessions.create_session(
            conn,
            user_id=user.id,
            workspace_id=rooms[0].workspace_id,
            now=now,
            lifetime=lifetime,
            user_agent=request.headers.get("user-agent", ""),
            address=address,
        )
        note_started(request, conn, user, method="password")
    throttle.succeeded(source)
    caller = Caller.from_member(
        user_id=user.id,
        workspace_id=rooms[0].workspace_id,
        role=rooms[0].role,
        email=user.email,
        name=user.name,
        expires_at=now + lifetime,
    )
    return token, caller


def sign_out(request: Request, services: ApiServices, response: Response, caller: Caller) -> None:
    """End the session of this request's cookie and take the cookie back."""
    token = session_token(request, services.settings)
    if token is not None:
        with services.database.transaction(Role.APP, workspace_id=caller.workspace_id) as conn:
            sessions.end_session(conn, caller.workspace_id, token)
            note(request, conn, caller, Action.SESSION_ENDED, target="session")
        forget_session(services, token)
    response.delete_cookie(
        cookie_name(services.settings),
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_https(services.settings),
    )


def set_cookie(response: Response, services: ApiServices, token: str) -> None:
    """HttpOnly: no script reads it. SameSite=Lax: other sites' writes do not carry it."""
    response.set_cookie(
        cookie_name(services.settings),
        token,
        max_age=services.settings.session_days * 86_400,
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_https(services.settings),
    )


def local_path(text: str | None) -> str:
    """`text` if it is a path on this site that a person may be sent to, else `/`."""
    if not text or not text.startswith("/") or text.startswith("//") or len(text) > 2000:
        return "/"
    # Browsers read a backslash as a slash and drop tabs and line ends: `/\\evil` would leave the site.
    if "\\" in text or any(ord(c) < 33 or ord(c) == 127 for c in text):
        return "/"
    parts = urlsplit(text)
    leads_back = parts.path in ("/sign-in", "/sign-out") or parts.path.startswith("/v1/")
    return "/" if parts.scheme or parts.netloc or leads_back else text


def _spoken(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 60:
        return "a second" if whole == 1 else f"{whole} seconds"
    minutes = round(whole / 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"
