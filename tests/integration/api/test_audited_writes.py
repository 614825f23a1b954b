"""What each write leaves in the audit log: who, from where, what it was before and what it is now."""

from typing import Any
from uuid import UUID

import pytest

from sluiceway.audit.reading import Search, search
from sluiceway.audit.verification import verify
from sluiceway.infra.database import Role
from sluiceway.quality.contracts import NoGate
from tests.integration.api.conftest import PASSWORD, PIPELINE

YAML = {"Content-Type": "text/yaml"}
SUITE = """\
kind: Suite
name: orders
expectations:
  - name: positive
    type: expect_column_values_to_be_between
    kwargs: {column: amount, min_value: 0}
    on_failure: quarantine
"""
DASHBOARD = """\
kind: Dashboard
name: board
title: Board
widgets:
  - {id: words, type: text, text: hello, layout: {x: 0, y: 0, w: 3, h: 2}}
"""


def log(world: Any, action: str | None = None, workspace_id: int = 1) -> list[Any]:
    """Entries, oldest first."""
    with world.services.database.transaction(Role.APP, workspace_id=workspace_id) as conn:
        assert verify(conn, workspace_id).intact
        return search(conn, workspace_id, Search(action=action), limit=1000)[::-1]


def only(world: Any, action: str) -> Any:
    (found,) = log(world, action)
    return found


def test_who_and_from_where(world) -> None:
    world.apply()
    browser = world.client(
        headers={
            "X-Sluiceway-Request": "1", "Origin": "http://localhost:8000", "User-Agent": "Lynx/2.9",
            "X-Request-Id": "mine-7",
        },
        address="192.0.2.44",
    )  # fmt: skip
    world.person()
    browser.post("/v1/session", json={"email": "owner1@example.com", "password": PASSWORD})
    assert browser.post("/v1/pipelines/orders/pause").status_code == 200
    found = only(world, "pipeline.paused")
    actor = found.actor
    assert (actor.kind, actor.name, actor.address) == ("user", "owner1@example.com", "192.0.2.44")
    assert (actor.user_agent, actor.request_id) == ("Lynx/2.9", "mine-7") and UUID(actor.id).version == 7
    assert (found.target, found.target_id) == ("pipeline", "orders")
    assert (found.before, found.after) == ({"state": "active"}, {"state": "paused"})


def test_pipelines(world) -> None:
    editor = world.person("editor")
    more = PIPELINE.replace("title: Orders", "title: All orders")
    for source in (PIPELINE, PIPELINE, more):
        assert editor.put("/v1/pipelines/orders", content=source, headers=YAML).status_code < 300
    first, second = log(world, "pipeline.applied")
    assert first.before is None and first.after["version"] == 1 and first.after["spec"]["title"] == "Orders"
    assert second.before == {"version": 1, "spec": {"title": "Orders"}}
    assert second.after == {"version": 2, "spec": {"title": "All orders"}}
    editor.get("/v1/pipelines/orders/export")
    for path in ("pause", "pause", "resume"):
        editor.post(f"/v1/pipelines/orders/{path}")
    editor.delete("/v1/pipelines/orders")
    assert [e.action for e in log(world, "pipeline")][2:] == [
        "pipeline.paused", "pipeline.resumed", "pipeline.archived",
    ]  # fmt: skip
    assert (only(world, "export.made").target, only(world, "export.made").target_id) == ("pipeline", "orders")


def test_what_fails_leaves_nothing(world) -> None:
    editor = world.person("editor")
    before = len(log(world))
    assert editor.put("/v1/pipelines/orders", content="kind: [", headers=YAML).status_code == 422
    assert editor.post("/v1/pipelines/none/pause").status_code == 404
    assert world.person("viewer").put("/v1/pipelines/orders", content=PIPELINE).status_code == 403
    assert [e.action for e in log(world)[before:]] == ["session.started"]


