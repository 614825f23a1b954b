"""Invitations: from the link to a member, once, for the right person, until they end."""

import re
from datetime import timedelta
from typing import Any

from sluiceway.audit.actions import Action
from sluiceway.infra.clock import FixedClock, SystemClock

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://localhost:8000"}
PASSWORD = "violet otter climbs quietly"


def _invite(client: Any, email: str = "new@example.com", **body: Any) -> tuple[str, dict[str, Any]]:
    """The link's token and the invitation."""
    answer = client.post("/v1/invitations", json={"email": email, **body})
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    return found["link"].rpartition("/")[2], found["invitation"]


def _browser(world: Any) -> Any:
    return world.client(headers={"Origin": "http://localhost:8000", "X-Sluiceway-Request": "1"})


def test_somebody_new_accepts_on_the_page_and_is_signed_in(world) -> None:
    owner = world.person("owner")
    assert (
        owner.post("/v1/teams", json={"name": "EMEA", "attributes": {"region": ["emea"]}}).status_code == 201
    )
    token, made = _invite(owner, role="analyst", teams=["emea"], attributes={"level": ["2"]})
    assert made["state"] == "open" and made["teams"] == ["emea"] and made["mail"] == "none"
    stored = world.execute("SELECT token_hash FROM app.invitations").scalar_one()
    assert token.encode() not in bytes(stored)
    browser = _browser(world)
    page = browser.get(f"/invitation/{token}")
    assert page.status_code == 200 and "Main" in page.text and "new@example.com" in page.text
    assert "<script>" not in page.text and page.headers["cache-control"] == "no-store"
    weak = browser.post(f"/invitation/{token}", data={"name": "<b>Ada", "password": "short"}, headers=FORM)
    assert weak.status_code == 422 and "&lt;b&gt;Ada" in weak.text and "should have 10" in weak.text
    foreign = browser.post(
        f"/invitation/{token}", data={"name": "Ada", "password": PASSWORD},
        headers={**FORM, "Origin": "https://evil.example"},
    )  # fmt: skip
    assert foreign.status_code == 403
    done = browser.post(f"/invitation/{token}", data={"name": "Ada", "password": PASSWORD}, headers=FORM)
    assert (done.status_code, done.headers["location"]) == (303, "/"), done.text
    me = browser.get("/v1/session").json()
    assert (me["email"], me["role"]) == ("new@example.com", "analyst")
    assert me["attributes"] == {"level": ["2"], "region": ["emea"]}
    assert owner.get(f"/v1/invitations/{made['id']}").json()["state"] == "accepted"
    assert browser.get(f"/invitation/{token}").status_code == 404
    actions = world.execute("SELECT action FROM app.audit_entries ORDER BY seq").scalars().all()
    assert Action.MEMBER_INVITED in actions and Action.MEMBER_JOINED in actions


def test_somebody_with_an_account_joins_with_it(world) -> None:
    owner, other = world.person("owner"), world.person("viewer", 2)
    token, _ = _invite(owner, "viewer2@example.com", role="editor")
    page = _browser(world).get(f"/invitation/{token}")
    assert "Sign in to join" in page.text and f"next=/invitation/{token}" in page.text
    stranger = _browser(world).post(
        f"/invitation/{token}", data={"name": "X", "password": PASSWORD}, headers=FORM
    )
    assert stranger.headers["location"].startswith("/sign-in?next=")
    assert "was not asked" in owner.get(f"/invitation/{token}").text
    wrong = owner.post("/v1/invitations/acceptance", json={"token": token})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "invited_someone_else")
    assert ">Join<" in other.get(f"/invitation/{token}").text
    before = other.http.cookies["sluiceway_session"]
    done = other.post(f"/invitation/{token}", headers=FORM)
    assert (done.status_code, done.headers["location"]) == (303, "/"), done.text
    assert other.http.cookies["sluiceway_session"] != before
    me = other.get("/v1/session").json()
    assert (me["workspace"]["id"], me["role"]) == (1, "editor")
    assert {w["id"]: w["role"] for w in other.get("/v1/workspaces").json()["items"]} == {
        1: "editor",
        2: "viewer",
    }


def test_programs_accept_too(world) -> None:
    owner = world.person("owner")
    token, _ = _invite(owner)
    browser = _browser(world)
    assert browser.post("/v1/invitations/acceptance", json={"token": token}).status_code == 401
    body = {"token": token, "name": "Ada", "password": PASSWORD}
    done = browser.post("/v1/invitations/acceptance", json=body)
    assert (done.status_code, done.json()) == (
        201,
        {"workspace_id": 1, "workspace": "Main", "role": "viewer"},
    )
    assert browser.get("/v1/session").json()["email"] == "new@example.com"
    again = browser.post("/v1/invitations/acceptance", json=body)
    assert (again.status_code, again.json()["code"]) == (404, "invitation_gone")
    key = world.program("read")
    other, _ = _invite(owner, "x@example.com")
    assert key.post("/v1/invitations/acceptance", json={"token": other}).json()["code"] == "people_only"


