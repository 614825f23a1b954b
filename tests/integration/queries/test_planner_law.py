"""The law of the planner: what gold answers is what silver answers."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database
from sluiceway.queries.contracts import QueryRequest, QueryResult
from sluiceway.queries.service import QueryService
from sluiceway.warehouse.gold import refresh_dirty
from tests.support.eyes import owner_of
from tests.support.loaded import Loader

START = datetime(2026, 3, 27, tzinfo=UTC)  # two days before clocks change in Europe
NOW = START + timedelta(days=12)
PIPELINE = """
kind: Pipeline
name: sales
event: {id: id, time: at}
fields:
  - {name: shop, type: string, role: dimension}
  - {name: vip, type: boolean, role: dimension}
  - {name: region, type: integer, role: dimension}
  - {name: amount, type: number, role: measure, required: true}
  - {name: items, type: integer, role: measure}
  - {name: note, type: string}
"""

moments = st.integers(0, 12 * 86_400).map(lambda s: START + timedelta(seconds=s))
grid = st.integers(0, 12 * 1440).map(lambda m: START + timedelta(minutes=m))
events = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.one_of(moments, grid),
            "shop": st.sampled_from(["a", "b", "ç'\"%", None]),
            "vip": st.sampled_from([True, False, None]),
            "region": st.sampled_from([1, 2, None]),
            "amount": st.one_of(
                st.floats(-1e6, 1e6, allow_nan=False).map(lambda f: round(f, 3)), st.integers(0, 5)
            ),
            "items": st.one_of(st.none(), st.integers(-50, 50), st.sampled_from([2**53 + 1, 10**9 + 7])),
            "note": st.sampled_from(["x", "y", None]),
        }
    ),
    min_size=1,
    max_size=60,
)
measures = st.one_of(
    st.builds(
        lambda field, agg: {"field": field, "agg": agg},
        st.sampled_from(["amount", "items"]),
        st.sampled_from(["count", "sum", "avg", "min", "max", "stddev", "first", "last", "rate"]),
    ),
    st.sampled_from([{"agg": "count"}, {"agg": "rate"}]),
)
filters = st.sampled_from(
    [
        {"field": "shop", "op": "eq", "value": "a"},
        {"field": "shop", "op": "ne", "value": "a"},
        {"field": "shop", "op": "in", "value": ["b", "ç'\"%"]},
        {"field": "shop", "op": "not_in", "value": ["a", "b"]},
        {"field": "shop", "op": "contains", "value": "Ç"},
        {"field": "vip", "op": "eq", "value": True},
        {"field": "region", "op": "gt", "value": 1},
        {"field": "region", "op": "in", "value": [1, 2.5]},
        {"field": "region", "op": "is_null"},
        {"field": "shop", "op": "not_null"},
    ]
)
ranges = st.one_of(
    st.none(),
    st.sampled_from([{"last": "11d"}, {"last": "36h"}, {"last": "90m"}]),
    st.tuples(st.one_of(moments, grid), st.one_of(moments, grid)).map(
        lambda ends: {"from": min(ends).isoformat(), "to": max(ends).isoformat()}
    ),
)


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {
        "pipeline": "sales",
        "measures": draw(st.lists(measures, min_size=1, max_size=4, unique_by=lambda m: tuple(m.values()))),
        "dimensions": draw(st.lists(st.sampled_from(["shop", "vip", "region"]), max_size=2, unique=True)),
        "filters": draw(st.lists(filters, max_size=2)),
        "time": draw(ranges),
        "grain": draw(st.sampled_from([None, "1m", "5m", "15m", "1h", "1d", "1w", "auto"])),
        "timezone": draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"])),
    }
    return found


@pytest.fixture(scope="module")
def loader(cluster: Any, gold_template: Any, secret_key: Any) -> Any:
    url = cluster.create(gold_template[0])
    database = Database(url, secret_key)
    yield Loader(database, PIPELINE)
    database.dispose()
    cluster.drop(url)


def _same(one: QueryResult, other: QueryResult) -> None:
    assert [c.name for c in one.columns] == [c.name for c in other.columns]
    assert one.columns == other.columns
    assert len(one.rows) == len(other.rows), (one.rows, other.rows)
    for left, right in zip(one.rows, other.rows, strict=True):
        for a, b in zip(left, right, strict=True):
            if isinstance(a, float) and isinstance(b, float):
                assert math.isclose(a, b, rel_tol=1e-8, abs_tol=1e-6), (left, right)
            else:
                assert a == b and type(a) is type(b), (left, right)
    assert one.time == other.time


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    batches=st.lists(events, min_size=1, max_size=2),
    refresh=st.booleans(),
    asked=st.lists(queries(), min_size=8, max_size=8),
)
def test_what_gold_answers_is_what_silver_answers(
    loader: Any, batches: list[list[dict[str, Any]]], refresh: bool, asked: list[dict[str, Any]]
) -> None:
    _empty(loader.database)
    loader.warehouse.forget()
    number = 0
    for batch in batches:
        rows = []
        for event in batch:
            number += 1
            rows.append({**event, "id": f"{id(batches)}-{number}", "at": event["at"].isoformat()})
        loader.load(rows)
        if refresh:
            refresh_dirty(loader.database)
    clock = FixedClock(NOW)
    gold, silver = QueryService(loader.database, clock), QueryService(loader.database, clock, gold=False)
    from_gold = 0
    for query in asked:
        request = QueryRequest.model_validate(query)
        answer = gold.run(owner_of(), request)
        from_gold += answer.source.startswith("gold")
        _same(answer, silver.run(owner_of(), request))
    assume(from_gold > 0)


def _empty(database: Database) -> None:
    from sluiceway.infra.database import Role

    with database.connect(Role.OWNER) as connection:
        connection.execute(
            "TRUNCATE silver.sales, silver.samples, silver.series, silver.batches, silver.event_keys,"
            " gold.dirty_buckets, gold.samples_1m_materialized, gold.samples_1h_materialized,"
            " gold.samples_1d_materialized, quality.dead_letters"
        )
