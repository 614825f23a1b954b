"""SQL of queries over a silver table or a model, and what gold's SQL shares with it.

Identifiers come from the catalog and are quoted; every value is bound. Not here: gold (`gold_statements`),
running anything (`repository`).
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from psycopg import sql
from psycopg.sql import SQL, Composable, Composed, Identifier

from sluiceway.catalog.contracts import FieldType
from sluiceway.queries.contracts import Column
from sluiceway.queries.relations import FieldInfo
from sluiceway.queries.resolve import ResolvedFilter, ResolvedMeasure, ResolvedQuery
from sluiceway.queries.timeranges import DAY, GRAINS, HOUR
from sluiceway.rules.contracts import MaskKind
from sluiceway.rules.masking import masked_sql

_CASTS = {
    FieldType.STRING: SQL("text"),
    FieldType.INTEGER: SQL("bigint"),
    FieldType.NUMBER: SQL("double precision"),
    FieldType.BOOLEAN: SQL("boolean"),
    FieldType.TIMESTAMP: SQL("timestamptz"),
    FieldType.DATE: SQL("date"),
    FieldType.JSON: SQL("jsonb"),
}
_COMPARISONS = {"lt": SQL("<"), "lte": SQL("<="), "gt": SQL(">"), "gte": SQL(">=")}
_PERCENTILES = {"median": "0.5", "p95": "0.95", "p99": "0.99"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Bindings:
    """Values of one statement, by generated name."""

    values: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: Any) -> Composable:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return sql.Placeholder(name)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL, its values, and the columns that come back.

    `checked`: one more, last column says of each row whether its numbers are exact (see gold_statements).
    """

    text: Composed
    values: dict[str, Any]
    columns: tuple[Column, ...]
    checked: bool = False


def table_statement(query: ResolvedQuery, workspace_id: int, now: datetime) -> Statement:
    """Aggregates or raw rows from the table itself. One row more than the limit tells of truncation."""
    bindings = Bindings()
    where = [*_in_workspace(query, workspace_id, bindings), *_in_span(query, bindings)]
    where += [filter_sql(f, field_sql(f.field), bindings) for f in query.filters]
    guard = query.relation.guard(bindings.bind)
    if guard is not None:
        where.append(guard)
    if query.rows is not None:
        return _rows_statement(query, where, bindings)
    groups: list[Composable] = []
    if query.grain is not None:
        groups.append(bucket_sql(time_sql(query), query.grain, query.timezone, bindings))
    groups += [field_sql(d) for d in query.dimensions]
    if all(m.field is not None for m in query.measures):
        # A group is there when one of its measures has a value: so it is in gold, which has only values.
        names = sorted({m.field.name for m in query.measures if m.field is not None})
        tests = SQL(" OR ").join([SQL("{} IS NOT NULL").format(Identifier(n)) for n in names])
        where.append(SQL("({})").format(tests))
    seconds = seconds_sql(query, groups, now, bindings)
    measures = [_aggregate(m, query, seconds) for m in query.measures]
    text = SQL("SELECT {} FROM {} WHERE {}{}{} LIMIT {}").format(
        SQL(", ").join([*groups, *measures]),
        Identifier(query.relation.schema, query.relation.name),
        SQL(" AND ").join(where),
        group_by(len(groups)),
        order_by(query, len(groups)),
        bindings.bind(query.limit + 1),
    )
    return Statement(text, bindings.values, answer_columns(query))


def _rows_statement(query: ResolvedQuery, where: list[Composable], bindings: Bindings) -> Statement:
    assert query.rows is not None
    order: list[Composable] = [
        SQL("{} {} NULLS LAST").format(_positions([index + 1]), SQL("DESC") if desc else SQL("ASC"))
        for index, desc in query.order
    ]
    newest = (query.relation.time_column, query.relation.order_column)
    order += [SQL("{} DESC").format(Identifier(name)) for name in newest if name is not None]
    text = SQL("SELECT {} FROM {} WHERE {}{} LIMIT {}").format(
        SQL(", ").join([field_sql(f) for f in query.rows]),
        Identifier(query.relation.schema, query.relation.name),
        SQL(" AND ").join(where),
        SQL(" ORDER BY {}").format(SQL(", ").join(order)) if order else SQL(""),
        bindings.bind(query.limit + 1),
    )
    return Statement(text, bindings.values, tuple(_plain_column(f) for f in query.rows))