def test_a_link_ends_is_replaced_and_taken_back(world) -> None:
    owner = world.person("owner")
    token, made = _invite(owner, days=2)
    twice = owner.post("/v1/invitations", json={"email": "NEW@example.com"})
    assert (twice.status_code, twice.json()["code"]) == (409, "invitation_open")
    sent = owner.post(f"/v1/invitations/{made['id']}/sending")
    fresh = sent.json()["link"].rpartition("/")[2]
    browser = _browser(world)
    assert browser.get(f"/invitation/{token}").status_code == 404
    assert browser.get(f"/invitation/{fresh}").status_code == 200
    for nonsense in ("x", "x" * 43, "..%2f..%2fetc", fresh[:-1] + "!"):
        assert browser.get(f"/invitation/{nonsense}").status_code == 404, nonsense
    assert owner.delete(f"/v1/invitations/{made['id']}").json()["state"] == "revoked"
    assert browser.get(f"/invitation/{fresh}").status_code == 404
    for settled in (owner.delete, lambda path: owner.post(f"{path}/sending")):
        assert settled(f"/v1/invitations/{made['id']}").json()["code"] == "invitation_settled"
    late, second = _invite(owner)
    world.stand_at(FixedClock(SystemClock().now() + timedelta(days=7, minutes=1)))
    assert browser.get(f"/invitation/{late}").status_code == 404
    world.stand_at(SystemClock())
    assert owner.get("/v1/invitations?state=open").json()["items"][0]["id"] == second["id"]
    states = [i["state"] for i in owner.get("/v1/invitations").json()["items"]]
    assert states == ["open", "revoked"]


def test_who_may_invite_and_whom(world) -> None:
    owner, editor = world.person("owner"), world.person("editor")
    assert editor.post("/v1/invitations", json={"email": "x@example.com"}).status_code == 403
    assert editor.get("/v1/invitations").status_code == 403
    member = owner.post("/v1/invitations", json={"email": "editor1@example.com"})
    assert (member.status_code, member.json()["code"]) == (409, "already_member")
    for body, field in (
        ({"email": "nobody"}, "email"),
        ({"email": "a@b\r\nBcc: c@d"}, "email"),
        ({"email": "x@example.com", "role": "none"}, "role"),
        ({"email": "x@example.com", "attributes": {"A": ["1"]}}, "attributes"),
    ):
        answer = owner.post("/v1/invitations", json=body)
        assert answer.status_code == 422, body
        assert answer.json()["errors"][0]["field"].startswith(field)
    _, made = _invite(owner, "x@example.com")
    elsewhere = world.person("owner", 2)
    for call in (elsewhere.get, elsewhere.delete):
        assert call(f"/v1/invitations/{made['id']}").status_code == 404
    assert elsewhere.post(f"/v1/invitations/{made['id']}/sending").status_code == 404
    assert elsewhere.get("/v1/invitations").json()["items"] == []


def test_a_link_is_used_once_even_at_the_same_time(world) -> None:
    """Two answers to one link: the second finds it taken, whatever it was told before."""
    from sluiceway.identity import accepting, service
    from sluiceway.identity.errors import InvitationGone
    from sluiceway.infra.database import Role

    token, _ = _invite(world.person("owner"))
    database, now = world.services.database, SystemClock().now()
    with database.transaction(Role.APP) as conn:
        offer = accepting.find_offer(conn, token, now=now)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        user = service.add_person(conn, "new@example.com", "New", None)
    outcomes = []
    for _ in range(2):
        try:
            with database.transaction(Role.APP, workspace_id=1, user_id=str(user.id)) as conn:
                accepting.accept(conn, offer, user, now=now)
            outcomes.append("joined")
        except InvitationGone:
            outcomes.append("gone")
    assert outcomes == ["joined", "gone"]


def test_what_the_inviter_no_longer_holds_is_not_given(world) -> None:
    owner, admin = world.person("owner"), world.person("admin")
    token, _ = _invite(admin, role="admin")
    low, _ = _invite(admin, "low@example.com", role="viewer")
    person = world.execute("SELECT id FROM app.users WHERE email = 'admin1@example.com'").scalar_one()
    team = owner.post("/v1/roles", json={"name": "People", "permissions": ["member:manage", "rule:manage"]})
    assert team.status_code == 201
    owner.patch(f"/v1/members/{person}", json={"role": "people"})
    body = {"name": "A", "password": PASSWORD}
    for one in (token, low):
        gone = _browser(world).post("/v1/invitations/acceptance", json={"token": one, **body})
        assert (gone.status_code, gone.json()["code"]) == (404, "invitation_gone")
    owner.patch(f"/v1/members/{person}", json={"role": "admin"})
    again = _browser(world).post("/v1/invitations/acceptance", json={"token": low, **body})
    assert again.status_code == 201, again.text


def test_seats_are_asked_for(world) -> None:
    world.execute(
        "INSERT INTO app.quotas (workspace_id, measure, hard, updated_by) VALUES (1, 'seats', 2, 'cli')"
    )
    owner = world.person("owner")
    token, _ = _invite(owner)
    full = owner.post("/v1/invitations", json={"email": "x@example.com"})
    assert full.status_code == 409 and re.search("seats", full.json()["detail"])
    world.execute("UPDATE app.quotas SET hard = 1")
    taken = _browser(world).post(
        f"/invitation/{token}", data={"name": "A", "password": PASSWORD}, headers=FORM
    )
    assert taken.status_code == 409 and "seats" in taken.text
    assert world.execute("SELECT count(*) FROM app.users").scalar_one() == 1
