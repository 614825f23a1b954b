"""Conditions as SQL: over a silver table or a mart, and over the dimensions of `silver.series`.

Pure. What comes out becomes part of a policy (`app.enforce_rules`, `app.visible_series`): every name is
quoted and comes from the catalog, every value is a literal. What whoever looks has is asked for once a
statement: each `(SELECT app.rule_…)` is evaluated before the first row.
"""

import re
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
# As app.rule_integers and app.rule_numbers read them.
_NUMBERS = {
    FieldType.STRING: re.compile(r".*", re.DOTALL),
    FieldType.BOOLEAN: re.compile(r".*", re.DOTALL),
    FieldType.INTEGER: re.compile(r"-?[0-9]{1,18}"),
    FieldType.NUMBER: re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?"),
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
_HeldSql = Callable[[UserAttribute, FieldType], Composable]
"""The values of an attribute, as an array that a field of this type compares with."""


def misfits(condition: Condition, columns: _Columns) -> list[str]:
    """What of the condition does not go with the columns, as sentences; [] : it can be compiled."""
    return [found for leaf in leaves(condition) if (found := _misfit(leaf, columns)) is not None]


def table_condition(spec: RuleSpec, condition: Condition, columns: _Columns) -> str:
    """The rule over the table's own columns."""

    def column(name: str) -> Composable:
        return _table_column(name, columns[name])

    return _wrapped(spec, condition, columns, column)


def series_condition(spec: RuleSpec, condition: Condition, columns: _Columns) -> str:
    """The rule over `silver.series`: nothing, where it names what is no dimension."""

    def dimension(name: str) -> Composable:
        text = SQL("(dimensions ->> {})").format(Literal(name))
        kind = columns[name].type
        return text if kind is FieldType.STRING else SQL("{}::{}").format(text, _CASTS[kind])

    told = all(columns[name].dimension for name in fields(condition))
    return _wrapped(spec, condition if told else None, columns, dimension)


def known_condition(
    condition: Condition,
    columns: _Columns,
    attributes_held: Mapping[str, tuple[str, ...]],
    bind: Callable[[Any], Composable],
) -> Composable:
    """The same condition with the values that somebody has, each given to `bind`.

    Not what keeps rows from them, the policy does: with values PostgreSQL knows how many rows it will find,
    and chooses the plan it would choose for a filter.
    """
    if any(not attributes_held.get(name) for name in attributes(condition)):
        return SQL("false")

    def column(name: str) -> Composable:
        return _table_column(name, columns[name])

    def held(value: UserAttribute, kind: FieldType) -> Composable:
        values = [_typed(one, kind) for one in attributes_held[value.name] if _NUMBERS[kind].fullmatch(one)]
        return SQL("{}::{}").format(bind(values), _ATTRIBUTE_VALUES[kind][1])

    return _sql(condition, _Words(columns, column, held, bind))


def _table_column(name: str, info: ColumnInfo) -> Composable:
    plain = Identifier(name)
    return SQL("{}::{}").format(plain, _CASTS[info.type]) if info.cast else plain


def _typed(text: str, kind: FieldType) -> str | int | float:
    if kind is FieldType.INTEGER:
        return int(text)
    return float(text) if kind is FieldType.NUMBER else text


def _wrapped(spec: RuleSpec, condition: Condition | None, columns: _Columns, column: _ColumnSql) -> str:
    """For each of the eyes: the rule does not concern them, or it lets the row through."""
    needed = [] if condition is None else sorted(attributes(condition))
    parts = []
    for eye in EYES:
        words = _Words(columns, column, _asked(eye), Literal)
        judged = SQL("false") if condition is None else _sql(condition, words)
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


def _asked(eye: int) -> _HeldSql:
    """What the transaction says that these eyes have, asked once a statement."""

    def held(value: UserAttribute, kind: FieldType) -> Composable:
        function, cast = _ATTRIBUTE_VALUES[kind]
        return SQL("(SELECT {}({}, {}))::{}").format(function, Literal(eye), Literal(value.name), cast)

    return held


@dataclass(frozen=True, slots=True)
class _Words:
    """How columns, attributes and constants are written."""

    columns: _Columns
    column: _ColumnSql
    held: _HeldSql
    literal: Callable[[Any], Composable]


def _sql(condition: Condition, words: _Words) -> Composable:
    if isinstance(condition, Not):
        return SQL("NOT ({})").format(_sql(condition.part, words))
    if isinstance(condition, Junction):
        parts = [SQL("({})").format(_sql(part, words)) for part in condition.parts]
        return SQL(" AND " if condition.word == "and" else " OR ").join(parts)
    name = words.column(condition.field)
    if isinstance(condition, IsNull):
        return SQL("{} IS NOT NULL" if condition.negated else "{} IS NULL").format(name)
    kind = words.columns[condition.field].type
    if isinstance(condition, Compare):
        if isinstance(condition.value, UserAttribute):
            return _among(name, kind, words.held(condition.value, kind), condition.op == "!=")
        value = SQL("{}::{}").format(words.literal(condition.value), _cast_of(kind, [condition.value]))
        op = "<>" if condition.op == "!=" else condition.op
        return SQL("{} " + op + " {}").format(name, value)
    if isinstance(condition.values, UserAttribute):
        return _among(name, kind, words.held(condition.values, kind), condition.negated)
    values = list(condition.values)
    listed = SQL("{}::{}[]").format(words.literal(values), _cast_of(kind, values))
    return SQL("{} <> ALL ({})" if condition.negated else "{} = ANY ({})").format(name, listed)


def _among(name: Composable, kind: FieldType, held: Composable, negated: bool) -> Composable:
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
