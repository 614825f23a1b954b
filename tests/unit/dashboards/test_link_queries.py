"""A link allows its widgets' queries, in the forms in which the canvas asks them, and no others."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluiceway.dashboards.contracts import Dashboard, DashboardSpec
from sluiceway.dashboards.errors import NotInLink
from sluiceway.dashboards.link_queries import allowed_query, misfits, pipelines_of, shown
from sluiceway.dashboards.links import DashboardLink
from sluiceway.kit.errors import FieldError
from sluiceway.queries.contracts import Filter, QueryRequest, TimeRange

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SUM = {"field": "amount", "agg": "sum"}
SPEC = DashboardSpec.model_validate(
    {
        "name": "board",
        "time": {"last": "7d"},
        "widgets": [
            {
                "id": "total", "type": "stat", "chart": {"sparkline": True, "compare": True},
                "query": {"pipeline": "orders", "measures": [SUM]},
            },
            {
                "id": "plain", "type": "stat",
                "query": {"pipeline": "orders", "measures": [SUM], "grain": "1h"},
            },
            {
                "id": "course", "type": "line",
                "query": {
                    "pipeline": "orders", "measures": [SUM], "dimensions": ["shop"],
                    "filters": [{"field": "shop", "op": "ne", "value": "x"}], "limit": 50,
                },
            },
            {
                "id": "today", "type": "stat", "chart": {"compare": True},
                "query": {"pipeline": "visits", "measures": [{"agg": "count"}], "time": {"last": "24h"}},
            },
            {"id": "words", "type": "text", "text": "hello"},
        ],
    }
)  # fmt: skip
BOARD = Dashboard(uuid.uuid4(), "board", "Board", "", 1, 1, SPEC, {}, None, None, NOW, NOW)


def link(*, filters: tuple[Filter, ...] = (), time: TimeRange | None = None) -> DashboardLink:
    return DashboardLink(
        id=uuid.uuid4(), workspace_id=1, dashboard="board", name="l", has_password=False, filters=filters,
        time=time, made_by="cli", created_by=None, created_at=NOW, expires_at=None, revoked_at=None,
        last_used_at=None, last_used_address=None, uses=0,
    )  # fmt: skip


def own(widget: str, **changes: Any) -> QueryRequest:
    """The widget's query as the canvas asks it."""
    found = next(w.query for w in SPEC.widgets if w.id == widget)
    assert found is not None
    plain = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain.update(changes)
    return QueryRequest.model_validate({name: value for name, value in plain.items() if value is not None})


def allowed(widget: str, *, of: DashboardLink | None = None, **changes: Any) -> QueryRequest:
    return allowed_query(BOARD, of or link(), widget, own(widget, **changes), NOW)


def test_a_widgets_own_query_is_asked_over_the_range_that_was_chosen() -> None:
    assert allowed("course", time={"last": "24h"}) == own("course", time={"last": "24h"})
    assert allowed("course").time == SPEC.time


def test_the_forms_of_the_canvas() -> None:
    assert allowed("total", grain="15m", time={"last": "24h"}).grain == "15m"
    assert allowed("course", grain="auto").grain == "auto"
    assert allowed("plain", grain=None).grain is None
    before = {"from": (NOW - timedelta(days=2)).isoformat(), "to": (NOW - timedelta(days=1)).isoformat()}
    assert allowed("today", time=before).time == TimeRange.model_validate(before)


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("course", {"pipeline": "visits"}),
    ("course", {"measures": [{"field": "amount", "agg": "max"}]}),
    ("course", {"measures": [SUM, {"agg": "count"}]}),
    ("course", {"dimensions": []}),
    ("course", {"dimensions": ["shop", "customer"]}),
    ("course", {"filters": []}),
    ("course", {"filters": [{"field": "shop", "op": "eq", "value": "x"}]}),
    ("course", {"limit": 1000}),
    ("course", {"timezone": "Europe/Berlin"}),
    ("course", {"order": [{"by": "shop"}]}),
    ("course", {"grain": "1m"}),
    ("plain", {"grain": "1m"}),
    ("today", {"grain": "1m"}),
    ("today", {"time": {"last": "30d"}}),
    ("today", {"time": {"from": "2020-01-01T00:00:00Z", "to": "2026-11-18T00:00:00Z"}}),
    ("today", {"time": {"from": "2026-11-19T13:00:00Z", "to": "2026-11-20T13:00:00Z"}}),
    ("today", {"time": {"from": "2026-11-18T12:00:00", "to": "2026-11-19T12:00:00"}}),
]


@pytest.mark.parametrize(("widget", "changes"), OTHERS)
def test_everything_else_is_refused(widget: str, changes: dict[str, Any]) -> None:
    with pytest.raises(NotInLink):
        allowed(widget, **changes)


@pytest.mark.parametrize("widget", ["words", "nobody", ""])
def test_widgets_without_a_query_and_unknown_ones_are_refused(widget: str) -> None:
    with pytest.raises(NotInLink):
        allowed_query(BOARD, link(), widget, own("total"), NOW)


def test_rows_are_not_had_through_an_aggregate() -> None:
    asked = QueryRequest.model_validate({"pipeline": "orders", "rows": ["shop", "amount"]})
    with pytest.raises(NotInLink):
        allowed_query(BOARD, link(), "course", asked, NOW)


def test_filters_and_range_of_the_link_go_into_every_query() -> None:
    fixed = link(filters=(Filter(field="shop", op="eq", value="a"),), time=TimeRange(last="30d"))
    found = allowed("course", of=fixed, time={"last": "24h"}, grain="auto")
    assert [f.value for f in found.filters] == ["x", "a"]
    assert found.time == TimeRange(last="30d")
    assert allowed("today", of=fixed, time={"last": "5m"}).time == TimeRange(last="30d")


def test_a_fixed_range_is_the_only_one_in_the_spec() -> None:
    spec = shown(BOARD, link(time=TimeRange(last="30d")))
    assert spec["time"] == {"last": "30d"}
    assert "time" not in spec["widgets"][3]["query"]
    assert not any(w.get("chart", {}).get("compare") for w in spec["widgets"])
    assert shown(BOARD, link())["widgets"][3]["query"]["time"] == {"last": "24h"}


def test_its_pipelines() -> None:
    assert pipelines_of(BOARD) == {"orders", "visits"}


def test_a_filter_has_to_fit_every_widget() -> None:
    def check(query: QueryRequest) -> list[FieldError]:
        return [
            FieldError(f"filters.{i}.field", "is not there")
            for i, f in enumerate(query.filters)
            if f.field == "shop" and query.pipeline == "visits"
        ] + [FieldError("pipeline", "is not there yet")]

    wrong = misfits(
        BOARD, [Filter(field="kind", op="eq", value=1), Filter(field="shop", op="eq", value=1)], check
    )
    assert [(e.field, "'today'" in e.message) for e in wrong] == [("filters.1", True)]
