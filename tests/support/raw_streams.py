"""Sockets and endless answers of an ASGI application, without a server: what a client is told, and no more.

Beside `raw_asgi`, which is for answers that end.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

LIMIT_S = 150.0
Header = tuple[bytes, bytes]


@dataclass
class Streamed:
    """What came of a request: all of the answer, or the part up to where the client had enough."""

    status: int = 0
    body: bytes = b""
    headers: list[Header] = field(default_factory=list)
    ended: bool = False
    """The application ended the answer itself."""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def open_socket(world: Any, target: str, *headers: Header, app: Any = None) -> list[dict[str, Any]]:
    """Ask for a WebSocket; what is answered until the client, who says nothing, goes."""
    path, _, query = target.partition("?")
    told: list[dict[str, Any]] = []
    scope = {
        "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws",
        "path": unquote(path), "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"), "root_path": "",
        "headers": [(b"host", b"localhost:8000"), *headers], "client": ("203.0.113.9", 1),
        "server": ("localhost", 8000), "subprotocols": [], "state": {},
    }  # fmt: skip
    coming = [{"type": "websocket.disconnect", "code": 1001}, {"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        return coming.pop() if len(coming) > 1 else coming[0]

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    world.portal.call(app or world.app, scope, receive, send)
    return told


def follow(
    world: Any,
    target: str,
    *headers: Header,
    enough: Callable[[str], bool],
    then: Callable[[], object] | None = None,
) -> Streamed:
    """Read a stream until its text is `enough`; `then` is done, in a thread, once the stream has begun.

    A refusal is an answer that ends by itself. Fails if neither comes.
    """
    return world.portal.call(_follow, world.app, target, headers, enough, then)  # type: ignore[no-any-return]


async def _follow(
    app: Any,
    target: str,
    headers: tuple[Header, ...],
    enough: Callable[[str], bool],
    then: Callable[[], object] | None,
) -> Streamed:
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": unquote(path), "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"), "root_path": "",
        "headers": [(b"host", b"localhost:8000"), *headers], "client": ("203.0.113.9", 1),
        "server": ("localhost", 8000), "state": {},
    }  # fmt: skip
    found, had_enough, begun = Streamed(), asyncio.Event(), asyncio.Event()
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await had_enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found.status, found.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            found.body += message.get("body", b"")
            found.ended = not message.get("more_body", False)
            begun.set()
            if enough(found.text):
                had_enough.set()

    running = asyncio.create_task(app(scope, receive, send))
    async with asyncio.timeout(LIMIT_S):
        if then is not None:
            waiting = asyncio.create_task(begun.wait())
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            await asyncio.to_thread(then)
        await running
    return found
