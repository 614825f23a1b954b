"""What a query and its answer look like. These models are the request body of `POST /v1/query`.

Belongs here: shapes and the checks that need no catalog. Not here: whether a field exists (`planner`).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sluiceway.catalog.contracts import parse_duration

Aggregate = Literal[
    "count", "sum", "avg", "min", "max", "stddev", "first", "last",
    "count_distinct", "median", "p95", "p99", "rate",
]  # fmt: skip
Operator = Literal[
    "eq", "ne", "in", "not_in", "lt", "lte", "gt", "gte", "is_null", "not_null", "contains"
]  # fmt: skip
GrainName = Literal["1m", "5m", "15m", "1h", "1d", "1w", "auto"]
FreshnessState = Literal["fresh", "late", "empty"]
Verdict = Literal["pass", "warn", "quarantine", "hold"]

DEFAULT_LIMIT = 10_000
DEFAULT_ROWS_LIMIT = 1_000
MAX_LIMIT = 50_000
MAX_BUCKETS = 50_000

ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_ ]{0,62}$")]
FieldName = Annotated[str, Field(min_length=1, max_length=100)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Measure(Strict):
    """One calculated column. Without `field`: over the events themselves (`count`, `rate`)."""

    field: FieldName | None = None
    agg: Aggregate
    as_: ColumnName | None = Field(default=None, alias="as", description="Its name in the answer.")

    @property
    def name(self) -> str:
        return self.as_ or (self.agg if self.field is None else f"{self.field}_{self.agg}")


class Filter(Strict):
    """`ne` and `not_in` keep rows without a value; `contains` ignores case."""

    field: FieldName
    op: Operator
    value: Any = None


class Order(Strict):
    by: str = Field(max_length=100, description="A column of the answer.")
    desc: bool = False


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except OverflowError:
        raise ValueError("should be a shorter time") from None
    return text


class TimeRange(Strict):
    """`from` (included) to `to` (excluded; absent: now), or `last` (`24h`, `30d`) up to now.

    A time without an offset is in the query's time zone. The ends of `last` are moved outwards to whole
    buckets (to whole minutes, hours or days where there is no grain).
    """

    from_: datetime | None = Field(default=None, alias="from")
    to: datetime | None = None
    last: Annotated[str, AfterValidator(_duration)] | None = Field(default=None, examples=["24h", "30d"])

    @model_validator(mode="after")
    def _one_way(self) -> "TimeRange":
        if self.last is not None and (self.from_ is not None or self.to is not None):
            raise ValueError("give either `last`, or `from` and `to`")
        if self.last is None and self.from_ is None and self.to is None:
            raise ValueError("give `last`, or `from` (and `to`)")
        return self

    @property
    def last_duration(self) -> timedelta | None:
        if self.last is None:
            return None
        found = parse_duration(self.last)
        assert isinstance(found, timedelta)
        return found


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("should be an IANA time zone (for example Europe/Berlin)") from None
    return name


TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]


class QueryRequest(Strict):
    """Aggregates (`measures`), or raw rows (`rows`, newest first), of a pipeline or of a dbt model.

    Without `time`: everything there is.
    """

    pipeline: str | None = Field(default=None, max_length=100)
    model: str | None = Field(default=None, max_length=130, examples=["marts.flights_on_time"])
    measures: list[Measure] = Field(default_factory=list, max_length=30)
    dimensions: list[FieldName] = Field(default_factory=list, max_length=10)
    rows: list[FieldName] | None = Field(default=None, min_length=1, max_length=200)
    filters: list[Filter] = Field(default_factory=list, max_length=50)
    time: TimeRange | None = None
    grain: GrainName | None = None
    timezone: TimeZone = Field(default="UTC", description="For the bounds of buckets: an IANA name.")
    order: list[Order] = Field(default_factory=list, max_length=10)
    limit: int | None = Field(default=None, ge=1, le=MAX_LIMIT)

    @model_validator(mode="after")
    def _is_one_question(self) -> "QueryRequest":
        if (self.pipeline is None) == (self.model is None):
            raise ValueError("give either `pipeline` or `model`")
        if self.rows is not None:
            if self.measures or self.dimensions or self.grain is not None:
                raise ValueError("`rows` does not go with `measures`, `dimensions` or `grain`")
        elif not self.measures:
            raise ValueError("give `measures` (aggregates) or `rows` (raw rows)")
        names = [*self.dimensions, *(m.name for m in self.measures)]
        names += ["time"] if self.grain is not None else []
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"column {twice[0]!r} would be there twice: name one of them with `as`")
        return self

    @property
    def row_limit(self) -> int:
        return self.limit or (DEFAULT_LIMIT if self.rows is None else DEFAULT_ROWS_LIMIT)


ColumnRole = Literal["time", "dimension", "measure", "attribute"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer. `type` is a catalog field type. `masked`: how its values are changed."""

    name: str
    type: str
    role: ColumnRole
    unit: str | None = None
    title: str | None = None
    masked: Literal["hide", "hash", "partial"] | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new the data is. `lag_s`: seconds since the last event was received; `seq`: the newest row's."""

    as_of: datetime
    last_event_time: datetime | None = None
    last_received_at: datetime | None = None
    lag_s: float | None = None
    state: FreshnessState | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """The gate's worst verdict over the batches of the time range, and what did not get through.

    `verdict` is None where nothing was checked. `dead_letters` counts the open and held ones.
    """

    verdict: Verdict | None = None
    dead_letters: int = 0
    duplicates: int = 0
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class AnsweredTime:
    """The range that was really asked; both are None where a model has no time column."""

    begin: datetime | None
    end: datetime | None
    grain: str | None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows and everything one must know to trust them. Values of a row stand in the order of `columns`."""

    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool
    time: AnsweredTime
    source: str
    freshness: Freshness
    quality: Quality
    elapsed_ms: float
    cached: bool = field(default=False)
    restricted: bool = False
    """A row rule concerns whoever asked: they may not see every row."""

    def envelope(self) -> dict[str, Any]:
        """Everything but the rows, as JSON types (times stay datetimes)."""
        return {
            "columns": [
                {
                    "name": c.name,
                    "type": c.type,
                    "role": c.role,
                    "unit": c.unit,
                    "title": c.title,
                    "masked": c.masked,
                }
                for c in self.columns
            ],
            "row_count": len(self.rows),
            "truncated": self.truncated,
            "time": {"from": self.time.begin, "to": self.time.end, "grain": self.time.grain},
            "source": self.source,
            "freshness": {
                "as_of": self.freshness.as_of,
                "last_event_time": self.freshness.last_event_time,
                "last_received_at": self.freshness.last_received_at,
                "lag_s": self.freshness.lag_s,
                "state": self.freshness.state,
                "seq": self.freshness.seq,
            },
            "quality": {
                "verdict": self.quality.verdict,
                "dead_letters": self.quality.dead_letters,
                "duplicates": self.quality.duplicates,
                "as_of": self.quality.as_of,
            },
            "elapsed_ms": self.elapsed_ms,
            "cached": self.cached,
            "restricted": self.restricted,
        }
