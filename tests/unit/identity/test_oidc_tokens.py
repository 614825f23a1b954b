"""What an ID token has to be before anybody is signed in by it, tried with forged ones; no network."""

import base64
import hmac
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from sluiceway.identity.errors import ProviderFailed, ProviderRefused
from sluiceway.identity.oidc import Metadata, ProviderClient, _claims
from sluiceway.identity.providers import Provider, ProviderSpec
from sluiceway.infra.outbound import PrivateHosts

ISSUER = "https://login.example.com"
JWKS = f"{ISSUER}/jwks"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = RSAKey.generate_key(2048, {"kid": "k1"})
FOREIGN = RSAKey.generate_key(2048, {"kid": "k1"})
GOOD = {
    "iss": ISSUER, "sub": "u1", "aud": "sluiceway", "nonce": "n1",
    "iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 300,
}  # fmt: skip
METADATA = Metadata(ISSUER, f"{ISSUER}/a", f"{ISSUER}/t", JWKS, None, ())
PROVIDER = Provider(uuid.uuid4(), 1, ProviderSpec("SSO", ISSUER, "sluiceway"), "api", None)


@pytest.fixture
def client() -> ProviderClient:
    found = ProviderClient(PrivateHosts())
    keys: dict[str, Any] = KeySet([KEY]).as_dict(private=False)
    found._kept[JWKS] = (time.monotonic(), keys)
    return found


def _token(key: Any = KEY, alg: str = "RS256", **changes: Any) -> str:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": "k1"}, claims, key, algorithms=[alg])


def test_a_good_token_holds(client: ProviderClient) -> None:
    assert client._verified(PROVIDER, METADATA, _token(), "n1", NOW)["sub"] == "u1"
    several = _token(aud=["sluiceway", "other"], azp="sluiceway")
    assert client._verified(PROVIDER, METADATA, several, "n1", NOW)["sub"] == "u1"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"aud": "other"},
        {"aud": ["sluiceway", "other"]},
        {"azp": "other"},
        {"nonce": "n2"},
        {"nonce": None},
        {"exp": int(NOW.timestamp()) - 3600},
        {"exp": None},
        {"iat": int(NOW.timestamp()) + 3600},
        {"sub": None},
    ],
    ids=str,
)
def test_a_claim_that_is_wrong(client: ProviderClient, changes: dict[str, Any]) -> None:
    with pytest.raises(ProviderRefused):
        client._verified(PROVIDER, METADATA, _token(**changes), "n1", NOW)


def _by_hand(alg: str, sign: Callable[[bytes], bytes]) -> str:
    """A token as an attacker writes it, whatever the library thinks of its algorithm."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": alg, "kid": "k1"}, GOOD)
    ]
    signed = b".".join(parts)
    return b".".join([signed, base64.urlsafe_b64encode(sign(signed)).rstrip(b"=")]).decode()


def _unsigned() -> str:
    return _by_hand("none", lambda _: b"")


def _by_public_key() -> str:
    """Signed with HMAC by the provider's public key, which everybody has."""
    public = KEY.as_pem(private=False)
    return _by_hand("HS256", lambda text: hmac.digest(public, text, "sha256"))


@pytest.mark.parametrize(
    "forged",
    [
        lambda: _token(FOREIGN),
        _unsigned,
        _by_public_key,
        lambda: _token()[:-6] + "AAAAAA",
        lambda: "",
        lambda: "a.b.c",
        lambda: "not a token",
    ],
    ids=["another key", "none", "hmac by the public key", "changed", "empty", "garbage", "text"],
)
def test_a_signature_that_is_wrong(client: ProviderClient, forged: Any) -> None:
    with pytest.raises(ProviderRefused):
        client._verified(PROVIDER, METADATA, forged(), "n1", NOW)


def test_a_provider_that_calls_itself_something_else(client: ProviderClient) -> None:
    address = f"{ISSUER}/.well-known/openid-configuration"
    found = {"issuer": "https://evil.example", "authorization_endpoint": "https://a", "jwks_uri": "https://j"}
    client._kept[address] = (time.monotonic(), found)
    with pytest.raises(ProviderFailed, match="evil"):
        client.discover(ISSUER)


def test_endpoints_keep_the_rules_of_addresses(client: ProviderClient) -> None:
    from sluiceway.infra.outbound import ForbiddenAddress

    address = f"{ISSUER}/.well-known/openid-configuration"
    found = {
        "issuer": ISSUER, "authorization_endpoint": "javascript:alert(1)", "token_endpoint": f"{ISSUER}/t",
        "jwks_uri": JWKS,
    }  # fmt: skip
    client._kept[address] = (time.monotonic(), found)
    with pytest.raises(ForbiddenAddress):
        client.discover(ISSUER)


@pytest.mark.parametrize(
    ("claim", "said", "groups"),
    [
        ("groups", {"groups": ["a", "b"]}, ("a", "b")),
        ("groups", {"groups": "a"}, ("a",)),
        ("groups", {"groups": {"a": 1}}, ()),
        ("realm_access.roles", {"realm_access": {"roles": ["r"]}}, ("r",)),
        ("https://x.example/roles", {"https://x.example/roles": ["r"]}, ("r",)),
        ("a.b.c", {"a": {"b": 1}}, ()),
    ],
)
def test_groups_are_found_where_the_claim_says(
    claim: str, said: dict[str, Any], groups: tuple[str, ...]
) -> None:
    assert _claims({"sub": "u", **said}, claim).groups == groups
