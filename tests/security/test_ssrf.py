"""Addresses that somebody chose and the platform asks: never our own network, however it is written."""

import ast
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest

from sluiceway.identity.oidc import ProviderClient
from sluiceway.infra.outbound import MOST_BYTES, ForbiddenAddress, PrivateHosts, outbound_client

ROOT = Path(__file__).parents[2]
INSIDE = (
    "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/",
    "https://localhost/", "https://LOCALHOST/", "https://0.0.0.0/", "https://[::1]/", "https://[::]/",
    "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://10.0.0.1/", "https://172.16.0.1/",
    "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/", "https://[fd00::1]/",
    "https://100.64.0.1/", "https://224.0.0.1/", "https://255.255.255.255/", "https://127.0.0.1:5432/",
)  # fmt: skip
NOT_HTTPS = (
    "http://example.com/", "file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1:6379/_FLUSHALL",
    "https://user:secret@example.com/", "https:///path", "//example.com", "dict://127.0.0.1/", "data:,x", "",
)  # fmt: skip
# Who may open a connection of their own, and to what.
OUTGOING = {
    "sluiceway/infra/outbound.py": "the one client for addresses that somebody chose",
    "sluiceway/infra/mail.py": "the mail server of the settings",
    "sluiceway/identity/oidc.py": "identity providers, through that client; here only its errors",
    "sluiceway/runtime/dagster_home.py": "Dagster, at the address of the settings",
    "sluiceway/runtime/up.py": "the processes it started",
    "sluiceway/runtime/processes/worker.py": "Dagster, at the address of the settings",
    "dashboards_app/client.py": "our own API",
}
NETWORKING = {
    "httpx", "httpcore", "requests", "urllib3", "aiohttp", "urllib.request", "http.client", "smtplib",
    "ftplib", "telnetlib", "websockets", "aiosmtplib", "boto3",
}  # fmt: skip


class Inner(BaseHTTPRequestHandler):
    """A service of the inner network: being asked is the leak."""

    asked: ClassVar[list[str]] = []
    document: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "https://169.254.169.254/")
        self.end_headers()
        told = json.dumps(self.document).encode() if "/.well-known/" in self.path else b"inner secret"
        self.wfile.write(b"x" * (MOST_BYTES + 1) if self.path == "/large" else told)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def inner() -> Iterator[int]:
    Inner.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), Inner)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def outside() -> Iterator[httpx.Client]:
    """One for all: making one reads the machine's certificates."""
    with outbound_client(PrivateHosts()) as client:
        yield client


@pytest.mark.parametrize("url", INSIDE)
def test_an_address_of_our_own_network_is_not_asked(outside: httpx.Client, url: str) -> None:
    with pytest.raises((ForbiddenAddress, httpx.ConnectError, httpx.InvalidURL)) as refused:
        outside.get(url)
    # What this machine's look-up does not understand as an address is not found: then nothing was asked.
    assert refused.type is not httpx.ConnectError or "not known" in str(refused.value)


@pytest.mark.parametrize("url", ["https://0177.0.0.1/", "https://[::1", "https://a:99999/", "x"])
def test_what_is_no_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        PrivateHosts().check_url(url)


@pytest.mark.parametrize("url", NOT_HTTPS)
def test_what_is_not_https_is_not_asked(outside: httpx.Client, url: str) -> None:
    with pytest.raises((ForbiddenAddress, httpx.UnsupportedProtocol)):
        outside.get(url)


