"""Queries over a real database: values, envelope, models, limits, tenancy."""

import math
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.queries.arrow import METADATA_KEY, to_arrow
from sluiceway.queries.contracts import QueryRequest
from sluiceway.queries.errors import InvalidQuery, ModelNotFound, QueryTimeout
from sluiceway.queries.repository import _QUALITY, driver
from sluiceway.queries.service import QueryService
from tests.support.eyes import owner_of
from tests.support.loaded import Loader

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
PIPELINE = """
kind: Pipeline
name: sales
event: {id: id, time: at}
fields:
  - {name: shop, type: string, role: dimension, title: Shop}
  - {name: amount, type: number, role: measure, unit: EUR, required: true}
  - {name: items, type: integer, role: measure}
  - {name: note, type: string}
  - {name: tags, type: json}
  - {name: paid_on, type: date}
freshness: {warn_after: 1h}
"""


@pytest.fixture
def sales(database: Database) -> Loader:
    loader = Loader(database, PIPELINE)
    loader.load(
        [
            {"id": str(n), "at": (NOW - timedelta(hours=n)).isoformat(), "shop": "ab"[n % 2], "amount": n,
             "items": None if n % 3 else n, "note": f"n{n}", "tags": {"n": n}, "paid_on": "2026-03-01"}
            for n in range(10)
        ],
        received_at=NOW - timedelta(minutes=5),
    )  # fmt: skip
    return loader


def service(database: Database, **options: Any) -> QueryService:
    return QueryService(database, FixedClock(NOW), **options)


def ask(database: Database, workspace_id: int = 1, **query: Any) -> Any:
    request = QueryRequest.model_validate({"pipeline": "sales", **query})
    return service(database).run(owner_of(workspace_id), request)


def test_an_answer_says_what_it_is_made_of(sales: Loader) -> None:
    answer = ask(
        sales.database,
        measures=[{"field": "amount", "agg": "avg", "as": "mean"}, {"agg": "count"}],
        dimensions=["shop"],
        grain="1d",
        time={"last": "2d"},
        order=[{"by": "mean", "desc": True}],
    )
    assert [(c.name, c.type, c.role, c.unit) for c in answer.columns] == [
        ("time", "timestamp", "time", None), ("shop", "string", "dimension", None),
        ("mean", "number", "measure", "EUR"), ("count", "integer", "measure", None),
    ]  # fmt: skip
    day = datetime(2026, 3, 10, tzinfo=UTC)
    assert answer.rows == [(day, "b", 5.0, 5), (day, "a", 4.0, 5)]
    assert (answer.time.begin, answer.time.end) == (day - timedelta(days=2), day + timedelta(days=1))
    assert answer.freshness.lag_s == 300.0 and answer.freshness.state == "fresh"
    assert answer.freshness.seq == 10 and answer.freshness.last_event_time == NOW
    assert answer.quality.verdict == "pass" and answer.quality.dead_letters == 0
    assert not answer.truncated and answer.source == "silver.sales"  # dbt has not built gold here


def test_an_empty_range_has_no_rows_and_the_whole_envelope(sales: Loader) -> None:
    time = {"from": "2020-01-01", "to": "2020-02-01"}
    for query in ({"grain": "1d"}, {}, {"dimensions": ["shop"]}):
        answer = ask(sales.database, measures=[{"field": "amount", "agg": "sum"}], time=time, **query)
        assert answer.rows == [] and answer.columns[-1].name == "amount_sum"
        assert answer.freshness.seq == 10 and answer.time.begin == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_pipeline_without_events_is_empty(database: Database) -> None:
    Loader(database, PIPELINE)
    answer = ask(database, measures=[{"agg": "count"}])
    assert answer.rows == [] and answer.freshness.state == "empty" and answer.quality.verdict is None


def test_no_range_means_everything(sales: Loader) -> None:
    answer = ask(sales.database, measures=[{"agg": "count"}])
    assert answer.rows == [(10,)] and answer.time.end == datetime(2026, 3, 11, tzinfo=UTC)


def test_raw_rows_are_the_newest_first(sales: Loader) -> None:
    answer = ask(sales.database, rows=["event_time", "note", "tags", "paid_on"], limit=2)
    assert [row[1] for row in answer.rows] == ["n0", "n1"] and answer.truncated
    assert answer.rows[0][2] == {"n": 0} and answer.columns[0].role == "time"
    ordered = ask(sales.database, rows=["amount"], order=[{"by": "amount"}], limit=3)
    assert ordered.rows == [(0.0,), (1.0,), (2.0,)]


