"""Cookies of a session, signing out, and safe ways back after signing in.

Not here: proving who one is (`api.proving`), passwords and sessions themselves (`sluiceway.identity`).
"""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from api.auditing import note
from api.proving import DEVICE_COOKIE, SignedIn
from api.security import cookie_name, is_https, session_token
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import devices, sessions
from sluiceway.identity.contracts import Caller
from sluiceway.infra.database import Role

_BACK = ("/sign-in", "/sign-out", "/forgot", "/reset", "/confirm")


def sign_out(request: Request, services: ApiServices, response: Response, caller: Caller) -> None:
    """End the session of this request's cookie and take the cookie back."""
    token = session_token(request, services.settings)
    if token is not None:
        with services.database.transaction(Role.APP, workspace_id=caller.workspace_id) as conn:
            sessions.end_session(conn, caller.workspace_id, token)
            note(request, conn, caller, Action.SESSION_ENDED, target="session")
    drop_cookie(response, services, cookie_name(services.settings))


def set_cookies(response: Response, services: ApiServices, signed_in: SignedIn) -> None:
    """The session's, which ends with the browser unless it is to be remembered, and the device's.

    HttpOnly: no script reads them. SameSite=Lax: other sites' writes do not carry them.
    """
    lifetime_s = services.settings.session_days * 86_400 if signed_in.persistent else None
    put_cookie(response, services, cookie_name(services.settings), signed_in.token, lifetime_s)
    put_cookie(
        response,
        services,
        cookie_name(services.settings, DEVICE_COOKIE),
        signed_in.device,
        int(devices.LIFETIME.total_seconds()),
    )


def put_cookie(
    response: Response, services: ApiServices, name: str, value: str, lifetime_s: int | None
) -> None:
    """A cookie of our own; `lifetime_s` None: until the browser is closed."""
    response.set_cookie(
        name,
        value,
        max_age=lifetime_s,
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_https(services.settings),
    )


def drop_cookie(response: Response, services: ApiServices, name: str) -> None:
    response.delete_cookie(name, path="/", httponly=True, samesite="lax", secure=is_https(services.settings))


def local_path(text: str | None) -> str:
    """`text` if it is a path on this site that a person may be sent to, else `/`."""
    if not text or not text.startswith("/") or text.startswith("//") or len(text) > 2000:
        return "/"
    # Browsers read a backslash as a slash and drop tabs and line ends: `/\\evil` would leave the site.
    if "\\" in text or any(ord(c) < 33 or ord(c) == 127 for c in text):
        return "/"
    parts = urlsplit(text)
    leads_back = parts.path in _BACK or parts.path.startswith(("/v1/", "/sign-in/"))
    return "/" if parts.scheme or parts.netloc or leads_back else text
