"""Custom roles and teams: made from the list, never with more than one holds, in force at once."""

from typing import Any

from sluiceway.identity.permissions import GRANTABLE, MemberRole, Permission


def _id(world: Any, email: str) -> Any:
    return world.execute("SELECT id FROM app.users WHERE email = :e", e=email).scalar_one()


def test_a_custom_role_allows_exactly_its_permissions(world) -> None:
    owner, person = world.person("owner"), world.person("viewer")
    made = owner.post("/v1/roles", json={"name": "Key keeper", "permissions": ["key:read", "workspace:read"]})
    assert (made.status_code, made.json()["slug"]) == (201, "key-keeper"), made.text
    member = _id(world, "viewer1@example.com")
    assert owner.patch(f"/v1/members/{member}", json={"role": "key-keeper"}).status_code == 200
    me = person.get("/v1/session").json()
    assert (me["role"], me["permissions"]) == ("key-keeper", ["key:read", "workspace:read"])
    assert person.get("/v1/keys").status_code == 200
    assert person.get("/v1/dashboards").status_code == 403
    changed = owner.patch("/v1/roles/key-keeper", json={"permissions": ["dashboard:read"]})
    assert changed.json()["permissions"] == ["dashboard:read"]
    assert person.get("/v1/keys").status_code == 403
    assert person.get("/v1/dashboards").status_code == 200
    used = owner.delete("/v1/roles/key-keeper")
    assert (used.status_code, used.json()["code"]) == (409, "role_in_use")
    owner.patch(f"/v1/members/{member}", json={"role": "viewer"})
    assert owner.delete("/v1/roles/key-keeper").status_code == 204
    assert owner.get("/v1/roles/key-keeper").status_code == 404


RULE = "kind: Rule\nname: shops\npipeline: orders\nroles: [partner]\nrows: shop = 'a'\n"
PROVIDER = {
    "name": "Acme SSO",
    "issuer": "https://login.acme.example",
    "client_id": "sluiceway",
    "group_roles": [{"group": "partners", "workspace_id": 1, "role": "partner"}],
}


def test_a_role_that_something_names_stays(world) -> None:
    owner = world.person("owner")
    world.apply()
    yaml = {"Content-Type": "application/yaml"}
    early = owner.put("/v1/rules/shops", content=RULE, headers=yaml)
    assert (early.status_code, early.json()["errors"][0]["field"]) == (422, "roles"), early.text
    assert owner.post("/v1/roles", json={"name": "Partner", "permissions": ["data:read"]}).status_code == 201

    def refused() -> str:
        answer = owner.delete("/v1/roles/partner")
        assert (answer.status_code, answer.json()["code"]) == (409, "role_in_use"), answer.text
        return str(answer.json()["detail"])

    assert owner.put("/v1/rules/shops", content=RULE, headers=yaml).status_code == 201
    assert "row rules" in refused()
    assert owner.delete("/v1/rules/shops").status_code == 204
    policy = {"second_factor_for": ["partner"]}
    assert owner.put("/v1/sign-in/policy", json=policy).status_code == 200
    assert "sign in" in refused()
    assert owner.put("/v1/sign-in/policy", json={"second_factor_for": []}).status_code == 200
    provider = owner.post("/v1/sign-in/providers", json=PROVIDER)
    assert provider.status_code == 201, provider.text
    assert "identity providers (1)" in refused()
    assert owner.delete(f"/v1/sign-in/providers/{provider.json()['id']}").status_code == 204
    assert owner.delete("/v1/roles/partner").status_code == 204


def test_roles_are_listed_and_checked(world) -> None:
    owner = world.person("owner")
    found = owner.get("/v1/roles").json()["items"]
    assert [r["slug"] for r in found] == list(MemberRole) and all(r["builtin"] for r in found)
    assert "organization:manage" not in found[0]["permissions"]
    assert found[0]["members"] == 1
    for body, field in (
        ({"name": "Admin", "permissions": ["data:read"]}, "slug"),
        ({"name": "Link", "permissions": ["data:read"]}, "slug"),
        ({"name": "X", "permissions": ["organization:manage"]}, "permissions.0"),
        ({"name": "X", "permissions": ["fly"]}, "permissions.0"),
        ({"name": "X", "permissions": []}, "permissions"),
        ({"name": " ", "permissions": ["data:read"]}, "name"),
    ):
        answer = owner.post("/v1/roles", json=body)
        assert answer.status_code == 422, body
        assert field in {e["field"] for e in answer.json()["errors"]}, answer.text
    assert owner.post("/v1/roles", json={"name": "X", "permissions": ["data:read"]}).status_code == 201
    twice = owner.post("/v1/roles", json={"name": "x", "permissions": ["data:read"]})
    assert (twice.status_code, twice.json()["code"]) == (409, "role_exists")
    for call in (lambda p: owner.patch(p, json={"name": "Y"}), owner.delete):
        assert call("/v1/roles/viewer").status_code == 409
    elsewhere = world.person("owner", 2)
    assert elsewhere.get("/v1/roles/x").status_code == 404
    assert elsewhere.delete("/v1/roles/x").status_code == 404


