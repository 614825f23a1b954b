"""Where a request comes from: the address of its client, seen through the proxies that are trusted.

Belongs here: reading `X-Forwarded-For` and `X-Forwarded-Proto`, and what address stands for whom. Not here:
what is limited by address (`api.rate_limits`, `api.sign_in`).

Only what a trusted proxy says is believed, from the nearest one outwards: a client can write whatever it
likes in front of what the proxies add, so the first address from the right that is no trusted proxy is the
client. RFC 7239's `Forwarded` is not read: a proxy that does not know it would let a client's own through.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_MOST_HOPS = 20
_SECURE = {"http": "https", "ws": "wss"}
_PLAIN = {"https": "http", "wss": "ws"}


class TrustedProxies:
    """The proxies whose word counts, by network."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def apply(self, scope: Scope) -> None:
        """Set the scope's `client` and `scheme` to what the trusted proxies say.

        To be called once a request, before anything reads the address. Without a trusted peer, or without its
        headers, the peer stays the client.
        """
        peer = _parse((scope.get("client") or ("", 0))[0])
        if peer is None or peer not in self:
            return
        forwarded, proto = b"", b""
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded = b"%b,%b" % (forwarded, value) if forwarded else value
            elif name == b"x-forwarded-proto":
                proto = value
        if forwarded:
            scope["client"] = (str(self._client(peer, forwarded.decode("latin-1"))), 0)
        if proto:
            self._set_scheme(scope, proto)

    def _client(self, peer: Address, forwarded: str) -> Address:
        """The first address from the right that is no trusted proxy; the last good one before nonsense."""
        found = peer
        for part in forwarded.split(",")[: -_MOST_HOPS - 1 : -1]:
            address = _parse(_without_port(part.strip()))
            if address is None:
                return found
            found = address
            if address not in self:
                return found
        return found

    @staticmethod
    def _set_scheme(scope: Scope, proto: bytes) -> None:
        said = proto.rpartition(b",")[2].strip().lower()
        if said in (b"https", b"wss"):
            scope["scheme"] = _SECURE.get(scope["scheme"], scope["scheme"])
        elif said in (b"http", b"ws"):
            scope["scheme"] = _PLAIN.get(scope["scheme"], scope["scheme"])


def client_address(scope: Scope) -> str:
    """The client's IP address as text, or "" where there is none (a local socket)."""
    return str(_parse((scope.get("client") or ("", 0))[0]) or "")


def source_of(address: str) -> str:
    """Whom an address belongs to: of IPv6 a household has 2^64, all of them count as one."""
    parsed = _parse(address)
    if parsed is None:
        return address
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    """An address; an IPv4 one that is written as IPv6 is IPv4."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _without_port(text: str) -> str:
    """`1.2.3.4:80` and `[2001:db8::1]:80` as some proxies write them."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
