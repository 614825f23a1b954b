"""Which queries gold may answer: only those that it answers exactly."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import parse
from sluiceway.queries.contracts import QueryRequest
from sluiceway.queries.errors import InvalidQuery
from sluiceway.queries.planner import plan
from sluiceway.queries.relations import Relation, of_pipeline
from sluiceway.queries.resolve import resolve_query

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FIELDS = {
    "shop": "type: string, role: dimension",
    "amount": "type: number, role: measure, required: true",
    "items": "type: integer, role: measure",
    "note": "type: string",
    "extra": "type: json",
}


def source(**changes: str | None) -> str:
    fields = {name: text for name, text in {**FIELDS, **changes}.items() if text is not None}
    lines = "\n".join(f"  - {{name: {name}, {text}}}" for name, text in fields.items())
    return f"kind: Pipeline\nname: sales\nfields:\n{lines}\n"


def relation(*history: str) -> Relation:
    specs = [parse(text) for text in (history or (source(),))]
    pipeline = Pipeline(1, 1, "sales", "Sales", len(specs), "active", "sales", specs[-1], NOW, NOW)
    return of_pipeline(pipeline, specs)


def source_of(found: Relation, **query: Any) -> str:
    asked = {"measures": [{"agg": "count"}], "time": {"last": "30d"}, **query}
    request = QueryRequest.model_validate({"pipeline": "sales", **asked})
    chosen = plan(resolve_query(request, found, extent=None, now=NOW))
    return "silver" if chosen is None else chosen.source


def measure(agg: str, field: str | None = "items") -> dict[str, Any]:
    return {"agg": agg, "field": field}


@pytest.mark.parametrize("agg", ["count", "sum", "avg", "min", "max", "stddev", "first", "last", "rate"])
def test_gold_answers_what_partial_aggregates_can(agg: str) -> None:
    assert source_of(relation(), measures=[measure(agg)]) == "gold.samples_1d"


@pytest.mark.parametrize("agg", ["count_distinct", "median", "p95", "p99"])
def test_silver_answers_what_needs_every_value(agg: str) -> None:
    assert source_of(relation(), measures=[measure(agg)]) == "silver"


def test_events_are_counted_in_gold_only_if_every_event_has_a_sample() -> None:
    assert source_of(relation()) == "gold.samples_1d"
    nullable = source(amount="type: number, role: measure")
    assert source_of(relation(nullable)) == "silver"
    assert source_of(relation(nullable, source())) == "silver"


def test_fields_that_were_something_else_before_are_silvers() -> None:
    before = source(shop="type: string", items="type: integer")
    found = relation(before, source())
    assert source_of(found, measures=[measure("sum")]) == "silver"
    assert source_of(found, dimensions=["shop"]) == "silver"
    assert source_of(found) == "gold.samples_1d"
    # A field that was not there yet has no values from that time: gold knows all of them.
    assert source_of(relation(source(shop=None), source()), dimensions=["shop"]) == "gold.samples_1d"


def test_attributes_and_system_columns_are_silvers() -> None:
    assert source_of(relation(), dimensions=["note"]) == "silver"
    assert source_of(relation(), filters=[{"field": "amount", "op": "gt", "value": 1}]) == "silver"
    assert source_of(relation(), filters=[{"field": "event_id", "op": "eq", "value": "1"}]) == "silver"
    assert source_of(relation(), filters=[{"field": "shop", "op": "eq", "value": "a"}]) == "gold.samples_1d"


@pytest.mark.parametrize(
    ("grain", "zone", "expected"),
    [
        ("1m", "UTC", "gold.samples_1m"), ("15m", "UTC", "gold.samples_1m"), ("1h", "UTC", "gold.samples_1h"),
        ("1w", "UTC", "gold.samples_1d"), ("1d", "Europe/Berlin", "gold.samples_1h"),
    ],
)  # fmt: skip
def test_the_coarsest_fitting_level_is_taken(grain: str, zone: str, expected: str) -> None:
    assert source_of(relation(), grain=grain, timezone=zone) == expected


def test_less_than_a_minute_is_silvers() -> None:
    time = {"from": "2026-11-20T10:00:30Z", "to": "2026-11-20T10:01:20Z"}
    assert source_of(relation(), time=time) == "silver"


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ({"measures": [measure("avg", "amuont")]}, "measures.0.field", "did you mean 'amount'"),
        ({"measures": [measure("sum", "shop")]}, "measures.0.agg", "needs an integer or number"),
        ({"measures": [measure("min", "note")]}, "measures.0.agg", "numbers or times"),
        ({"measures": [measure("first", "extra")]}, "measures.0.agg", "json"),
        ({"measures": [measure("sum", None)]}, "measures.0.field", "is needed"),
        ({"dimensions": ["shpo"]}, "dimensions.0", "did you mean 'shop'"),
        ({"dimensions": ["extra"]}, "dimensions.0", "cannot be grouped"),
        ({"filters": [{"field": "zzzz", "op": "eq", "value": 1}]}, "filters.0.field", "there are"),
        ({"filters": [{"field": "shop", "op": "eq", "value": 1}]}, "filters.0.value", "should be text"),
        ({"filters": [{"field": "items", "op": "lt", "value": "3"}]}, "filters.0.value", "a number"),
        ({"filters": [{"field": "items", "op": "in", "value": 3}]}, "filters.0.value", "a list"),
        ({"filters": [{"field": "items", "op": "eq", "value": 2**70}]}, "filters.0.value", "too large"),
        ({"filters": [{"field": "items", "op": "eq", "value": float("nan")}]}, "filters.0.value", "finite"),
        ({"filters": [{"field": "shop", "op": "eq", "value": "a\x00"}]}, "filters.0.value", "NUL"),
        ({"filters": [{"field": "shop", "op": "eq", "value": "\ud800"}]}, "filters.0.value", "Unicode"),
        ({"filters": [{"field": "items", "op": "contains", "value": "3"}]}, "filters.0.op", "string field"),
        ({"filters": [{"field": "extra", "op": "eq", "value": "3"}]}, "filters.0.op", "json"),
        ({"filters": [{"field": "shop", "op": "is_null", "value": 1}]}, "filters.0.value", "not be given"),
        ({"filters": [{"field": "event_time", "op": "gt", "value": "soon"}]}, "filters.0.value", "ISO"),
        ({"order": [{"by": "cuont"}]}, "order.0.by", "did you mean 'count'"),
        ({"grain": "1m", "time": {"last": "1y"}}, "grain", "too many points"),
        ({"time": {"from": "2026-02-01", "to": "2026-01-01"}}, "time", "before"),
        ({"measures": [], "rows": ["shop", "shoo"]}, "rows.1", "did you mean 'shop'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(query: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidQuery) as found:
        source_of(relation(), **query)
    assert found.value.errors[0].field == field
    assert message in found.value.errors[0].message


def test_everything_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidQuery) as found:
        source_of(relation(), measures=[measure("avg", "x"), measure("sum", "note")], dimensions=["y"])
    assert [e.field for e in found.value.errors] == ["measures.0.field", "measures.1.agg", "dimensions.0"]


@pytest.mark.parametrize(
    "query",
    [
        {"measures": [{"agg": "count"}]},
        {"pipeline": "a", "model": "marts.b", "measures": [{"agg": "count"}]},
        {"pipeline": "a"},
        {"pipeline": "a", "rows": ["x"], "measures": [{"agg": "count"}]},
        {"pipeline": "a", "measures": [{"agg": "count"}, {"agg": "count"}]},
        {"pipeline": "a", "measures": [{"agg": "mode", "field": "x"}]},
        {"pipeline": "a", "measures": [{"agg": "count"}], "timezone": "Mars/Olympus"},
        {"pipeline": "a", "measures": [{"agg": "count"}], "time": {"last": "1d", "from": "2026-01-01"}},
        {"pipeline": "a", "measures": [{"agg": "count"}], "time": {"last": "99999999999999d"}},
        {"pipeline": "a", "measures": [{"agg": "count"}], "time": {}},
        {"pipeline": "a", "measures": [{"agg": "count"}], "limit": 0},
        {"pipeline": "a", "measures": [{"agg": "count"}], "having": []},
    ],
)
def test_a_request_is_one_whole_question(query: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        QueryRequest.model_validate(query)
