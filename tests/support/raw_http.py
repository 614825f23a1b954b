"""Raw HTTP over a socket, for tests that need to say exactly which bytes are sent, and in which pieces."""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from tests.support.event_server import KEY


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


def request(
    body: bytes = b'{"n":1}', *extra: str, pipeline: str = "any", key: str = KEY, length: bool = True
) -> bytes:
    """A whole request to the event route."""
    lines = [
        f"POST /v1/pipelines/{pipeline}/events HTTP/1.1", "host: x", f"authorization: Bearer {key}",
        *([f"content-length: {len(body)}"] if length else []), *extra,
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Reader:
    """Reads answers one after another."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = b""
        self._at = 0

    def answer(self) -> Answer:
        """The next answer. Raises `EOFError` if the connection ends first."""
        while (end := self._data.find(b"\r\n\r\n", self._at)) < 0:
            self._more()
        head = self._data[self._at : end].decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(headers.get("content-length", "0"))
        begin = end + 4 - self._at
        while len(self._data) - self._at < begin + size:
            self._more()
        begin += self._at
        self._at = begin + size
        return Answer(int(first.split(" ")[1]), headers, self._data[begin : self._at])

    def answers(self, count: int) -> list[Answer]:
        return [self.answer() for _ in range(count)]

    def ended(self) -> bool:
        """Whether the server closes without another byte. Waits for it."""
        left = self._data[self._at :]
        try:
            return not left and self.connection.recv(1) == b""
        except ConnectionError:
            return not left

    def _more(self) -> None:
        try:
            part = self.connection.recv(65536)
        except ConnectionError:
            part = b""
        left = self._data[self._at :]
        if not part:
            raise EOFError(f"the connection ended after {left[:200]!r}")
        self._data, self._at = left + part, 0


def is_taken(port: int) -> bool:
    """Whether a good request on a new connection is answered 202.

    Where a server's times are short, a test that was not given the processor for so long asks once more.
    """
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                return exchange(connection, request()).status == 202
        except (EOFError, ConnectionError):
            if time.monotonic() > deadline:
                raise


def exchange(connection: socket.socket, data: bytes) -> Answer:
    connection.sendall(data)
    return Reader(connection).answer()
