"""The gate in front of the app: its pages and sockets are for people who are signed in, from this site alone.

Belongs here: whom the gate lets through, what it tells the app of them, what it keeps from the app. Not here:
recognising a session (`api.security`), what surrounds every request (`api.middleware`).
"""

import json
import logging
from urllib.parse import quote

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import error_pages
from api.addresses import client_address
from api.deps import catalog, person_id
from api.error_pages import error_page, wants_page
from api.personal_page import personal, whole
from api.problems import MEDIA_TYPE, problem_document
from api.security import (
    SAFE_METHODS,
    CrossSiteRequest,
    check_same_origin,
    count_caller,
    session_caller,
    session_token,
)
from api.services import ApiServices
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import NotSignedIn, SecondFactorMissing
from sluiceway.identity.preferences import Preferences, get_preferences
from sluiceway.kit.errors import NotFound, SluicewayError, TooManyRequests, Unavailable

log = logging.getLogger("sluiceway.api")

USER_HEADER = b"x-sluiceway-user"
# Bundles and fonts of the page's shell, the same for everyone: no look-up for each of a hundred files.
OPEN_PREFIXES = ("/static/", "/favicon")
OPEN_PATHS = frozenset({"/_stcore/health", "/robots.txt"})


class PageGate:
    """In front of the app: pages and their sockets are for people who are signed in.

    `addresses`: the app's pages; any other is not found (None: the app judges by itself).
    """

    def __init__(self, app: ASGIApp, services: ApiServices, addresses: frozenset[str] | None = None) -> None:
        self._app = app
        self._services = services
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        # Files alone: a socket is nobody's before it is known whose.
        if scope["type"] == "http" and (path.startswith(OPEN_PREFIXES) or path in OPEN_PATHS):
            answer = self._pass if path in OPEN_PATHS else self._file
            await answer(scope, receive, send)
            return
        try:
            caller = await self._recognise(scope)
        except NotSignedIn:
            await self._turn_away(scope, receive, send)
            return
        except (CrossSiteRequest, TooManyRequests) as error:
            await self._refuse(error, scope, receive, send)
            return
        except sa.exc.SQLAlchemyError as error:
            log.warning("database away: %s (page %s)", type(error).__name__, path)
            away = Unavailable("The database does not answer.", retry_after_s=2)
            await self._refuse(away, scope, receive, send)
            return
        if caller.second_factor_missing:
            await self._ask_for_second_factor(scope, receive, send)
            return
        page = _is_page(scope)
        if page and self._addresses is not None and path.strip("/") not in self._addresses:
            await self._refuse(NotFound("There is no such page."), scope, receive, send)
            return
        preferred = Preferences()
        if page or scope["type"] == "websocket":  # a page and the socket behind it, not every file
            preferred = await run_in_threadpool(self._ask_preferred, caller)
        who = user_header(caller, client_address(scope), preferred)
        scope["headers"] = [*scope["headers"], (USER_HEADER, who)]
        if page:
            scope["headers"] = whole(scope["headers"])
        await self._pass(scope, receive, personal(send, preferred) if page else send)

    def _ask_preferred(self, caller: Caller) -> Preferences:
        try:
            with catalog(self._services, caller) as conn:
                return get_preferences(conn, caller.workspace_id, person_id(caller))
        except (NotFound, sa.exc.SQLAlchemyError):
            return Preferences()  # the page is worth more than its colours

    async def _recognise(self, scope: Scope) -> Caller:
        """Raises `NotSignedIn`, `TooManyRequests`, or `CrossSiteRequest` for what another site began."""
        connection = HTTPConnection(scope)
        token = session_token(connection, self._services.settings)
        if token is None:
            raise NotSignedIn("Nobody is signed in.")
        caller = await run_in_threadpool(session_caller, self._services, token)
        socket = scope["type"] == "websocket"
        if socket or scope["method"] not in SAFE_METHODS:
            check_same_origin(connection, self._services.settings.public_url, socket=socket)
        count_caller(self._services, connection, caller)
        return caller

    async def _file(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A file for everyone. For one that it does not have the app would answer with its page's frame."""
        missing = False

        async def only_files(message: Message) -> None:
            nonlocal missing
            if message["type"] == "http.response.start" and _is_html(message):
                missing = True
                await self._refuse(NotFound("There is no such file."), scope, receive, send)
            elif not missing:
                await send(message)

        await self._pass(scope, receive, only_files)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Streamlit would decide anew who may, and ask a host outside for this machine's address to do so.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != b"origin"]

        async def own_site(message: Message) -> None:
            """It lets every site read its bundles and media: they are for this one."""
            if message["type"] == "http.response.start":
                message["headers"] = [
                    pair
                    for pair in message.get("headers", ())
                    if not pair[0].lower().startswith(b"access-control-")
                ]
            await send(message)

        await self._app(scope, receive, own_site)

    @staticmethod
    async def _refuse(error: SluicewayError, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": error.title})
            return
        request_id = scope["state"].get("request_id")
        body, headers = problem_document(error, request_id=request_id)
        media_type = MEDIA_TYPE
        if wants_page(scope["method"], scope["path"], HTTPConnection(scope).headers):
            body, media_type = error_page(error, request_id).encode(), error_pages.MEDIA_TYPE
        await Response(body, error.status, headers, media_type)(scope, receive, send)

    async def _ask_for_second_factor(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = SecondFactorMissing("This workspace asks for a second factor: set one up first.")
        if not _is_page(scope):
            await self._refuse(error, scope, receive, send)
            return
        answer = RedirectResponse("/account", status_code=303, headers={"Cache-Control": "no-store"})
        await answer(scope, receive, send)

    async def _turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = scope["type"] == "websocket"
        if socket or scope["path"].startswith("/_stcore/") or scope["method"] not in ("GET", "HEAD"):
            await self._refuse(NotSignedIn("Sign in first."), scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        wanted = f"{scope['path']}?{query}" if query else scope["path"]
        target = "/sign-in" if wanted == "/" else f"/sign-in?next={quote(wanted, safe='/')}"
        answer = RedirectResponse(target, status_code=303, headers={"Cache-Control": "no-store"})
        await answer(scope, receive, send)


def _is_page(scope: Scope) -> bool:
    """Whether a browser asks for a page to show."""
    if scope["type"] == "websocket":
        return False
    return wants_page(scope["method"], scope["path"], HTTPConnection(scope).headers)


def _is_html(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/html")
        for name, value in start.get("headers", ())
    )


def user_header(caller: Caller, address: str, preferred: Preferences) -> bytes:
    """Who is signed in, for the app: ASCII JSON with id, email, name, role, workspace_id, address, zone."""
    found = {
        "id": str(caller.user_id),
        "email": caller.email,
        "name": caller.name,
        "role": caller.role,
        "workspace_id": caller.workspace_id,
        "address": address,
        "time_zone": preferred.time_zone,
    }
    return json.dumps(found, separators=(",", ":")).encode("ascii")
