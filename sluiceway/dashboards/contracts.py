"""What a dashboard is, as written in YAML or sent as JSON. Published as a JSON Schema.

A widget is a query, a chart description and rules: it knows no renderer. The browser draws it today; the
same words must be enough for a picture, a spreadsheet or a slide.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sluiceway.catalog.contracts import SLUG_PATTERN, Applied
from sluiceway.kit.errors import FieldError
from sluiceway.queries.contracts import QueryRequest, TimeRange

COLUMNS = 12
MAX_WIDGETS = 60
MAX_ROWS = 1_000
WIDGET_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"

WidgetType = Literal["stat", "line", "bar", "table", "text"]
Format = Literal["number", "integer", "percent", "compact", "duration", "bytes", "datetime", "text"]
Tone = Literal["good", "warning", "critical"]
WidgetId = Annotated[str, Field(pattern=WIDGET_PATTERN)]
ColumnName = Annotated[str, Field(min_length=1, max_length=100)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Position(Strict):
    """Place on a grid of 12 columns; `y` and `h` count rows of one height."""

    x: int = Field(ge=0, lt=COLUMNS)
    y: int = Field(ge=0, lt=MAX_ROWS)
    w: int = Field(ge=1, le=COLUMNS)
    h: int = Field(ge=1, le=100)

    @model_validator(mode="after")
    def _fits(self) -> "Position":
        if self.x + self.w > COLUMNS:
            raise ValueError(f"x + w should be at most {COLUMNS}")
        return self


class TableColumn(Strict):
    """How one column of a table is shown."""

    name: ColumnName
    title: str | None = Field(default=None, max_length=80)
    format: Format | None = None
    decimals: int | None = Field(default=None, ge=0, le=10)
    unit: str | None = Field(default=None, max_length=20)
    bar: bool = Field(default=False, description="Draw the value as a bar behind the number.")


class Chart(Strict):
    """How the answer is drawn. Names are columns of the query's answer."""

    x: ColumnName | None = Field(default=None, description="Default: `time`, else the first dimension.")
    y: list[ColumnName] = Field(default_factory=list, max_length=20, description="Default: all measures.")
    series: ColumnName | None = Field(default=None, description="One line or bar colour for each value.")
    stack: bool = False
    area: bool = False
    horizontal: bool = False
    legend: bool = True
    format: Format | None = None
    decimals: int | None = Field(default=None, ge=0, le=10)
    unit: str | None = Field(default=None, max_length=20, description="Default: the field's.")
    min: float | None = None
    max: float | None = None
    x_title: str | None = Field(default=None, max_length=80)
    y_title: str | None = Field(default=None, max_length=80)
    sparkline: bool = Field(default=False, description="Of a stat: the same measure over time.")
    compare: bool = Field(default=False, description="Of a stat: the change from the range before.")
    good: Literal["up", "down"] | None = Field(default=None, description="Which way is the better one.")
    columns: list[TableColumn] = Field(default_factory=list, max_length=50, description="Of a table.")


class Rule(Strict):
    """Gives a value a tone. The first rule that holds wins; no tone is told by colour alone."""

    column: ColumnName
    op: Literal["eq", "ne", "lt", "lte", "gt", "gte"]
    value: float | int | str | bool
    tone: Tone


class Widget(Strict):
    id: WidgetId
    title: str = Field(default="", max_length=120)
    description: str = Field(default="", max_length=500)
    type: WidgetType
    query: QueryRequest | None = Field(default=None, description="Without `time`: the dashboard's range.")
    chart: Chart = Chart()
    rules: list[Rule] = Field(default_factory=list, max_length=20)
    text: str | None = Field(default=None, max_length=20_000, description="Markdown, of a text widget.")
    layout: Position | None = Field(default=None, description="Default: the next free place.")

    @model_validator(mode="after")
    def _is_whole(self) -> "Widget":
        if self.type == "text":
            if self.text is None or self.query is not None:
                raise ValueError("a text widget has `text` and no `query`")
            return self
        if self.query is None or self.text is not None:
            raise ValueError(f"a {self.type} widget has a `query` and no `text`")
        if self.query.rows is not None and self.type != "table":
            raise ValueError(f"a {self.type} widget needs `measures`; `rows` are for tables")
        self._check_names(answer_columns(self.query))
        return self

    def _check_names(self, known: list[str]) -> None:
        chart = self.chart
        named = [("chart.x", chart.x), ("chart.series", chart.series)]
        named += [(f"chart.y.{i}", name) for i, name in enumerate(chart.y)]
        named += [(f"chart.columns.{i}.name", column.name) for i, column in enumerate(chart.columns)]
        named += [(f"rules.{i}.column", rule.column) for i, rule in enumerate(self.rules)]
        for path, name in named:
            if name is not None and name not in known:
                raise ValueError(f"{path} {name!r} is not a column of the answer ({', '.join(known)})")


def answer_columns(query: QueryRequest) -> list[str]:
    """Names of the columns that the query's answer will have."""
    if query.rows is not None:
        return list(query.rows)
    names = ["time"] if query.grain is not None else []
    return [*names, *query.dimensions, *(m.name for m in query.measures)]


class DashboardSpec(Strict):
    """A dashboard: a time range and widgets on a grid of 12 columns."""

    kind: Literal["Dashboard"] = "Dashboard"
    name: str = Field(pattern=SLUG_PATTERN)
    title: str = Field(default="", max_length=120)
    description: str = Field(default="", max_length=2000)
    time: TimeRange = TimeRange(last="24h")
    widgets: list[Widget] = Field(default_factory=list, max_length=MAX_WIDGETS)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "DashboardSpec":
        seen: set[str] = set()
        for index, widget in enumerate(self.widgets):
            if widget.id in seen:
                raise ValueError(f"widgets.{index}.id {widget.id!r} is used twice")
            seen.add(widget.id)
        return self

    def document(self) -> dict[str, Any]:
        """As JSON types, without what was not said."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


Layout = dict[str, Position]


@dataclass(frozen=True, slots=True)
class DashboardSummary:
    slug: str
    title: str
    description: str
    version: int
    layout_version: int
    widgets: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard as it stands. `version` counts changes of the spec, `layout_version` moves of widgets.

    `layout` has a position for every widget and goes before the positions in the spec.
    """

    id: UUID
    slug: str
    title: str
    description: str
    version: int
    layout_version: int
    spec: DashboardSpec
    layout: Layout
    created_by: UUID | None
    updated_by: UUID | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AppliedDashboard(Applied):
    """What applying did. `warnings`: what queries name and is not there (yet)."""

    warnings: tuple[FieldError, ...] = ()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a dashboard file, for editors."""
    schema = DashboardSpec.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Sluiceway dashboard",
    }
