"""The app's page as its visitor prefers it: colours and time zone are told to it before it begins.

Streamlit keeps the chosen theme in the browser, by path, and reads it as it starts. So a script of ours,
which the policy lets in by its address, goes before its own and puts the preference there. Not here: what
is preferred (`sluiceway.identity.preferences`), whom the gate lets through (`api.page_gate`).
"""

from collections.abc import Sequence
from html import escape

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from api.pages import shell
from sluiceway.identity.preferences import Preferences

_HEAD = b"<head>"
_SHORTENED = frozenset({b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"})
# Streamlit's page has some kilobytes; what is larger is no page of its.
_LARGEST = 1024 * 1024


def whole(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A request's headers without those that would have the page sent compressed, or not at all."""
    return [(name, value) for name, value in headers if name.lower() not in _SHORTENED]


def personal(send: Send, preferred: Preferences) -> Send:
    """`send`, with the script put into an HTML page; everything else goes through as it is."""
    start: Message | None = None
    body = b""

    async def forward(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start" and _is_page(message):
            start = message
            return
        if start is None or message["type"] != "http.response.body":
            await send(message)
            return
        body += message.get("body", b"")
        if message.get("more_body", False) and len(body) <= _LARGEST:
            return
        whole = body.replace(_HEAD, _HEAD + script(preferred), 1)
        headers = MutableHeaders(scope=start)
        if "content-length" in headers:
            headers["content-length"] = str(len(whole))
        # It is this person's, and not the same tomorrow.
        for name in ("etag", "last-modified"):
            del headers[name]
        headers["cache-control"] = "no-store"
        first, start = start, None
        await send(first)
        await send({**message, "body": whole})

    return forward


def script(preferred: Preferences) -> bytes:
    """The element that tells the page what the person prefers."""
    theme = {"light": "Light", "dark": "Dark"}.get(preferred.theme, "System")
    zone = escape(preferred.time_zone or "")
    source = f"/assets/preferences.js?v={shell.version()}"
    return f'<script src="{source}" data-theme="{theme}" data-zone="{zone}"></script>'.encode()


def _is_page(message: Message) -> bool:
    kinds = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
    encoded = any(name.lower() == b"content-encoding" for name, _ in message.get("headers", ()))
    return message["status"] == 200 and bool(kinds) and kinds[0].startswith(b"text/html") and not encoded
