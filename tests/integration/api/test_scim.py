"""SCIM: the protocol as a conformance checker sees it, and what it does to people, teams and sessions."""

from typing import Any

import httpx
import pytest
from scim2_client import BaseSyncSCIMClient
from scim2_tester import Status, check_server

from sluiceway.identity import seats
from tests.integration.api.conftest import PASSWORD

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
BASE = "/scim/v2"


@pytest.fixture
def provider(world: Any) -> Any:
    """An identity provider with its key."""
    text = world.key("provision")
    return world.client(
        headers={"Authorization": f"Bearer {text}", "Content-Type": "application/scim+json"}, checked=False
    )


def user(provider: Any, address: str = "ada@corp.example", **more: Any) -> dict[str, Any]:
    emails = [{"value": address, "primary": True}]
    body = {"schemas": [USER], "userName": address, "emails": emails, **more}
    answer = provider.post(f"{BASE}/Users", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def patch(provider: Any, path: str, *operations: dict[str, Any]) -> Any:
    return provider.patch(f"{BASE}{path}", json={"schemas": [PATCH], "Operations": list(operations)})


class Through(BaseSyncSCIMClient):
    """The checker's client, on the application."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client = client

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        answer: httpx.Response = self.client.request(method, f"{BASE}/{url.lstrip('/')}", **kwargs)
        return answer


def test_the_conformance_checker_finds_nothing(world: Any, provider: Any) -> None:
    world.person("owner")  # as every workspace has one: what users leave behind needs an heir
    results = check_server(Through(provider))
    wrong = [f"{r.title}: {r.reason}" for r in results if r.status in (Status.ERROR, Status.CRITICAL)]
    assert wrong == []
    assert len([r for r in results if r.status is Status.SUCCESS]) > 50


def test_somebody_new_is_a_member_with_nothing_but_the_first_role(world: Any, provider: Any) -> None:
    made = user(
        provider, externalId="x-1", displayName="Ada L.", name={"givenName": "Ada", "familyName": "L"}
    )
    assert made["meta"]["location"].endswith(f"/scim/v2/Users/{made['id']}") and made["active"] is True
    member = world.person("owner").get(f"/v1/members/{made['id']}").json()
    assert (member["email"], member["name"], member["role"]) == ("ada@corp.example", "Ada L.", "viewer")
    again = provider.get(f"{BASE}/Users/{made['id']}").json()
    assert (again["externalId"], again["name"]["givenName"]) == ("x-1", "Ada")
    clash = provider.post(f"{BASE}/Users", json={"schemas": [USER], "userName": "ADA@corp.example"})
    assert (clash.status_code, clash.json()["scimType"]) == (409, "uniqueness")
    assert clash.json()["schemas"] == [ERROR] and clash.headers["content-type"] == "application/scim+json"


def test_deactivating_ends_sessions_at_once_and_activating_gives_all_back(world: Any, provider: Any) -> None:
    world.person("owner")
    person = world.person("editor")
    found = provider.get(f'{BASE}/Users?filter=userName eq "editor1@example.com"').json()
    assert found["totalResults"] == 1
    user_id = found["Resources"][0]["id"]
    assert person.get("/v1/me").status_code == 200
    off = patch(provider, f"/Users/{user_id}", {"op": "Replace", "path": "active", "value": "False"})
    assert (off.status_code, off.json()["active"]) == (200, False)
    assert person.get("/v1/me").status_code == 401
    again = {"email": "editor1@example.com", "password": PASSWORD}
    refused = world.client().post("/v1/session", json=again)
    assert refused.status_code in (401, 403)
    assert (
        world.execute(
            "SELECT count(*) FROM app.sessions s JOIN app.users u ON u.id = s.user_id"
            " WHERE u.email = 'editor1@example.com'"
        ).scalar_one()
        == 0
    )
    on = patch(provider, f"/Users/{user_id}", {"op": "replace", "value": {"active": True}})
    assert on.json()["active"] is True
    assert world.person("editor").get("/v1/me").json()["role"] == "editor"


def test_who_is_not_active_stays_so_until_it_is_said(world: Any, provider: Any) -> None:
    made = user(provider, active=False)
    body = {"schemas": [USER], "userName": "ada@corp.example", "displayName": "New"}
    changed = provider.put(f"{BASE}/Users/{made['id']}", json=body).json()
    assert (changed["active"], changed["displayName"]) == (False, "New")


def test_groups_are_teams_and_give_what_the_workspace_says(world: Any, provider: Any) -> None:
    owner = world.person("owner")
    ada, ben = user(provider), user(provider, "ben@corp.example")
    group = provider.post(
        f"{BASE}/Groups",
        json={"schemas": [GROUP], "displayName": "Analysts", "members": [{"value": ada["id"]}]},
    ).json()
    team = next(t for t in owner.get("/v1/teams").json()["items"] if t["name"] == "Analysts")
    assert team["id"] == group["id"] and team["roles"] == []
    answer = owner.patch(f"/v1/teams/{team['slug']}", json={"roles": ["analyst"]})
    assert answer.status_code == 200, answer.text
    assert owner.get(f"/v1/members/{ada['id']}").json()["roles"] == ["analyst", "viewer"]
    added = patch(
        provider, f"/Groups/{group['id']}", {"op": "Add", "path": "members", "value": [{"value": ben["id"]}]}
    )
    assert {m["value"] for m in added.json()["members"]} == {ada["id"], ben["id"]}
    gone = patch(
        provider, f"/Groups/{group['id']}", {"op": "remove", "path": f'members[value eq "{ada["id"]}"]'}
    )
    assert [m["value"] for m in gone.json()["members"]] == [ben["id"]]
    assert provider.get(f"{BASE}/Users/{ben['id']}").json()["groups"][0]["display"] == "Analysts"
    assert owner.get(f"/v1/members/{ada['id']}").json()["roles"] == ["viewer"]
    assert provider.delete(f"{BASE}/Groups/{group['id']}").status_code == 204
    assert owner.get(f"/v1/members/{ben['id']}").json()["roles"] == ["viewer"]


def test_an_account_that_was_there_is_never_changed(world: Any, provider: Any) -> None:
    world.person("owner")
    world.person("editor", workspace_id=2)
    made = user(provider, "editor2@example.com", displayName="Mallory")
    patch(
        provider, f"/Users/{made['id']}",
        {"op": "replace", "path": "emails", "value": [{"value": "mallory@evil.example", "primary": True}]},
        {"op": "replace", "path": "userName", "value": "mallory@evil.example"},
    )  # fmt: skip
    row = world.execute("SELECT email, name FROM app.users WHERE id = :id", id=made["id"]).one()
    assert (row.email, row.name) == ("editor2@example.com", "Ada")
    patch(provider, f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
    assert world.person("editor", workspace_id=2).get("/v1/me").status_code == 200
    assert provider.delete(f"{BASE}/Users/{made['id']}").status_code == 204
    assert world.person("editor", workspace_id=2).get("/v1/me").status_code == 200


def _asked_for(provider: Any, address: str) -> tuple[int, str]:
    body = {"schemas": [USER], "userName": address, "emails": [{"value": address, "primary": True}]}
    answer = provider.post(f"{BASE}/Users", json=body)
    assert "Ada" not in answer.text
    return answer.status_code, answer.json().get("scimType", "")


def test_nobody_of_another_organization_becomes_a_member_unasked(world: Any, provider: Any) -> None:
    owner = world.person("owner")
    world.execute("INSERT INTO app.organizations (slug, name) VALUES ('rival', 'Rival')")
    world.execute(
        "INSERT INTO app.workspaces (organization_id, slug, name)"
        " SELECT id, 'room', 'Room' FROM app.organizations WHERE slug = 'rival'"
    )
    world.person("editor", workspace_id=3)
    assert _asked_for(provider, "Editor3@example.com") == (409, "uniqueness")
    assert provider.get(f'{BASE}/Users?filter=userName eq "editor3@example.com"').json()["totalResults"] == 0
    assert len(owner.get("/v1/members").json()["items"]) == 1
    # Asked, they may say yes; from then on the provider finds them.
    made = owner.post("/v1/invitations", json={"email": "editor3@example.com", "role": "viewer"}).json()
    token = made["link"].rpartition("/")[2].rpartition("=")[2]
    joined = world.person("editor", workspace_id=3).post("/v1/invitations/acceptance", json={"token": token})
    assert joined.status_code == 201, joined.text
    found = provider.get(f'{BASE}/Users?filter=userName eq "editor3@example.com"').json()
    assert found["totalResults"] == 1


def test_an_account_that_provisioning_made_comes_back_unless_it_is_somebody_elses(
    world: Any, provider: Any
) -> None:
    world.person("owner")
    world.execute("INSERT INTO app.organizations (slug, name) VALUES ('rival', 'Rival')")
    world.execute(
        "INSERT INTO app.workspaces (organization_id, slug, name)"
        " SELECT id, 'room', 'Room' FROM app.organizations WHERE slug = 'rival'"
    )
    rival = world.client(
        headers={"Authorization": f"Bearer {world.key('provision', workspace_id=3)}"}, checked=False
    )
    made = user(provider)
    assert _asked_for(rival, "ada@corp.example") == (409, "uniqueness")
    assert provider.delete(f"{BASE}/Users/{made['id']}").status_code == 204
    assert _asked_for(rival, "ada@corp.example") == (409, "uniqueness")
    assert user(provider)["id"] == made["id"]
    assert provider.delete(f"{BASE}/Users/{made['id']}").status_code == 204
    world.execute(
        "INSERT INTO app.memberships (workspace_id, user_id, role) VALUES (3, :id, 'viewer')", id=made["id"]
    )
    assert _asked_for(provider, "ada@corp.example") == (409, "uniqueness")


def test_an_account_that_provisioning_made_follows_the_provider(world: Any, provider: Any) -> None:
    made = user(provider)
    patch(
        provider, f"/Users/{made['id']}",
        {"op": "replace", "path": "displayName", "value": "Ada Byron"},
        {"op": "replace", "path": 'emails[primary eq true].value', "value": "byron@corp.example"},
    )  # fmt: skip
    row = world.execute("SELECT email, name FROM app.users WHERE id = :id", id=made["id"]).one()
    assert (row.email, row.name) == ("byron@corp.example", "Ada Byron")


def test_the_last_owner_is_neither_locked_out_nor_removed(world: Any, provider: Any) -> None:
    owner = world.person("owner")
    owner_id = owner.get("/v1/me").json()["user_id"]
    off = patch(provider, f"/Users/{owner_id}", {"op": "replace", "path": "active", "value": False})
    assert (off.status_code, off.json()["scimType"]) == (409, "mutability")
    assert provider.delete(f"{BASE}/Users/{owner_id}").status_code == 409
    assert owner.get("/v1/me").status_code == 200


def test_filters_sorting_and_pages(world: Any, provider: Any) -> None:
    for name in ("a@x.example", "b@x.example", "c@y.example"):
        user(provider, name, displayName=name[0].upper())

    def names(query: str) -> list[str]:
        answer = provider.get(f"{BASE}/Users?{query}")
        assert answer.status_code == 200, answer.text
        return [u["userName"] for u in answer.json()["Resources"]]

    assert names('filter=userName ew "x.example" and displayName ne "B"') == ["a@x.example"]
    assert names('filter=emails[value co "y.ex"]') == ["c@y.example"]
    assert names("sortBy=userName&sortOrder=descending&count=2") == ["c@y.example", "b@x.example"]
    page = provider.get(f"{BASE}/Users?startIndex=2&count=1").json()
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (3, 2, 1)
    only = provider.get(f"{BASE}/Users?attributes=userName").json()["Resources"][0]
    assert set(only) <= {"schemas", "id", "userName"}
    for bad in ("filter=userName like 1", "filter=(", "filter=secret eq 1", "count=x", "sortBy=nothing"):
        answer = provider.get(f"{BASE}/Users?{bad}")
        assert answer.status_code == 400 and answer.json()["schemas"] == [ERROR], f"{bad}: {answer.text}"
    found = provider.post(f"{BASE}/.search", json={"filter": 'displayName eq "A"'}).json()
    assert [u["userName"] for u in found["Resources"]] == ["a@x.example"]


BAD: list[tuple[str, str, Any]] = [
    ("POST", "/Users", {"schemas": [USER]}),
    ("POST", "/Users", {"schemas": [USER], "userName": "no address"}),
    ("POST", "/Users", {"schemas": [USER], "userName": "a", "emails": [{"value": "no address"}]}),
    ("POST", "/Users", {"schemas": [USER], "userName": 5}),
    ("POST", "/Users", []),
    ("POST", "/Groups", {"schemas": [GROUP], "displayName": ""}),
    ("POST", "/Groups", {"schemas": [GROUP], "displayName": "g", "members": [{"value": "nobody"}]}),
    (
        "POST", "/Groups",
        {"schemas": [GROUP], "displayName": "g",
         "members": [{"value": "0198c0de-0000-7000-8000-000000000001"}]},
    ),
]  # fmt: skip


def test_what_cannot_be_is_said_in_scims_words(provider: Any) -> None:
    for method, path, body in BAD:
        answer = provider.request(method, f"{BASE}{path}", json=body)
        assert answer.status_code == 400, f"{body}: {answer.text}"
        assert answer.json()["schemas"] == [ERROR] and answer.json()["scimType"], answer.text
        assert answer.headers["content-type"] == "application/scim+json"


def test_only_a_key_for_it_may(world: Any) -> None:
    for client, status in (
        (world.client(checked=False), 401),
        (world.client(headers={"Authorization": f"Bearer {world.key('manage')}"}, checked=False), 403),
        (world.client(headers={"Authorization": f"Bearer {world.key('read')}"}, checked=False), 403),
    ):
        for path in ("/Users", "/Groups", "/Schemas", "/ServiceProviderConfig", "/ResourceTypes"):
            assert client.get(f"{BASE}{path}").status_code == status, path
        assert client.post(f"{BASE}/Users", json={}).status_code == status
    key = world.client(headers={"Authorization": f"Bearer {world.key('provision')}"})
    for path in ("/v1/pipelines", "/v1/members", "/v1/keys", "/v1/dashboards"):
        assert key.get(path).status_code == 403, path


def test_other_workspaces_people_and_teams_are_not_there(world: Any, provider: Any) -> None:
    made = user(provider)
    text = world.key("provision", workspace_id=2)
    other = world.client(headers={"Authorization": f"Bearer {text}"}, checked=False)
    assert other.get(f"{BASE}/Users").json()["totalResults"] == 0
    for method in ("GET", "DELETE"):
        assert other.request(method, f"{BASE}/Users/{made['id']}").status_code == 404
    stolen = patch(other, f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
    assert stolen.status_code == 404
    assert provider.get(f"{BASE}/Users/{made['id']}").json()["active"] is True


def test_seats_are_counted(world: Any, provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sluiceway.identity.errors import SeatsExceeded

    def full(*_: object, **__: object) -> None:
        raise SeatsExceeded("The workspace has 1 seat.")

    monkeypatch.setattr(seats, "check", full)
    body = {"schemas": [USER], "userName": "a@x.example"}
    assert provider.post(f"{BASE}/Users", json=body).status_code == 409
    assert provider.post(f"{BASE}/Users", json={**body, "active": False}).status_code == 201


def test_every_change_is_in_the_audit_log(world: Any, provider: Any) -> None:
    world.person("owner")
    made = user(provider)
    patch(provider, f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False})
    provider.delete(f"{BASE}/Users/{made['id']}")
    actions = world.execute(
        "SELECT action FROM app.audit_entries WHERE action LIKE 'provisioning.%' ORDER BY seq"
    ).scalars()
    assert list(actions) == [
        "provisioning.user_created", "provisioning.user_changed", "provisioning.user_removed",
    ]  # fmt: skip
