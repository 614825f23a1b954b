"""Deleting a workspace over HTTP: who may, what is asked first, and that nothing gets into it afterwards."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.verification import verify
from sluiceway.identity import service
from sluiceway.identity.closing import TOPIC
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Role


def _room(world: Any, owner: Any, name: str = "Logistics") -> int:
    """A further workspace of the owner's, in which they are then."""
    made = owner.post("/v1/workspaces", json={"name": name})
    assert made.status_code == 201, made.text
    room: int = made.json()["id"]
    assert owner.put("/v1/session/workspace", json={"workspace_id": room}).status_code == 200
    return room


def _actions(world: Any, workspace_id: int) -> list[str]:
    rows = world.execute(
        "SELECT action FROM app.audit_entries WHERE workspace_id = :w ORDER BY seq", w=workspace_id
    )
    return [row[0] for row in rows]


def test_an_owner_sees_what_would_go_and_deletes_it(world: Any) -> None:
    owner = world.person("owner")
    room = _room(world, owner)
    world.apply(workspace_id=room)
    owner.post("/v1/dashboards", json={"source": "kind: Dashboard\nname: board\ntitle: B\nwidgets: []\n"})
    key = owner.post("/v1/keys", json={"name": "k", "scopes": ["read"]}).json()["key"]
    program = world.client(headers={"Authorization": f"Bearer {key}"})
    assert program.get("/v1/pipelines").status_code == 200
    invited = owner.post("/v1/invitations", json={"email": "new@example.com", "role": "viewer"})
    assert invited.status_code == 201, invited.text
    seen = owner.get(f"/v1/workspaces/{room}/deletion").json()
    assert (seen["name"], seen["members"], seen["pipelines"], seen["dashboards"]) == ("Logistics", 1, 1, 1)
    assert (seen["keys"], seen["invitations"], seen["events"], seen["kept_because"]) == (1, 1, 0, None)
    assert seen["audit_entries"] > 3

    wrong = owner.post(f"/v1/workspaces/{room}/deletion", json={"name": "logistics"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_workspace")
    assert wrong.json()["errors"][0]["field"] == "name"
    done = owner.post(f"/v1/workspaces/{room}/deletion", json={"name": " Logistics "})
    assert (done.status_code, done.json()["contents"]["pipelines"]) == (202, 1), done.text

    assert owner.get("/v1/session").status_code == 401
    assert program.get("/v1/pipelines").status_code == 401
    again = world.person("owner")
    assert [w["id"] for w in again.get("/v1/workspaces").json()["items"]] == [1]
    assert room not in [w["id"] for w in again.get("/v1/organization").json()["workspaces"]]
    assert again.put("/v1/session/workspace", json={"workspace_id": room}).status_code == 404
    assert again.get("/v1/workspaces").status_code == 200


def test_both_logs_tell_of_it_and_its_own_still_verifies(world: Any) -> None:
    owner = world.person("owner")
    room = _room(world, owner)
    assert owner.post(f"/v1/workspaces/{room}/deletion", json={"name": "Logistics"}).status_code == 202
    assert _actions(world, room)[-1] == Action.WORKSPACE_DELETED
    told = world.execute(
        "SELECT content::jsonb -> 'before' ->> 'name', content::jsonb -> 'detail' -> 'contents' ->> 'members'"
        " FROM app.audit_entries WHERE workspace_id = 1 AND action = :a AND target_id = :id",
        a=Action.WORKSPACE_DELETED, id=str(room),
    ).all()  # fmt: skip
    assert [tuple(row) for row in told] == [("Logistics", "1")]
    with world.services.database.transaction(Role.APP, workspace_id=room) as conn:
        assert verify(conn, room).broken is None


def test_only_an_owner_deletes_and_only_where_they_are(world: Any) -> None:
    owner = world.person("owner")
    room = _room(world, owner)
    admin = world.person("admin", room)
    for client in (admin, world.person("viewer", room)):
        for answer in (
            client.get(f"/v1/workspaces/{room}/deletion"),
            client.post(f"/v1/workspaces/{room}/deletion", json={"name": "Logistics"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")
    assert owner.get("/v1/workspaces/1/deletion").status_code == 404
    assert owner.post("/v1/workspaces/1/deletion", json={"name": "Main"}).status_code == 404
    role = {"name": "Ender", "permissions": ["workspace:delete"]}
    assert owner.post("/v1/roles", json=role).json()["code"] == "invalid_role"
    anonymous = world.client()
    assert anonymous.post(f"/v1/workspaces/{room}/deletion", json={"name": "Logistics"}).status_code == 401
    assert world.execute("SELECT deleted_at FROM app.workspaces WHERE id = :w", w=room).scalar() is None


def test_a_stale_sign_in_is_asked_again(world: Any) -> None:
    owner = world.person("owner")
    room = _room(world, owner)
    world.stand_at(FixedClock(world.services.clock.now() + timedelta(minutes=11)))
    refused = owner.post(f"/v1/workspaces/{room}/deletion", json={"name": "Logistics"})
    assert (refused.status_code, refused.json()["code"]) == (403, "confirmation_required")
    said = {"password": "correct horse battery"}
    assert owner.post("/v1/session/confirmation", json=said).status_code == 204
    assert owner.post(f"/v1/workspaces/{room}/deletion", json={"name": "Logistics"}).status_code == 202


def test_the_first_one_and_the_only_one_stay(world: Any) -> None:
    owner = world.person("owner")
    first = owner.post("/v1/workspaces/1/deletion", json={"name": "Main"})
    assert (first.status_code, first.json()["code"]) == (409, "workspace_kept")
    assert "first workspace" in owner.get("/v1/workspaces/1/deletion").json()["kept_because"]
    world.execute("INSERT INTO app.organizations (slug, name) VALUES ('acme', 'Acme')")
    world.execute("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (2, 'only', 'Only')")
    theirs = world.person("owner", 3)
    only = theirs.post("/v1/workspaces/3/deletion", json={"name": "Only"})
    assert (only.status_code, only.json()["code"]) == (409, "workspace_kept")
    assert theirs.get("/v1/session").status_code == 200


def test_its_name_is_free_and_nothing_is_put_into_it(world: Any) -> None:
    owner = world.person("owner")
    room = _room(world, owner)
    provider = owner.post(
        "/v1/sign-in/providers",
        json={
            "name": "SSO", "issuer": "https://login.example.com", "client_id": "c", "default_role": "viewer",
            "default_workspace_id": room,
            "group_roles": [
                {"group": "a", "workspace_id": room, "role": "viewer"},
                {"group": "b", "workspace_id": 1, "role": "viewer"},
            ],
        },
    )  # fmt: skip
    assert provider.status_code == 201, provider.text
    assert owner.post(f"/v1/workspaces/{room}/deletion", json={"name": "Logistics"}).status_code == 202
    again = world.person("owner")
    found = again.get("/v1/sign-in/providers").json()["items"][0]
    assert found["group_roles"] == [{"group": "b", "workspace_id": 1, "role": "viewer"}]
    assert (found["default_role"], found["default_workspace_id"]) == (None, None)
    second = again.post("/v1/workspaces", json={"name": "Logistics"})
    assert (second.status_code, second.json()["slug"]) == (201, "logistics")
    assert second.json()["id"] != room
    with world.services.database.transaction(Role.APP) as conn:
        assert service.find_workspace(conn, "logistics") == second.json()["id"]
    for statement in (
        "INSERT INTO app.memberships (workspace_id, user_id, role) SELECT :w, id, 'owner' FROM app.users",
        "INSERT INTO app.pipelines (workspace_id, slug, name, version, silver_table)"
        " VALUES (:w, 'x', 'x', 1, 'x')",
    ):
        with pytest.raises(sa.exc.IntegrityError, match="the workspace was deleted"):
            world.execute(statement, w=room)
    waiting = world.execute("SELECT topic, workspace_id FROM app.outbox WHERE topic = :t", t=TOPIC).all()
    assert [tuple(row) for row in waiting] == [(TOPIC, room)]
