"""What a member has in a workspace, counted, before they are removed."""

from typing import Any
from uuid import UUID, uuid4

from sluiceway.audit.actions import Action
from sluiceway.identity import service
from sluiceway.infra.database import Role

NOTHING = {"dashboards": 0, "links": 0, "keys": 0, "service_accounts": 0, "invitations": 0, "sessions": 0}
BOARD = "kind: Dashboard\nname: sales\ntitle: Sales\nwidgets: []\n"


def _id(world: Any, email: str) -> UUID:
    found: UUID = world.execute("SELECT id FROM app.users WHERE email = :e", e=email).scalar_one()
    return found


def _filled(world: Any, editor: Any) -> None:
    """One of everything that somebody can have, and one more of what is over already."""
    board = editor.put(
        "/v1/dashboards/sales", content=BOARD.encode(), headers={"Content-Type": "application/yaml"}
    )
    assert board.is_success, board.text
    for name in ("wall", "gone"):
        made = editor.post("/v1/dashboards/sales/links", json={"name": name})
        assert made.status_code == 201, made.text
    assert editor.delete(f"/v1/links/{made.json()['info']['id']}").status_code == 200


def test_what_is_somebodys_is_counted(world) -> None:
    owner, admin = world.person("owner"), world.person("admin")
    _filled(world, admin)
    for name in ("gates", "old"):
        made = admin.post("/v1/keys", json={"name": name, "scopes": ["read"]})
        assert made.status_code == 201, made.text
    assert admin.delete(f"/v1/keys/{made.json()['info']['id']}").is_success
    account = {"name": "deployments", "roles": ["viewer"]}
    assert admin.post("/v1/service-accounts", json=account).status_code == 201
    assert admin.post("/v1/invitations", json={"email": "new@example.com", "role": "viewer"}).is_success
    found = owner.get(f"/v1/members/{_id(world, 'admin1@example.com')}/belongings")
    assert found.json() == dict.fromkeys(NOTHING, 1)
    told = world.execute(
        "SELECT action FROM app.audit_entries WHERE target_id = :t ORDER BY seq DESC LIMIT 1",
        t=str(_id(world, "admin1@example.com")),
    ).scalar_one()
    assert told == Action.MEMBER_LISTED


def test_what_is_somewhere_else_is_not_counted(world) -> None:
    owner = world.person("owner")
    admin = world.person("admin")
    assert admin.post("/v1/keys", json={"name": "gates", "scopes": ["read"]}).status_code == 201
    person = _id(world, "admin1@example.com")
    with world.services.database.transaction(Role.APP, workspace_id=2) as conn:
        service.add_member(conn, 2, person, "viewer")
        stranger = service.add_person(conn, "elsewhere@example.com", "Else", None)
        service.add_member(conn, 2, stranger.id, "viewer")
    other = world.person("owner", workspace_id=2)
    assert other.get(f"/v1/members/{person}/belongings").json() == NOTHING
    assert owner.get(f"/v1/members/{stranger.id}/belongings").status_code == 404
    assert owner.get(f"/v1/members/{uuid4()}/belongings").status_code == 404
    assert world.person("editor").get(f"/v1/members/{person}/belongings").status_code == 403
