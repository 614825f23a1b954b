"""SQL that answers a query from gold: partial aggregates of the series asked for, put together.

Each part of the range comes from its own level; what is finer than a minute from the silver table (readers
have no right to the samples on TimescaleDB). A last column
says whether a row's numbers are exactly those silver would give; where one row says no, silver is asked:
- `first`/`last`: two series have their first (last) sample at the same instant, and gold does not know
  which of the two events came first;
- integers past 2^53, which a sample (a double) cannot hold;
- `stddev` where nearly all digits of the sums cancel out.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.sql import SQL, Composable, Identifier

from sluiceway.catalog.contracts import FieldType
from sluiceway.queries.planner import GoldPlan
from sluiceway.queries.resolve import ResolvedMeasure, ResolvedQuery
from sluiceway.queries.statements import (
    Bindings,
    Statement,
    answer_columns,
    bucket_sql,
    cast_sql,
    filter_sql,
    group_by,
    order_by,
    seconds_sql,
)  # fmt: skip
from sluiceway.queries.timeranges import RAW, Segment

MOST_SERIES = 5_000
_EXACT_INTEGERS = 2.0**53
_CANCELLED = 1e-6
_NEEDS = {
    "count": ("count",), "rate": ("count", "sum"), "sum": ("sum",), "avg": ("sum", "count"), "min": ("min",),
    "max": ("max",), "stddev": ("count", "sum", "sum_sq", "min", "max"), "first": ("first", "first_ts"),
    "last": ("last", "last_ts"),
}  # fmt: skip
_OF_SAMPLE = {
    "count": SQL("1::bigint"), "sum": SQL("v.value"), "min": SQL("v.value"), "max": SQL("v.value"),
    "sum_sq": SQL("v.value * v.value"), "first": SQL("v.value"), "last": SQL("v.value"),
    "first_ts": SQL("event_time"), "last_ts": SQL("event_time"),
}  # fmt: skip


def series_statement(query: ResolvedQuery, plan: GoldPlan, workspace_id: int) -> Statement:
    """The series that the query is about: id, metric, dimensions; one more than `MOST_SERIES` at most."""
    bindings = Bindings()
    text = SQL("{} LIMIT {}").format(
        _series(query, plan, workspace_id, bindings), bindings.bind(MOST_SERIES + 1)
    )
    return Statement(text, bindings.values, ())


def gold_statement(
    query: ResolvedQuery,
    plan: GoldPlan,
    workspace_id: int,
    now: datetime,
    series: Sequence[tuple[Any, ...]] | None,
) -> Statement:
    """The query over gold. The last column is `exact` where that can be in doubt.

    `series` are the rows of `series_statement`, so that PostgreSQL plans with numbers it knows; None: there
    are too many to be sent back and forth.
    """
    bindings = Bindings()
    needed = sorted({column for m in query.measures for column in _NEEDS[m.agg]})
    if series is None:
        listed: Composable = _series(query, plan, workspace_id, bindings)
        only_these: Composable = SQL("")
    else:
        listed = _listed(query, series, bindings)
        only_these = _only_these(query, plan, series, bindings)
    parts = [_gold_parts(query, plan, needed, workspace_id, only_these, bindings)]
    parts += [_table_part(s, query, plan, needed, bindings) for s in plan.segments if s.level == RAW]
    groups: list[Composable] = []
    if query.grain is not None:
        groups.append(bucket_sql(SQL("g.bucket"), query.grain, query.timezone, bindings))
    groups += [Identifier("g", f"d{index}") for index in range(len(query.dimensions))]
    seconds = seconds_sql(query, groups, now, bindings)
    alone = len(set(plan.metrics)) == 1
    measures, doubts = [], []
    for measure, metric in zip(query.measures, plan.metrics, strict=True):
        only = SQL("") if alone else SQL(" FILTER (WHERE g.metric = {})").format(bindings.bind(metric))
        value = _combine(measure, only, seconds)
        measures.append(value)
        doubts += _doubts(measure, value, only)
    checks = [SQL("NOT ({})").format(SQL(" OR ").join(doubts))] if doubts else []
    text = SQL("WITH s AS MATERIALIZED ({}), g AS ({}) SELECT {} FROM g{}{} LIMIT {}")
    return Statement(
        text.format(
            listed,
            SQL(" UNION ALL ").join(parts),
            SQL(", ").join([*groups, *measures, *checks]),
            group_by(len(groups)),
            order_by(query, len(groups)),
            bindings.bind(query.limit + 1),
        ),
        bindings.values,
        answer_columns(query),
        checked=bool(checks),
    )


def _series(query: ResolvedQuery, plan: GoldPlan, workspace_id: int, bindings: Bindings) -> Composable:
    columns: list[Composable] = [SQL("series_id"), SQL("metric")]
    for index, dimension in enumerate(query.dimensions):
        value = _dimension(dimension.name, dimension.type)
        columns.append(SQL("{} AS {}").format(value, Identifier(f"d{index}")))
    where = [
        SQL("workspace_id = {}").format(bindings.bind(workspace_id)),
        SQL("pipeline_id = {}").format(bindings.bind(query.relation.pipeline_id)),
        SQL("metric = ANY({}::text[])").format(bindings.bind(sorted(set(plan.metrics)))),
        *(filter_sql(f, _dimension(f.field.name, f.field.type), bindings) for f in query.filters),
    ]
    return SQL("SELECT {} FROM silver.series WHERE {}").format(
        SQL(", ").join(columns), SQL(" AND ").join(where)
    )


def _dimension(name: str, kind: FieldType) -> Composable:
    text = SQL("(dimensions ->> {})").format(sql.Literal(name))
    return text if kind is FieldType.STRING else SQL("{}::{}").format(text, cast_sql(kind))


def _listed(query: ResolvedQuery, series: Sequence[tuple[Any, ...]], bindings: Bindings) -> Composable:
    names = [SQL("series_id"), SQL("metric"), *(Identifier(f"d{i}") for i in range(len(query.dimensions)))]
    types = [SQL("bigint"), SQL("text"), *(cast_sql(d.type) for d in query.dimensions)]
    arrays = [
        SQL("{}::{}[]").format(bindings.bind([row[index] for row in series]), kind)
        for index, kind in enumerate(types)
    ]
    return SQL("SELECT * FROM unnest({}) AS u ({})").format(SQL(", ").join(arrays), SQL(", ").join(names))


def _only_these(
    query: ResolvedQuery, plan: GoldPlan, series: Sequence[tuple[Any, ...]], bindings: Bindings
) -> Composable:
    """A condition that leaves out the other series, where there are others."""
    assert query.relation.gold is not None
    all_of_them = not query.filters and not query.relation.guards
    if all_of_them and set(plan.metrics) >= query.relation.gold.measures:
        return SQL("")
    return SQL(" AND series_id = ANY({}::bigint[])").format(bindings.bind([row[0] for row in series]))


def _gold_parts(
    query: ResolvedQuery,
    plan: GoldPlan,
    needed: list[str],
    workspace_id: int,
    only_these: Composable,
    bindings: Bindings,
) -> Composable:
    """Partial aggregates with their metric and dimensions, from every level that is read."""
    levels = [
        SQL(
            "SELECT series_id, bucket, {} FROM {} WHERE workspace_id = {} AND pipeline_id = {}"
            " AND bucket >= {} AND bucket < {}{}"
        ).format(
            SQL(", ").join(map(Identifier, needed)),
            Identifier("gold", f"samples_{segment.level}"),
            bindings.bind(workspace_id),
            bindings.bind(query.relation.pipeline_id),
            bindings.bind(segment.begin),
            bindings.bind(segment.end),
            only_these,
        )
        for segment in plan.segments
        if segment.level != RAW
    ]
    named = [Identifier(f"d{index}") for index in range(len(query.dimensions))]
    return SQL("SELECT {} FROM ({}) p JOIN s USING (series_id)").format(
        SQL(", ").join([Identifier("metric"), *named, Identifier("bucket"), *map(Identifier, needed)]),
        SQL(" UNION ALL ").join(levels),
    )


def _table_part(
    segment: Segment,
    query: ResolvedQuery,
    plan: GoldPlan,
    needed: list[str],
    bindings: Bindings,
) -> Composable:
    """Less than a minute of the silver table, in the shape of partial aggregates of one sample each."""
    metrics = [
        SQL("({}::text, {}::double precision)").format(bindings.bind(name), Identifier(name))
        for name in sorted(set(plan.metrics))
    ]
    columns: list[Composable] = [SQL("v.metric")]
    columns += [Identifier(d.name) for d in query.dimensions]
    columns += [SQL("event_time"), *(_OF_SAMPLE[name] for name in needed)]
    where = [
        SQL("event_time >= {}").format(bindings.bind(segment.begin)),
        SQL("event_time < {}").format(bindings.bind(segment.end)),
        SQL("v.value IS NOT NULL"),
        *(filter_sql(f, Identifier(f.field.name), bindings) for f in query.filters),
    ]
    return SQL("SELECT {} FROM {} CROSS JOIN LATERAL (VALUES {}) AS v (metric, value) WHERE {}").format(
        SQL(", ").join(columns),
        Identifier(query.relation.schema, query.relation.name),
        SQL(", ").join(metrics),
        SQL(" AND ").join(where),
    )


def _combine(measure: ResolvedMeasure, only: Composable, seconds: Composable) -> Composable:
    agg = measure.agg
    if agg == "count":
        return SQL("coalesce(sum(g.count){}, 0)::bigint").format(only)
    if agg == "rate":
        column = SQL("count") if measure.field is None else SQL("sum")
        return SQL("sum(g.{}){} / {}").format(column, only, seconds)
    if agg in ("sum", "min", "max"):
        return SQL("{}(g.{}){}").format(Identifier(agg), Identifier(agg), only)
    if agg == "avg":
        return SQL("sum(g.sum){} / nullif(sum(g.count){}, 0)::double precision").format(only, only)
    if agg == "stddev":
        return SQL(
            "CASE WHEN sum(g.count){o} > 1 THEN CASE WHEN min(g.min){o} = max(g.max){o} THEN 0"
            " ELSE sqrt(greatest({v}, 0) / (sum(g.count){o} - 1)::double precision) END END"
        ).format(o=only, v=_squares(only))
    return SQL("({})[1]").format(_edges(Identifier(agg), agg, only))


def _squares(only: Composable) -> Composable:
    """Sum of squared distances from the mean."""
    return SQL("(sum(g.sum_sq){o} - (sum(g.sum){o}) * (sum(g.sum){o}) / sum(g.count){o})").format(o=only)


def _edges(column: Composable, agg: str, only: Composable) -> Composable:
    time, direction = Identifier("g", f"{agg}_ts"), SQL("ASC") if agg == "first" else SQL("DESC")
    return SQL("array_agg(g.{} ORDER BY {} {}){}").format(column, time, direction, only)


def _doubts(measure: ResolvedMeasure, value: Composable, only: Composable) -> list[Composable]:
    doubts: list[Composable] = []
    found = measure.field
    if measure.agg in ("first", "last"):
        times = _edges(Identifier(f"{measure.agg}_ts"), measure.agg, only)
        doubts.append(SQL("coalesce(({t})[1] = ({t})[2], false)").format(t=times))
    if measure.agg == "stddev":
        doubts.append(
            SQL("coalesce(min(g.min){o} <> max(g.max){o} AND {v} < {c} * sum(g.sum_sq){o}, false)").format(
                o=only, v=_squares(only), c=sql.Literal(_CANCELLED)
            )
        )
    if (
        found is not None
        and found.type is FieldType.INTEGER
        and measure.agg in ("sum", "min", "max", "first", "last")
    ):
        doubts.append(SQL("coalesce(abs({}) >= {}, false)").format(value, sql.Literal(_EXACT_INTEGERS)))
    return doubts
