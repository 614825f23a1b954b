"""What stands where the app is mounted, and what its socket is answered."""

import json
from typing import Any

Scope = dict[str, Any]


class Pages:
    """Stands where the app is mounted and keeps what reached it. `frame`: it answers with a page's frame."""

    def __init__(self, *, frame: bool = False) -> None:
        self.seen: list[Scope] = []
        self._headers = [(b"content-type", b"text/html; charset=utf-8")] if frame else []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"page"})

    def user(self) -> list[dict[str, Any]]:
        headers = self.seen[-1]["headers"]
        return [json.loads(value) for name, value in headers if name == b"x-sluiceway-user"]


def socket_messages(
    world: Any, app: Any, cookie: str | None, origin: str | None = "http://localhost:8000"
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    headers = [(b"host", b"localhost:8000"), (b"x-sluiceway-user", b"{}")]
    if origin:
        headers.append((b"origin", origin.encode()))
    if cookie:
        headers.append((b"cookie", f"sluiceway_session={cookie}".encode()))
    scope = {"type": "websocket", "path": "/_stcore/stream", "headers": headers, "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    world.portal.call(app, scope, receive, send)
    return sent