def test_silver_answers_what_gold_cannot(sales: Loader) -> None:
    aggs = ["median", "p95", "p99", "count_distinct", "rate", "stddev", "first", "last"]
    answer = ask(
        sales.database,
        measures=[{"field": "amount", "agg": agg} for agg in aggs]
        + [
            {"field": "note", "agg": "last"},
            {"field": "items", "agg": "sum"},
            {"field": "items", "agg": "max"},
        ],
        time={"from": (NOW - timedelta(hours=9)).isoformat(), "to": (NOW + timedelta(seconds=1)).isoformat()},
    )
    median, p95, p99, distinct, rate, deviation, first, last, note, total, most = answer.rows[0]
    assert (median, distinct, first, last, note) == (4.5, 10, 9.0, 0.0, "n0")
    assert p95 == pytest.approx(8.55) and p99 == pytest.approx(8.91)
    assert deviation == pytest.approx(3.02765)
    assert rate == pytest.approx(45 / (9 * 3600))
    assert (total, most) == (18, 9) and isinstance(total, int) and isinstance(most, int)


def test_filters_bind_every_value(sales: Loader) -> None:
    def count(*filters: dict[str, Any]) -> int:
        answer = ask(sales.database, measures=[{"agg": "count"}], filters=list(filters))
        return answer.rows[0][0] if answer.rows else 0

    assert count({"field": "note", "op": "contains", "value": "N1"}) == 1
    assert count({"field": "note", "op": "eq", "value": "' OR 1=1 --"}) == 0
    assert count({"field": "note", "op": "contains", "value": "%"}) == 0
    assert count({"field": "items", "op": "is_null"}) == 6
    assert count({"field": "items", "op": "ne", "value": 9}) == 9
    assert count({"field": "items", "op": "in", "value": []}) == 0
    assert count({"field": "amount", "op": "gte", "value": 7.5}) == 2
    assert count({"field": "event_time", "op": "lt", "value": (NOW - timedelta(hours=7)).isoformat()}) == 2
    assert count({"field": "paid_on", "op": "eq", "value": "2026-03-01"}) == 10


def test_a_load_makes_older_answers_unfindable(sales: Loader) -> None:
    queries = service(sales.database)
    request = QueryRequest.model_validate({"pipeline": "sales", "measures": [{"agg": "count"}]})
    assert queries.run(owner_of(), request).rows == [(10,)]
    assert queries.run(owner_of(), request).cached
    sales.load([{"id": "new", "at": NOW.isoformat(), "shop": "a", "amount": 1}])
    answer = queries.run(owner_of(), request)
    assert answer.rows == [(11,)] and not answer.cached and answer.freshness.seq == 11


def test_dead_letters_of_the_range_are_counted(sales: Loader) -> None:
    sales.load([{"id": "bad", "at": NOW.isoformat(), "shop": "a", "amount": "much"}], received_at=NOW)
    here = ask(sales.database, measures=[{"agg": "count"}], time={"last": "1d"})
    assert here.quality.dead_letters == 1
    elsewhere = ask(
        sales.database, measures=[{"agg": "count"}], time={"from": "2020-01-01", "to": "2020-01-02"}
    )
    assert elsewhere.quality.dead_letters == 0


def test_another_workspace_sees_nothing(sales: Loader) -> None:
    with sales.database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
        )
    with pytest.raises(PipelineNotFound):
        ask(sales.database, workspace_id=2, measures=[{"agg": "count"}])


def test_an_unknown_pipeline_is_suggested(sales: Loader) -> None:
    with pytest.raises(PipelineNotFound, match="did you mean 'sales'"):
        ask(sales.database, pipeline="sale", measures=[{"agg": "count"}])


def test_a_slow_query_ends(sales: Loader) -> None:
    lock, release = threading.Event(), threading.Event()

    def hold() -> None:
        with sales.database.connect(Role.OWNER) as connection:
            connection.execute("LOCK TABLE silver.sales IN ACCESS EXCLUSIVE MODE")
            lock.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert lock.wait(5)
        request = QueryRequest.model_validate({"pipeline": "sales", "rows": ["note"]})
        with pytest.raises(QueryTimeout, match="shorter time range"):
            service(sales.database, timeout_ms=200).run(owner_of(), request)
    finally:
        release.set()
        holder.join(10)


