"""The organization and its workspaces: who may make and name them, going between them, oneself."""

from typing import Any

from sluiceway.audit.actions import Action
from sluiceway.identity.preferences import time_zones


def _id(world: Any, email: str) -> Any:
    return world.execute("SELECT id FROM app.users WHERE email = :e", e=email).scalar_one()


def test_an_owner_of_the_organization_makes_workspaces_and_goes_there(world) -> None:
    owner = world.person("owner")
    assert "organization:manage" in owner.get("/v1/session").json()["permissions"]
    made = owner.post("/v1/workspaces", json={"name": "Logistics, EMEA"})
    assert (made.status_code, made.json()["slug"]) == (201, "logistics-emea"), made.text
    assert owner.post("/v1/workspaces", json={"name": "x", "slug": "logistics-emea"}).status_code == 409
    room = made.json()["id"]
    assert [w["id"] for w in owner.get("/v1/workspaces").json()["items"]] == [1, room]
    assert owner.get(f"/v1/workspaces/{room}").status_code == 404
    owner.post("/v1/dashboards", json={"source": "kind: Dashboard\nname: board\ntitle: B\nwidgets: []\n"})
    before = owner.http.cookies["sluiceway_session"]
    moved = owner.put("/v1/session/workspace", json={"workspace_id": room})
    assert (moved.status_code, moved.json()["workspace"]["id"]) == (200, room), moved.text
    assert owner.get("/v1/dashboards").json()["items"] == []
    assert owner.get(f"/v1/workspaces/{room}").json()["members"] == 1
    stale = world.client(headers={"Cookie": f"sluiceway_session={before}"})
    assert stale.get("/v1/dashboards").status_code == 401
    owner.delete("/v1/session")
    again = owner.post(
        "/v1/session", json={"email": "owner1@example.com", "password": "correct horse battery"}
    )
    assert again.json()["workspace"]["id"] == room
    actions = world.execute("SELECT action FROM app.audit_entries WHERE workspace_id = :w", w=room)
    assert Action.SESSION_MOVED in actions.scalars().all()


def test_a_workspace_of_somebody_else_is_not_there(world) -> None:
    world.person("owner", 2)
    viewer = world.person("viewer")
    for room in (2, 99):
        answer = viewer.put("/v1/session/workspace", json={"workspace_id": room})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), room
    assert viewer.get("/v1/session").json()["workspace"]["id"] == 1
    key = world.program("manage")
    assert key.put("/v1/session/workspace", json={"workspace_id": 1}).json()["code"] == "people_only"
    assert [w["id"] for w in key.get("/v1/workspaces").json()["items"]] == [1]


def test_owning_a_workspace_is_not_owning_the_organization(world) -> None:
    first, second, admin = world.person("owner"), world.person("owner", 2), world.person("admin")
    for client in (second, admin):
        assert "organization:manage" not in client.get("/v1/session").json()["permissions"]
        assert client.post("/v1/workspaces", json={"name": "More"}).status_code == 403
        assert client.patch("/v1/organization", json={"name": "Mine"}).status_code == 403
        shown = client.get("/v1/organization").json()
        assert (shown["name"], shown["workspaces"], shown["owners"]) == ("Main", None, None)
    whole = first.get("/v1/organization").json()
    assert [w["slug"] for w in whole["workspaces"]] == ["main", "other"]
    assert [o["email"] for o in whole["owners"]] == ["owner1@example.com"]
    assert first.patch("/v1/organization", json={"name": "Acme"}).json()["name"] == "Acme"
    mine, heir = _id(world, "owner1@example.com"), _id(world, "admin1@example.com")
    last = first.delete(f"/v1/organization/owners/{mine}")
    assert (last.status_code, last.json()["code"]) == (409, "last_owner")
    assert first.put(f"/v1/organization/owners/{_id(world, 'owner2@example.com')}").status_code == 404
    assert first.put(f"/v1/organization/owners/{heir}").status_code == 200
    assert admin.post("/v1/workspaces", json={"name": "More"}).status_code == 201
    assert first.delete(f"/v1/organization/owners/{mine}").status_code == 204
    assert first.post("/v1/workspaces", json={"name": "Never"}).status_code == 403


