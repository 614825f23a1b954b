"""Service accounts over HTTP: what their keys may do, disabling, and who may make them."""

from typing import Any

MEASURE = {"pipeline": "orders", "measures": [{"agg": "count", "as": "n"}]}


def account(admin: Any, **options: Any) -> str:
    answer = admin.post("/v1/service-accounts", json={"name": "robot", "roles": ["editor"], **options})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def key_of(admin: Any, account_id: str, **options: Any) -> str:
    answer = admin.post(f"/v1/service-accounts/{account_id}/keys", json={"name": "k", **options})
    assert answer.status_code == 201, answer.text
    assert answer.json()["info"]["service_account"] == account_id
    return str(answer.json()["key"])


def robot(world: Any, text: str) -> Any:
    return world.client(headers={"Authorization": f"Bearer {text}"})


def test_its_key_does_what_its_roles_allow_and_no_more(world: Any) -> None:
    world.apply()
    admin = world.person("admin")
    account_id = account(admin)
    program = robot(world, key_of(admin, account_id))
    me = program.get("/v1/me").json()
    assert {"pipeline:write", "event:write", "dashboard:share"} <= set(me["permissions"])
    assert not {"key:manage", "member:manage", "service_account:manage"} & set(me["permissions"])
    assert program.post("/v1/pipelines/orders/pause").status_code == 200
    for path in ("/v1/keys", "/v1/service-accounts"):
        assert program.get(path).status_code == 403, path
    assert admin.patch(f"/v1/service-accounts/{account_id}", json={"roles": ["viewer"]}).status_code == 200
    assert program.post("/v1/pipelines/orders/resume").json()["code"] == "missing_scope"
    assert program.get("/v1/pipelines").status_code == 200


def test_a_narrower_scope_narrows_the_roles(world: Any) -> None:
    world.apply()
    admin = world.person("admin")
    program = robot(world, key_of(admin, account(admin), scopes=["read"]))
    assert program.get("/v1/pipelines").status_code == 200
    assert program.post("/v1/pipelines/orders/pause").status_code == 403


def test_a_role_of_the_workspaces_own(world: Any) -> None:
    world.execute(
        "INSERT INTO app.roles (workspace_id, slug, name, permissions) VALUES"
        " (1, 'auditor', 'Auditor', '{audit:read,key:manage}'), (2, 'foreign', 'F', '{audit:read}')"
    )
    admin = world.person("admin")
    program = robot(world, key_of(admin, account(admin, roles=["auditor"])))
    assert set(program.get("/v1/me").json()["permissions"]) == {"audit:read"}
    wrong = admin.post("/v1/service-accounts", json={"name": "b", "roles": ["foreign"]})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "roles")
    owner = world.person("owner").post("/v1/service-accounts", json={"name": "b", "roles": ["owner"]})
    assert owner.status_code == 422


def test_disabled_its_keys_are_refused_until_it_is_enabled(world: Any) -> None:
    admin = world.person("admin")
    account_id = account(admin)
    program = robot(world, key_of(admin, account_id))
    changed = admin.patch(f"/v1/service-accounts/{account_id}", json={"disabled": True}).json()
    assert changed["state"] == "disabled" and changed["disabled_at"]
    assert program.get("/v1/pipelines").json()["code"] == "invalid_key"
    admin.patch(f"/v1/service-accounts/{account_id}", json={"disabled": False})
    assert program.get("/v1/pipelines").status_code == 200


def test_deleted_its_keys_are_gone(world: Any) -> None:
    admin = world.person("admin")
    account_id = account(admin)
    program = robot(world, key_of(admin, account_id))
    assert len(admin.get(f"/v1/service-accounts/{account_id}/keys").json()["items"]) == 1
    assert admin.delete(f"/v1/service-accounts/{account_id}").status_code == 204
    assert program.get("/v1/pipelines").json()["code"] == "invalid_key"
    assert admin.get(f"/v1/service-accounts/{account_id}").status_code == 404
    assert admin.get("/v1/keys").json()["items"] == []


