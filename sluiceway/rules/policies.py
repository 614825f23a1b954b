"""Conditions as SQL: over a silver table or a mart, and over the dimensions of `silver.series`.

Pure. What comes out becomes part of a policy (`app.enforce_rules`, `app.visible_series`): every name is
quoted and comes from the catalog, every value is a literal. What whoever looks has is asked for once a
statement: each `(SELECT app.rule_…)` is evaluated before the first row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg.sql import SQL, Composable, Identifier, Literal
from pydantic import TypeAdapter, ValidationError

from sluiceway.catalog.contracts import FieldType
from sluiceway.rules.conditions import (
    Among,
    Compare,
    Condition,
    Constant,
    IsNull,
    Junction,
    Not,
    UserAttribute,
    attributes,
    fields,
    leaves,
)
from sluiceway.rules.contracts import RuleSpec

EYES = (0, 1)
"""Who looks, and who looks through them (`DataAccess.eyes`)."""
_CASTS = {
    FieldType.STRING: SQL("text"),
    FieldType.INTEGER: SQL("bigint"),
    FieldType.NUMBER: SQL("double precision"),
    FieldType.BOOLEAN: SQL("boolean"),
    FieldType.TIMESTAMP: SQL("timestamptz"),
    FieldType.DATE: SQL("date"),
}
_ORDERED = (FieldType.INTEGER, FieldType.NUMBER, FieldType.TIMESTAMP, FieldType.DATE)
_ATTRIBUTE_VALUES = {
    FieldType.STRING: (SQL("app.rule_values"), SQL("text[]")),
    FieldType.INTEGER: (SQL("app.rule_integers"), SQL("bigint[]")),
    FieldType.NUMBER: (SQL("app.rule_numbers"), SQL("double precision[]")),
    FieldType.BOOLEAN: (SQL("app.rule_values"), SQL("text[]")),
}
_TIMES: dict[FieldType, TypeAdapter[Any]] = {
    FieldType.TIMESTAMP: TypeAdapter(datetime),
    FieldType.DATE: TypeAdapter(date),
}


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column that a rule may name. `cast`: its database type is another one than its field type's own."""

    type: FieldType
    dimension: bool = False
    cast: bool = False


_Columns = Mapping[str, ColumnInfo]
_ColumnSql = Callable[[str], Composable]


def misfits(condition: Condition, columns: _Columns) -> list[str]:
    """What of the condition does not go with the columns, as sentences; [] : it can be compiled."""
    return [found for leaf in leaves(condition) if (found := _misfit(leaf, columns)) is not None]


def table_condition(spec: RuleSpec, condition: Condition, columns: _Columns) -> str:
    """The rule over the table's own columns."""

    def column(name: str) -> Composable:
        found = columns[name]
        plain = Identifier(name)
        return SQL("{}::{}").format(plain, _CASTS[found.type]) if found.cast else plain

    return _wrapped(spec, condition, columns, column)


def series_condition(spec: RuleSpec, condition: Condition, columns: _Columns) -> str:
    """The rule over `silver.series`: nothing, where it names what is no dimension."""

    def dimension(name: str) -> Composable:
        text = SQL("(dimensions ->> {})").format(Literal(name))
        kind = columns[name].type
        return text if kind is FieldType.STRING else SQL("{}::{}").format(text, _CASTS[kind])

    told = all(columns[name].dimension for name in fields(condition))
    return _wrapped(spec, condition if told else None, columns, dimension)


def _wrapped(spec: RuleSpec, condition: Condition | None, columns: _Columns, column: _ColumnSql) -> str:
    """For each of the eyes: the rule does not concern them, or it lets the row through."""
    needed = [] if condition is None else sorted(attributes(condition))
    parts = []
    for eye in EYES:
        judged = SQL("false") if condition is None else _sql(condition, columns, column, eye)
        parts.append(
            SQL(
                "((SELECT app.rule_spares({eye}, {roles}::text[], {exempt}::text[])) OR"
                " ((SELECT app.rule_judges({eye}, {needed}::text[])) AND ({judged})))"
            ).format(
                eye=Literal(eye),
                roles=Literal(spec.roles),
                exempt=Literal(spec.exempt),
                needed=Literal(needed),
                judged=judged,
            )
        )
    return SQL(" AND ").join(parts).as_string(None)


