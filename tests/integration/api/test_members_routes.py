"""Members over HTTP: roles and attributes, who may change whom, the last owner, people who leave."""

import threading
from typing import Any
from uuid import UUID

import pytest

from sluiceway.audit.actions import Action
from sluiceway.identity import members, seats, service
from sluiceway.identity.errors import LastOwner, NotPermitted
from sluiceway.identity.members import Change
from sluiceway.identity.permissions import MemberRole
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Role

PEOPLE_MANAGER = ["member:read", "member:manage", "workspace:read", "dashboard:read"]


def _id(world: Any, email: str) -> UUID:
    found: UUID = world.execute("SELECT id FROM app.users WHERE email = :e", e=email).scalar_one()
    return found


def _member(world: Any, email: str, role: str = "viewer", workspace_id: int = 1) -> UUID:
    """A member who never signs in: no hash is computed."""
    with world.services.database.transaction(Role.APP, workspace_id=workspace_id) as conn:
        user = service.add_person(conn, email, email.split("@")[0].capitalize(), None)
        service.add_member(conn, workspace_id, user.id, role)
    return user.id


def _actions(world: Any, workspace_id: int = 1) -> list[str]:
    rows = world.execute(
        "SELECT action FROM app.audit_entries WHERE workspace_id = :w ORDER BY seq", w=workspace_id
    )
    return [row[0] for row in rows]


def _manager(world: Any) -> Any:
    """Somebody with a role of the workspace's own that manages people and no rules."""
    owner = world.person("owner")
    made = owner.post("/v1/roles", json={"name": "People", "slug": "people", "permissions": PEOPLE_MANAGER})
    assert made.status_code == 201, made.text
    client = world.person("viewer")
    answer = owner.patch(
        f"/v1/members/{_id(world, 'viewer1@example.com')}",
        json={"role": "people", "attributes": {"region": ["emea"]}},
    )
    assert answer.status_code == 200, answer.text
    return client


def test_members_are_listed_searched_and_paged(world) -> None:
    owner = world.person("owner")
    for name in ("bea", "cem", "dan"):
        _member(world, f"{name}@example.com")
    _member(world, "elsewhere@example.com", workspace_id=2)
    first = owner.get("/v1/members?limit=2").json()
    rest = owner.get(f"/v1/members?limit=2&cursor={first['next_cursor']}").json()
    assert [m["email"] for m in first["items"] + rest["items"]] == [
        "bea@example.com", "cem@example.com", "dan@example.com", "owner1@example.com",
    ]  # fmt: skip
    assert rest["next_cursor"] is None
    assert [m["name"] for m in owner.get("/v1/members?search=CEM").json()["items"]] == ["Cem"]
    assert owner.get("/v1/members?search=%25").json()["items"] == []
    mine = owner.get(f"/v1/members/{_id(world, 'owner1@example.com')}").json()
    assert (mine["role"], mine["roles"], mine["state"]) == ("owner", ["owner"], "active")
    assert mine["last_seen_at"] is not None
    assert owner.get(f"/v1/members/{_id(world, 'elsewhere@example.com')}").status_code == 404


def test_a_role_holds_at_once_and_is_in_the_audit_log(world) -> None:
    admin, analyst = world.person("admin"), world.person("analyst")
    person = _id(world, "analyst1@example.com")
    assert "dashboard:write" in analyst.get("/v1/session").json()["permissions"]
    answer = admin.patch(f"/v1/members/{person}", json={"role": "viewer"})
    assert (answer.status_code, answer.json()["role"]) == (200, "viewer")
    mine = analyst.get("/v1/session").json()
    assert mine["role"] == "viewer" and "dashboard:write" not in mine["permissions"]
    assert _actions(world)[-1] == Action.MEMBER_ROLE_CHANGED
    assert admin.patch(f"/v1/members/{person}", json={"role": "nobody"}).json()["code"] == "invalid_member"
    assert admin.patch(f"/v1/members/{person}", json={"attributes": {"Bad name": ["x"]}}).status_code == 422
    assert admin.patch(f"/v1/members/{person}", json={"attributes": {"email": ["x"]}}).status_code == 422
    set_ = admin.patch(f"/v1/members/{person}", json={"attributes": {"region": ["b", "a", "b"], "x": []}})
    assert set_.json()["attributes"] == {"region": ["a", "b"]}
    assert analyst.get("/v1/session").json()["attributes"]["region"] == ["a", "b"]