def test_a_role_above_ones_own_is_left_alone(world) -> None:
    owner, admin = world.person("owner"), world.person("admin")
    owner.post("/v1/roles", json={"name": "Big", "permissions": ["workspace:manage", "data:read"]})
    for answer in (
        admin.patch("/v1/roles/big", json={"permissions": ["data:read"]}),
        admin.patch("/v1/roles/big", json={"name": "Small"}),
        admin.delete("/v1/roles/big"),
        admin.post("/v1/teams", json={"name": "T", "roles": ["big"]}),
        admin.post("/v1/invitations", json={"email": "x@example.com", "role": "big"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), answer.text


def test_a_team_gives_roles_and_attributes(world) -> None:
    owner, person = world.person("owner"), world.person("viewer")
    member = _id(world, "viewer1@example.com")
    owner.patch(f"/v1/members/{member}", json={"attributes": {"region": ["emea"]}})
    team = {"name": "Night shift", "roles": ["analyst"], "attributes": {"region": ["apac"], "shift": ["n"]}}
    made = owner.post("/v1/teams", json=team)
    assert (made.status_code, made.json()["slug"]) == (201, "night-shift")
    for _ in range(2):
        assert owner.put(f"/v1/teams/night-shift/members/{member}").status_code == 204
    me = person.get("/v1/session").json()
    assert (me["role"], me["roles"]) == ("viewer", ["analyst", "viewer"])
    assert me["attributes"] == {"region": ["apac", "emea"], "shift": ["n"]}
    assert Permission.DASHBOARD_WRITE in me["permissions"]
    shown = owner.get("/v1/teams/night-shift").json()
    assert (shown["members"], shown["member_ids"]) == (1, [str(member)])
    owner.patch("/v1/teams/night-shift", json={"roles": [], "attributes": {}})
    me = person.get("/v1/session").json()
    assert (me["roles"], me["attributes"]) == (["viewer"], {"region": ["emea"]})
    owner.patch("/v1/teams/night-shift", json={"roles": ["editor"]})
    assert "editor" in person.get("/v1/session").json()["roles"]
    assert owner.delete(f"/v1/teams/night-shift/members/{member}").status_code == 204
    assert person.get("/v1/session").json()["roles"] == ["viewer"]
    owner.patch(f"/v1/members/{member}", json={"teams": ["night-shift"]})
    assert person.get("/v1/session").json()["roles"] == ["editor", "viewer"]
    assert owner.delete("/v1/teams/night-shift").status_code == 204
    assert person.get("/v1/session").json()["roles"] == ["viewer"]


def test_teams_are_checked(world) -> None:
    owner, elsewhere = world.person("owner"), world.person("owner", 2)
    for body, field in (
        ({"name": "T", "roles": ["owner"]}, "roles"),
        ({"name": "T", "roles": ["nothing"]}, "roles"),
        ({"name": "T", "attributes": {"id": ["1"]}}, "attributes.id"),
        ({"name": "T", "attributes": {"x": [""]}}, "attributes.x"),
    ):
        answer = owner.post("/v1/teams", json=body)
        assert answer.status_code == 422, body
        assert answer.json()["errors"][0]["field"] == field
    assert owner.post("/v1/teams", json={"name": "T"}).status_code == 201
    assert owner.post("/v1/teams", json={"name": "t"}).json()["code"] == "team_exists"
    stranger = _id(world, "owner2@example.com")
    assert owner.put(f"/v1/teams/t/members/{stranger}").status_code == 404
    assert elsewhere.get("/v1/teams/t").status_code == 404
    assert elsewhere.put(f"/v1/teams/t/members/{stranger}").status_code == 404
    assert elsewhere.get("/v1/teams").json()["items"] == []


def test_what_an_unknown_permission_in_the_table_allows(world) -> None:
    """Nothing: a name that a later version took away, or that was written there by hand."""
    owner, person = world.person("owner"), world.person("viewer")
    owner.post("/v1/roles", json={"name": "Old", "permissions": ["data:read"]})
    owner.patch(f"/v1/members/{_id(world, 'viewer1@example.com')}", json={"role": "old"})
    world.execute("UPDATE app.roles SET permissions = '{data:read,organization:manage,gone:away}'")
    assert person.get("/v1/session").json()["permissions"] == ["data:read"]
    assert Permission.ORGANIZATION_MANAGE not in GRANTABLE
