"""Sessions: remembered or not, listed and ended, renewed at every sign-in; passwords changed and reset."""

import dataclasses
import re
from datetime import timedelta
from typing import Any

from sluiceway.infra.clock import FixedClock

EMAIL, PASSWORD = "owner1@example.com", "correct horse battery"
NEW = "violet otter climbs quietly"
HERE = {"X-Sluiceway-Request": "1", "Origin": "http://localhost:8000"}


def _sign_in(world: Any, password: str = PASSWORD, **more: Any) -> tuple[Any, Any]:
    client = world.client(headers=HERE)
    return client, client.post("/v1/session", json={"email": EMAIL, "password": password, **more})


def _cookie(answer: Any, name: str = "sluiceway_session") -> str:
    return next(c for c in answer.headers.get_list("set-cookie") if c.startswith(f"{name}="))


def test_remembered_sessions_last_and_others_end_with_idleness(world: Any) -> None:
    world.person("owner")
    short, answer = _sign_in(world)
    assert "Max-Age" not in _cookie(answer) and "HttpOnly" in _cookie(answer, "sluiceway_device")
    kept, answer = _sign_in(world, remember=True)
    assert f"Max-Age={14 * 86_400}" in _cookie(answer)
    start = world.services.clock.now()
    for minutes in (400, 800, 1200):  # seen every 400 minutes: never idle for 480
        world.stand_at(FixedClock(start + timedelta(minutes=minutes)))
        assert short.get("/v1/me").status_code == 200, minutes
    world.stand_at(FixedClock(start + timedelta(minutes=1200 + 481)))
    assert short.get("/v1/me").status_code == 401
    world.stand_at(FixedClock(start + timedelta(days=13)))
    assert kept.get("/v1/me").status_code == 200
    world.stand_at(FixedClock(start + timedelta(days=15)))
    assert kept.get("/v1/me").status_code == 401


def test_a_session_that_is_not_remembered_lasts_a_day_at_most(world: Any) -> None:
    world.person("owner")
    client, _ = _sign_in(world)
    start = world.services.clock.now()
    for hours in (7, 14, 21):
        world.stand_at(FixedClock(start + timedelta(hours=hours)))
        assert client.get("/v1/me").status_code == 200
    world.stand_at(FixedClock(start + timedelta(hours=25)))
    assert client.get("/v1/me").status_code == 401


def test_signing_in_renews_the_token_and_ends_the_one_that_was_there(world: Any) -> None:
    client = world.person("owner")
    before = client.http.cookies["sluiceway_session"]
    planted = world.client(headers={**HERE, "Cookie": "sluiceway_session=" + "A" * 43})
    assert planted.post("/v1/session", json={"email": EMAIL, "password": PASSWORD}).status_code == 201
    assert world.client(headers={"Cookie": "sluiceway_session=" + "A" * 43}).get("/v1/me").status_code == 401
    client.post("/v1/session", json={"email": EMAIL, "password": PASSWORD})
    after = client.http.cookies["sluiceway_session"]
    assert after != before
    assert world.client(headers={"Cookie": f"sluiceway_session={before}"}).get("/v1/me").status_code == 401


def test_people_see_and_end_their_own_sessions(world: Any) -> None:
    owner, viewer = world.person("owner"), world.person("viewer")
    other, _ = _sign_in(world)
    third, _ = _sign_in(world)
    found = owner.get("/v1/me/sessions").json()
    assert len(found) == 3 and [s["current"] for s in found].count(True) == 1
    assert {s["email"] for s in found} == {EMAIL}
    foreign = viewer.get("/v1/me/sessions").json()[0]["id"]
    assert owner.delete(f"/v1/me/sessions/{foreign}").status_code == 404
    current = next(s["id"] for s in other.get("/v1/me/sessions").json() if s["current"])
    assert owner.delete(f"/v1/me/sessions/{current}").status_code == 204
    assert other.get("/v1/me").status_code == 401
    assert owner.delete("/v1/me/sessions").status_code == 204
    assert third.get("/v1/me").status_code == 401 and owner.get("/v1/me").status_code == 200
    assert viewer.get("/v1/me").status_code == 200


def test_who_may_sees_and_ends_others_sessions_in_the_workspace(world: Any) -> None:
    admin, viewer, outsider = world.person("admin"), world.person("viewer"), world.person("viewer", 2)
    page = admin.get("/v1/sessions?limit=1").json()
    assert len(page["items"]) == 1 and page["next_cursor"]
    everyone = admin.get("/v1/sessions").json()["items"]
    assert {s["email"] for s in everyone} == {"admin1@example.com", "viewer1@example.com"}
    theirs = outsider.get("/v1/me/sessions").json()[0]["id"]
    assert admin.delete(f"/v1/sessions/{theirs}").status_code == 404
    assert viewer.get("/v1/sessions").status_code == 403
    his = next(s["id"] for s in everyone if s["email"].startswith("viewer"))
    assert viewer.delete(f"/v1/sessions/{his}").status_code == 403
    assert admin.delete(f"/v1/sessions/{his}").status_code == 204
    assert viewer.get("/v1/me").status_code == 401


