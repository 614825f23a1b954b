"""Pipelines, suites, batches, dead letters and replays over HTTP, and that a workspace sees only its own."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from sluiceway.infra.clock import FixedClock, SystemClock
from sluiceway.loading import jobs
from sluiceway.loading.contracts import ReplayResult
from sluiceway.quality.contracts import NoGate

YAML = {"Content-Type": "text/yaml"}
LETTER = "0198c0de-0000-7000-8000-0000000000{:02d}"

SUITE = """\
kind: Suite
name: orders
expectations:
  - name: positive
    type: expect_column_values_to_be_between
    kwargs: {column: amount, min_value: 0}
    on_failure: quarantine
"""


@pytest.fixture
def source() -> str:
    return (
        "kind: Pipeline\nname: orders          # a comment that has to survive\ntitle: Orders\n"
        "event: {id: id, time: at}\nfields:\n"
        "  - {name: shop, type: string, role: dimension}\n"
        "  - {name: amount, type: number, role: measure, unit: EUR}\n"
    )


def _letter(world: Any, number: int, payload: bytes = b'{"id": 1}', state: str = "open") -> str:
    id_ = LETTER.format(number)
    world.execute(
        "INSERT INTO quality.dead_letters (id, workspace_id, pipeline_id, batch_name, position, step, code,"
        " reason, payload, received_at, created_at, state) VALUES (:id, 1, 1, 'n/1/0', :position, 'map',"
        " 'missing', 'amount is missing', :payload, now(), now() + :n * interval '1 second', :state)",
        id=id_,
        position=f"n/1/0/{number}",
        payload=payload,
        n=number,
        state=state,
    )
    return id_


def _batch(world: Any, number: int) -> None:
    world.execute(
        "INSERT INTO silver.batches (workspace_id, pipeline_id, name, origin, pipeline_version, verdict,"
        " events, rows, samples, duplicates, dead_letters, size_bytes, min_received_at, max_received_at,"
        " loaded_at) VALUES (1, 1, :name, 'live', 1, 'pass', 30, 28, 56, 1, 1, 4000,"
        " now() - interval '2 s', now() - interval '1 s', now() - :n * interval '1 s')",
        name=f"n/1/{number}",
        n=number,
    )


def test_a_pipeline_is_applied_versioned_and_exported_as_it_was(world, source: str) -> None:
    editor = world.person("editor")
    made = editor.put("/v1/pipelines/orders", content=source, headers=YAML)
    assert (made.status_code, made.json()["outcome"]) == (201, "created")
    assert made.headers["location"] == "/v1/pipelines/orders"
    same = editor.put("/v1/pipelines/orders", json={"source": source})
    assert (same.status_code, same.json()["outcome"]) == (200, "unchanged")
    next_source = source + "  - {name: note, type: string}\n"
    assert editor.put("/v1/pipelines/orders", content=next_source, headers=YAML).json()["version"] == 2
    assert editor.get("/v1/pipelines/orders/export").text == next_source
    assert editor.get("/v1/pipelines/orders/export?version=1").text == source
    versions = editor.get("/v1/pipelines/orders/versions?limit=1").json()
    assert [v["version"] for v in versions["items"]] == [2]
    rest = editor.get(f"/v1/pipelines/orders/versions?cursor={versions['next_cursor']}").json()
    assert [v["version"] for v in rest["items"]] == [1] and rest["next_cursor"] is None
    detail = editor.get("/v1/pipelines/orders").json()
    assert [f["name"] for f in detail["fields"]] == ["shop", "amount", "note"]
    assert detail["status"]["freshness"] == "empty"


@pytest.mark.parametrize(
    ("content", "media", "status", "field", "line"),
    [
        ("kind: Pipeline\nname: orders\nfields: []\n", "text/yaml", 422, "fields", 3),
        ("kind: Pipeline\nname: orders\ncolour: red\n", "text/yaml", 422, "colour", 3),
        (
            "kind: Pipeline\nname: other\nfields:\n  - {name: a, type: string}\n",
            "text/yaml",
            422,
            "name",
            None,
        ),
        ("a: [", "text/yaml", 422, "", 1),
        ("{}", "application/json", 422, "source", None),
        ("{", "application/json", 400, None, None),
        ("a: 1", "application/xml", 415, None, None),
        (b"\xff\xfe", "text/yaml", 400, None, None),
    ],
)
def test_a_wrong_pipeline_says_where(
    world, content: str | bytes, media: str, status: int, field: str | None, line: int | None
) -> None:
    answer = world.person("editor").put(
        "/v1/pipelines/orders", content=content, headers={"Content-Type": media}
    )
    assert answer.status_code == status, answer.text
    if field is not None:
        found = answer.json()["errors"]
        assert field in [e["field"] for e in found], found
        if line is not None:
            assert line in [e.get("line") for e in found], found


def test_a_type_cannot_change_under_the_data(world, source: str) -> None:
    editor = world.person("editor")
    editor.put("/v1/pipelines/orders", content=source, headers=YAML)
    other = source.replace("amount, type: number", "amount, type: boolean").replace(
        "role: measure, unit: EUR", ""
    )
    answer = editor.put("/v1/pipelines/orders", content=other, headers=YAML)
    assert answer.status_code in (409, 422)


def test_pause_resume_archive(world) -> None:
    world.apply()
    editor = world.person("editor")
    assert editor.post("/v1/pipelines/orders/pause").json()["state"] == "paused"
    assert editor.post("/v1/pipelines/orders/pause").json()["state"] == "paused"
    assert editor.post("/v1/pipelines/orders/resume").json()["state"] == "active"
    assert editor.post("/v1/pipelines/orders/resume").json()["state"] == "active"
    replays = editor.get("/v1/replays", params={"pipeline": "orders"}).json()["items"]
    assert [r["state"] for r in replays] == ["queued"]
    assert editor.delete("/v1/pipelines/orders").json()["state"] == "archived"
    assert editor.get("/v1/pipelines").json()["items"] == []
    assert len(editor.get("/v1/pipelines?state=archived").json()["items"]) == 1
    answer = editor.post("/v1/pipelines/orders/resume")
    assert (answer.status_code, answer.json()["code"]) == (409, "pipeline_archived")


def test_the_list_says_how_each_pipeline_is_doing(world) -> None:
    world.apply()
    for number in (1, 2, 90):
        _batch(world, number)
    _letter(world, 1)
    _letter(world, 2, state="held")
    _letter(world, 3, state="retried")
    world.execute(
        "UPDATE app.pipeline_state SET last_seq = 84, events = 90, duplicates = 3, dead_letters = 3,"
        " last_batch_id = 1, last_batch_at = now(), last_received_at = now(), last_event_time = now(),"
        " last_verdict = 'pass'"
    )
    found = world.person("viewer").get("/v1/pipelines").json()["items"][0]
    status = found["status"]
    assert (status["seq"], status["open_dead_letters"], status["held_dead_letters"]) == (84, 1, 1)
    assert status["rate"] == 1.0  # 60 events in the last 60 s
    assert status["freshness"] == "fresh" and status["verdict"] == "pass" and status["lag_s"] is not None
    world.stand_at(FixedClock(datetime.now(UTC) + timedelta(hours=2)))
    program = world.program("read")
    assert program.get("/v1/pipelines").json()["items"][0]["status"]["freshness"] == "late"


def test_batches_are_paged_newest_first(world) -> None:
    world.apply()
    for number in range(5):
        _batch(world, number)
    client = world.person("viewer")
    first = client.get("/v1/batches?pipeline=orders&limit=3").json()
    rest = client.get(f"/v1/batches?pipeline=orders&limit=3&cursor={first['next_cursor']}").json()
    assert [b["name"] for b in first["items"] + rest["items"]] == [f"n/1/{n}" for n in range(5)]
    assert rest["next_cursor"] is None
    one = client.get(f"/v1/batches/{first['items'][0]['id']}").json()
    assert one == first["items"][0]
    assert client.get("/v1/batches?verdict=hold").json()["items"] == []
    assert client.get("/v1/batches/999").json()["code"] == "batch_not_found"


def test_a_suite_is_applied_and_exported(world) -> None:
    editor = world.person("editor")
    assert editor.put("/v1/quality/suites/orders", content=SUITE, headers=YAML).status_code == 201
    assert (
        editor.put("/v1/quality/suites/orders", content=SUITE, headers=YAML).json()["outcome"] == "unchanged"
    )
    assert editor.get("/v1/quality/suites").json()["items"][0]["expectations"] == 1
    assert editor.get("/v1/quality/suites/orders/export").text == SUITE
    assert editor.get("/v1/quality/suites/orders").json()["source"] == SUITE
    assert editor.get("/v1/quality/suites/none").json()["code"] == "suite_not_found"
    wrong = editor.put("/v1/quality/suites/other", content=SUITE, headers=YAML)
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "name")


def test_results_and_their_summary(world) -> None:
    world.apply()
    world.execute(
        "INSERT INTO quality.results (workspace_id, pipeline_id, suite, expectation, origin, minute, action,"
        " batches, failed_batches, evaluated, unexpected) SELECT 1, 1, 'orders', 'positive', 'live',"
        " date_trunc('minute', now()) - n * interval '1 minute', 'quarantine', 10, n % 2, 100, n"
        " FROM generate_series(0, 3) n"
    )
    client = world.person("viewer")
    first = client.get("/v1/quality/results?limit=3").json()
    rest = client.get(f"/v1/quality/results?limit=3&cursor={first['next_cursor']}").json()
    assert [r["unexpected"] for r in first["items"] + rest["items"]] == [0, 1, 2, 3]
    assert len(client.get("/v1/quality/results?failed=true").json()["items"]) == 2
    summary = client.get("/v1/quality/summary?pipeline=orders").json()["items"]
    assert (summary[0]["unexpected"], summary[0]["batches"]) == (6, 40)
    assert client.get("/v1/quality/summary?pipeline=none").status_code == 404


def test_dead_letters_are_listed_with_a_preview(world) -> None:
    world.apply()
    _letter(world, 1, b"\xff\x00" + b"x" * 5000)
    _letter(world, 2, '{"name": "Zoë"}'.encode())
    client = world.person("analyst")
    found = client.get("/v1/dead-letters").json()["items"]
    assert found[0]["payload"] == '{"name": "Zoë"}' and not found[0]["payload_truncated"]
    assert found[1]["payload_truncated"] and found[1]["payload_bytes"] == 5002
    assert len(found[1]["payload"]) == 2000 and found[1]["payload"].startswith("\ufffd\ufffd")
    raw = client.get(f"/v1/dead-letters/{found[1]['id']}/payload")
    assert raw.content == b"\xff\x00" + b"x" * 5000 and "attachment" in raw.headers["content-disposition"]
    first = client.get("/v1/dead-letters?limit=1").json()
    rest = client.get(f"/v1/dead-letters?limit=1&cursor={first['next_cursor']}").json()
    assert [first["items"][0]["id"], rest["items"][0]["id"]] == [LETTER.format(2), LETTER.format(1)]
    counts = client.get("/v1/dead-letters/counts").json()["items"]
    assert (counts[0]["count"], counts[0]["code"]) == (2, "missing")


def test_dead_letters_are_discarded_all_or_none(world) -> None:
    world.apply()
    ids = [_letter(world, n) for n in (1, 2)]
    done = _letter(world, 3, state="retried")
    editor = world.person("editor")
    answer = editor.post("/v1/dead-letters/discard", json={"ids": [*ids, done]})
    assert (answer.status_code, answer.json()["code"]) == (409, "dead_letter_resolved")
    assert editor.get(f"/v1/dead-letters/{ids[0]}").json()["state"] == "open"
    assert editor.post("/v1/dead-letters/discard", json={"ids": ids}).json() == {"discarded": 2}
    assert editor.post(f"/v1/dead-letters/{LETTER.format(9)}/discard").status_code == 404


def test_a_corrected_dead_letter_becomes_a_row(world) -> None:
    world.apply()
    world.services.gate = NoGate
    wrong = _letter(world, 1, b'{"id": 1, "at": "2026-11-20T10:00:00Z", "amount": "much"}')
    editor = world.person("editor")
    again = editor.post(f"/v1/dead-letters/{wrong}/retry").json()
    assert again["state"] == "open" and again["reason"] != "amount is missing"
    right = '{"id": 1, "at": "2026-11-20T10:00:00Z", "amount": 12.5, "shop": "a"}'
    done = editor.post(f"/v1/dead-letters/{wrong}/retry", json={"payload": right})
    assert (done.status_code, done.json()["state"]) == (200, "retried"), done.text
    assert world.execute("SELECT shop, amount FROM silver.orders").all() == [("a", 12.5)]
    assert editor.post("/v1/dead-letters/retry", json={"ids": [wrong]}).json()["tried"] == 0


def test_a_replay_is_queued_run_and_watched(world) -> None:
    world.apply()
    editor = world.person("editor")
    body = {"pipeline": "orders", "from": "2026-11-01", "to": "2026-11-03"}
    queued = editor.post("/v1/replays", json=body, headers={"Idempotency-Key": "r"})
    assert (queued.status_code, queued.json()["state"], queued.json()["days"]) == (202, "queued", 3)
    address = queued.headers["location"]
    again = editor.post("/v1/replays", json=body, headers={"Idempotency-Key": "r"})
    assert again.headers["location"] == address
    message = world.execute("SELECT topic, payload FROM app.outbox WHERE topic = 'replay'").one()
    assert address.endswith(message.payload["replay_id"])
    days = []

    def replay_day(pipeline: Any, day: Any) -> ReplayResult:
        days.append(day)
        return ReplayResult(pipeline.slug, day, 10, 9, 9, 18, 1, 0, "pass", 1)

    id_ = UUID(message.payload["replay_id"])
    jobs.run_replay(world.services.database, 1, id_, replay_day, SystemClock())
    jobs.run_replay(world.services.database, 1, id_, replay_day, SystemClock())
    assert [d.day for d in days] == [1, 2, 3]
    done = editor.get(address).json()
    assert (done["state"], done["days_done"], done["rows"]) == ("done", 3, 27)
    assert editor.get("/v1/replays?pipeline=orders").json()["items"][0]["id"] == done["id"]


@pytest.mark.parametrize(
    "days", [{"from": "2026-11-03", "to": "2026-11-01"}, {"from": "2000-01-01", "to": "2026-01-01"},
             {"from": "2999-01-01"}, {"from": "yesterday"}],
)  # fmt: skip
def test_days_that_cannot_be_replayed(world, days: dict[str, str]) -> None:
    world.apply()
    answer = world.person("editor").post("/v1/replays", json={"pipeline": "orders", **days})
    assert answer.status_code == 422 and answer.json()["errors"], answer.text


def test_another_workspace_sees_and_touches_nothing(world) -> None:
    world.apply()
    _batch(world, 1)
    letter = _letter(world, 1)
    owner = world.person("owner")
    key = owner.post("/v1/keys", json={"name": "n", "scopes": ["read"]}).json()["info"]["id"]
    replay = owner.post("/v1/replays", json={"pipeline": "orders", "from": "2026-11-01"}).json()["id"]
    owner.put("/v1/quality/suites/orders", content=SUITE, headers=YAML)
    stranger = world.person("owner", workspace_id=2)
    world.services.gate = NoGate
    for path in (
        "pipelines",
        "batches",
        "dead-letters",
        "keys",
        "replays",
        "quality/suites",
        "quality/results",
    ):
        assert stranger.get(f"/v1/{path}").json()["items"] == [], path
    for path in (
        "pipelines/orders", "pipelines/orders/export", "pipelines/orders/versions", "batches/1",
        f"dead-letters/{letter}", f"dead-letters/{letter}/payload", f"keys/{key}", f"replays/{replay}",
        "quality/suites/orders", "quality/suites/orders/export", "quality/summary?pipeline=orders",
    ):  # fmt: skip
        assert stranger.get(f"/v1/{path}").status_code == 404, path
    for method, path, body in (
        ("DELETE", "pipelines/orders", None),
        ("POST", "pipelines/orders/pause", None),
        ("DELETE", f"keys/{key}", None),
        ("POST", f"dead-letters/{letter}/discard", None),
        ("POST", f"dead-letters/{letter}/retry", {}),
        ("POST", "dead-letters/discard", {"ids": [letter]}),
        ("POST", "replays", {"pipeline": "orders", "from": "2026-11-01"}),
    ):
        assert stranger.request(method, f"/v1/{path}", json=body).status_code == 404, path
    assert stranger.post("/v1/dead-letters/retry", json={"ids": [letter]}).json()["tried"] == 0
    assert stranger.get("/v1/workspaces").json()["items"][0]["slug"] == "other"
    assert stranger.get("/v1/me").json()["workspace"]["id"] == 2
    assert owner.get(f"/v1/dead-letters/{letter}").json()["state"] == "open"
    assert owner.get("/v1/pipelines/orders").json()["state"] == "active"


def test_metrics_name_a_tenants_pipelines_to_its_key_alone(world) -> None:
    world.apply()
    _letter(world, 1)
    open_text = world.client().get("/metrics").text
    assert "sluiceway_open_dead_letters 1.0" in open_text and "orders" not in open_text
    own = world.program("read").get("/metrics").text
    assert 'sluiceway_pipeline_open_dead_letters{pipeline="orders"} 1.0' in own
    other = world.program("read", workspace_id=2).get("/metrics").text
    assert "orders" not in other
    assert world.program("ingest").get("/metrics").status_code == 403
    refused = 'method="GET",node="test",process="web",route="/metrics",status="403"'
    assert f"sluiceway_http_requests_total{{{refused}}} 1.0" in world.client().get("/metrics").text