def answer_columns(query: ResolvedQuery) -> tuple[Column, ...]:
    """Columns of an aggregate: time, dimensions, measures."""
    columns = [Column("time", "timestamp", "time", title="Time")] if query.grain is not None else []
    columns += [
        Column(d.name, d.type.value, "dimension", d.unit, d.title, _shown(d)) for d in query.dimensions
    ]
    columns += [_measure_column(m) for m in query.measures]
    return tuple(columns)


def _measure_column(measure: ResolvedMeasure) -> Column:
    found, agg = measure.field, measure.agg
    if agg in ("count", "count_distinct"):
        return Column(measure.name, "integer", "measure", None, found.title if found else None, _shown(found))
    if agg == "rate":
        unit = f"{found.unit}/s" if found is not None and found.unit else "/s"
        return Column(measure.name, "number", "measure", unit, found.title if found else None)
    assert found is not None
    kind = found.type if agg in ("sum", "min", "max", "first", "last") else FieldType.NUMBER
    return Column(measure.name, kind.value, "measure", found.unit, found.title, _shown(found))


def _shown(found: FieldInfo | None) -> MaskKind | None:
    return None if found is None or found.mask is None else found.mask.kind


def _plain_column(found: FieldInfo) -> Column:
    if found.name == "event_time":
        return Column(found.name, found.type.value, "time", found.unit, found.title)
    role = found.role if found.role != "system" else "attribute"
    return Column(found.name, found.type.value, role, found.unit, found.title, _shown(found))


def field_sql(found: FieldInfo) -> Composable:
    """A field as its type (models may have columns of other types that mean the same), masked if it is."""
    column = Identifier(found.name)
    if found.mask is not None:
        return masked_sql(column, found.mask)
    if found.database_type is None:
        return column
    if found.database_type == "timestamp without time zone":
        return SQL("({} AT TIME ZONE 'UTC')").format(column)
    return SQL("{}::{}").format(column, _CASTS[found.type])


def time_sql(query: ResolvedQuery) -> Composable:
    """The relation's time as timestamptz; a date is midnight in UTC."""
    assert query.relation.time_column is not None
    found = query.relation.fields[query.relation.time_column]
    if found.type is FieldType.DATE:
        return SQL("({}::timestamp AT TIME ZONE 'UTC')").format(Identifier(found.name))
    return field_sql(found)


def _in_workspace(query: ResolvedQuery, workspace_id: int, bindings: Bindings) -> list[Composable]:
    """Of a model, whose rows are every workspace's. A silver table is one pipeline's, found by its workspace.

    The policy says the same; said twice PostgreSQL compares the two, and every row passes through that.
    """
    if query.relation.pipeline_id is not None:
        return []
    return [SQL("workspace_id = {}").format(bindings.bind(workspace_id))]


def _in_span(query: ResolvedQuery, bindings: Bindings) -> list[Composable]:
    if query.span is None:
        return []
    time = time_sql(query)
    return [
        SQL("{} >= {}").format(time, bindings.bind(query.span.begin)),
        SQL("{} < {}").format(time, bindings.bind(query.span.end)),
    ]


def bucket_sql(time: Composable, grain: str, timezone: str, bindings: Bindings) -> Composable:
    """Begin of the bucket that holds a time; days and weeks (from Monday) are the time zone's."""
    size = GRAINS[grain]
    if size < HOUR:
        return SQL("date_bin({}, {}, {})").format(bindings.bind(size), time, bindings.bind(_EPOCH))
    unit = "hour" if size < DAY else "day" if size == DAY else "week"
    return SQL("date_trunc({}, {}, {})").format(sql.Literal(unit), time, sql.Literal(timezone))


def seconds_sql(
    query: ResolvedQuery, groups: list[Composable], now: datetime, bindings: Bindings
) -> Composable:
    """Length in seconds of a row's bucket (or of the range), without what is still to come."""
    if query.span is None or not any(m.agg == "rate" for m in query.measures):
        return SQL("1")
    begin, end = query.span.begin, max(min(query.span.end, now), query.span.begin)
    if query.grain is None:
        return bindings.bind(max((end - begin).total_seconds(), 1.0))
    size = GRAINS[query.grain]
    bucket = groups[0]
    if size < DAY:
        after = SQL("{} + {}").format(bucket, bindings.bind(size))
    else:
        zone = sql.Literal(query.timezone)
        after = SQL("({} AT TIME ZONE {} + {}) AT TIME ZONE {}").format(
            bucket, zone, bindings.bind(size), zone
        )
    return SQL("greatest(extract(epoch FROM least({}, {}) - greatest({}, {})), 1)::double precision").format(
        after, bindings.bind(end), bucket, bindings.bind(begin)
    )


