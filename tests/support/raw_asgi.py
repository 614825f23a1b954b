"""A request to an ASGI application exactly as it is said: clients tidy paths up and refuse odd headers."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote


@dataclass
class Told:
    """What the application answered."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> list[str]:
        return [v.decode("latin-1") for k, v in self.headers if k.decode().lower() == name]


def ask(
    world: Any,
    target: str,
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    body: bytes = b"",
    app: Any = None,
) -> Told:
    """Send one request through `world`'s portal; `target` is what stands in the request line."""
    raw_path, _, query = target.partition("?")
    told = Told()
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(raw_path), "raw_path": raw_path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"), "root_path": "",
        "headers": [(b"host", b"localhost:8000"), *headers], "client": ("203.0.113.9", 1),
        "server": ("localhost", 8000), "state": {},
    }  # fmt: skip
    coming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            told.status, told.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            told.body += message.get("body", b"")

    world.portal.call(app or world.app, scope, receive, send)
    return told
