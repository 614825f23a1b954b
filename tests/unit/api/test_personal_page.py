"""What is put into the app's page for its visitor, and what goes through untouched."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from api.personal_page import personal
from sluiceway.identity.preferences import Preferences

PAGE = b"<!doctype html><html><head><title>x</title></head><body></body></html>"
DARK = Preferences("dark", "Europe/Vienna", None)
Headers = list[tuple[bytes, bytes]]


def answered(
    status: int, headers: Headers, chunks: Sequence[bytes], preferred: Preferences = DARK
) -> tuple[dict[str, Any], bytes]:
    """The start message and the whole body that come out."""
    seen: list[Any] = []

    async def collect(message: Any) -> None:
        seen.append(message)

    async def run() -> None:
        send = personal(collect, preferred)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for index, chunk in enumerate(chunks):
            more = index < len(chunks) - 1
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

    anyio.run(run)
    return seen[0], b"".join(m["body"] for m in seen[1:])


def test_a_page_is_told_before_its_own_scripts() -> None:
    headers = [(b"content-type", b"text/html"), (b"content-length", b"70"), (b"etag", b'"1"')]
    start, body = answered(200, headers, [PAGE[:9], PAGE[9:], b""])
    script = body[body.index(b"<head>") + 6 : body.index(b"<title>")]
    assert script.startswith(b'<script src="/assets/preferences.js?v=')
    assert b'data-theme="Dark" data-zone="Europe/Vienna"' in script
    assert body.replace(script, b"") == PAGE
    found = dict(start["headers"])
    assert int(found[b"content-length"]) == len(body)
    assert b"etag" not in found and found[b"cache-control"] == b"no-store"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [(b"content-type", b"text/css")]),
        (200, []),
        (304, [(b"content-type", b"text/html")]),
        (404, [(b"content-type", b"text/html")]),
        (200, [(b"content-type", b"text/html"), (b"content-encoding", b"gzip")]),
    ],
)
def test_everything_else_goes_through(status: int, headers: Headers) -> None:
    start, body = answered(status, list(headers), [PAGE, b"more"])
    assert body == PAGE + b"more" and start["headers"] == headers


def test_what_is_preferred_cannot_leave_its_attribute() -> None:
    evil = Preferences("system", '"><script>alert(1)</script>', None)
    body = answered(200, [(b"content-type", b"text/html; charset=utf-8")], [PAGE], evil)[1]
    assert b"<script>alert" not in body and b'data-theme="System"' in body
