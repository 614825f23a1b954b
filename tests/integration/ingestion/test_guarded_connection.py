"""A guarded connection before any application: order of answers, what is queued, what is no request."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from api.connection_guard import GuardedProtocol
from api.event_protocol import protocol_for

Talk = Callable[["Served"], Awaitable[None]]


class Served:
    """A server whose answers to `/slow` wait for `go`."""

    def __init__(self, port: int, state: ServerState) -> None:
        self.port = port
        self.state = state
        self.go = asyncio.Event()
        self.began = asyncio.Event()
        self.seen: list[tuple[str, dict[bytes, bytes], bytes]] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        body = b""
        if scope["path"] == "/slow":
            self.began.set()
            await self.go.wait()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.seen.append((scope["path"], dict(scope["headers"]), body))
        text = scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    @property
    def protocols(self) -> list[GuardedProtocol]:
        return [found for found in self.state.connections if isinstance(found, GuardedProtocol)]


def served(talk: Talk) -> None:
    async def run() -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            found: Served | None = None

            async def app(scope: Any, receive: Any, send: Any) -> None:
                assert found is not None
                await found.app(scope, receive, send)

            config = uvicorn.Config(
                app, http=protocol_for(None), lifespan="off", log_config=None, access_log=False,
                ws="websockets-sansio", timeout_graceful_shutdown=1,
            )  # fmt: skip
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve([listening]))
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
                await asyncio.sleep(0.01)
            found = Served(listening.getsockname()[1], server.server_state)
            try:
                await asyncio.wait_for(talk(found), 60)
            finally:
                found.go.set()
                server.should_exit = True
                await task

    uvloop.run(run())


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


async def answers(reader: asyncio.StreamReader, count: int) -> list[tuple[int, bytes]]:
    found = []
    for _ in range(count):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append((int(head.split(b" ")[1]), await reader.readexactly(length)))
    return found


@pytest.mark.parametrize("between", [[], ["/second"], ["/second", "/third"]])
def test_a_bad_address_does_not_take_the_answer_of_another_request(between: list[str]) -> None:
    async def talk(found: Served) -> None:
        reader, writer = await found.connect()
        writer.write(get("/slow") + b"".join(map(get, between)) + get("http://h"))
        await found.began.wait()
        found.go.set()
        paths = ["/slow", *between]
        got = await answers(reader, len(paths) + 1)
        assert got[:-1] == [(200, path.encode()) for path in paths]
        assert got[-1][0] == 400
        assert await reader.read() == b""
        writer.close()

    served(talk)


def test_a_bad_address_alone_is_told_so() -> None:
    async def talk(found: Served) -> None:
        reader, writer = await found.connect()
        writer.write(get("http://h"))
        assert (await answers(reader, 1))[0][0] == 400
        writer.close()

    served(talk)


def test_what_is_pipelined_behind_a_slow_answer_is_not_queued() -> None:
    count = 5_000

    async def talk(found: Served) -> None:
        reader, writer = await found.connect()
        writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\nodd: y\r\n\r\n")
        await found.began.wait()
        padded = [
            f"POST /{n:05d} HTTP/1.1\r\nhost: x\r\ncontent-length: {n % 7}\r\n\r\n".encode() + b"b" * (n % 7)
            for n in range(count)
        ]
        sending = asyncio.create_task(_send(writer, b"".join(padded)))
        (protocol,) = found.protocols
        while not protocol._held_back:  # noqa: ASYNC110 - nor does the protocol
            await asyncio.sleep(0.01)
        assert len(protocol.pipeline) <= 1
        found.go.set()
        got = await answers(reader, count + 1)
        assert [body for _, body in got[1:]] == [b"/%05d" % n for n in range(count)]
        assert [len(body) for _, _, body in found.seen[1:]] == [n % 7 for n in range(count)]
        await sending
        writer.close()

    served(talk)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def test_connect_is_refused() -> None:
    async def talk(found: Served) -> None:
        reader, writer = await found.connect()
        writer.write(b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await answers(reader, 1))[0][0] == 400
        assert await reader.read() == b""
        writer.close()

    served(talk)


def test_trailers_are_no_headers() -> None:
    async def talk(found: Served) -> None:
        reader, writer = await found.connect()
        writer.write(
            b"POST /t HTTP/1.1\r\nhost: a\r\nx-one: 1\r\ntransfer-encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n0\r\nauthorization: bearer slw_q\r\nx-one: 2\r\n\r\n" + get("/next")
        )
        assert await answers(reader, 2) == [(200, b"/t"), (200, b"/next")]
        (_, headers, body), _ = found.seen
        assert (body, headers[b"x-one"], b"authorization" in headers) == (b"ab", b"1", False)
        writer.close()

    served(talk)


def test_what_follows_an_upgrade_is_not_taken_for_http() -> None:
    async def talk(found: Served) -> None:
        reader, writer = await found.connect()
        writer.write(
            b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            + b"x"
            * 20_000
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.close()

    served(talk)