def test_renaming_the_workspace(world) -> None:
    owner, admin = world.person("owner"), world.person("admin")
    assert admin.patch("/v1/workspaces/1", json={"name": "X"}).status_code == 403
    assert owner.patch("/v1/workspaces/2", json={"name": "X"}).status_code == 404
    renamed = owner.patch("/v1/workspaces/1", json={"name": " Data  team ", "slug": "data"})
    assert (renamed.json()["name"], renamed.json()["slug"]) == ("Data team", "data")
    taken = owner.patch("/v1/workspaces/1", json={"slug": "other"})
    assert (taken.status_code, taken.json()["code"]) == (409, "workspace_exists")
    assert owner.patch("/v1/workspaces/1", json={"slug": "No"}).status_code == 422
    assert owner.get("/v1/session").json()["workspace"]["name"] == "Data team"


def test_ones_own_name_and_preferences(world) -> None:
    viewer = world.person("viewer")
    assert viewer.patch("/v1/me", json={"name": "Ada Lovelace"}).json()["name"] == "Ada Lovelace"
    assert viewer.get("/v1/me").json()["name"] == "Ada Lovelace"
    assert viewer.get("/v1/me/preferences").json() == {
        "theme": "system", "time_zone": None, "start_page": None,
    }  # fmt: skip
    wanted = {"theme": "dark", "time_zone": "Europe/Vienna", "start_page": "/dashboard?slug=main"}
    assert viewer.put("/v1/me/preferences", json=wanted).json() == wanted
    assert viewer.get("/v1/me/preferences").json() == wanted
    for bad in (
        {"theme": "pink"}, {"time_zone": "Mars/Olympus"}, {"start_page": "//evil.example"},
        {"start_page": "https://evil.example"}, {"start_page": "/\\evil.example"}, {"start_page": "/v1/me"},
        {"start_page": "/sign-out"}, {"start_page": "/a\nb"},
    ):  # fmt: skip
        assert viewer.put("/v1/me/preferences", json=bad).status_code == 422, bad
    assert world.person("viewer", 2).get("/v1/me/preferences").json()["theme"] == "system"
    key = world.program("read")
    assert key.get("/v1/me/preferences").status_code == 403
    assert key.patch("/v1/me", json={"name": "X"}).json()["code"] == "people_only"
    assert "UTC" in time_zones()


def test_a_sign_in_leads_to_the_start_page(world) -> None:
    viewer = world.person("viewer")
    viewer.put("/v1/me/preferences", json={"start_page": "/pipelines"})
    assert viewer.get("/sign-in").headers["location"] == "/pipelines"
    who = {"email": "viewer1@example.com", "password": "correct horse battery"}
    viewer.delete("/v1/session")
    done = viewer.post("/sign-in", data=who)
    assert (done.status_code, done.headers["location"]) == (303, "/pipelines"), done.text
    viewer.delete("/v1/session")
    asked = viewer.post("/sign-in", data={**who, "next": "/quality"})
    assert asked.headers["location"] == "/quality"


def test_preferences_and_workspaces_on_their_page(world) -> None:
    viewer = world.person("viewer")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    page = viewer.get("/account/preferences")
    assert page.status_code == 200 and "you are here" in page.text and "Europe/Vienna" in page.text
    kept = viewer.post("/account/preferences", data={"theme": "dark", "time_zone": "UTC"}, headers=form)
    assert kept.headers["location"] == "/account/preferences?done=kept", kept.text
    assert "Kept." in viewer.get(kept.headers["location"]).text
    wrong = viewer.post("/account/preferences", data={"start_page": '//evil"><b>'}, headers=form)
    assert wrong.status_code == 422 and "&quot;&gt;&lt;b&gt;" in wrong.text and "<b>" not in wrong.text
    foreign = {**form, "Origin": "https://evil.example"}
    assert viewer.post("/account/preferences", data={"theme": "light"}, headers=foreign).status_code == 403
    assert viewer.post("/account/workspace", data={"workspace_id": "2"}, headers=form).status_code == 404
    member = _id(world, "viewer1@example.com")
    world.execute(
        "INSERT INTO app.memberships (workspace_id, user_id, role) VALUES (2, :m, 'admin')", m=member
    )
    assert "Go to Other" in viewer.get("/account/preferences").text
    moved = viewer.post("/account/workspace", data={"workspace_id": "2"}, headers=form)
    assert (moved.status_code, moved.headers["location"]) == (303, "/")
    assert viewer.get("/v1/session").json()["workspace"]["id"] == 2
    assert world.client().get("/account/preferences").headers["location"].startswith("/sign-in")
