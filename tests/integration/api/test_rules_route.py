"""Rules over the API: who may see and change them; they hold in everything that answers with data."""

from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from tests.support.loaded import Loader
from tests.support.ruled import NOW, SALES, events

RULE = """\
kind: Rule
name: regions
pipeline: sales        # whom it is about
except: [owner, admin]
rows: region in user.regions
masks:
  - {field: email, as: hash}
"""
YAML = {"Content-Type": "text/yaml"}
COUNT = {
    "pipeline": "sales",
    "measures": [{"agg": "count"}],
    "time": {"from": "2026-03-01", "to": "2026-03-12"},
}


@pytest.fixture
def loader(world: Any) -> Loader:
    found = Loader(world.services.database, SALES)
    found.load(events(), received_at=NOW)
    return found


def give(world: Any, role: str, **attributes: list[str]) -> Any:
    """A signed-in person with this role and attributes."""
    world.person(role)
    world.execute(
        "UPDATE app.memberships SET attributes = CAST(:a AS jsonb) WHERE workspace_id = 1 AND role = :role",
        a=orjson.dumps(attributes).decode(), role=role,
    )  # fmt: skip
    return world.person(role)


def put(client: Any, source: str = RULE, name: str = "regions", **headers: str) -> Any:
    return client.put(f"/v1/rules/{name}", content=source.encode(), headers={**YAML, **headers})


def rows(client: Any, **options: Any) -> list[Any]:
    answer = client.post("/v1/query", json=COUNT, **options)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["rows"])