def filter_sql(filter_: ResolvedFilter, column: Composable, bindings: Bindings) -> Composable:
    """One condition. `ne` and `not_in` let rows without a value through."""
    op, kind = filter_.op, filter_.field.type
    if op == "is_null":
        return SQL("{} IS NULL").format(column)
    if op == "not_null":
        return SQL("{} IS NOT NULL").format(column)
    if op in ("in", "not_in"):
        values = SQL("{}::{}[]").format(bindings.bind(filter_.value), _cast_of(kind, filter_.value))
        if op == "in":
            return SQL("{} = ANY({})").format(column, values)
        return SQL("({} IS NULL OR {} <> ALL({}))").format(column, column, values)
    value = SQL("{}::{}").format(bindings.bind(filter_.value), _cast_of(kind, [filter_.value]))
    if op == "eq":
        return SQL("{} = {}").format(column, value)
    if op == "ne":
        return SQL("{} IS DISTINCT FROM {}").format(column, value)
    if op == "contains":
        return SQL("strpos(lower({}), lower({})) > 0").format(column, value)
    return SQL("{} {} {}").format(column, _COMPARISONS[op], value)


def _cast_of(kind: FieldType, values: list[Any]) -> SQL:
    if kind is FieldType.INTEGER and any(isinstance(value, float) for value in values):
        return SQL("double precision")
    return _CASTS[kind]


def cast_sql(kind: FieldType) -> SQL:
    return _CASTS[kind]


def group_by(groups: int) -> Composable:
    """Without groups: no row rather than a row of nothing where there is nothing."""
    if groups == 0:
        return SQL(" HAVING count(*) > 0")
    return SQL(" GROUP BY {}").format(_positions(range(1, groups + 1)))


def order_by(query: ResolvedQuery, groups: int) -> Composable:
    """As asked, then time, then dimensions: always the same order for the same data."""
    parts: list[Composable] = [
        SQL("{} {} NULLS LAST").format(_positions([index + 1]), SQL("DESC") if desc else SQL("ASC"))
        for index, desc in query.order
    ]
    asked = {index for index, _ in query.order}
    parts += [_positions([index + 1]) for index in range(groups) if index not in asked]
    return SQL(" ORDER BY {}").format(SQL(", ").join(parts)) if parts else SQL("")


def _positions(numbers: Any) -> Composable:
    return SQL(", ").join([sql.Literal(int(number)) for number in numbers])


def _aggregate(measure: ResolvedMeasure, query: ResolvedQuery, seconds: Composable) -> Composable:
    agg, found = measure.agg, measure.field
    if found is None:
        counted: Composable = SQL("count(*)")
        return counted if agg == "count" else SQL("count(*) / {}").format(seconds)
    column = field_sql(found)
    if agg == "count":
        return SQL("count({})").format(column)
    if agg == "count_distinct":
        return SQL("count(DISTINCT {})").format(column)
    if agg in ("min", "max"):
        return SQL("{}({})").format(Identifier(agg), column)
    if agg in ("first", "last"):
        return _edge(column, query, agg)
    number = SQL("{}::double precision").format(column)
    if agg in _PERCENTILES:
        return SQL("percentile_cont({}) WITHIN GROUP (ORDER BY {})").format(
            sql.Literal(float(_PERCENTILES[agg])), number
        )
    if agg == "rate":
        return SQL("sum({}) / {}").format(number, seconds)
    if agg == "stddev":
        return SQL("stddev_samp({})").format(number)
    if agg == "sum" and found.type is FieldType.INTEGER:
        return SQL("sum({})").format(column)
    return SQL("{}({})").format(SQL("sum") if agg == "sum" else SQL("avg"), number)


def _edge(column: Composable, query: ResolvedQuery, agg: str) -> Composable:
    direction = SQL("ASC") if agg == "first" else SQL("DESC")
    names = [n for n in (query.relation.time_column, query.relation.order_column) if n is not None]
    order: list[Composable] = [SQL("{} {}").format(Identifier(n), direction) for n in names] or [column]
    return SQL("(array_agg({} ORDER BY {}) FILTER (WHERE {} IS NOT NULL))[1]").format(
        column, SQL(", ").join(order), column
    )
