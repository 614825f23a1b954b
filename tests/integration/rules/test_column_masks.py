"""Column masks: what is shown instead of a value, and that nothing else tells it."""

import re
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.queries.errors import InvalidQuery
from tests.support.ruled import EU, OWNER, US, Ruled, events, eyes

VIEWER = eyes("viewer")
RANGE = {"time": {"last": "30d"}}


def mask(ruled: Ruled, field: str, kind: str, **kept: int) -> None:
    name = field.replace("_", "-")
    ruled.rule(f"mask-{name}", masks=[{"field": field, "as": kind, **kept}])


def column(ruled: Ruled, access: Any, name: str, **query: Any) -> list[Any]:
    found = ruled.ask(
        access, rows=[name, "event_time"], order=[{"by": "event_time", "desc": True}], **RANGE, **query
    )
    return [row[0] for row in found.rows]


def test_a_hidden_column_cannot_be_asked_for(ruled: Ruled) -> None:
    mask(ruled, "email", "hide")
    assert column(ruled, OWNER, "email")[0] == "person0@example.com"
    for query in (
        {"rows": ["amount", "email"]},
        {"measures": [{"agg": "count", "field": "email"}]},
        {"measures": [{"agg": "count_distinct", "field": "email"}]},
        {"measures": [{"agg": "count"}], "dimensions": ["email"]},
        {"rows": ["amount"], "filters": [{"field": "email", "op": "eq", "value": "person1@example.com"}]},
    ):
        with pytest.raises(InvalidQuery) as found:
            ruled.ask(VIEWER, **query, **RANGE)
        assert [e.message for e in found.value.errors] == ["'email' is hidden from you by a rule"]
    with pytest.raises(InvalidQuery) as found:
        ruled.ask(VIEWER, rows=["emial"], **RANGE)
    assert "email" not in found.value.detail.replace("'emial'", "")


def test_a_hashed_column_tells_who_is_the_same_and_no_more(ruled: Ruled) -> None:
    mask(ruled, "email", "hash")
    shown = column(ruled, VIEWER, "email")
    assert len(set(shown)) == 12 and all(re.fullmatch("[0-9a-f]{16}", one) for one in shown)
    assert column(ruled, VIEWER, "email") == shown  # the same tomorrow
    # What is seen can be asked with, what is not cannot.
    only = {"filters": [{"field": "email", "op": "eq", "value": shown[3]}]}
    assert ruled.ask(VIEWER, rows=["amount"], **only, **RANGE).rows == [(3.0,)]
    for op, value in (
        ("eq", "person3@example.com"),
        ("contains", "person3"),
        ("in", ["person3@example.com"]),
    ):
        found = ruled.ask(
            VIEWER, rows=["amount"], filters=[{"field": "email", "op": op, "value": value}], **RANGE
        )
        assert found.rows == []
    grouped = ruled.ask(VIEWER, measures=[{"agg": "count"}], dimensions=["email"], **RANGE)
    assert sorted(row[0] for row in grouped.rows) == sorted(shown)
    first = ruled.ask(
        VIEWER, measures=[{"agg": "first", "field": "email"}, {"agg": "last", "field": "email"}], **RANGE
    )
    assert first.rows == [(shown[-1], shown[0])]
    ordered = ruled.ask(VIEWER, rows=["email"], order=[{"by": "email"}], **RANGE)
    assert [row[0] for row in ordered.rows] == sorted(shown)
    assert ordered.columns[0].masked == "hash" and ordered.columns[0].type == "string"