def _sql(condition: Condition, columns: _Columns, column: _ColumnSql, eye: int) -> Composable:
    if isinstance(condition, Not):
        return SQL("NOT ({})").format(_sql(condition.part, columns, column, eye))
    if isinstance(condition, Junction):
        parts = [SQL("({})").format(_sql(part, columns, column, eye)) for part in condition.parts]
        return SQL(" AND " if condition.word == "and" else " OR ").join(parts)
    name = column(condition.field)
    if isinstance(condition, IsNull):
        return SQL("{} IS NOT NULL" if condition.negated else "{} IS NULL").format(name)
    kind = columns[condition.field].type
    if isinstance(condition, Compare):
        if isinstance(condition.value, UserAttribute):
            return _among(name, kind, condition.value, eye, condition.op == "!=")
        value = SQL("{}::{}").format(Literal(condition.value), _cast_of(kind, [condition.value]))
        op = "<>" if condition.op == "!=" else condition.op
        return SQL("{} " + op + " {}").format(name, value)
    if isinstance(condition.values, UserAttribute):
        return _among(name, kind, condition.values, eye, condition.negated)
    values = list(condition.values)
    listed = SQL("{}::{}[]").format(Literal(values), _cast_of(kind, values))
    return SQL("{} <> ALL ({})" if condition.negated else "{} = ANY ({})").format(name, listed)


def _among(name: Composable, kind: FieldType, value: UserAttribute, eye: int, negated: bool) -> Composable:
    function, cast = _ATTRIBUTE_VALUES[kind]
    held = SQL("(SELECT {}({}, {}))::{}").format(function, Literal(eye), Literal(value.name), cast)
    compared = SQL("{}::text").format(name) if kind is FieldType.BOOLEAN else name
    return SQL("{} <> ALL ({})" if negated else "{} = ANY ({})").format(compared, held)


def _cast_of(kind: FieldType, values: list[Constant]) -> SQL:
    if kind is FieldType.INTEGER and any(isinstance(value, float) for value in values):
        return SQL("double precision")
    return _CASTS[kind]


def _misfit(leaf: Compare | Among | IsNull, columns: _Columns) -> str | None:
    found = columns.get(leaf.field)
    if found is None:
        return f"{leaf.field!r} is not a field; there are: {', '.join(sorted(columns)[:12])}"
    if isinstance(leaf, IsNull):
        return None
    if found.type is FieldType.JSON:
        return f"{leaf.field!r} is json, of which only `is null` and `is not null` can be asked"
    value = leaf.value if isinstance(leaf, Compare) else leaf.values
    if isinstance(value, UserAttribute):
        if found.type not in _ATTRIBUTE_VALUES:
            return f"{leaf.field!r} is {found.type.value}, which cannot be compared with user.{value.name}"
        return None
    if isinstance(leaf, Compare) and leaf.op not in ("=", "!=") and found.type not in _ORDERED:
        return f"`{leaf.op}` needs a number or a time, and {leaf.field!r} is {found.type.value}"
    constants = value if isinstance(value, tuple) else (value,)
    wrong = next((one for one in constants if not _fits(one, found.type)), None)
    return None if wrong is None else f"{wrong!r} is not {_EXPECTED[found.type]}, as {leaf.field!r} is"


_EXPECTED = {
    FieldType.STRING: "a text", FieldType.INTEGER: "a number", FieldType.NUMBER: "a number",
    FieldType.BOOLEAN: "true or false", FieldType.TIMESTAMP: "a time (ISO 8601, in quotes)",
    FieldType.DATE: "a date (ISO 8601, in quotes)",
}  # fmt: skip


def _fits(value: Constant, kind: FieldType) -> bool:
    if kind is FieldType.STRING:
        return isinstance(value, str)
    if kind is FieldType.BOOLEAN:
        return isinstance(value, bool)
    if kind in (FieldType.INTEGER, FieldType.NUMBER):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and -(2**63) <= value < 2**63  # type: ignore[operator]  # a number
    try:
        _TIMES[kind].validate_strings(value) if isinstance(value, str) else None
    except ValidationError:
        return False
    return isinstance(value, str)
