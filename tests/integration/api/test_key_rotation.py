"""Rotating keys over HTTP: the overlap, its end, what is refused, and where a key was used from."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluiceway.infra.clock import FixedClock

START = datetime(2026, 11, 21, 9, tzinfo=UTC)


@pytest.fixture
def clock(world: Any) -> FixedClock:
    found = FixedClock(START)
    world.stand_at(found)
    return found


def made(admin: Any, **options: Any) -> tuple[str, str]:
    """Id and text of a new key."""
    answer = admin.post("/v1/keys", json={"name": "gate", "scopes": ["read"], **options})
    assert answer.status_code == 201, answer.text
    return answer.json()["info"]["id"], answer.json()["key"]


def asks(world: Any, text: str, address: str = "127.0.0.1") -> Any:
    client = world.client(headers={"Authorization": f"Bearer {text}"}, address=address)
    return client.get("/v1/pipelines")


def test_both_secrets_work_until_the_overlap_is_over(world: Any, clock: FixedClock) -> None:
    admin = world.person("admin")
    key_id, old = made(admin, rate=5)
    answer = admin.post(f"/v1/keys/{key_id}/rotation", json={"overlap_s": 3600})
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    new, info = answer.json()["key"], answer.json()["info"]
    assert (info["id"], info["scopes"], info["rate"]) == (key_id, ["read"], 5) and new != old
    assert info["previous_until"] == "2026-11-21T10:00:00Z" and info["previous_used_at"] is None
    assert [asks(world, text).status_code for text in (old, new)] == [200, 200]
    assert admin.get(f"/v1/keys/{key_id}").json()["previous_used_at"] is not None
    clock.at += timedelta(hours=1)
    assert (asks(world, old).status_code, asks(world, old).json()["code"]) == (401, "expired_key")
    assert asks(world, new).status_code == 200
    assert admin.get(f"/v1/keys/{key_id}").json()["previous_until"] is None


def test_without_an_overlap_the_old_secret_ends_at_once(world: Any) -> None:
    admin = world.person("admin")
    key_id, old = made(admin)
    new = admin.post(f"/v1/keys/{key_id}/rotation", json={"overlap_s": 0}).json()["key"]
    assert (asks(world, old).status_code, asks(world, new).status_code) == (401, 200)


def test_a_second_rotation_waits_and_a_lost_secret_is_replaced(world: Any) -> None:
    admin = world.person("admin")
    key_id, old = made(admin)
    lost = admin.post(f"/v1/keys/{key_id}/rotation", json={}).json()["key"]
    again = admin.post(f"/v1/keys/{key_id}/rotation", json={})
    assert (again.status_code, again.json()["code"]) == (409, "rotation_running")
    new = admin.post(f"/v1/keys/{key_id}/rotation", json={"lost": True}).json()["key"]
    assert [asks(world, text).status_code for text in (old, lost, new)] == [200, 401, 200]


def test_the_overlap_ends_early_and_then_the_key_can_be_rotated_again(world: Any) -> None:
    admin = world.person("admin")
    key_id, old = made(admin)
    new = admin.post(f"/v1/keys/{key_id}/rotation", json={}).json()["key"]
    assert admin.delete(f"/v1/keys/{key_id}/rotation").json()["previous_until"] is None
    assert admin.delete(f"/v1/keys/{key_id}/rotation").status_code == 200
    assert [asks(world, text).status_code for text in (old, new)] == [401, 200]
    assert admin.post(f"/v1/keys/{key_id}/rotation", json={}).status_code == 201


def test_revoking_ends_both_secrets(world: Any) -> None:
    admin = world.person("admin")
    key_id, old = made(admin)
    new = admin.post(f"/v1/keys/{key_id}/rotation", json={}).json()["key"]
    admin.delete(f"/v1/keys/{key_id}")
    assert [asks(world, text).status_code for text in (old, new)] == [401, 401]
    answer = admin.post(f"/v1/keys/{key_id}/rotation", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "key_not_active")


def test_the_overlap_never_outlives_the_key(world: Any, clock: FixedClock) -> None:
    admin = world.person("admin")
    end = START + timedelta(minutes=30)
    key_id, old = made(admin, expires_at=end.isoformat())
    info = admin.post(f"/v1/keys/{key_id}/rotation", json={"overlap_s": 86_400}).json()["info"]
    assert info["previous_until"] == "2026-11-21T09:30:00Z"
    clock.at += timedelta(minutes=30)
    assert asks(world, old).json()["code"] == "expired_key"
    assert admin.post(f"/v1/keys/{key_id}/rotation", json={}).json()["code"] == "key_not_active"


def test_what_is_refused(world: Any) -> None:
    admin = world.person("admin")
    key_id, text = made(admin)
    for body in ({"overlap_s": -1}, {"overlap_s": 91 * 86_400}, {"overlap": 1}, {"overlap_s": "x"}):
        assert admin.post(f"/v1/keys/{key_id}/rotation", json=body).status_code == 422, body
    other = world.person("admin", workspace_id=2)
    assert other.post(f"/v1/keys/{key_id}/rotation", json={}).status_code == 404
    assert other.delete(f"/v1/keys/{key_id}/rotation").status_code == 404
    assert world.person("editor").post(f"/v1/keys/{key_id}/rotation", json={}).status_code == 403
    program = world.client(headers={"Authorization": f"Bearer {text}"})
    assert program.post(f"/v1/keys/{key_id}/rotation", json={}).status_code == 403
    assert asks(world, text).status_code == 200


def test_whoever_lacks_a_right_neither_makes_nor_rotates_a_key_that_has_it(world: Any) -> None:
    admin = world.person("admin")
    strong, _ = made(admin, scopes=["manage"])
    world.execute(
        "INSERT INTO app.roles (workspace_id, slug, name, permissions)"
        " VALUES (1, 'key-keeper', 'Keeper', '{key:read,key:manage,event:write}')"
    )
    keeper = world.person("viewer")
    world.execute("UPDATE app.memberships SET role = 'key-keeper' WHERE role = 'viewer'")
    for answer in (
        keeper.post("/v1/keys", json={"name": "mine", "scopes": ["manage"]}),
        keeper.post(f"/v1/keys/{strong}/rotation", json={}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), answer.text
        assert "pipeline:write" in answer.json()["detail"]
    assert keeper.post("/v1/keys", json={"name": "mine", "scopes": ["ingest"]}).status_code == 201


def test_when_and_from_where_a_key_was_used(world: Any) -> None:
    admin = world.person("admin")
    key_id, text = made(admin)
    assert admin.get(f"/v1/keys/{key_id}").json()["last_used_at"] is None
    asks(world, text, "192.0.2.7")
    found = admin.get(f"/v1/keys/{key_id}").json()
    assert found["last_used_at"] and found["last_used_address"] == "192.0.2.7"
    asks(world, text, "2001:db8::5")
    assert admin.get(f"/v1/keys/{key_id}").json()["last_used_address"] == "2001:db8::5"


def test_a_rotation_is_in_the_audit_log_without_the_secret(world: Any) -> None:
    admin = world.person("admin")
    key_id, _ = made(admin)
    text = admin.post(f"/v1/keys/{key_id}/rotation", json={}).json()["key"]
    rows = world.execute("SELECT content FROM app.audit_entries").scalars().all()
    told = [row for row in rows if "key.rotated" in row]
    assert len(told) == 1 and key_id in told[0]
    assert not any(text[-40:] in row for row in rows)