def test_suites_and_dashboards(world) -> None:
    editor = world.person("editor")
    assert editor.put("/v1/quality/suites/orders", content=SUITE, headers=YAML).status_code == 201
    stricter = SUITE.replace("min_value: 0", "min_value: 1")
    assert editor.put("/v1/quality/suites/orders", content=stricter, headers=YAML).status_code == 200
    first, second = log(world, "suite.applied")
    assert first.before is None and second.before["version"] == 1 and second.after["version"] == 2
    assert second.after["spec"]["expectations"][0]["kwargs"]["min_value"] == 1

    assert editor.put("/v1/dashboards/board", content=DASHBOARD, headers=YAML).status_code == 201
    other = DASHBOARD.replace("title: Board", "title: Other")
    assert editor.put("/v1/dashboards/board", content=other, headers=YAML).json()["outcome"] == "updated"
    place = {"x": 1, "y": 0, "w": 3, "h": 2}
    moved = {"version": 1, "client_id": "c", "layout": {"words": place}}
    version = editor.get("/v1/dashboards/board").json()["layout_version"]
    editor.put("/v1/dashboards/board/layout", json={**moved, "version": version})
    editor.get("/v1/dashboards/board/export")
    assert editor.delete("/v1/dashboards/board").status_code == 204
    made, changed, laid, deleted = log(world, "dashboard")
    assert made.before is None and made.after["spec"]["title"] == "Board"
    assert (changed.before, changed.after) == (
        {"version": 1, "spec": {"title": "Board"}}, {"version": 2, "spec": {"title": "Other"}},
    )  # fmt: skip
    assert laid.action == "dashboard.moved" and laid.detail["widgets"] == ["words"]
    assert deleted.before["spec"]["title"] == "Other" and deleted.after is None
    assert only(world, "export.made").target == "dashboard"


def test_keys(world) -> None:
    world.apply()
    admin = world.person("admin")
    made = admin.post("/v1/keys", json={"name": "gate", "scopes": ["ingest"], "pipelines": ["orders"]}).json()
    for _ in range(2):
        admin.get("/v1/keys")
        admin.delete(f"/v1/keys/{made['info']['id']}")
    created, listed, revoked = log(world, "key")
    assert created.after["scopes"] == ["ingest"] and created.after["pipelines"] == ["orders"]
    assert created.target_id == made["info"]["id"] and created.after["name"] == "gate"
    assert (listed.action, revoked.action) == ("key.listed", "key.revoked")
    everything = str(world.execute("SELECT string_agg(content, '') FROM app.audit_entries").scalar())
    assert made["key"].split("_")[2] not in everything


def test_secrets_of_senders(world) -> None:
    world.apply("name: signed\nsource: {verify: {scheme: github}}\nfields: [{name: a, type: string}]\n")
    admin = world.person("admin")
    made = admin.post("/v1/pipelines/signed/secrets", json={"name": "main", "value": "hush-hush-4711"}).json()
    admin.get("/v1/pipelines/signed/secrets")
    admin.delete(f"/v1/pipelines/signed/secrets/{made['info']['id']}")
    assert [e.action for e in log(world, "secret")] == ["secret.added", "secret.listed", "secret.removed"]
    everything = str(world.execute("SELECT string_agg(content || whom, '') FROM app.audit_entries").scalar())
    assert "4711" not in everything


def _letter(world: Any, number: int) -> str:
    id_ = f"0198c0de-0000-7000-8000-0000000000{number:02d}"
    world.execute(
        "INSERT INTO quality.dead_letters (id, workspace_id, pipeline_id, batch_name, position, step, code,"
        " reason, payload, received_at, state) VALUES (:id, 1, 1, 'n/1/0', :position, 'map', 'missing',"
        " 'amount is missing', :payload, now(), 'open')",
        id=id_, position=f"n/1/0/{number}", payload=b'{"id": 1}',
    )  # fmt: skip
    return id_


