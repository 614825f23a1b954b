"""Sessions that an attacker chose, other sites' requests, and what signing in tells of who exists."""

import re
from typing import Any

import argon2
import pytest

from api.app import _routers
from api.openapi import operations
from tests.support.attacks import address, parameters, unchecked

PASSWORD = "correct horse battery"
HERE = {"Origin": "http://localhost:8000"}
UUID = "0198c0de-0000-7000-8000-000000000001"
# The first begins no session and changes nothing: whoever has the link and its password may send it from
# anywhere. To the other identity providers send what they have signed; no cookie is asked for.
SAFE_FORMS = frozenset({"/link/{token}", "/sign-in/provider/{provider_id}/logout"})
EVIL = "https://evil.example"
FOREIGN: dict[str, dict[str, str]] = {
    "no header of ours": {**HERE},
    "another origin": {"X-Sluiceway-Request": "1", "Origin": EVIL},
    "a sandboxed frame": {"X-Sluiceway-Request": "1", "Origin": "null"},
    "a name that begins like ours": {
        "X-Sluiceway-Request": "1",
        "Origin": "http://localhost:8000.evil.example",
    },
    "another port": {"X-Sluiceway-Request": "1", "Origin": "http://localhost:8001"},
    "fetch metadata": {"X-Sluiceway-Request": "1", "Sec-Fetch-Site": "cross-site"},
    "a neighbouring subdomain": {"X-Sluiceway-Request": "1", "Sec-Fetch-Site": "same-site"},
}


def credentials(email: str = "owner1@example.com", password: str = PASSWORD) -> dict[str, str]:
    return {"email": email, "password": password}


def session_of(answer: Any) -> str:
    found = [c for c in answer.headers.get_list("set-cookie") if c.startswith("sluiceway_session=")]
    return str(found[0].partition("=")[2].partition(";")[0]) if found else ""


def test_a_session_that_was_planted_is_not_the_one_signed_in_with(world: Any) -> None:
    world.person("owner")
    planted = "p" * 43
    for path, body in (("/v1/session", {"json": credentials()}), ("/sign-in", {"data": credentials()})):
        client = world.client(headers={**HERE, "Cookie": f"sluiceway_session={planted}"})
        answer = client.post(path, **body)
        assert answer.status_code in (201, 303)
        assert session_of(answer) not in ("", planted)
        thief = world.client(headers={"Cookie": f"sluiceway_session={planted}"})
        assert thief.get("/v1/me").status_code == 401


def test_signing_in_again_gives_another_session(world: Any) -> None:
    """Also over a session that is good: an attacker's own, planted, must not become the victim's."""
    attacker = world.person("viewer").http.cookies["sluiceway_session"]
    world.person("owner")
    client = world.client(headers={**HERE, "Cookie": f"sluiceway_session={attacker}"})
    mine = session_of(client.post("/v1/session", json=credentials()))
    assert mine not in ("", attacker)
    thief = world.client(headers={"Cookie": f"sluiceway_session={attacker}"})
    assert thief.get("/v1/me").json().get("email") != "owner1@example.com"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x" * 43,
        "x" * 42,
        "x" * 44,
        "../" * 14,
        "' OR 1=1 --",
        "\x00" * 43,
        "🔑" * 11,
        "null",
        "undefined",
        "0" * 4000,
    ],
)
def test_a_token_that_was_made_up_opens_nothing(world: Any, token: str) -> None:
    world.person("owner")
    sent = {"Cookie": b"sluiceway_session=" + token.encode().replace(b"\x00", b"%00")}
    answer = world.client(headers=sent).get("/v1/me")
    assert answer.status_code == 401


def test_a_token_is_taken_from_the_cookie_alone(world: Any) -> None:
    token = world.person("owner").http.cookies["sluiceway_session"]
    client = world.client()
    for answer in (
        client.get(f"/v1/me?sluiceway_session={token}"),
        client.get("/v1/me", headers={"Authorization": f"Bearer {token}"}),
        client.get("/v1/me", headers={"X-Session": token}),
        client.get(f"/v1/me;sluiceway_session={token}"),
    ):
        assert answer.status_code in (401, 404)


