"""What a link lets its holder see and ask: the dashboard as it is shown, and its widgets' queries, no others.

The canvas asks a widget's query in a few forms of its own (over time for a sparkline, the range before for a
comparison); everything else is refused. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sluiceway.dashboards.contracts import Dashboard, Widget
from sluiceway.dashboards.errors import NotInLink
from sluiceway.dashboards.links import DashboardLink
from sluiceway.dashboards.service import CheckQuery
from sluiceway.kit.errors import FieldError
from sluiceway.queries.contracts import Filter, QueryRequest, TimeRange

_DAY = timedelta(days=1)
_FILTER = re.compile(r"filters\.(\d+)")


def shown(dashboard: Dashboard, link: DashboardLink) -> dict[str, Any]:
    """The spec that whoever has the link is given: with a fixed range nothing in it names another."""
    spec: dict[str, Any] = dashboard.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    if link.time is None:
        return spec
    spec["time"] = link.time.model_dump(mode="json", by_alias=True, exclude_none=True)
    for widget in spec["widgets"]:
        widget.get("query", {}).pop("time", None)
        widget.get("chart", {}).pop("compare", None)
    return spec


def pipelines_of(dashboard: Dashboard) -> frozenset[str]:
    """The pipelines that its widgets show."""
    queries = (widget.query for widget in dashboard.spec.widgets)
    return frozenset(q.pipeline for q in queries if q is not None and q.pipeline is not None)


def allowed_query(
    dashboard: Dashboard, link: DashboardLink, widget_id: str, asked: QueryRequest, now: datetime
) -> QueryRequest:
    """The query to run for what was asked: the widget's, with the link's filters and range.

    Raises `NotInLink` for anything but a form of the widget's own query.
    """
    widget = next((w for w in dashboard.spec.widgets if w.id == widget_id), None)
    if widget is None or widget.query is None:
        raise NotInLink("The dashboard has no such widget.")
    own = widget.query
    bare: Mapping[str, Any] = {"time": None, "grain": None}
    if asked.model_copy(update=bare) != own.model_copy(update=bare):
        raise NotInLink("This is not the widget's query.")
    if not _grain_fits(widget, asked):
        raise NotInLink("The widget is not shown at this grain.")
    time = asked.time
    if link.time is not None:
        time = link.time
    elif own.time is not None and time != own.time and not _compares(widget, own.time, time, now):
        raise NotInLink("The widget is not shown over this range.")
    elif time is None:
        time = dashboard.spec.time
    return asked.model_copy(update={"time": time, "filters": [*own.filters, *link.filters]})


def misfits(dashboard: Dashboard, filters: Sequence[Filter], check: CheckQuery) -> list[FieldError]:
    """Which of `filters` some widget's query cannot take: it would show nothing but an error.

    What a query names and is not there yet (a pipeline that comes later) is no matter of the filters.
    """
    found: dict[int, FieldError] = {}
    for widget in dashboard.spec.widgets:
        if widget.query is None:
            continue
        own = len(widget.query.filters)
        query = widget.query.model_copy(update={"filters": [*widget.query.filters, *filters]})
        for error in check(query):
            match = _FILTER.match(error.field)
            index = int(match[1]) - own if match is not None else -1
            if index >= 0:
                text = f"does not fit the widget {widget.id!r}: {error.message}"
                found.setdefault(index, FieldError(f"filters.{index}", text))
    return [found[index] for index in sorted(found)]


def _grain_fits(widget: Widget, asked: QueryRequest) -> bool:
    assert widget.query is not None
    own = widget.query.grain
    if asked.grain == own:
        return True
    if widget.type == "stat":  # without a grain: the number; with one: its sparkline
        return asked.grain is None or widget.chart.sparkline
    return widget.type == "line" and own is None and asked.grain == "auto"


def _compares(widget: Widget, own: TimeRange, asked: TimeRange | None, now: datetime) -> bool:
    """Whether `asked` is the range before `own`, whose ends were moved outwards to whole buckets."""
    if not widget.chart.compare or asked is None or asked.from_ is None or asked.to is None:
        return False
    ends = own.to or now
    begins = own.from_ or ends - (own.last_duration or timedelta())
    if asked.from_.tzinfo is None or asked.to.tzinfo is None or begins.tzinfo is None or ends.tzinfo is None:
        return False
    length = ends - begins
    return asked.from_ < asked.to <= begins and asked.from_ >= begins - length - 3 * _DAY
