"""Signing in and out, by JSON and by form; what keeps other sites and guessers out."""

from datetime import timedelta

import pytest

from sluiceway.identity import passwords
from sluiceway.infra.clock import FixedClock

PASSWORD = "correct horse battery"
HERE = {"Origin": "http://localhost:8000"}


def test_signing_in_sets_a_cookie_that_scripts_cannot_read(world) -> None:
    world.person("owner")
    client = world.client(headers=HERE)
    answer = client.post("/v1/session", json={"email": "OWNER1@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" not in cookie
    assert answer.json()["role"] == "owner"
    assert client.get("/v1/session").json()["email"] == "owner1@example.com"
    assert PASSWORD not in answer.text


def test_the_token_itself_is_not_in_the_database(world) -> None:
    client = world.person("viewer")
    token = client.http.cookies["sluiceway_session"]
    row = world.execute("SELECT token_hash FROM app.sessions").one()
    assert token.encode() not in bytes(row.token_hash)


@pytest.mark.parametrize("email", ["owner1@example.com", "nobody@example.com"])
def test_a_wrong_password_and_an_unknown_person_look_the_same(world, email: str) -> None:
    world.person("owner")
    answer = world.client().post("/v1/session", json={"email": email, "password": "wrong"})
    assert answer.status_code == 401
    assert answer.json()["detail"] == "The e-mail address or the password is wrong."


def test_an_unknown_person_costs_a_hash_too(world, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    real = passwords.verify
    monkeypatch.setattr(passwords, "verify", lambda h, p: asked.append(h is None) or real(h, p))
    world.client().post("/v1/session", json={"email": "nobody@example.com", "password": "wrong"})
    assert asked == [True]


def test_guessing_is_slowed_down_by_address(world) -> None:
    world.person("owner")
    guesser = world.client(address="203.0.113.9")
    wrong = {"email": "owner1@example.com", "password": "wrong"}
    statuses = [guesser.post("/v1/session", json=wrong).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    blocked = guesser.post("/v1/session", json={"email": "owner1@example.com", "password": PASSWORD})
    assert blocked.status_code == 429 and int(blocked.headers["retry-after"]) >= 1
    assert blocked.json()["code"] == "sign_in_throttled"
    other = world.client(address="203.0.113.10")
    assert other.post("/v1/session", json={**wrong, "password": PASSWORD}).status_code == 201


def test_a_household_of_ipv6_addresses_counts_as_one(world) -> None:
    wrong = {"email": "nobody@example.com", "password": "wrong"}
    for number in range(5):
        world.client(address=f"2001:db8::{number}").post("/v1/session", json=wrong)
    assert world.client(address="2001:db8::9").post("/v1/session", json=wrong).status_code == 429
    assert world.client(address="2001:db8:0:1::9").post("/v1/session", json=wrong).status_code == 401


def test_a_session_ends_when_its_time_is_over(world) -> None:
    client = world.person("owner")
    assert client.get("/v1/me").status_code == 200
    world.stand_at(FixedClock(world.services.clock.now() + timedelta(days=15)))
    answer = client.get("/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")


def test_signing_out_ends_the_session_at_once(world) -> None:
    client = world.person("owner")
    token = client.http.cookies["sluiceway_session"]
    assert client.get("/v1/me").status_code == 200
    assert client.delete("/v1/session").status_code == 204
    thief = world.client(headers={"Cookie": f"sluiceway_session={token}"})
    assert thief.get("/v1/me").status_code == 401


def test_a_disabled_person_is_out(world) -> None:
    world.person("owner")
    world.execute("UPDATE app.users SET disabled_at = now()")
    answer = world.client().post("/v1/session", json={"email": "owner1@example.com", "password": PASSWORD})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Sluiceway-Request": "1", "Origin": "https://evil.example"},
        {"X-Sluiceway-Request": "1", "Origin": "null"},
        {"X-Sluiceway-Request": "1", "Sec-Fetch-Site": "cross-site"},
        {"X-Sluiceway-Request": "0", "Origin": "http://localhost:8000"},
    ],
)
def test_a_write_with_a_cookie_from_elsewhere_is_refused(world, headers: dict[str, str]) -> None:
    token = world.person("owner").http.cookies["sluiceway_session"]
    client = world.client(headers={"Cookie": f"sluiceway_session={token}", **headers})
    answer = client.post("/v1/keys", json={"name": "n", "scopes": ["read"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
    assert client.get("/v1/me").status_code == 200


def test_another_site_cannot_sign_someone_in(world) -> None:
    world.person("owner")
    form = {"email": "owner1@example.com", "password": PASSWORD}
    evil = world.client(headers={"Origin": "https://evil.example"})
    assert evil.post("/sign-in", data=form).status_code == 403
    assert evil.post("/v1/session", json=form).status_code == 403


def test_the_form_signs_in_without_a_script(world) -> None:
    world.person("owner")
    client = world.client(headers=HERE)
    form = {"email": "owner1@example.com", "password": PASSWORD, "next": "/dashboard?slug=flights"}
    answer = client.post("/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard?slug=flights")
    assert client.get("/v1/me").status_code == 200
    again = client.get("/sign-in?next=/x")
    assert (again.status_code, again.headers["location"]) == (303, "/x")
    assert client.post("/sign-out").headers["location"] == "/sign-in"
    assert client.get("/v1/me").status_code == 401


def test_the_form_says_what_was_wrong_and_keeps_the_address(world) -> None:
    answer = world.client(headers=HERE).post(
        "/sign-in", data={"email": '"><script>@x', "password": "wrong", "next": "//evil.example"}
    )
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text and "&quot;&gt;&lt;script&gt;@x" in answer.text
    assert "evil" not in answer.text and "<script>" not in answer.text


def test_signing_out_asks_first(world) -> None:
    client = world.person("owner")
    page = client.get("/sign-out")
    assert page.status_code == 200 and 'method="post"' in page.text
    assert client.get("/v1/me").status_code == 200
