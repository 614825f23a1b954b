"""Asking addresses that somebody chose: never our own network, never more than a megabyte."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from sluiceway.infra.outbound import MOST_BYTES, ForbiddenAddress, PrivateHosts, outbound_client


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.end_headers()
            return
        body = b"x" * (MOST_BYTES + 1 if self.path == "/much" else 2)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the client has had enough
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com", "ftp://login.example.com", "file:///etc/passwd", "https://", "//x", "x",
        "https://user:pass@login.example.com", "https://[", "javascript:alert(1)", "https://example.com:99999",
    ],
)  # fmt: skip
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        PrivateHosts().check_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "[::1]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]",
        "224.0.0.1",
        "2130706433", "0x7f.1", "127.1",
    ],
)  # fmt: skip
def test_private_addresses_however_they_are_written(host: str) -> None:
    with (
        outbound_client(PrivateHosts()) as client,
        pytest.raises((ForbiddenAddress, httpx.ConnectError)) as found,
    ):
        client.get(f"https://{host}:1/")
    if isinstance(found.value, httpx.ConnectError):  # not an address, and not a name either
        assert "is not known" in str(found.value)


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers with a public address first and with ours afterwards (DNS rebinding)."""
    asked: list[str] = []
    connected: list[Any] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port))]

    def connect(address: Any, *_: Any, **__: Any) -> Any:
        connected.append(address)
        raise OSError("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with outbound_client(PrivateHosts()) as client, pytest.raises(httpx.ConnectError):
        client.get("https://rebinding.example/")
    assert asked == ["rebinding.example"] and connected == [("93.184.215.14", 443)]


def test_a_host_that_is_let_through(port: int) -> None:
    for name in ("127.0.0.1", f"127.0.0.1:{port}"):
        with outbound_client(PrivateHosts([name])) as client:
            assert client.get(f"http://127.0.0.1:{port}/").text == "xx"
    with outbound_client(PrivateHosts([f"127.0.0.1:{port + 1}"])) as client, pytest.raises(ForbiddenAddress):
        client.get(f"http://127.0.0.1:{port}/")


def test_redirects_are_not_followed_and_answers_are_bounded(port: int) -> None:
    with outbound_client(PrivateHosts(["127.0.0.1"])) as client:
        assert client.get(f"http://127.0.0.1:{port}/away").status_code == 302
        with pytest.raises(httpx.ReadError, match="larger"):
            client.get(f"http://127.0.0.1:{port}/much")
