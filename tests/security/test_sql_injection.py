"""SQL through every name, filter, order and path: a payload never becomes part of a statement's text.

That is watched where statements are sent, so it does not depend on what an injection would do.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.openapi import operations
from tests.support.attacks import MARK, SQL, Bodies, address, parameters, unchecked, watched_sql
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
KNOWN = {
    "pipeline": "sales", "slug": "board", "batch_id": "1", "suite": "orders", "key_id": "abcdefghijkm",
    "kind": "pipeline", "model": "m",
}  # fmt: skip
UUID = "0198c0de-0000-7000-8000-000000000001"
# 503: what this process does not have (streams, mail).
EXPECTED = frozenset(range(500)) | {503}
COUNT: dict[str, Any] = {"pipeline": "sales", "measures": [{"agg": "count", "as": "n"}]}


def queries(payload: str) -> dict[str, dict[str, Any]]:
    """The payload in every place of a query."""
    rows = {"pipeline": "sales", "rows": ["shop"]}

    def keeps(op: str, value: Any) -> dict[str, Any]:
        return {**rows, "filters": [{"field": "shop", "op": op, "value": value}]}

    return {
        "pipeline": {**COUNT, "pipeline": payload},
        "model": {"model": payload, "rows": ["a"]},
        "measure field": {**COUNT, "measures": [{"agg": "sum", "field": payload}]},
        "measure name": {**COUNT, "measures": [{"agg": "count", "as": payload}]},
        "aggregate": {**COUNT, "measures": [{"agg": payload}]},
        "dimension": {**COUNT, "dimensions": [payload]},
        "rows": {**rows, "rows": [payload]},
        "filter field": {**rows, "filters": [{"field": payload, "op": "eq", "value": 1}]},
        "filter operator": {**rows, "filters": [{"field": "shop", "op": payload, "value": 1}]},
        "eq": keeps("eq", payload),
        "ne": keeps("ne", payload),
        "in": keeps("in", [payload, "a"]),
        "not in": keeps("not_in", [payload]),
        "contains": keeps("contains", payload),
        "lt": keeps("lt", payload),
        "number": {**rows, "filters": [{"field": "amount", "op": "gt", "value": payload}]},
        "order": {**COUNT, "order": [{"by": payload}]},
        "timezone": {**COUNT, "timezone": payload, "grain": "1h"},
        "grain": {**COUNT, "grain": payload},
        "time": {**COUNT, "time": {"from": payload, "to": payload}},
        "last": {**COUNT, "time": {"last": payload}},
        "limit": {**COUNT, "limit": payload},
        "a new name": {payload: payload},
    }


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


def test_a_query_takes_names_from_the_catalog_and_values_as_parameters(
    world: Any, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.program("read")
    with watched_sql(monkeypatch) as sent:
        for payload in SQL:
            for place, body in queries(payload).items():
                answer = client.post("/v1/query", json=body)
                assert answer.status_code in (200, 404, 422), f"{place}: {answer.text}"
                if answer.status_code == 200:
                    assert answer.json()["rows"] in ([], [["a"]] * 5), f"{place} gave more: {answer.text}"
        assert client.post("/v1/query", json=COUNT).json()["rows"] == [[5]]
    assert len(sent) > 100
    assert [text for text in sent if MARK in text] == []


def test_no_parameter_of_any_operation_becomes_part_of_a_statement(
    world: Any, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = unchecked(world, world.person("owner"))
    people = world.execute("SELECT count(*) FROM app.users").scalar_one()
    asked = 0
    with watched_sql(monkeypatch) as sent:
        for path, method, operation in operations(world.app.openapi()):
            if operation["operationId"] in ("send_events", "delete_session"):
                continue
            in_path, in_query = parameters(operation, "path"), parameters(operation, "query")
            values = {name: KNOWN.get(name, UUID) for name in in_path}
            for payload in SQL[:2]:
                wanted = [address(path, values, name, payload) for name in in_path]
                for url in wanted:
                    answer = client.request(method.upper(), url, json={} if method != "get" else None)
                    assert answer.status_code in EXPECTED, f"{method} {url}: {answer.text}"
                    asked += 1
                if method != "get" or path.endswith(("/stream", "/live")):
                    continue
                for name in in_query:
                    answer = client.get(address(path, values), params={name: payload})
                    assert answer.status_code in EXPECTED, f"{path} {name}: {answer.text}"
                    asked += 1
    assert asked > 100, "the walk found too little to attack"
    assert [text for text in sent if MARK in text] == []
    assert world.execute("SELECT count(*) FROM app.users").scalar_one() == people


def test_no_text_of_any_body_becomes_part_of_a_statement(
    world: Any, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = unchecked(world, world.person("owner"))
    people = world.execute("SELECT count(*) FROM app.users").scalar_one()
    bodies, attacked = Bodies(world.app.openapi()), 0
    with watched_sql(monkeypatch) as sent:
        for path, method, operation in operations(world.app.openapi()):
            if operation["operationId"] == "send_events":
                continue
            values = {name: KNOWN.get(name, UUID) for name in parameters(operation, "path")}
            for payload in SQL[:2]:
                found = bodies.of(operation, payload)
                if found is None:
                    continue
                media, body = found
                options: dict[str, Any] = (
                    {"json": body} if media == "application/json" else {"content": payload}
                )
                answer = client.request(
                    method.upper(), address(path, values), headers={"Content-Type": media}, **options
                )
                assert answer.status_code in EXPECTED, f"{method} {path}: {answer.text}"
                attacked += 1
    assert attacked > 30, "the walk found too little to attack"
    assert [text for text in sent if MARK in text] == []
    assert world.execute("SELECT count(*) FROM app.users").scalar_one() == people
