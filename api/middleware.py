"""What surrounds every request but those of the event route: plain ASGI, no buffering.

Request ids, security headers, the limit of a body's size, and an answer when all else failed. Not here: the
gate in front of the pages (`api.page_gate`).
"""

import hashlib
import logging
import re
import time
from base64 import b64encode
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.page_gate import USER_HEADER
from api.problems import MEDIA_TYPE, problem_document
from sluiceway.kit.errors import SluicewayError
from sluiceway.kit.ids import uuid7

log = logging.getLogger("sluiceway.api")

MAX_BODY_BYTES = 4 * 1024 * 1024
SLOW_REQUEST_S = 5.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def content_security_policy(*, app: bool) -> str:
    """The policy of every answer. With the Streamlit app its page's own inline scripts are let in by hash."""
    scripts = " ".join(["'self'", *(_streamlit_script_hashes() if app else ())])
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src {scripts}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _streamlit_script_hashes() -> list[str]:
    spec = find_spec("streamlit")
    if spec is None or spec.origin is None:
        return []
    page = Path(spec.origin).parent / "static" / "index.html"
    scripts = _INLINE_SCRIPT.findall(page.read_text(encoding="utf-8"))
    return [f"'sha256-{b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]


Observe = Callable[[str, str, int, float], None]
"""Told of each answer: method, route (its template, or `page`), status, seconds until it began."""


class RequestFrame:
    """Outermost: a request id, security headers, a body limit, and an answer when all else failed."""

    def __init__(self, app: ASGIApp, *, policy: str, https: bool, observe: Observe) -> None:
        self._app = app
        self._observe = observe
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "X-Frame-Options": "DENY",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        if https:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # Only our own middleware may say who someone is.
        scope["headers"] = [(k, v) for k, v in scope["headers"] if k.lower() != USER_HEADER]
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        began, started = time.monotonic(), False

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                waited = time.monotonic() - began
                self._observe(scope["method"], _route(scope), message["status"], waited)
                if waited > SLOW_REQUEST_S:
                    log.warning("%s took %.1f s (request %s)", scope["path"], waited, request_id)
            await send(message)

        try:
            await self._app(scope, _limited(scope, receive), framed)
        except Exception:
            log.exception("%s %s failed (request %s)", scope["method"], scope["path"], request_id)
            if not started:
                error = SluicewayError(f"Something went wrong; the log has it as request {request_id}.")
                body, headers = problem_document(error, request_id=request_id)
                answer = Response(body, 500, headers, MEDIA_TYPE)
                await answer(scope, receive, framed)


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


def _limited(scope: Scope, receive: Receive) -> Receive:
    """`receive` that stops a body which is larger than any of these routes needs."""
    seen = 0
    limit = MAX_BODY_BYTES if not scope["path"].startswith("/_stcore/") else 256 * 1024 * 1024

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, f"The body is larger than {limit // 1024} kB.")
        return message

    return counted
