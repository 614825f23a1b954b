"""`POST /v1/query` as programs and browsers see it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.loaded import Loader

PIPELINE = """
kind: Pipeline
name: sales
event: {id: id, time: at}
fields:
  - {name: shop, type: string, role: dimension}
  - {name: amount, type: number, role: measure, unit: EUR}
"""
NOW = datetime.now(UTC)
AVERAGE = {"agg": "avg", "field": "amuont"}
LIST = {"field": "shop", "op": "eq", "value": [1]}
COUNT = {"pipeline": "sales", "measures": [{"agg": "count", "as": "n"}], "time": {"last": "24h"}}


@pytest.fixture
def loader(world: Any) -> Loader:
    found = Loader(world.services.database, PIPELINE)
    found.load(
        [
            {"id": str(n), "at": (NOW - timedelta(minutes=n)).isoformat(), "shop": "a", "amount": n}
            for n in range(5)
        ]
    )
    return found


def test_an_answer_as_json(world: Any, loader: Loader) -> None:
    answer = world.program("read").post("/v1/query", json={**COUNT, "dimensions": ["shop"]})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["rows"] == [["a", 5]] and body["row_count"] == 1 and body["truncated"] is False
    assert [c["name"] for c in body["columns"]] == ["shop", "n"]
    assert set(body) == {
        "columns", "rows", "row_count", "truncated", "time", "source", "freshness", "quality",
        "elapsed_ms", "cached", "restricted",
    }  # fmt: skip
    assert body["time"]["to"].endswith("Z") and body["freshness"]["seq"] == 5
    assert body["freshness"]["state"] == "fresh" and body["quality"]["verdict"] == "pass"


def test_an_answer_as_arrow(world: Any, loader: Loader) -> None:
    import pyarrow as pa

    media = "application/vnd.apache.arrow.stream"
    client = world.program("read")
    answer = client.post("/v1/query", json=COUNT, headers={"Accept": f"{media}, application/json;q=0.5"})
    assert answer.headers["content-type"] == media
    assert pa.ipc.open_stream(answer.content).read_all().to_pydict() == {"n": [5]}
    both = client.post("/v1/query", json=COUNT, headers={"Accept": f"{media};q=0.1, */*"})
    assert both.headers["content-type"] == "application/json"
    neither = client.post("/v1/query", json=COUNT, headers={"Accept": "text/csv"})
    assert (neither.status_code, neither.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({**COUNT, "measures": [AVERAGE]}, 422, "invalid_query", "measures.0.field"),
        ({**COUNT, "measures": [{"agg": "mean"}]}, 422, "invalid_input", "measures.0.agg"),
        ({**COUNT, "filters": [LIST]}, 422, "invalid_query", "filters.0.value"),
        ({**COUNT, "grouping": 1}, 422, "invalid_input", "grouping"),
        ({**COUNT, "pipeline": "sale"}, 404, "pipeline_not_found", "pipeline"),
        ({**COUNT, "pipeline": "a\x00"}, 404, "pipeline_not_found", "pipeline"),
        ({"model": "app.users", "rows": ["email"]}, 404, "model_not_found", "model"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    world: Any, loader: Loader, body: dict[str, Any], status: int, code: str, field: str
) -> None:
    answer = world.program("read").post("/v1/query", json=body)
    found = answer.json()
    assert (answer.status_code, found["code"]) == (status, code), answer.text
    assert field in [error["field"] for error in found["errors"]]


def test_a_nan_in_a_value_is_refused_and_none_is_answered(world: Any, loader: Loader) -> None:
    text = '{"pipeline":"sales","rows":["shop"],"filters":[{"field":"amount","op":"eq","value":NaN}]}'
    answer = world.program("read").post(
        "/v1/query", content=text.encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    one = world.program("read").post(
        "/v1/query",
        json={"pipeline": "sales", "measures": [{"field": "amount", "agg": "stddev"}],
              "filters": [{"field": "amount", "op": "eq", "value": 1}]},
    )  # fmt: skip
    assert one.json()["rows"] == [[None]]


def test_another_workspace_has_no_such_pipeline(world: Any, loader: Loader) -> None:
    answer = world.program("read", workspace_id=2).post("/v1/query", json=COUNT)
    assert (answer.status_code, answer.json()["code"]) == (404, "pipeline_not_found")
    assert "sales'" in answer.json()["detail"] and "did you mean" not in answer.json()["detail"]


def test_an_ingest_key_may_not_ask(world: Any, loader: Loader) -> None:
    assert world.program("ingest").post("/v1/query", json=COUNT).status_code == 403
    assert world.client().post("/v1/query", json=COUNT).status_code == 401


def test_schemas_are_open(world: Any) -> None:
    for kind, title in (("pipeline", "Sluiceway pipeline"), ("dashboard", "Sluiceway dashboard")):
        answer = world.client().get(f"/v1/schemas/{kind}")
        assert answer.json()["title"] == title
        assert answer.headers["content-type"] == "application/schema+json"
    assert world.client().get("/v1/schemas/suite").json()["$schema"].endswith("2020-12/schema")
    assert world.client().get("/v1/schemas/other").status_code == 422


def test_a_schema_that_is_there_already_is_not_sent_again(world: Any) -> None:
    whole = world.client().get("/v1/schemas/pipeline")
    tag = whole.headers["etag"]
    for known in (tag, f"W/{tag}", f'"older", {tag}', "*"):
        again = world.client().get("/v1/schemas/pipeline", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), known
        assert "max-age" in again.headers["cache-control"]
    for other in ('"older"', "", world.client().get("/v1/schemas/rule").headers["etag"]):
        sent = world.client().get("/v1/schemas/pipeline", headers={"If-None-Match": other})
        assert (sent.status_code, sent.content) == (200, whole.content), other
