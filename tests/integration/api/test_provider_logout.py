"""Signing out here signs out at the provider, and the other way round; against a real provider."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from api.provider_sign_in import client as provider_client
from sluiceway.audit.actions import Action
from tests.support.oidc_server import OidcServer, oidc_server

HERE = {"Origin": "http://localhost:8000"}
EVENT = {"http://schemas.openid.net/event/backchannel-logout": {}}
KEY = RSAKey.generate_key(2048, {"kid": "ours"})
FOREIGN = RSAKey.generate_key(2048, {"kid": "ours"})


@pytest.fixture(scope="module")
def idp() -> Iterator[OidcServer]:
    with oidc_server() as found:
        yield found


@pytest.fixture
def provider(world: Any, idp: OidcServer) -> str:
    """Everybody whom it knows is a viewer here."""
    found = dataclasses.replace(world.services.settings, private_hosts=("127.0.0.1",))
    world.services.settings = found
    body = {
        "name": "Acme SSO", "issuer": idp.issuer, "client_id": "sluiceway", "client_secret": "s3",
        "default_workspace_id": 1, "default_role": "viewer",
    }  # fmt: skip
    answer = world.person("owner").post("/v1/sign-in/providers", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _come(world: Any, idp: OidcServer, provider: str, subject: str) -> Any:
    """A browser in which somebody has signed in through the provider."""
    idp.know(subject, email=f"{subject}@example.com", email_verified=True)
    browser = world.client(headers=HERE, checked=False)
    way = browser.get(f"/sign-in/provider/{provider}")
    back = idp.authorize(way.headers["location"], subject).removeprefix("http://localhost:8000")
    assert browser.get(back).status_code == 303
    assert browser.get("/v1/me").status_code == 200
    return browser


def test_signing_out_goes_on_to_the_provider(world: Any, idp: OidcServer, provider: str) -> None:
    browser = _come(world, idp, provider, "u1")
    sealed = world.execute("SELECT sealed FROM app.provider_sessions").scalar_one()
    assert sealed is not None and b"eyJ" not in bytes(sealed)
    answer = browser.post("/sign-out")
    assert answer.status_code == 200 and "Acme SSO" in answer.text
    there = answer.headers["refresh"].removeprefix("0; url=")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(there).query).items()}
    assert there.startswith(f"{idp.issuer}/oauth2/end_session?")
    assert asked["client_id"] == "sluiceway"
    assert asked["post_logout_redirect_uri"] == "http://localhost:8000/sign-in"
    assert asked["id_token_hint"].count(".") == 2
    assert httpx.get(there, trust_env=False).status_code == 200
    assert browser.get("/v1/me").status_code == 401
    assert world.execute("SELECT count(*) FROM app.provider_sessions").scalar() == 0


def test_who_came_by_a_password_stays_here(world: Any, provider: str) -> None:
    answer = world.person("viewer").post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "refresh" not in answer.headers


def test_a_silent_provider_holds_nobody_back(world: Any, idp: OidcServer, provider: str) -> None:
    browser = _come(world, idp, provider, "u2")
    world.execute("UPDATE app.identity_providers SET issuer = 'http://127.0.0.1:9'")
    answer = browser.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert browser.get("/v1/me").status_code == 401


def _token(idp: OidcServer, key: Any = KEY, **changes: Any) -> str:
    now = int(time.time())
    said = {
        "iss": idp.issuer, "aud": "sluiceway", "iat": now, "exp": now + 120, "jti": "j", "events": EVENT,
        "sub": "u3", **changes,
    }  # fmt: skip
    claims = {name: value for name, value in said.items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": "ours", "typ": "logout+jwt"}, claims, key)


def _knows_our_key(world: Any, idp: OidcServer) -> None:
    """As though the provider had this signing key: only it can sign what it says."""
    asking = provider_client(world.services)
    jwks = asking.discover(idp.issuer).jwks_uri
    asking._kept[jwks] = (time.monotonic(), dict(KeySet([KEY]).as_dict(private=False)))


def test_the_provider_ends_sessions(world: Any, idp: OidcServer, provider: str) -> None:
    first, second = _come(world, idp, provider, "u3"), _come(world, idp, provider, "u3")
    other = _come(world, idp, provider, "u4")
    world.execute(
        "UPDATE app.provider_sessions SET provider_session = 'one' WHERE session_id ="
        " (SELECT id FROM app.sessions WHERE provider_id IS NOT NULL ORDER BY created_at LIMIT 1)"
    )
    _knows_our_key(world, idp)
    address = f"/sign-in/provider/{provider}/logout"
    stranger = world.client(checked=False)
    for bad in (
        "", "x", _token(idp, FOREIGN), _token(idp, aud="other"), _token(idp, iss="https://evil.example"),
        _token(idp, events=None), _token(idp, events={"other": {}}), _token(idp, nonce="n"),
        _token(idp, sub=None), _token(idp, iat=None), _token(idp, exp=int(time.time()) - 600),
    ):  # fmt: skip
        answer = stranger.post(address, data={"logout_token": bad})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_logout_token"), bad
    assert stranger.post(f"/sign-in/provider/{'0' * 8}-0000-7000-8000-{'0' * 12}/logout").status_code == 404
    assert first.get("/v1/me").status_code == second.get("/v1/me").status_code == 200

    one = stranger.post(address, data={"logout_token": _token(idp, sub=None, sid="one")})
    assert (one.status_code, one.headers["cache-control"]) == (200, "no-store"), one.text
    assert (first.get("/v1/me").status_code, second.get("/v1/me").status_code) == (401, 200)
    token = _token(idp)
    assert stranger.post(address, data={"logout_token": token}).status_code == 200
    assert second.get("/v1/me").status_code == 401
    assert other.get("/v1/me").status_code == 200
    ended = world.execute(
        "SELECT content::jsonb -> 'detail' ->> 'by' FROM app.audit_entries WHERE action = :a",
        a=Action.SESSION_ENDED,
    )
    assert ended.scalars().all() == ["identity provider"] * 2


def test_a_token_ends_nothing_that_began_after_it(world: Any, idp: OidcServer, provider: str) -> None:
    browser = _come(world, idp, provider, "u3")
    _knows_our_key(world, idp)
    old = _token(idp, iat=int(time.time()) - 30)
    address, stranger = f"/sign-in/provider/{provider}/logout", world.client(checked=False)
    assert stranger.post(address, data={"logout_token": old}).status_code == 200
    assert browser.get("/v1/me").status_code == 200
    fresh = stranger.post(address, data={"logout_token": _token(idp)})
    assert (fresh.status_code, browser.get("/v1/me").status_code) == (200, 401)