def test_a_rule_is_applied_read_and_ended(world: Any, loader: Loader) -> None:
    admin = world.person("admin")
    made = put(admin)
    assert made.status_code == 201 and made.headers["location"] == "/v1/rules/regions"
    assert made.json() == {"name": "regions", "version": 1, "outcome": "created"}
    assert put(admin).json()["outcome"] == "unchanged"
    changed = put(admin, RULE.replace("hash", "hide"), **{"If-Match": '"1"'})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    stale = put(admin, **{"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["version"]) == (409, "rule_changed", 2)
    found = admin.get("/v1/rules/regions")
    assert found.headers["etag"] == '"2"'
    body = found.json()
    assert body["except"] == ["admin", "owner"] and body["rows"] == "region in user.regions"
    assert body["masks"] == [{"field": "email", "as": "hide", "first": 0, "last": 0}]
    assert "# whom it is about" in admin.get("/v1/rules/regions/export").text
    assert [rule["name"] for rule in admin.get("/v1/rules").json()["items"]] == ["regions"]
    assert admin.delete("/v1/rules/regions").status_code == 204
    assert admin.get("/v1/rules/regions").json()["code"] == "rule_not_found"
    versions = admin.get("/v1/rules/regions/versions").json()["items"]
    assert [(v["version"], v["deleted"]) for v in versions] == [(3, True), (2, False), (1, False)]
    told = world.execute("SELECT action FROM app.audit_entries ORDER BY seq").scalars().all()
    assert [one for one in told if one.startswith("rule.") and one != "rule.listed"] == [
        "rule.created", "rule.changed", "rule.deleted",
    ]  # fmt: skip


def test_what_is_wrong_with_a_rule_is_told_with_its_place(world: Any, loader: Loader) -> None:
    admin = world.person("admin")
    answer = put(admin, RULE.replace("region in user.regions", "regoin = 1"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_rule")
    assert answer.json()["errors"][0]["field"] == "rows" and "regoin" in answer.json()["detail"]
    answer = put(admin, RULE + "more: 1\n")
    assert answer.json()["errors"] == [{"field": "more", "message": "is not a known field", "line": 8}]
    assert put(admin, name="other").json()["errors"][0]["field"] == "name"
    for odd in ("'x", "x;y", "a" * 70):
        assert admin.get(f"/v1/rules/{odd}").status_code in (404, 422)


def test_who_may_see_and_change_rules(world: Any, loader: Loader) -> None:
    assert put(world.person("owner")).status_code == 201
    for role, reads, writes in (("viewer", 403, 403), ("analyst", 403, 403), ("editor", 200, 403)):
        client = world.person(role)
        assert client.get("/v1/rules").status_code == reads
        assert client.get("/v1/rules/regions").status_code == reads
        assert put(client).status_code == writes
        assert client.delete("/v1/rules/regions").status_code == writes
    for scopes, reads in ((["ingest"], 403), (["read"], 403), (["manage"], 200)):
        program = world.program(*scopes)
        assert program.get("/v1/rules").status_code == reads and put(program).status_code == 403
    stranger = world.person("owner", 2)
    assert stranger.get("/v1/rules").json()["items"] == []
    for path in ("/v1/rules/regions", "/v1/rules/regions/versions", "/v1/rules/regions/export"):
        assert stranger.get(path).status_code == 404
    assert stranger.delete("/v1/rules/regions").status_code == 404
    assert put(stranger).json()["code"] == "invalid_rule"  # no such pipeline there
    assert world.client().get("/v1/rules").status_code == 401


def test_everyone_gets_their_own_rows(world: Any, loader: Loader) -> None:
    put(world.person("owner"))
    viewer, analyst = give(world, "viewer", regions=["EU"]), give(world, "analyst")
    assert rows(viewer) == [[4]] and rows(world.person("owner")) == [[12]] and rows(analyst) == []
    assert rows(world.program("read")) == []  # a key has no attributes
    masked = viewer.post(
        "/v1/query", json={"pipeline": "sales", "rows": ["email"], "time": COUNT["time"]}
    ).json()
    assert masked["columns"][0]["masked"] == "hash" and masked["restricted"] is True
    assert "@" not in str(masked["rows"])
    mine = viewer.get("/v1/rule-effects?pipeline=sales").json()
    assert mine == {"restricted": True, "masks": {"email": "hash"}}
    assert world.person("owner").get("/v1/rule-effects?pipeline=sales").json()["restricted"] is False
    assert viewer.get("/v1/rule-effects?pipeline=none").status_code == 404


def test_an_answer_is_not_kept_for_whoever_repeats_the_request(world: Any, loader: Loader) -> None:
    viewer, header = give(world, "viewer"), {"Idempotency-Key": "again"}
    assert rows(viewer, headers=header) == [[12]]
    put(world.person("owner"))
    assert rows(viewer, headers=header) == []


def test_looking_as_another_role_shows_less_and_never_more(world: Any, loader: Loader) -> None:
    put(world.person("owner"))
    owner, editor = world.person("owner"), give(world, "editor", regions=["EU", "US"])
    assert rows(owner, params={"as_role": "viewer"}) == []
    assert rows(owner, params={"as_role": "viewer;regions=EU"}) == [[4]]
    assert rows(owner, headers={"X-Sluiceway-View-As": "viewer;regions=EU;regions=US"}) == [[8]]
    assert rows(editor) == [[8]] and rows(editor, params={"as_role": "owner"}) == [[8]]
    assert rows(editor, params={"as_role": "viewer;regions=EU;regions=ASIA"}) == [[4]]
    effect = editor.get("/v1/rule-effects?pipeline=sales&as_role=link").json()
    assert effect == {"restricted": True, "masks": {"email": "hash"}}
    # What the role may not do, one may not do while looking as it.
    refused = owner.get("/v1/dead-letters?as_role=viewer")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert put(owner, **{"X-Sluiceway-View-As": "viewer"}).status_code == 403
    for odd in ("nobody", "viewer;", "viewer;regions", "Viewer", "a b", ";x=1", "viewer;x=\x01"):
        answer = owner.post("/v1/query", json=COUNT, params={"as_role": odd})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_view"), odd
    for role in ("viewer", "analyst"):
        answer = give(world, role).post("/v1/query", json=COUNT, params={"as_role": "viewer"})
        assert answer.status_code == 403
    assert (
        world.program("manage").post("/v1/query", json=COUNT, params={"as_role": "viewer"}).status_code == 403
    )
    told = world.execute("SELECT count(*) FROM app.audit_entries WHERE action = 'rule.viewed_as'").scalar()
    assert told and told > 0


def test_stream_tokens_carry_the_eyes_of_whoever_made_them(world: Any, loader: Loader) -> None:
    from datetime import UTC, datetime

    from sluiceway.live import tokens

    put(world.person("owner"))
    viewer = give(world, "viewer", regions=["EU"])
    text = viewer.post("/v1/stream-tokens", json={}).json()["token"]
    grant = tokens.verify(world.services.key, text, datetime.now(UTC))
    assert grant.access.roles == ("viewer",) and dict(grant.access.attributes)["regions"] == ("EU",)
    owner = world.person("owner")
    text = owner.post("/v1/stream-tokens?as_role=viewer", json={}).json()["token"]
    both = tokens.verify(world.services.key, text, datetime.now(UTC)).access
    assert both.roles == ("viewer",) and both.behind is not None and both.behind.roles == ("owner",)


def test_dead_letters_of_a_ruled_pipeline_are_told_without_their_contents(world: Any, loader: Loader) -> None:
    loader.load([{"id": "broken", "at": "never", "region": "US", "amount": "secret-value"}], received_at=NOW)
    editor, owner = give(world, "editor", regions=["EU"]), world.person("owner")
    open_ = editor.get("/v1/dead-letters").json()["items"]
    assert len(open_) == 1 and "secret-value" in open_[0]["payload"] and open_[0]["withheld"] is False
    letter = open_[0]["id"]
    put(owner)
    for answer in (editor.get("/v1/dead-letters"), editor.get(f"/v1/dead-letters/{letter}")):
        assert answer.status_code == 200 and "secret-value" not in answer.text and "never" not in answer.text
        assert '"withheld":true' in answer.text and '"payload":""' in answer.text
    gone = editor.get(f"/v1/dead-letters/{letter}/payload")
    assert (gone.status_code, gone.json()["code"]) == (404, "payload_withheld")
    if open_[0]["event_id"]:
        assert editor.get(f"/v1/dead-letters?event_id={open_[0]['event_id']}").json()["items"] == []
    assert b"secret-value" in owner.get(f"/v1/dead-letters/{letter}/payload").content
    assert owner.get(f"/v1/dead-letters/{letter}/payload?as_role=editor").status_code == 404


def test_examples_of_the_gate_are_values_too(world: Any, loader: Loader) -> None:
    world.execute(
        "INSERT INTO quality.results (workspace_id, pipeline_id, suite, expectation, origin, minute, action,"
        " batches, failed_batches, evaluated, unexpected, detail)"
        " VALUES (1, :p, 's', 'e', 'live', now(), 'warn', 1, 1, 5, 2, '{\"examples\": [\"secret-value\"]}')",
        p=loader.pipeline.id,
    )
    viewer = give(world, "viewer", regions=["EU"])
    paths = ("/v1/quality/results", "/v1/quality/summary?pipeline=sales")
    assert all("secret-value" in viewer.get(path).text for path in paths)
    put(world.person("owner"))
    for path in paths:
        answer = viewer.get(path)
        assert answer.json()["items"][0]["unexpected"] == 2 and "secret-value" not in answer.text
        assert "secret-value" in world.person("owner").get(path).text


def test_errors_of_queries_tell_nothing_of_rows_that_are_not_theirs(world: Any, loader: Loader) -> None:
    world.execute("UPDATE silver.sales SET amount = 1.7e308 WHERE region = 'US'")
    too_large = {**COUNT, "measures": [{"agg": "sum", "field": "amount"}]}
    owner = world.person("owner")
    assert owner.post("/v1/query", json=too_large).json()["code"] == "invalid_query"
    put(owner)
    assert give(world, "viewer", regions=["EU"]).post("/v1/query", json=too_large).status_code == 200
    assert owner.post("/v1/query", json=too_large).status_code == 422


def test_a_link_shows_nobody_what_its_maker_may_not_see(world: Any, loader: Loader) -> None:
    board = (
        "kind: Dashboard\nname: board\ntitle: Board\nwidgets:\n"
        "  - {id: n, type: stat, query: {pipeline: sales, measures: [{agg: count}]}}\n"
    )
    editor, owner = give(world, "editor", regions=["EU"]), world.person("owner")
    assert owner.put("/v1/dashboards/board", content=board.encode(), headers=YAML).status_code == 201
    put(owner, RULE.replace("except: [owner, admin]", "roles: [editor]"))  # not about links as such

    def shown(maker: Any) -> Any:
        token = maker.post("/v1/dashboards/board/links", json={"name": "wall"}).json()["token"]
        access = world.client().post("/v1/link-sessions", json={"token": token}).json()["access"]
        holder = world.client(headers={"Authorization": f"Bearer {access}"})
        return holder.post("/v1/link/query", json={"widget": "n", "query": COUNT})

    assert shown(editor).json()["rows"] == [[4]] and shown(owner).json()["rows"] == [[12]]
    put(owner, RULE.replace("[owner, admin]", "[owner, editor]"))
    assert shown(owner).json()["rows"] == []  # a link's holder has no attributes


def test_the_schema_of_a_rule_is_published(world: Any) -> None:
    schema = world.client().get("/v1/schemas/rule").json()
    assert set(schema["properties"]) >= {"pipeline", "model", "roles", "except", "rows", "masks"}


def test_whoever_is_let_go_of_a_rule_sees_at_once(world: Any, loader: Loader) -> None:
    owner, viewer = world.person("owner"), give(world, "viewer", regions=["EU"])
    put(owner)
    assert rows(viewer) == [[4]]
    owner.delete("/v1/rules/regions")
    assert rows(viewer) == [[12]]
    with world.services.database.transaction("reader", workspace_id=1) as reader:  # type: ignore[arg-type]
        assert reader.execute(sa.text("SELECT count(*) FROM silver.sales")).scalar() == 12