def test_nobody_changes_who_holds_more(world) -> None:
    world.person("owner")
    admin = world.person("admin")
    owner_id, viewer_id = _id(world, "owner1@example.com"), _member(world, "vi@example.com")
    for answer in (
        admin.patch(f"/v1/members/{owner_id}", json={"role": "viewer"}),
        admin.patch(f"/v1/members/{owner_id}", json={"attributes": {"region": ["emea"]}}),
        admin.patch(f"/v1/members/{owner_id}", json={"disabled": True}),
        admin.delete(f"/v1/members/{owner_id}"),
        admin.patch(f"/v1/members/{viewer_id}", json={"role": "owner"}),
        admin.post("/v1/invitations", json={"email": "x@example.com", "role": "owner"}),
        admin.post(f"/v1/members/{viewer_id}/ownership", json={}),
        admin.post("/v1/roles", json={"name": "More", "permissions": ["workspace:manage"]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), answer.text
    assert admin.patch(f"/v1/members/{viewer_id}", json={"role": "admin"}).status_code == 200


def test_who_manages_people_but_no_rules_gives_only_what_they_have(world) -> None:
    manager = _manager(world)
    other = _member(world, "vi@example.com", "people")
    _member(world, "viewer@example.com")
    refused = [
        {"role": "analyst"},  # more permissions
        {"role": "viewer"},  # other rules
        {"attributes": {"region": ["apac"]}},
        {"attributes": {"region": ["emea", "apac"]}},
        {"attributes": {"level": ["1"]}},
        {"attributes": {"region": ["emea"]}},  # their own: a rule may ask that it is not there
        {"attributes": {}},
    ]
    world.execute(
        'UPDATE app.memberships SET attributes = \'{"hidden": ["a"]}\' WHERE user_id = :id', id=other
    )
    for body in refused:
        answer = manager.patch(f"/v1/members/{other}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), body
    own = _id(world, "viewer1@example.com")
    for attributes in ({"region": ["apac"]}, {"region": []}):
        assert manager.patch(f"/v1/members/{own}", json={"attributes": attributes}).status_code == 403
    invited = manager.post("/v1/invitations", json={"email": "new@example.com", "role": "people"})
    assert invited.status_code == 201, invited.text
    assert manager.post("/v1/invitations", json={"email": "n@example.com"}).status_code == 403
    team = {"name": "APAC", "attributes": {"region": ["apac"]}}
    assert manager.post("/v1/teams", json=team).status_code == 403
    plain = manager.post("/v1/teams", json={"name": "Plain"})
    assert plain.status_code == 201, plain.text
    world.execute("UPDATE app.teams SET attributes = '{\"region\": [\"emea\"]}' WHERE slug = 'plain'")
    assert manager.put(f"/v1/teams/plain/members/{own}").status_code == 403
    assert manager.delete("/v1/teams/plain").status_code == 403
    assert manager.post("/v1/roles", json={"name": "R", "permissions": ["data:read"]}).status_code == 403


def test_the_last_owner_stays_until_ownership_is_handed_over(world) -> None:
    owner = world.person("owner")
    mine, heir = _id(world, "owner1@example.com"), _member(world, "heir@example.com")
    for answer in (
        owner.patch(f"/v1/members/{mine}", json={"role": "admin"}),
        owner.patch(f"/v1/members/{mine}", json={"disabled": True}),
        owner.delete(f"/v1/members/{mine}?hand_over_to={heir}"),
        owner.delete("/v1/me/workspaces/1"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner"), answer.text
    assert owner.post(f"/v1/members/{mine}/ownership", json={}).status_code == 422
    answer = owner.post(f"/v1/members/{heir}/ownership", json={"afterwards": "editor"})
    assert (answer.status_code, answer.json()["role"]) == (200, "owner")
    assert owner.get("/v1/session").json()["role"] == "editor"
    assert Action.WORKSPACE_HANDED_OVER in _actions(world)
    assert owner.post(f"/v1/members/{heir}/ownership", json={}).status_code == 403


def test_two_owners_cannot_both_lay_it_down(world) -> None:
    first, second = (_member(world, f"{name}@example.com", "owner") for name in ("one", "two"))
    database, now = world.services.database, SystemClock().now()
    started, found = threading.Barrier(2), []

    def resign(user: UUID) -> None:
        started.wait(30)
        try:
            with database.transaction(Role.APP, workspace_id=1) as conn:
                members.change_member(conn, 1, user, Change(role="viewer"), giver=None, now=now)
            found.append("done")
        except LastOwner:
            found.append("last")

    threads = [threading.Thread(target=resign, args=(user,)) for user in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == ["done", "last"]


def test_who_is_locked_out_is_out_at_once(world) -> None:
    owner, analyst = world.person("owner"), world.person("analyst")
    person = _id(world, "analyst1@example.com")
    assert analyst.get("/v1/session").status_code == 200
    locked = owner.patch(f"/v1/members/{person}", json={"disabled": True})
    assert locked.json()["state"] == "disabled"
    assert analyst.get("/v1/session").status_code == 401
    again = analyst.post(
        "/v1/session", json={"email": "analyst1@example.com", "password": "correct horse battery"}
    )
    assert again.status_code == 403
    assert owner.patch(f"/v1/members/{person}", json={"disabled": False}).json()["state"] == "active"
    world.person("analyst")


def test_who_leaves_hands_over(world) -> None:
    owner, admin = world.person("owner"), world.person("admin")
    person, heir = _id(world, "admin1@example.com"), _member(world, "heir@example.com", "analyst")
    board = "kind: Dashboard\nname: board\ntitle: Board\nwidgets: []\n"
    made = admin.post("/v1/dashboards", json={"source": board})
    assert made.status_code == 201, made.text
    key = admin.post("/v1/keys", json={"name": "k", "scopes": ["read"]}).json()["key"]
    assert admin.post("/v1/invitations", json={"email": "new@example.com"}).status_code == 201
    unknown = owner.delete(
        f"/v1/members/{person}?hand_over_to={_member(world, 'x@example.com', 'viewer', 2)}"
    )
    assert unknown.status_code == 404
    gone = owner.delete(f"/v1/members/{person}?hand_over_to={heir}")
    assert gone.status_code == 200, gone.text
    assert gone.json()["successor"] == str(heir)
    assert gone.json()["handed_over"]["dashboards"] == 1 and gone.json()["handed_over"]["keys"] == 1
    assert admin.get("/v1/session").status_code == 401
    assert {k["created_by"] for k in owner.get("/v1/keys").json()["items"]} == {str(heir)}
    assert world.execute("SELECT created_by FROM app.dashboards").scalar_one() == heir
    assert world.client(headers={"Authorization": f"Bearer {key}"}).get("/v1/pipelines").status_code == 200
    assert owner.get("/v1/invitations").json()["items"][0]["state"] == "revoked"
    assert owner.get(f"/v1/members/{person}").status_code == 404
    assert Action.MEMBER_REMOVED in _actions(world)
    revoked = owner.delete(f"/v1/members/{heir}?keys=revoke")
    assert revoked.json()["successor"] == str(_id(world, "owner1@example.com"))
    assert world.client(headers={"Authorization": f"Bearer {key}"}).get("/v1/pipelines").status_code == 401


def test_the_heir_is_found_among_thousands(world) -> None:
    owner = world.person("owner")
    leaving = _member(world, "zoe@example.com", "analyst")
    world.execute(
        "WITH made AS (INSERT INTO app.users (id, email, name)"
        " SELECT gen_random_uuid(), 'a' || n || '@example.com', 'A' FROM generate_series(1, 1001) n"
        " RETURNING id) INSERT INTO app.memberships (workspace_id, user_id, role)"
        " SELECT 1, id, 'viewer' FROM made"
    )
    gone = owner.delete(f"/v1/members/{leaving}")
    assert gone.status_code == 200, gone.text
    assert gone.json()["successor"] == str(_id(world, "owner1@example.com"))


def test_who_leaves_by_themselves(world) -> None:
    owner, analyst = world.person("owner"), world.person("analyst")
    assert analyst.delete("/v1/me/workspaces/2").status_code == 404
    assert analyst.delete("/v1/me/workspaces/1").status_code == 204
    assert analyst.get("/v1/session").status_code == 401
    assert [m["role"] for m in owner.get("/v1/members").json()["items"]] == ["owner"]
    assert _actions(world)[-2:].count(Action.MEMBER_LEFT) == 1


def test_a_password_alone_does_not_leave_where_a_second_factor_is_asked_for(world) -> None:
    analyst = world.person("analyst")
    world.execute("INSERT INTO app.sign_in_policies (workspace_id, second_factor_for) VALUES (1, '{*}')")
    for answer in (
        analyst.delete("/v1/me/workspaces/1"),
        analyst.patch("/v1/me", json={"name": "X"}),
        analyst.get("/v1/me/export"),
        analyst.post("/v1/me/deletion", json={"email": "analyst1@example.com"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_missing"), answer.text


def test_a_service_refuses_what_the_routes_refuse(world) -> None:
    """The rule stands in the slice: whoever calls it as somebody is held to what they hold."""
    from sluiceway.identity.contracts import Caller

    target = _member(world, "target@example.com", "admin")
    caller = Caller.from_member(
        user_id=target, workspace_id=1, role=MemberRole.VIEWER, email="v@e", name="V", expires_at=None
    )
    with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
        with pytest.raises(NotPermitted, match="you lack"):
            members.change_member(
                conn, 1, target, Change(role="viewer"), giver=caller, now=SystemClock().now()
            )
        assert seats.count(conn, 1) == 1