def test_dead_letters_and_replays(world) -> None:
    world.apply()
    world.services.gate = lambda: NoGate()
    editor = world.person("editor")
    ids = [_letter(world, n) for n in range(1, 6)]
    good = '{"id": "7", "at": "2026-11-20T10:00:00Z", "shop": "s", "amount": 1.5}'
    editor.post(f"/v1/dead-letters/{ids[0]}/discard")
    editor.post("/v1/dead-letters/discard", json={"ids": ids[1:3]})
    assert editor.post(f"/v1/dead-letters/{ids[3]}/retry", json={"payload": good}).status_code == 200
    assert editor.post("/v1/dead-letters/retry", json={"ids": [ids[4]]}).json()["failed"] == 1
    editor.get(f"/v1/dead-letters/{ids[4]}/payload")
    one, two, corrected, failed = log(world, "dead_letter")
    assert (one.target_id, two.detail) == (ids[0], {"ids": ids[1:3]})
    assert corrected.detail == {"pipeline": "orders", "loaded": [ids[3]], "failed": [], "corrected": [ids[3]]}
    assert failed.detail["failed"] == [ids[4]] and failed.actor.name == "editor1@example.com"
    assert only(world, "export.made").target == "dead_letter"
    made = editor.post("/v1/replays", json={"pipeline": "orders", "from": "2026-11-01"})
    found = only(world, "replay.requested")
    assert made.status_code == 202 and found.target_id == made.json()["id"]
    assert found.detail == {"pipeline": "orders", "from": "2026-11-01", "to": "2026-11-01"}


def test_signing_in_and_out(world) -> None:
    someone = world.person("viewer")
    someone.delete("/v1/session")
    started, ended = log(world, "session")
    assert started.action == "session.started" and started.detail["method"] == "password"
    assert ended.action == "session.ended" and ended.actor.id == started.actor.id


@pytest.mark.parametrize(("email", "known"), [("viewer1@example.com", True), ("nobody@example.com", False)])
def test_who_was_not_let_in(world, email: str, known: bool) -> None:
    world.person("viewer")
    stranger = world.client(address="203.0.113.9")
    for _ in range(2):
        answer = stranger.post("/v1/session", json={"email": email, "password": "wrong horse battery"})
        assert answer.status_code == 401
    for found in log(world, "session.refused"):
        assert (found.actor.kind, found.actor.name, found.actor.address) == (
            "anonymous",
            email,
            "203.0.113.9",
        )
        assert (found.target_id is not None) == known
        assert found.detail["method"] == "password" and found.detail["reason"] == "wrong_credentials"
    assert len(log(world, "session.refused")) == 2


def test_a_password_in_the_wrong_field_is_not_kept(world) -> None:
    world.client().post("/v1/session", json={"email": "correct horse battery", "password": "x"})
    assert only(world, "session.refused").actor.name == ""


def test_somebody_of_another_workspace_is_refused_there(world) -> None:
    world.person("viewer", workspace_id=2)
    world.client().post("/v1/session", json={"email": "viewer2@example.com", "password": "wrong horse"})
    assert log(world, "session.refused") == []
    assert len(log(world, "session.refused", workspace_id=2)) == 1


def test_a_keys_use_is_told_once_an_hour_and_address(world) -> None:
    text = world.key("read")
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1"):
        client = world.client(headers={"Authorization": f"Bearer {text}"}, address=address)
        assert client.get("/v1/pipelines").status_code == 200
    world.services.extra.pop("key_uses")  # another process
    world.client(headers={"Authorization": f"Bearer {text}"}, address="192.0.2.2").get("/v1/pipelines")
    uses = log(world, "key.used")
    assert [e.actor.address for e in uses] == ["192.0.2.1", "192.0.2.2"]
    assert {(e.actor.kind, e.actor.id, e.actor.name) for e in uses} == {("key", text.split("_")[1], "test")}
    assert {e.detail["of"] for e in uses} == {"api"}


def test_stream_tokens_are_told(world) -> None:
    viewer = world.person("viewer")
    for _ in range(2):
        assert viewer.post("/v1/stream-tokens", json={}).status_code == 201
    assert only(world, "stream_token.issued").actor.name == "viewer1@example.com"


def test_a_request_that_is_repeated_is_done_and_told_once(world) -> None:
    admin = world.person("admin")
    for _ in range(2):
        made = admin.post(
            "/v1/keys", json={"name": "n", "scopes": ["read"]}, headers={"Idempotency-Key": "k-1"}
        )
        assert made.status_code == 201
    assert only(world, "key.created")