def test_changing_the_password_ends_all_other_sessions(world: Any) -> None:
    owner = world.person("owner")
    other, _ = _sign_in(world)
    for bad, said in (
        ("short", "10 to 1000"),
        ("password123456", "easy to guess"),
        ("owner1owner1", "guess"),
    ):
        answer = owner.put("/v1/me/password", json={"password": bad})
        assert answer.status_code == 422 and said in answer.json()["errors"][0]["message"], answer.text
        assert bad not in answer.text
    assert owner.put("/v1/me/password", json={"password": NEW}).status_code == 204
    assert owner.get("/v1/me").status_code == 200 and other.get("/v1/me").status_code == 401
    assert _sign_in(world)[1].status_code == 401 and _sign_in(world, NEW)[1].status_code == 201
    assert owner.get("/v1/me/sign-in").json()["password_set_at"]


def test_a_forgotten_password_is_set_anew_over_a_mailed_link(world: Any) -> None:
    owner = world.person("owner")
    world.execute("DELETE FROM app.known_devices")
    stranger = world.client(headers=HERE)
    refused = stranger.post("/v1/password-resets", json={"email": EMAIL})
    assert (refused.status_code, refused.json()["code"]) == (409, "mail_not_configured")
    assert "cannot send mail" in stranger.get("/forgot").text
    url = "smtp://127.0.0.1:1?starttls=no"
    world.services.settings = dataclasses.replace(world.services.settings, smtp_url=url)
    for email in (EMAIL, "nobody@example.com"):
        answer = stranger.post("/v1/password-resets", json={"email": email})
        assert (answer.status_code, answer.text) == (202, "")
    page = stranger.post("/forgot", data={"email": "<script>@example.com"})
    assert page.status_code == 200 and "&lt;script&gt;@example.com" in page.text
    assert world.execute("SELECT array_agg(recipient) FROM app.mails").scalar() == [EMAIL]
    token = _mailed_token(world)

    opened = stranger.get(f"/reset?token={token}")
    assert (opened.status_code, opened.headers["location"]) == (303, "/reset")
    assert EMAIL in stranger.get("/reset").text
    weak = stranger.post("/reset", data={"password": "password12345"})
    assert weak.status_code == 422 and 'role="alert"' in weak.text
    done = stranger.post("/reset", data={"password": NEW})
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert stranger.get("/v1/me").json()["email"] == EMAIL
    assert owner.get("/v1/me").status_code == 401  # whoever had a session has none
    assert world.execute("SELECT count(*) FROM app.known_devices").scalar() == 1
    again = world.client(headers=HERE).put("/v1/password-resets", json={"token": token, "password": NEW})
    assert (again.status_code, again.json()["code"]) == (404, "reset_link_invalid")
    stored = world.execute("SELECT token_hash FROM app.sign_in_steps").scalars().all()
    assert all(token.encode() not in bytes(kept) for kept in stored)


def test_reset_links_end_and_the_newest_alone_is_good(world: Any) -> None:
    world.person("owner")
    url = "smtp://127.0.0.1:1?starttls=no"
    world.services.settings = dataclasses.replace(world.services.settings, smtp_url=url)
    client = world.client(headers=HERE)
    client.post("/v1/password-resets", json={"email": EMAIL})
    first = _mailed_token(world)
    client.post("/v1/password-resets", json={"email": EMAIL})
    second = _mailed_token(world)
    use = {"token": first, "password": NEW}
    assert client.put("/v1/password-resets", json=use).status_code == 404
    world.stand_at(FixedClock(world.services.clock.now() + timedelta(minutes=61)))
    assert client.put("/v1/password-resets", json={**use, "token": second}).status_code == 404
    assert _sign_in(world)[1].status_code == 201


def _mailed_token(world: Any) -> str:
    from sluiceway.infra.mail import seal_context

    row = world.execute(
        "SELECT id, workspace_id, sealed FROM app.mails ORDER BY created_at DESC LIMIT 1"
    ).one()
    envelope = world.services.database.envelope
    text = envelope.open(bytes(row.sealed), seal_context(row.workspace_id, row.id)).decode()
    found = re.search(r"/reset\?token=([A-Za-z0-9_-]{43})", text)
    assert found is not None
    return found[1]