def test_pseudonyms_are_a_workspaces_and_an_installations_own(
    ruled: Ruled, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask(ruled, "email", "hash")
    here = column(ruled, VIEWER, "email")
    elsewhere = Database(database_url, SecretKey(b"quite another key, long enough to pass too"))
    assert elsewhere.derived_key("pseudonyms/1") != ruled.database.derived_key("pseudonyms/1")
    assert ruled.database.derived_key("pseudonyms/2") != ruled.database.derived_key("pseudonyms/1")
    monkeypatch.setattr(ruled.database, "derived_key", elsewhere.derived_key)
    ruled.rule("mask-email", masks=[{"field": "email", "as": "hash"}], description="kept answers are let go")
    assert not set(here) & set(column(ruled, VIEWER, "email"))


def test_partial_keeps_the_ends_alone(ruled: Ruled) -> None:
    mask(ruled, "email", "partial", first=2, last=4)
    assert set(column(ruled, VIEWER, "email")) == {"pe….com"}
    assert ruled.ask(VIEWER, measures=[{"agg": "count_distinct", "field": "email"}], **RANGE).rows == [(1,)]
    mask(ruled, "email", "partial", first=12, last=12)
    assert set(column(ruled, VIEWER, "email")) == {"…"}  # too short to hide anything in
    mask(ruled, "email", "partial")
    assert set(column(ruled, VIEWER, "email")) == {"…"}


def test_a_masked_number_or_time_is_a_text(ruled: Ruled) -> None:
    mask(ruled, "amount", "partial", last=1)
    mask(ruled, "paid_on", "partial", first=7)
    mask(ruled, "vip", "hash")
    mask(ruled, "tags", "hash")
    assert column(ruled, VIEWER, "amount")[:3] == ["…", "…", "…"]
    assert set(column(ruled, VIEWER, "paid_on")) == {"2026-03…"}
    assert len(set(column(ruled, VIEWER, "vip"))) == 2 and len(set(column(ruled, VIEWER, "tags"))) == 12
    for query in (
        {"measures": [{"agg": "sum", "field": "amount"}]},
        {"measures": [{"agg": "max", "field": "amount"}]},
        {"rows": ["vip"], "filters": [{"field": "amount", "op": "gt", "value": 3}]},
        {"rows": ["vip"], "filters": [{"field": "vip", "op": "eq", "value": True}]},
    ):
        with pytest.raises(InvalidQuery):
            ruled.ask(VIEWER, **query, **RANGE)
    assert ruled.ask(OWNER, measures=[{"agg": "sum", "field": "amount"}], **RANGE).rows == [(66.0,)]


def test_no_value_stays_no_value(ruled: Ruled) -> None:
    ruled.loader.load([{"id": "x", "at": events()[0]["at"], "amount": 50, "region": "EU"}])
    mask(ruled, "email", "hash")
    null = {"filters": [{"field": "email", "op": "is_null"}]}
    assert ruled.ask(VIEWER, rows=["email", "amount"], **null, **RANGE).rows == [(None, 50.0)]
    mask(ruled, "email", "partial", last=2)
    assert ruled.ask(VIEWER, rows=["email", "amount"], **null, **RANGE).rows == [(None, 50.0)]


def test_gold_never_answers_with_a_masked_dimension(in_gold: Ruled) -> None:
    question: dict[str, Any] = {
        "measures": [{"agg": "sum", "field": "amount"}],
        "dimensions": ["region"],
        "time": {"from": "2026-03-01", "to": "2026-03-11"},
    }
    mask(in_gold, "region", "hash")
    masked = in_gold.ask(VIEWER, **question)
    assert masked.source == "silver.sales"
    assert all(value is None or re.fullmatch("[0-9a-f]{16}", value) for value, _ in masked.rows)
    assert sorted(total for _, total in masked.rows) == [18.0, 22.0, 26.0]
    assert in_gold.ask(OWNER, **question).source.startswith("gold")
    del question["dimensions"]
    assert in_gold.ask(VIEWER, **question).source.startswith("gold")
    filtered = in_gold.ask(VIEWER, **question, filters=[{"field": "region", "op": "eq", "value": "EU"}])
    assert filtered.rows == [] and filtered.source == "silver.sales"


def test_rows_are_judged_by_what_is_masked_too(ruled: Ruled) -> None:
    ruled.rule(rows="region in user.regions", masks=[{"field": "region", "as": "hide"}])
    assert ruled.amounts(EU) == [0, 3, 6, 9] and ruled.amounts(US) == [1, 4, 7, 10]
    with pytest.raises(InvalidQuery):
        ruled.ask(EU, rows=["region"], **RANGE)


def test_a_mart_is_masked_by_its_own_rule(ruled: Ruled) -> None:
    with ruled.database.connect(Role.MODELER) as connection:
        connection.execute(
            "CREATE TABLE marts.people AS"
            " SELECT workspace_id, event_time::date AS day, email::varchar, amount FROM silver.sales"
        )
        connection.execute("CALL app.isolate('marts.people')")
    ruled.rule(
        "people", model="people", masks=[{"field": "email", "as": "partial", "last": 4}], rows="amount < 2"
    )
    found = ruled.ask(VIEWER, model="marts.people", rows=["email", "amount"])
    assert sorted(found.rows) == [("….com", 0.0), ("….com", 1.0)] and found.restricted
    # A hidden time column leaves no time to ask by.
    ruled.rule("people", model="people", masks=[{"field": "day", "as": "hide"}])
    with pytest.raises(InvalidQuery) as error:
        ruled.ask(VIEWER, model="marts.people", rows=["email"], time={"last": "30d"})
    assert [e.field for e in error.value.errors] == ["time"]
    assert len(ruled.ask(VIEWER, model="marts.people", rows=["email"]).rows) == 12


def test_without_the_installations_key_nothing_is_hashed(ruled: Ruled) -> None:
    with (
        pytest.raises(sa.exc.DBAPIError, match="pseudonym_key"),
        ruled.database.transaction(Role.READER, access=VIEWER) as reader,
    ):
        reader.execute(sa.text("SELECT app.pseudonym('a')"))