def test_it_reads_with_the_eyes_of_its_roles_and_attributes(world: Any) -> None:
    from sluiceway.identity import keys
    from sluiceway.identity.contracts import Caller
    from sluiceway.infra.database import Role

    admin = world.person("admin")
    text = key_of(admin, account(admin, roles=["analyst"], attributes={"region": ["emea", "apac"]}))
    with world.services.database.transaction(Role.APP) as conn:
        found = Caller.from_key(keys.authenticate(conn, text, now=world.services.clock.now()))
    assert found.access.roles == ("analyst",)
    assert dict(found.access.attributes)["region"] == ("apac", "emea")


def test_changes_and_names(world: Any) -> None:
    admin = world.person("admin")
    first, second = account(admin), account(admin, name="other")
    clash = admin.post("/v1/service-accounts", json={"name": "ROBOT", "roles": ["viewer"]})
    assert (clash.status_code, clash.json()["code"]) == (409, "service_account_exists")
    assert admin.patch(f"/v1/service-accounts/{second}", json={"name": "Robot"}).status_code == 409
    changed = admin.patch(
        f"/v1/service-accounts/{first}", json={"name": "new", "attributes": {"region": ["emea"]}}
    ).json()
    assert (changed["name"], changed["attributes"], changed["roles"]) == (
        "new",
        {"region": ["emea"]},
        ["editor"],
    )
    assert [a["name"] for a in admin.get("/v1/service-accounts").json()["items"]] == ["new", "other"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": " ", "roles": ["viewer"]}, "name"),
    ({"name": "a", "roles": []}, "roles"),
    ({"name": "a", "roles": ["nobody"]}, "roles"),
    ({"name": "a", "roles": ["viewer"], "attributes": {"Region!": ["x"]}}, "attributes"),
    ({"name": "a", "roles": ["viewer"], "attributes": {"region": [""]}}, "attributes.region"),
    ({"name": "a", "roles": ["viewer"], "more": 1}, "more"),
]


def test_what_cannot_be(world: Any) -> None:
    admin = world.person("admin")
    for body, field in BAD:
        answer = admin.post("/v1/service-accounts", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text


def test_nobody_gives_an_account_what_they_do_not_hold(world: Any) -> None:
    admin = world.person("admin")
    strong = account(admin, roles=["admin"])
    world.execute(
        "INSERT INTO app.roles (workspace_id, slug, name, permissions)"
        " VALUES (1, 'robot-keeper', 'K', '{service_account:manage,data:read}')"
    )
    keeper = world.person("viewer")
    world.execute("UPDATE app.memberships SET role = 'robot-keeper' WHERE role = 'viewer'")
    for answer in (
        keeper.post("/v1/service-accounts", json={"name": "mine", "roles": ["editor"]}),
        keeper.post(f"/v1/service-accounts/{strong}/keys", json={"name": "mine"}),
        keeper.patch(f"/v1/service-accounts/{strong}", json={"name": "mine"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), answer.text


def test_other_workspaces_and_other_people_see_nothing(world: Any) -> None:
    admin = world.person("admin")
    account_id = account(admin)
    other = world.person("admin", workspace_id=2)
    assert other.get("/v1/service-accounts").json()["items"] == []
    for method, path, body in (
        ("GET", "", None), ("PATCH", "", {"name": "x"}), ("DELETE", "", None), ("GET", "/keys", None),
        ("POST", "/keys", {"name": "x"}),
    ):  # fmt: skip
        answer = other.request(method, f"/v1/service-accounts/{account_id}{path}", json=body)
        assert answer.status_code == 404, f"{method} {path}"
    assert world.person("editor").get("/v1/service-accounts").status_code == 403
    assert world.program("manage").get("/v1/service-accounts").status_code == 403


def test_the_scope_account_is_for_accounts_keys_alone(world: Any) -> None:
    admin = world.person("admin")
    plain = admin.post("/v1/keys", json={"name": "k", "scopes": ["account"]})
    assert plain.status_code in (403, 422)
    mixed = admin.post(
        f"/v1/service-accounts/{account(admin)}/keys", json={"name": "k", "scopes": ["account", "read"]}
    )
    assert (mixed.status_code, mixed.json()["code"]) == (422, "invalid_key_request")
