from typing import Any

import pytest

from api.addresses import TrustedProxies, client_address, source_of
from sluiceway.infra.settings import WrongSetting, load_settings


def seen(
    peer: str,
    *forwarded: str,
    trusted: str = "10.0.0.0/8,127.0.0.1,::1",
    proto: str = "",
    scheme: str = "http",
) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    if proto:
        headers.append((b"x-forwarded-proto", proto.encode()))
    scope = {"type": "http", "scheme": scheme, "client": (peer, 5000), "headers": headers}
    TrustedProxies(load_settings({"SLUICEWAY_TRUSTED_PROXIES": trusted}).trusted_proxies).apply(scope)
    return scope


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),  # a stranger says what it likes
        ("10.0.0.2", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.2", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # what the client wrote itself stands on the left
        ("10.0.0.2", ["6.6.6.6, 1.2.3.4, 10.0.0.7"], "1.2.3.4"),
        ("10.0.0.2", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),  # two headers are one
        ("10.0.0.2", ["10.0.0.9"], "10.0.0.9"),
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", ["1.2.3.4:55123"], "1.2.3.4"),
        ("10.0.0.2", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("10.0.0.2", ["1.2.3.4, <script>"], "10.0.0.2"),
        ("10.0.0.2", ["1.2.3.4, unknown, 10.0.0.5"], "10.0.0.5"),
        ("10.0.0.2", [""], "10.0.0.2"),
        ("::ffff:10.0.0.2", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("::1", ["2001:db8::7"], "2001:db8::7"),
        ("", ["1.2.3.4"], ""),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_trusted_proxy(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert client_address(seen(peer, *forwarded)) == client


def test_a_thousand_hops_are_not_followed() -> None:
    hops = ", ".join(["1.2.3.4", *["10.0.0.9"] * 1000])
    assert client_address(seen("10.0.0.2", hops)) == "10.0.0.9"


def test_nobody_is_trusted_where_none_is_said() -> None:
    assert client_address(seen("127.0.0.1", "1.2.3.4", trusted="none")) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "scheme", "proto", "found"),
    [
        ("10.0.0.2", "http", "https", "https"),
        ("10.0.0.2", "ws", "https", "wss"),
        ("10.0.0.2", "https", "http", "http"),
        ("10.0.0.2", "http", "https, http", "http"),
        ("10.0.0.2", "http", "gopher", "http"),
        ("203.0.113.9", "http", "https", "http"),
    ],
)
def test_the_scheme_is_what_a_trusted_proxy_says(peer: str, scheme: str, proto: str, found: str) -> None:
    assert seen(peer, proto=proto, scheme=scheme)["scheme"] == found


def test_a_request_without_a_peer_has_no_address() -> None:
    scope = {"type": "http", "scheme": "http", "client": None, "headers": [(b"x-forwarded-for", b"1.2.3.4")]}
    TrustedProxies(load_settings({}).trusted_proxies).apply(scope)
    assert client_address(scope) == ""


def test_a_household_is_one_source() -> None:
    assert source_of("2001:db8:1:2:3::4") == source_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert source_of("::ffff:1.2.3.4") == source_of("1.2.3.4") == "1.2.3.4"
    assert source_of("not an address") == "not an address"


def test_a_network_that_is_none_stops_the_start() -> None:
    with pytest.raises(WrongSetting, match="SLUICEWAY_TRUSTED_PROXIES should be addresses or networks"):
        load_settings({"SLUICEWAY_TRUSTED_PROXIES": "10.0.0.0/8, proxy.local"})