def test_a_name_that_stands_for_an_inner_address_is_not_asked(
    inner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    def inner_name(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", inner_name)
    with outbound_client(PrivateHosts()) as client, pytest.raises(ForbiddenAddress):
        client.get(f"https://looks-public.example:{inner}/")
    assert looked_up == ["looks-public.example"] and Inner.asked == []


def test_a_name_with_one_inner_address_among_others_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in ("93.184.215.14", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with outbound_client(PrivateHosts()) as client, pytest.raises(ForbiddenAddress):
        client.get("https://rebinding.example/")


def test_where_an_answer_sends_one_is_not_followed_and_its_size_is_bounded(inner: int) -> None:
    let_through = PrivateHosts([f"127.0.0.1:{inner}"])
    with outbound_client(let_through) as client:
        answer = client.get(f"http://127.0.0.1:{inner}/away")
        assert answer.status_code == 302 and Inner.asked == ["/away"]
        with pytest.raises(httpx.ReadError, match="larger than"):
            client.get(f"http://127.0.0.1:{inner}/large")
    with outbound_client(let_through) as client, pytest.raises(ForbiddenAddress):
        client.get(f"http://127.0.0.1:{inner + 1}/", timeout=1)


def test_a_proxy_of_the_environment_is_not_used(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inner}")
    with outbound_client(PrivateHosts()) as client, pytest.raises(ForbiddenAddress):
        client.get("https://10.0.0.1/")
    assert Inner.asked == []


def provider(issuer: str) -> dict[str, str]:
    return {"name": "Theirs", "issuer": issuer, "client_id": "us", "client_secret": "between us"}


def test_an_identity_provider_inside_is_neither_set_up_nor_asked(
    world: Any, inner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = world.client(headers=dict((signed_in := world.person()).http.headers), checked=False)
    owner.http.cookies = signed_in.http.cookies
    lookup = socket.getaddrinfo

    def inner_name(host: str, port: int, *rest: Any, **named: Any) -> Any:
        return lookup("127.0.0.1" if str(host).endswith(".example") else host, port, *rest, **named)

    issuers = (
        f"http://127.0.0.1:{inner}", f"http://localhost:{inner}", f"https://user@127.0.0.1:{inner}", "file:///etc",
        f"gopher://127.0.0.1:{inner}", "https://0177.0.0.1", "https://[::1",
    )  # fmt: skip
    for issuer in issuers:
        answer = owner.post("/v1/sign-in/providers", json=provider(issuer))
        assert answer.status_code == 422, f"{issuer}: {answer.text}"
    # These look like any other address until they are asked for.
    for number, issuer in enumerate((f"https://127.0.0.1:{inner}", f"https://name{inner}.example:{inner}")):
        answer = owner.post("/v1/sign-in/providers", json=provider(issuer) | {"name": f"P{number}"})
        if answer.status_code == 422:
            continue
        made = answer.json()["id"]
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", inner_name)
            for asked in (
                owner.post(f"/v1/sign-in/providers/{made}/check"),
                world.client(checked=False).get(f"/sign-in/provider/{made}"),
            ):
                assert asked.status_code in (422, 503), f"{issuer}: {asked.text}"
                assert "inner secret" not in asked.text
    assert Inner.asked == []


@pytest.mark.parametrize(
    "endpoint", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"]
)
@pytest.mark.parametrize("address", ["http://169.254.169.254/latest/meta-data/", "javascript:alert(1)"])
def test_a_provider_that_names_an_inner_address_as_its_own_is_refused(
    inner: int, endpoint: str, address: str
) -> None:
    issuer = f"http://127.0.0.1:{inner}"
    usual = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/keys",
        "userinfo_endpoint": f"{issuer}/me",
    }
    let_through = PrivateHosts([f"127.0.0.1:{inner}"])
    Inner.document.update(usual)
    assert ProviderClient(let_through).discover(issuer).jwks_uri == f"{issuer}/keys"
    Inner.document[endpoint] = address
    with pytest.raises(ForbiddenAddress):
        ProviderClient(let_through).discover(issuer)
    assert set(Inner.asked) == {"/.well-known/openid-configuration"}


def test_nothing_else_asks_other_servers() -> None:
    """A module that opens connections of its own is on the list above, with what it connects to."""
    found = {}
    for package in ("sluiceway", "api", "orchestration", "dashboards_app", "expectations"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if "node_modules" in path.parts or name.startswith("sluiceway/runtime/demo/"):
                continue
            text = path.read_text()
            if name in OUTGOING or not any(module.split(".")[0] in text for module in NETWORKING):
                continue
            if used := networking_of(ast.parse(text)):
                found[name] = sorted(used)
    assert found == {}


def networking_of(tree: ast.Module) -> set[str]:
    """Modules with which a connection can be opened, as far as they are imported (but for types)."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {known for known in NETWORKING if any(n == known or n.startswith(f"{known}.") for n in names)}


def test_networking_is_found() -> None:
    assert networking_of(ast.parse("import httpx\nfrom urllib import request")) == {"httpx", "urllib.request"}
    assert networking_of(ast.parse("from urllib.parse import quote\nimport json")) == set()
