"""Asking other servers over HTTP where somebody chose the address: never one of our own network.

A name is looked up once, and the address that was checked is the one connected to: a name that answers
differently the second time (DNS rebinding) gains nothing. Redirects are not followed, answers are bounded,
proxies of the environment are not used. Hosts named in SLUICEWAY_PRIVATE_HOSTS are let through.
"""

import socket
import typing
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpcore
import httpx

from sluiceway.kit.errors import InvalidInput

TIMEOUT_S = 10.0
MOST_BYTES = 1024 * 1024


class ForbiddenAddress(InvalidInput):
    code = "forbidden_address"
    title = "This address is not asked"


class PrivateHosts:
    """Which private hosts may be asked: `host` at any port, or `host:port`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.strip().lower() for name in names)

    def __contains__(self, host_port: tuple[str, int]) -> bool:
        host, port = host_port[0].lower(), host_port[1]
        shown = f"[{host}]" if ":" in host else host
        return host in self._names or shown in self._names or f"{shown}:{port}" in self._names

    def check_url(self, url: str) -> None:
        """Raise `ForbiddenAddress` unless it is `https://…`, or `http://` of a host that is let through."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            httpx.URL(url)  # refuses more than urlsplit does
        except (ValueError, httpx.InvalidURL):
            raise ForbiddenAddress("The address cannot be read.") from None
        if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
            raise ForbiddenAddress("The address should look like https://host/path.")
        at = port or (443 if parts.scheme == "https" else 80)
        if parts.scheme != "https" and (host, at) not in self:
            raise ForbiddenAddress("The address should begin with https://.")


def outbound_client(private: PrivateHosts, *, timeout_s: float = TIMEOUT_S) -> httpx.Client:
    """A client that keeps the rules above. Closing it is the caller's. It raises `ForbiddenAddress`."""
    return httpx.Client(
        transport=outbound_transport(private), timeout=timeout_s, follow_redirects=False, trust_env=False
    )


def outbound_transport(private: PrivateHosts) -> httpx.BaseTransport:
    return _Transport(private)


class _Transport(httpx.HTTPTransport):
    def __init__(self, private: PrivateHosts) -> None:
        super().__init__(trust_env=False)
        self._private = private
        # httpx has no public way to look at an address between its look-up and the connection.
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=10,
            network_backend=_Backend(private),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._private.check_url(str(request.url))
        answer = super().handle_request(request)
        assert isinstance(answer.stream, httpx.SyncByteStream)
        answer.stream = _Bounded(answer.stream)
        return answer


class _Bounded(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for chunk in self._stream:
            seen += len(chunk)
            if seen > MOST_BYTES:
                raise httpx.ReadError(f"the answer is larger than {MOST_BYTES // 1024} kB")
            yield chunk

    def close(self) -> None:
        self._stream.close()


class _Backend(httpcore.SyncBackend):
    def __init__(self, private: PrivateHosts) -> None:
        super().__init__()
        self._private = private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: typing.Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        if (host, port) not in self._private:
            host = _public_address(host, port)
        return super().connect_tcp(host, port, timeout, local_address, socket_options)


def _public_address(host: str, port: int) -> str:
    """The address to connect to. Raises `ForbiddenAddress` if any that the name stands for is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise httpcore.ConnectError(f"{host} is not known") from None
    addresses = [ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    for address in addresses:
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_global or mapped.is_multicast:
            raise ForbiddenAddress(
                f"{host} is in a private network. If it is meant, SLUICEWAY_PRIVATE_HOSTS lets it through."
            )
    return str(addresses[0])
