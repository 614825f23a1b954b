"""API keys over HTTP: shown once, limited, expired, revoked."""

from datetime import timedelta

from sluiceway.infra.clock import FixedClock


def test_a_key_is_shown_once(world) -> None:
    admin = world.person("admin")
    made = admin.post("/v1/keys", json={"name": "reader", "scopes": ["read"]})
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    text = made.json()["key"]
    secret = text.split("_", 2)[2]
    assert secret not in admin.get("/v1/keys").text
    assert secret.encode() not in bytes(world.execute("SELECT secret_hash FROM app.api_keys").scalar_one())
    program = world.client(headers={"Authorization": f"Bearer {text}"})
    me = program.get("/v1/me").json()
    assert (me["kind"], me["scopes"], me["role"]) == ("key", ["read"], None)


def test_a_key_may_be_limited_to_pipelines_of_the_workspace(world) -> None:
    world.apply()
    admin = world.person("admin")
    made = admin.post("/v1/keys", json={"name": "s", "scopes": ["ingest"], "pipelines": ["orders"]})
    assert made.json()["info"]["pipelines"] == ["orders"]
    wrong = admin.post("/v1/keys", json={"name": "s", "scopes": ["ingest"], "pipelines": ["orders", "no"]})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "pipelines.1")


def test_a_revoked_key_is_refused(world) -> None:
    admin = world.person("admin")
    made = admin.post("/v1/keys", json={"name": "r", "scopes": ["read"]}).json()
    program = world.client(headers={"Authorization": f"Bearer {made['key']}"})
    assert program.get("/v1/pipelines").status_code == 200
    assert admin.delete(f"/v1/keys/{made['info']['id']}").json()["state"] == "revoked"
    assert admin.delete(f"/v1/keys/{made['info']['id']}").status_code == 200
    answer = program.get("/v1/pipelines")
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_key")


def test_an_expired_key_says_so(world) -> None:
    now = world.services.clock.now()
    program = world.program("read", expires_at=now + timedelta(minutes=1))
    assert program.get("/v1/pipelines").status_code == 200
    world.stand_at(FixedClock(now + timedelta(minutes=2)))
    answer = program.get("/v1/pipelines")
    assert (answer.status_code, answer.json()["code"]) == (401, "expired_key")


def test_what_is_not_a_key_is_refused(world) -> None:
    text = world.key("read")
    for wrong in (
        "Bearer",
        "Bearer x",
        f"Basic {text}",
        f"Bearer {text[:-1]}{'B' if text.endswith('A') else 'A'}",
        f"Bearer {text} x",
        "Bearer é",
    ):
        headers = {"Authorization": wrong.encode("utf-8")}
        answer = world.client().get("/v1/pipelines", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_key"), wrong


def test_scopes_are_what_they_say(world) -> None:
    reader, manager = world.program("read"), world.program("manage")
    assert reader.get("/v1/pipelines").status_code == 200
    answer = reader.put("/v1/pipelines/orders", content="a: 1", headers={"Content-Type": "text/yaml"})
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    assert manager.post("/v1/keys", json={"name": "n", "scopes": ["manage"]}).status_code == 403


def test_a_key_may_not_outlive_now(world) -> None:
    admin = world.person("admin")
    for end in ("2020-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"):
        answer = admin.post("/v1/keys", json={"name": "n", "scopes": ["read"], "expires_at": end})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "expires_at")


def test_keys_are_paged(world) -> None:
    admin = world.person("admin")
    for number in range(5):
        admin.post("/v1/keys", json={"name": f"k{number}", "scopes": ["read"]})
    names, cursor = [], None
    for _ in range(3):
        found = admin.get("/v1/keys", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        names += [item["name"] for item in found["items"]]
        cursor = found["next_cursor"]
    assert names == ["k4", "k3", "k2", "k1", "k0"] and cursor is None


def test_an_idempotency_key_makes_one_key(world) -> None:
    admin = world.person("admin")
    body, header = {"name": "once", "scopes": ["read"]}, {"Idempotency-Key": "abc"}
    first = admin.post("/v1/keys", json=body, headers=header)
    again = admin.post("/v1/keys", json=body, headers=header)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json() and again.headers["idempotency-replayed"] == "true"
    assert len(admin.get("/v1/keys").json()["items"]) == 1
    kept = bytes(world.execute("SELECT answer FROM app.idempotency_keys").scalar_one())
    assert first.json()["key"].encode() not in kept
    other = admin.post("/v1/keys", json={**body, "name": "other"}, headers=header)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert world.person("owner").post("/v1/keys", json=body, headers=header).json() != first.json()
    world.stand_at(FixedClock(world.services.clock.now() + timedelta(hours=25)))
    assert admin.post("/v1/keys", json=body, headers=header).json() != first.json()


def test_a_failed_request_may_be_sent_again_with_its_key(world) -> None:
    viewer, header = world.person("viewer"), {"Idempotency-Key": "abc"}
    assert viewer.post("/v1/keys", json={"name": "n", "scopes": ["read"]}, headers=header).status_code == 403
    assert world.execute("SELECT count(*) FROM app.idempotency_keys").scalar_one() == 0
    assert viewer.post("/v1/keys", json={}, headers={"Idempotency-Key": "x" * 201}).status_code == 422


def test_a_key_may_have_a_rate_of_its_own(world) -> None:
    admin = world.person("admin")
    made = admin.post("/v1/keys", json={"name": "s", "scopes": ["ingest"], "rate": 12.5, "burst": 40})
    info = made.json()["info"]
    assert (made.status_code, info["rate"], info["burst"]) == (201, 12.5, 40)
    assert admin.get(f"/v1/keys/{info['id']}").json()["rate"] == 12.5
    filled = admin.post("/v1/keys", json={"name": "s", "scopes": ["ingest"], "rate": 3}).json()["info"]
    assert (filled["rate"], filled["burst"]) == (3, 6)
    free = admin.post("/v1/keys", json={"name": "s", "scopes": ["ingest"]}).json()["info"]
    assert (free["rate"], free["burst"]) == (None, None)
    for wrong, field in (
        ({"burst": 4}, "burst"),
        ({"rate": 1000, "burst": 1}, "burst"),
        ({"rate": 0}, "rate"),
        ({"rate": 1e-310}, "rate"),
    ):
        answer = admin.post("/v1/keys", json={"name": "s", "scopes": ["ingest"], **wrong})
        assert (answer.status_code, answer.json()["errors"][0]["field"].split(".")[-1]) == (422, field)