def test_a_reader_cannot_write(sales: Loader) -> None:
    with (
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        sales.database.connect(Role.READER) as connection,
    ):
        connection.execute("CREATE TEMP TABLE t AS SELECT 1")


def test_arrow_carries_the_same_rows(sales: Loader) -> None:
    import pyarrow as pa

    answer = ask(
        sales.database,
        rows=["event_time", "shop", "amount", "items", "tags", "paid_on"],
        order=[{"by": "event_time"}],
    )
    table = pa.ipc.open_stream(to_arrow(answer)).read_all()
    assert table.num_rows == 10 and table.column("items").to_pylist()[0] == 9
    assert table.column("event_time").to_pylist()[-1] == NOW
    assert b'"source":"silver.sales"' in table.schema.metadata[METADATA_KEY]
    empty = ask(sales.database, rows=["shop"], time={"from": "2020-01-01", "to": "2020-01-02"})
    assert pa.ipc.open_stream(to_arrow(empty)).read_all().num_rows == 0


@pytest.fixture
def mart(database: Database) -> Database:
    with database.connect(Role.MODELER) as connection:
        connection.execute(
            "CREATE TABLE marts.daily (workspace_id int, day date, shop text, total numeric, odd box)"
        )
        connection.execute("CREATE TABLE marts.nobodys (day date)")
        connection.execute(
            "INSERT INTO marts.daily VALUES (1, '2026-03-01', 'a', 1.5), (1, '2026-03-02', 'a', 'NaN'),"
            " (2, '2026-03-01', 'z', 9)"
        )
        connection.execute("CALL app.isolate('marts.daily')")
        # They say whose the rows are and do not keep them apart: a table, a view with its maker's eyes.
        connection.execute("CREATE TABLE marts.open AS SELECT * FROM marts.daily")
        connection.execute("CREATE VIEW marts.opened AS SELECT * FROM marts.daily")
    return database


def test_models_are_queried_by_their_columns(mart: Database) -> None:
    def run(**query: Any) -> Any:
        return service(mart).run(owner_of(), QueryRequest.model_validate({"model": "marts.daily", **query}))

    weekly = run(
        measures=[{"field": "total", "agg": "min"}, {"agg": "count"}], grain="1w", dimensions=["shop"]
    )
    times = [datetime(2026, 2, 23, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)]
    assert [row[:2] + row[3:] for row in weekly.rows] == [(at, "a", 1) for at in times]
    assert weekly.rows[0][2] == 1.5 and math.isnan(weekly.rows[1][2])
    assert weekly.source == "marts.daily" and weekly.freshness.state is None
    rows = run(rows=["day", "total"], filters=[{"field": "total", "op": "lt", "value": 2}])
    assert len(rows.rows) == 1
    with pytest.raises(InvalidQuery):
        run(rows=["odd"])
    with pytest.raises(InvalidQuery):
        run(rows=["workspace_id"])


@pytest.mark.parametrize(
    "name",
    [
        "marts.dayly",
        "marts.nobodys",
        "marts.open",
        "marts.opened",
        "app.users",
        "silver.batches",
        "daily; DROP",
        "marts.\x00",
    ],
)
def test_nothing_but_models_of_a_workspace_is_a_model(mart: Database, name: str) -> None:
    with pytest.raises(ModelNotFound):
        service(mart).run(
            owner_of(), QueryRequest.model_validate({"model": name, "measures": [{"agg": "count"}]})
        )


def test_an_index_finds_the_range_below_row_level_security(sales: Loader) -> None:
    """Whatever else waits or has duplicates: what happened in another time is not read."""
    sales.load([{"id": "bad", "at": NOW.isoformat(), "shop": "a", "amount": "much"}], received_at=NOW)
    values = {"workspace": 1, "pipeline": 1, "begin": NOW - timedelta(hours=1), "end": NOW}
    with sales.database.transaction(Role.READER, workspace_id=1) as connection:
        cursor = driver(connection)
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in cursor.execute("EXPLAIN " + _QUALITY, values, prepare=False))
    assert plan.count("Index Only Scan") == 2, plan
    conditions = [line for line in plan.splitlines() if "Index Cond" in line]
    assert any("(CASE WHEN (event_time IS NULL)" in line for line in conditions), plan
    assert any("(CASE WHEN (max_event_time IS NULL)" in line for line in conditions), plan
