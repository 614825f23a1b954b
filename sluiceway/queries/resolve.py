"""Checks a request against what exists: every name, type and value, all errors at once.

Pure: a request and a relation in, a `ResolvedQuery` or `InvalidQuery` out. Nothing unchecked goes further.
"""

import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from sluiceway.catalog.contracts import FieldType
from sluiceway.kit.errors import FieldError
from sluiceway.queries.contracts import AnsweredTime, Filter, Measure, QueryRequest
from sluiceway.queries.errors import InvalidQuery
from sluiceway.queries.relations import NUMERIC, FieldInfo, Relation, suggestion
from sluiceway.queries.timeranges import Range, auto_grain, resolve, too_many_buckets

_NUMERIC_ONLY = ("sum", "avg", "stddev", "median", "p95", "p99", "rate")
_ORDERED = (FieldType.INTEGER, FieldType.NUMBER, FieldType.TIMESTAMP, FieldType.DATE)
_BIGINT = 2**63
_MAX_VALUES = 1_000
_TIMESTAMP: TypeAdapter[datetime] = TypeAdapter(datetime)
_DATE: TypeAdapter[date] = TypeAdapter(date)


@dataclass(frozen=True, slots=True)
class ResolvedMeasure:
    name: str
    agg: str
    field: FieldInfo | None


@dataclass(frozen=True, slots=True)
class ResolvedFilter:
    """`value` has the field's Python type, or is a list of such; None for the null tests."""

    field: FieldInfo
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class ResolvedQuery:
    """A query in which every name is known and every value has its field's type.

    `order`: index of a column of the answer, and whether descending. `span` is None for a model without a
    time column. `rows` is None for aggregates.
    """

    relation: Relation
    measures: tuple[ResolvedMeasure, ...]
    dimensions: tuple[FieldInfo, ...]
    rows: tuple[FieldInfo, ...] | None
    filters: tuple[ResolvedFilter, ...]
    span: Range | None
    grain: str | None
    timezone: str
    order: tuple[tuple[int, bool], ...]
    limit: int

    @property
    def time(self) -> AnsweredTime:
        return AnsweredTime(
            self.span.begin if self.span else None, self.span.end if self.span else None, self.grain
        )


class _Checker:
    """Collects what is wrong, so that a person sees all of it at once."""

    def __init__(self, relation: Relation) -> None:
        self.relation = relation
        self.errors: list[FieldError] = []

    def wrong(self, path: str, message: str) -> None:
        self.errors.append(FieldError(path, message))

    def field(self, name: str, path: str) -> FieldInfo | None:
        found = self.relation.fields.get(name)
        if found is None and name in self.relation.hidden:
            self.wrong(path, f"{name!r} is hidden from you by a rule")
        elif found is None:
            self.wrong(path, f"{name!r} is not a field; {self.relation.suggest(name)}")
        return found

    def measure(self, measure: Measure, index: int) -> ResolvedMeasure | None:
        path = f"measures.{index}"
        if measure.field is None:
            if measure.agg in ("count", "rate"):
                return ResolvedMeasure(measure.name, measure.agg, None)
            self.wrong(f"{path}.field", f"is needed for {measure.agg!r}; only count and rate go without")
            return None
        found = self.field(measure.field, f"{path}.field")
        if found is None:
            return None
        if message := _misfit(measure.agg, found):
            self.wrong(f"{path}.agg", message)
            return None
        return ResolvedMeasure(measure.name, measure.agg, found)

    def dimension(self, name: str, index: int) -> FieldInfo | None:
        found = self.field(name, f"dimensions.{index}")
        if found is not None and found.type is FieldType.JSON:
            self.wrong(f"dimensions.{index}", f"{name!r} is json, which cannot be grouped by")
            return None
        return found

    def filter(self, filter_: Filter, index: int) -> ResolvedFilter | None:
        path = f"filters.{index}"
        found = self.field(filter_.field, f"{path}.field")
        if found is None:
            return None
        try:
            return ResolvedFilter(found, filter_.op, _filter_value(found, filter_.op, filter_.value))
        except _WrongOperator as error:
            self.wrong(f"{path}.op", str(error))
        except ValueError as error:
            self.wrong(f"{path}.value", str(error))
        return None


class _WrongOperator(ValueError):
    pass


def resolve_query(
    request: QueryRequest, relation: Relation, *, extent: Range | None, now: datetime
) -> ResolvedQuery:
    """Check `request` against `relation`. Raises `InvalidQuery` with the path of each thing that is wrong."""
    check = _Checker(relation)
    measures = [check.measure(m, i) for i, m in enumerate(request.measures)]
    dimensions = [check.dimension(name, i) for i, name in enumerate(request.dimensions)]
    rows = None
    if request.rows is not None:
        rows = [check.field(name, f"rows.{i}") for i, name in enumerate(request.rows)]
    filters = [check.filter(f, i) for i, f in enumerate(request.filters)]
    span, grain = _time(request, relation, check, extent, now)
    order = _order(request, check, grain)
    if check.errors:
        sentence = "; ".join(f"{e.field}: {e.message}" for e in check.errors[:5])
        raise InvalidQuery(sentence.rstrip(".?") + ".", errors=check.errors)
    return ResolvedQuery(
        relation=relation,
        measures=tuple(m for m in measures if m is not None),
        dimensions=tuple(d for d in dimensions if d is not None),
        rows=None if rows is None else tuple(r for r in rows if r is not None),
        filters=tuple(f for f in filters if f is not None),
        span=span,
        grain=grain,
        timezone=request.timezone,
        order=order,
        limit=request.row_limit,
    )


