"""What surrounds every request but those of the event route: plain ASGI, no buffering.

Request ids, what browsers are told, limits of rate and of a body's size, and an answer when all else failed.
Not here: the gate in front of the pages (`api.page_gate`), how long a client may take to send
(`api.connection_guard`).
"""

import logging
import re
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import error_pages
from api.browser_rules import BrowserRules
from api.error_pages import error_page, wants_page
from api.page_gate import USER_HEADER
from api.problems import MEDIA_TYPE, problem_document
from api.rate_limits import RateLimits
from sluiceway.kit.errors import SluicewayError, TooLarge, TooManyRequests
from sluiceway.kit.ids import uuid7

log = logging.getLogger("sluiceway.api")

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_UPLOAD_BYTES = 256 * 1024 * 1024
SLOW_REQUEST_S = 5.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Observe = Callable[[str, str, int, float], None]
"""Told of each answer: method, route (its template, or `page`), status, seconds until it began."""


class RequestFrame:
    """Outermost: a request id, security headers, limits, and an answer when all else failed."""

    def __init__(
        self, app: ASGIApp, *, rules: BrowserRules, limits: RateLimits, https: bool, observe: Observe
    ) -> None:
        self._app = app
        self._rules = rules
        self._limits = limits
        self._https = https
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # Only our own middleware may say who someone is.
        scope["headers"] = [(k, v) for k, v in scope["headers"] if k.lower() != USER_HEADER]
        scope.setdefault("state", {})["request_id"] = _request_id(scope)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._limits.enter(scope)
        except TooManyRequests as error:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": error.title})
            return
        await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        request_id: str = state["request_id"]
        began, started = time.monotonic(), False

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in self._rules.headers(scope["path"]).items():
                    headers.setdefault(name, value)
                for name, value in state.get("rate_limit", {}).items():
                    headers.setdefault(name, value)
                if self._https:
                    _secure_cookies(message)
                waited = time.monotonic() - began
                self._observe(scope["method"], _route(scope), message["status"], waited)
                if waited > SLOW_REQUEST_S:
                    log.warning("%s took %.1f s (request %s)", _loggable(scope["path"]), waited, request_id)
            await send(message)

        try:
            self._limits.enter(scope)
            _check_length(scope)
            await self._app(scope, _limited(scope, receive), framed)
        except (TooManyRequests, TooLarge) as error:
            await _answer(error, scope, receive, framed)
        except Exception:
            path = _loggable(scope["path"])
            log.exception("%s %s failed (request %s)", scope["method"], path, request_id)
            if not started:
                told = SluicewayError(f"Something went wrong; the log has it as request {request_id}.")
                await _answer(told, scope, receive, framed)


async def _answer(error: SluicewayError, scope: Scope, receive: Receive, send: Send) -> None:
    request_id = scope["state"]["request_id"]
    body, headers = problem_document(error, request_id=request_id)
    media_type = MEDIA_TYPE
    if wants_page(scope["method"], scope["path"], HTTPConnection(scope).headers):
        body, media_type = error_page(error, request_id).encode(), error_pages.MEDIA_TYPE
    await Response(body, error.status, headers, media_type)(scope, receive, send)


def _route(scope: Scope) -> str:
    """A label with few values: never the path as it was sent."""
    return getattr(scope.get("route"), "path", None) or ("page" if "path_params" in scope else "other")


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = str(value.decode("latin-1"))
            if _REQUEST_ID.fullmatch(text):
                return text
    return uuid7().hex


def _loggable(path: str) -> str:
    """A path without line ends and colours: it is whatever somebody sent. A link's token is a secret."""
    if path.startswith("/link/"):
        return "/link/***"
    return path[:200].encode("unicode_escape").decode("ascii")


def _secure_cookies(message: Message) -> None:
    """Every cookie is Secure over https, those that the app's framework sets among them."""
    message["headers"] = [
        (name, b"%b; Secure" % value)
        if name.lower() == b"set-cookie" and b"; secure" not in value.lower()
        else (name, value)
        for name, value in message["headers"]
    ]


def _most_bytes(scope: Scope) -> int:
    return MAX_UPLOAD_BYTES if scope["path"].startswith("/_stcore/") else MAX_BODY_BYTES


def _check_length(scope: Scope) -> None:
    """Refuse a body that says itself that it is too large before any of it is read. Raises `TooLarge`."""
    limit = _most_bytes(scope)
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > limit):
            raise TooLarge(f"The body is larger than {limit // 1024} kB.")


def _limited(scope: Scope, receive: Receive) -> Receive:
    """`receive` that stops a body which is larger than any of these routes needs."""
    seen = 0
    limit = _most_bytes(scope)

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, f"The body is larger than {limit // 1024} kB.")
        return message

    return counted