def test_no_write_of_any_route_is_done_for_another_site(world: Any) -> None:
    """Every operation that changes something, found from the document; what is refused changed nothing."""
    token = world.person("owner").http.cookies["sluiceway_session"]
    before = world.execute("SELECT count(*) FROM app.api_keys").scalar_one()
    attacked, client = 0, world.client(checked=False)
    for path, method, operation in operations(world.app.openapi()):
        by_cookie = any("session" in scheme for scheme in operation.get("security", ()))
        if method in ("get", "head") or not by_cookie:
            continue
        url = address(path, dict.fromkeys(parameters(operation, "path"), UUID))
        for why, headers in FOREIGN.items():
            sent = {"Cookie": f"sluiceway_session={token}", **headers}
            body = {"name": "n", "scopes": ["read"]}
            answer = client.request(method.upper(), url, json=body, headers=sent)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request"), (
                f"{why}: {method} {url}"
            )
            attacked += 1
    assert attacked >= 7 * 20, "the walk found too few writes"
    assert world.execute("SELECT count(*) FROM app.api_keys").scalar_one() == before
    assert world.client(headers={"Cookie": f"sluiceway_session={token}"}).get("/v1/me").status_code == 200


def test_no_form_of_ours_is_sent_by_another_site(world: Any) -> None:
    """Every form, found from the routes. They cannot send our header: their Origin decides."""
    token = world.person("owner").http.cookies["sluiceway_session"]
    form = {**credentials(), "code": "123456", "name": "n", "next": "/"}
    attacked, client = set(), world.client(checked=False)
    for path in written_pages():
        for origin in (EVIL, "null", "http://localhost:8001"):
            sent = {"Cookie": f"sluiceway_session={token}", "Origin": origin}
            answer = client.post(re.sub(r"\{\w+\}", UUID, path), data=form, headers=sent)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request"), (
                f"{path}, {origin}"
            )
        attacked.add(path)
    assert attacked >= {"/sign-in", "/sign-out", "/forgot", "/reset", "/confirm", "/account/password"}
    assert client.get("/v1/me", headers={"Cookie": f"sluiceway_session={token}"}).status_code == 200


def written_pages() -> list[str]:
    """Paths of pages that take a form."""
    found = []
    for router in _routers().values():
        for route in router.routes:
            path, methods = getattr(route, "path", ""), getattr(route, "methods", None) or set()
            if "POST" in methods and not path.startswith(("/v1/", "/scim/")) and path not in SAFE_FORMS:
                found.append(path)
    return found


def test_nobody_is_provisioned_by_another_site(world: Any) -> None:
    """Its routes are not in the document; the rules for cookies are the same."""
    token = world.person("owner").http.cookies["sluiceway_session"]
    client = world.client(checked=False)
    for headers in FOREIGN.values():
        sent = {"Cookie": f"sluiceway_session={token}", "Content-Type": "application/scim+json", **headers}
        answer = client.post("/scim/v2/Users", content=b'{"userName": "m@example.com"}', headers=sent)
        assert answer.status_code == 403, headers
    assert world.execute("SELECT count(*) FROM app.users WHERE email = 'm@example.com'").scalar_one() == 0


def test_no_read_changes_anything(world: Any) -> None:
    """A link or a picture on another site sends the cookie with a GET: that must be harmless."""
    client = unchecked(world, world.person("owner"))
    tables = ("users", "memberships", "api_keys", "pipelines", "dashboards", "workspaces")
    counts = ", ".join(f"(SELECT count(*) FROM app.{name})" for name in tables)
    before = world.execute(f"SELECT {counts}").one()
    for path, method, operation in operations(world.app.openapi()):
        if method == "get" and not path.endswith(("/stream", "/live")):
            client.get(address(path, dict.fromkeys(parameters(operation, "path"), UUID)))
    for path in ("/sign-out", "/sign-in", "/docs"):
        client.get(path)
    assert world.execute(f"SELECT {counts}").one() == before
    assert client.get("/v1/me").status_code == 200


@pytest.mark.parametrize("form", [False, True])
def test_what_signing_in_costs_does_not_tell_who_exists(
    world: Any, monkeypatch: pytest.MonkeyPatch, form: bool
) -> None:
    """Not the clock is compared but the work: the hash takes nearly all of the time, so it is always made."""
    world.person("owner")
    world.person("viewer")
    world.execute("UPDATE app.users SET disabled_at = now() WHERE email = 'viewer1@example.com'")
    hashed: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: Any, stored: Any, password: Any) -> Any:
        hashed.append(str(stored).rpartition("$")[0].rpartition("$")[0])
        return verify(self, stored, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    told = set()
    for number, email in enumerate(
        ("owner1@example.com", "nobody@example.com", "viewer1@example.com", "x" * 64)
    ):
        client = world.client(headers=HERE, address=f"198.51.100.{number}")
        body = credentials(email, "not the password")
        answer = client.post("/sign-in", data=body) if form else client.post("/v1/session", json=body)
        text = answer.text if form else answer.json()["detail"]
        told.add((answer.status_code, text.replace(email, "")))
    assert len(hashed) == 4, "the same work for everybody"
    assert len(set(hashed)) == 1, "with the same parameters"
    assert len(told) == 1, "and the same answer"