def _misfit(agg: str, field: FieldInfo) -> str | None:
    if agg in _NUMERIC_ONLY and field.type not in NUMERIC:
        return f"{agg!r} needs an integer or number field, and {field.name!r} is {field.type.value}"
    if agg in ("min", "max") and field.type not in _ORDERED:
        return f"{agg!r} needs numbers or times, and {field.name!r} is {field.type.value}"
    if agg in ("first", "last", "count_distinct") and field.type is FieldType.JSON:
        return f"{agg!r} does not work on json, and {field.name!r} is json"
    return None


def _time(
    request: QueryRequest, relation: Relation, check: _Checker, extent: Range | None, now: datetime
) -> tuple[Range | None, str | None]:
    if relation.time_column is None:
        for name, given in (("time", request.time), ("grain", request.grain)):
            if given is not None:
                check.wrong(name, f"{relation.full_name} has no time column")
        return None, None
    try:
        span = resolve(request.time, extent, now, request.grain, request.timezone)
    except (ValueError, OverflowError) as error:
        check.wrong("time", str(error))
        return None, None
    grain = auto_grain(span.length) if request.grain == "auto" else request.grain
    if too_many_buckets(span.length, grain):
        check.wrong(
            "grain", f"{grain!r} makes too many points for this range; use {auto_grain(span.length)!r}"
        )
    return span, grain


def _order(request: QueryRequest, check: _Checker, grain: str | None) -> tuple[tuple[int, bool], ...]:
    if request.rows is not None:
        names = list(request.rows)
    else:
        names = ["time"] if grain is not None else []
        names += [*request.dimensions, *(m.name for m in request.measures)]
    found = []
    for index, order in enumerate(request.order):
        if order.by in names:
            found.append((names.index(order.by), order.desc))
        else:
            check.wrong(
                f"order.{index}.by",
                f"{order.by!r} is not a column of the answer; {suggestion(order.by, names)}",
            )
    return tuple(found)


def _filter_value(field: FieldInfo, op: str, value: Any) -> Any:
    if op in ("is_null", "not_null"):
        if value is not None:
            raise ValueError(f"should not be given with {op!r}")
        return None
    if field.type is FieldType.JSON:
        raise _WrongOperator(f"{op!r} does not work on json; use is_null or not_null")
    if op == "contains" and field.type is not FieldType.STRING:
        raise _WrongOperator(f"'contains' needs a string field, and {field.name!r} is {field.type.value}")
    if op in ("lt", "lte", "gt", "gte") and field.type is FieldType.BOOLEAN:
        raise _WrongOperator(f"{op!r} does not work on a boolean")
    if op in ("in", "not_in"):
        if not isinstance(value, list):
            raise ValueError("should be a list")
        if len(value) > _MAX_VALUES:
            raise ValueError(f"should have at most {_MAX_VALUES} values")
        found = [_scalar(field, item) for item in value]
        return [float(item) for item in found] if any(isinstance(item, float) for item in found) else found
    return _scalar(field, value)


def _scalar(field: FieldInfo, value: Any) -> Any:
    kind = field.type
    if kind is FieldType.STRING and isinstance(value, str):
        if "\x00" in value:
            raise ValueError("should not contain a NUL character")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise ValueError("should be valid Unicode")
        return value
    if kind is FieldType.BOOLEAN and isinstance(value, bool):
        return value
    if kind in NUMERIC and isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) and not -_BIGINT <= value < _BIGINT:
            raise ValueError("is too large")
        if not math.isfinite(value):
            raise ValueError("should be a finite number")
        return value
    if kind in (FieldType.TIMESTAMP, FieldType.DATE) and isinstance(value, str):
        try:
            if kind is FieldType.DATE:
                return _DATE.validate_python(value)
            at = _TIMESTAMP.validate_python(value)
            return at if at.tzinfo else at.replace(tzinfo=ZoneInfo("UTC"))
        except ValidationError:
            pass
    expected = {
        FieldType.STRING: "text", FieldType.INTEGER: "a number", FieldType.NUMBER: "a number",
        FieldType.BOOLEAN: "true or false", FieldType.TIMESTAMP: "a time (ISO 8601)",
        FieldType.DATE: "a date (ISO 8601)",
    }  # fmt: skip
    shown = type(value).__name__ if isinstance(value, list | dict) else repr(value)[:60]
    raise ValueError(f"should be {expected[kind]}, not {shown}")
