"""Second factors: set up, asked for, used once, lost; confirming; what a workspace can ask of its people."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest

from sluiceway.infra.clock import FixedClock

EMAIL, PASSWORD = "owner1@example.com", "correct horse battery"
HERE = {"Origin": "http://localhost:8000"}
NOON = datetime(2026, 11, 21, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def clock(world: Any) -> FixedClock:
    found = FixedClock(NOON)
    world.stand_at(found)
    return found


def _set_up(client: Any, clock: FixedClock) -> tuple[pyotp.TOTP, list[str]]:
    begun = client.post("/v1/me/totp")
    assert begun.status_code == 201, begun.text
    totp = pyotp.parse_uri(begun.json()["uri"])
    assert begun.json()["qr_svg"].startswith("<svg") and "style" not in begun.json()["qr_svg"]
    answer = client.put("/v1/me/totp", json={"step": begun.json()["step"], "code": totp.at(clock.now())})
    assert answer.status_code == 200, answer.text
    return totp, answer.json()["codes"]


def _sign_in(world: Any, **more: Any) -> Any:
    client = world.client(headers={"X-Sluiceway-Request": "1", **HERE})
    return client, client.post("/v1/session", json={"email": EMAIL, "password": PASSWORD, **more})


def _later(world: Any, clock: FixedClock, seconds: int) -> FixedClock:
    found = FixedClock(clock.now() + timedelta(seconds=seconds))
    world.stand_at(found)
    return found


def test_an_app_is_asked_for_and_no_code_is_taken_twice(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    totp, codes = _set_up(owner, clock)
    assert len(set(codes)) == 10 and owner.get("/v1/me/sign-in").json()["recovery_codes_left"] == 10

    client, asked = _sign_in(world)
    assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_required")
    assert asked.json()["methods"] == ["totp", "recovery"] and "set-cookie" not in asked.headers
    assert client.get("/v1/me").status_code == 401  # half signed in is not signed in

    step = asked.json()["step"]
    replay = client.post("/v1/session/second-factor", json={"step": step, "code": totp.at(clock.now())})
    assert (replay.status_code, replay.json()["code"]) == (401, "wrong_code")  # setting up took that one
    clock = _later(world, clock, 30)
    code = totp.at(clock.now())
    done = client.post("/v1/session/second-factor", json={"step": step, "code": code})
    assert done.status_code == 201 and client.get("/v1/me").json()["email"] == EMAIL
    assert client.post("/v1/session/second-factor", json={"step": step, "code": code}).status_code == 401
    _, again = _sign_in(world, code=code)
    assert again.json()["code"] == "wrong_code"
    # Clocks may be off by one step, and no more.
    _, early = _sign_in(world, code=totp.at(clock.now() + timedelta(seconds=30)))
    assert early.status_code == 201
    clock = _later(world, clock, 120)
    _, late = _sign_in(world, code=totp.at(clock.now() - timedelta(seconds=60)))
    assert late.json()["code"] == "wrong_code"


def test_recovery_codes_are_good_once_and_new_ones_replace_them(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    _, codes = _set_up(owner, clock)
    client, signed_in = _sign_in(world, code=codes[0].upper().replace("-", " "))
    assert signed_in.status_code == 201
    assert _sign_in(world, code=codes[0])[1].json()["code"] == "wrong_code"
    fresh = client.post("/v1/me/recovery-codes").json()["codes"]
    assert _sign_in(world, code=codes[1])[1].json()["code"] == "wrong_code"
    assert _sign_in(world, code=fresh[0])[1].status_code == 201
    stored = world.execute("SELECT code_hash FROM app.recovery_codes").scalars().all()
    assert not any(code.encode() in bytes(kept) for code in fresh for kept in stored)
    sealed = bytes(world.execute("SELECT sealed FROM app.totp").scalar_one())
    assert client.delete("/v1/me/totp").status_code == 204
    assert sealed and client.get("/v1/me/sign-in").json()["totp_since"] is None
    assert _sign_in(world)[1].status_code == 201


def test_guessing_codes_is_slowed_down_but_not_for_a_known_browser(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    totp, _ = _set_up(owner, clock)
    stranger = world.client(headers=HERE, address="203.0.113.7")
    step = stranger.post("/v1/session", json={"email": EMAIL, "password": PASSWORD}).json()["step"]
    body = {"step": step, "code": "000000"}
    statuses = [stranger.post("/v1/session/second-factor", json=body).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    clock = _later(world, clock, 60)
    # The owner's own browser, from the same address, goes on.
    owner.http._transport.client = ("203.0.113.7", 5000)  # type: ignore[attr-defined]
    body = {"email": EMAIL, "password": PASSWORD, "code": totp.at(clock.now())}
    assert owner.post("/v1/session", json=body).status_code == 201


def test_an_attacker_cannot_lock_a_person_out(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    wrong = {"email": EMAIL, "password": "wrong horse battery"}
    for number in range(25):
        world.client(address=f"198.51.100.{number}").post("/v1/session", json=wrong)
    elsewhere = world.client(address="192.0.2.1").post("/v1/session", json={**wrong, "password": PASSWORD})
    assert elsewhere.status_code == 429  # guessing from everywhere is slowed down from everywhere
    assert owner.post("/v1/session", json={**wrong, "password": PASSWORD}).status_code == 201
    # A copied device cookie of somebody else opens nothing faster.
    other = world.person("viewer").http.cookies["sluiceway_device"]
    thief = world.client(headers={"Cookie": f"sluiceway_device={other}"}, address="192.0.2.1")
    assert thief.post("/v1/session", json={**wrong, "password": PASSWORD}).status_code == 429


def test_the_throttle_is_shared_by_processes(world: Any) -> None:
    from api.app import create_app
    from api.services import ApiServices
    from tests.integration.api.conftest import World

    world.person("owner")
    services = ApiServices(world.services.settings, world.services.database, world.services.key)
    twin = World(services, create_app(services), world.portal)
    wrong = {"email": EMAIL, "password": "wrong horse battery"}
    for found in (world, twin, world, twin, world):
        assert found.client(address="203.0.113.8").post("/v1/session", json=wrong).status_code == 401
    assert twin.client(address="203.0.113.8").post("/v1/session", json=wrong).status_code == 429


def test_sensitive_changes_ask_for_a_fresh_proof(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    totp, _ = _set_up(owner, clock)
    clock = _later(world, clock, 11 * 60)
    calls = [
        ("PUT", "/v1/me/password", {"password": "violet otter climbs quietly"}),
        ("POST", "/v1/me/totp", None),
        ("DELETE", "/v1/me/totp", None),
        ("POST", "/v1/me/recovery-codes", None),
        ("POST", "/v1/me/passkeys/options", None),
        ("DELETE", "/v1/me/devices", None),
        ("PUT", "/v1/sign-in/policy", {"second_factor_for": []}),
    ]
    for method, path, body in calls:
        answer = owner.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "confirmation_required"), path
    assert owner.post("/v1/session/confirmation", json={"password": "wrong"}).status_code == 401
    assert owner.post("/v1/session/confirmation", json={}).status_code == 422
    code = totp.at(clock.now())
    assert owner.post("/v1/session/confirmation", json={"code": code}).status_code == 204
    assert owner.post("/v1/session/confirmation", json={"password": PASSWORD}).status_code == 204
    for method, path, body in calls[:2]:
        assert owner.request(method, path, json=body).status_code in (201, 204), path


def test_a_workspace_asks_for_a_second_factor(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    _set_up(owner, clock)
    analyst = world.person("analyst")
    assert analyst.get("/v1/pipelines").status_code == 200
    bad = owner.put("/v1/sign-in/policy", json={"second_factor_for": ["kings"]})
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "second_factor_for")
    policy = {"second_factor_for": ["analyst"], "remember_me": False, "idle_minutes": 30}
    assert owner.put("/v1/sign-in/policy", json=policy).json() == policy
    assert owner.get("/v1/sign-in/policy").json() == policy
    refused = analyst.get("/v1/pipelines")
    assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_missing")
    me = analyst.get("/v1/me").json()
    assert me["second_factor_missing"] and me["permissions"] == []
    assert analyst.post("/v1/stream-tokens", json={}).status_code == 403
    _set_up(analyst, clock)
    assert analyst.get("/v1/pipelines").status_code == 200
    assert world.person("viewer").get("/v1/pipelines").status_code == 200
    # Remembering is off: what is asked for is not given.
    client = world.client(headers=HERE)
    body = {"email": "viewer1@example.com", "password": PASSWORD, "remember": True}
    cookies = client.post("/v1/session", json=body).headers.get_list("set-cookie")
    assert not any("sluiceway_session" in c and "Max-Age" in c for c in cookies)
    world.stand_at(FixedClock(clock.now() + timedelta(minutes=31)))
    assert client.get("/v1/pipelines").status_code == 401  # idle


def test_who_lost_everything_is_helped_by_who_holds_as_much(world: Any, clock: FixedClock) -> None:
    owner, admin, viewer = (world.person(role) for role in ("owner", "admin", "viewer"))
    for client in (owner, viewer):
        _set_up(client, clock)
    ids = {c: c.get("/v1/me").json()["user_id"] for c in (owner, viewer)}
    refused = admin.delete(f"/v1/members/{ids[owner]}/second-factor")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert admin.delete(f"/v1/members/{ids[viewer]}/second-factor").status_code == 204
    assert viewer.get("/v1/me").status_code == 401
    assert world.person("viewer").get("/v1/me/sign-in").json()["totp_since"] is None


def test_the_forms_do_it_without_a_script(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    made = owner.post("/account/app/new")
    secret = made.text.partition('class="key">')[2].partition("<")[0].replace(" ", "")
    step = made.text.partition('name="step" value="')[2].partition('"')[0]
    wrong = owner.post("/account/app", data={"step": step, "code": "000000"})
    assert wrong.status_code == 401 and 'role="alert"' in wrong.text and step in wrong.text
    codes = owner.post("/account/app", data={"step": step, "code": pyotp.TOTP(secret).at(clock.now())})
    code = codes.text.partition("<li><code>")[2].partition("<")[0]
    assert len(code) == 19
    client = world.client(headers=HERE)
    form = {"email": EMAIL, "password": PASSWORD, "next": "/dashboard?slug=x"}
    asked = client.post("/sign-in", data=form)
    assert asked.headers["location"] == "/sign-in/code?next=/dashboard%3Fslug%3Dx"
    page = client.get(asked.headers["location"])
    assert "One more step" in page.text
    assert client.post("/sign-in/code", data={"code": "111111"}).status_code == 401
    done = client.post("/sign-in/code", data={"code": code, "next": "/dashboard?slug=x"})
    assert (done.status_code, done.headers["location"]) == (303, "/dashboard?slug=x")
    world.stand_at(FixedClock(clock.now() + timedelta(minutes=11)))
    page_asks = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
    later = client.post("/account/app/remove", headers=page_asks)
    assert (later.status_code, later.headers["location"]) == (303, "/confirm?next=/account")
    confirmed = client.post("/confirm", data={"password": PASSWORD, "next": "/account"})
    assert confirmed.headers["location"] == "/account"
    assert client.post("/account/app/remove", headers=page_asks).headers["location"] == "/account?done=app"
    evil = {"Origin": "https://evil.example", **page_asks}
    assert client.post("/account/password", data={"password": "x" * 20}, headers=evil).status_code == 403


def test_keys_of_others_ask_for_a_fresh_proof(world: Any, clock: FixedClock) -> None:
    owner = world.person("owner")
    mine = owner.post("/v1/keys", json={"name": "mine", "scopes": ["read"]}).json()["info"]["id"]
    others = world.key("read").split("_")[1]
    _later(world, clock, 11 * 60)
    for method, path in (("DELETE", f"/v1/keys/{others}"), ("POST", f"/v1/keys/{others}/rotation")):
        answer = owner.request(method, path, json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "confirmation_required")
    assert owner.delete(f"/v1/keys/{mine}").status_code == 200
    owner.post("/v1/session/confirmation", json={"password": PASSWORD})
    assert owner.delete(f"/v1/keys/{others}").status_code == 200
