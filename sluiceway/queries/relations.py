"""What can be queried: a pipeline's silver table, or a relation of schema `marts`, as fields with types.

Pure: made from the catalog's spec, or from columns that the repository read. Every identifier that reaches
SQL comes from here.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from psycopg.sql import SQL, Composable

from sluiceway.catalog.contracts import FieldRole, FieldType, Pipeline, PipelineSpec
from sluiceway.catalog.model_types import MODEL_TYPES
from sluiceway.rules.conditions import fields
from sluiceway.rules.contracts import Effect, Guard, Mask
from sluiceway.rules.policies import ColumnInfo, known_condition

Role = Literal["system", "dimension", "measure", "attribute"]

_SYSTEM_FIELDS = (
    ("event_time", FieldType.TIMESTAMP, "Event time"),
    ("received_at", FieldType.TIMESTAMP, "Received at"),
    ("event_id", FieldType.STRING, "Event id"),
    ("position", FieldType.STRING, "Position"),
    ("seq", FieldType.INTEGER, "Sequence"),
    ("batch_id", FieldType.INTEGER, "Batch"),
)
_TIME_COLUMNS = ("event_time", "time", "ts", "bucket", "hour", "day", "date", "week", "month")
_PLAIN = (None, "text")
NUMERIC = (FieldType.INTEGER, FieldType.NUMBER)


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One field that may be named in a query. `database_type` is set where it is not the field type's own.

    `mask`: it is shown, and dealt with, as this and not as it is.
    """

    name: str
    type: FieldType
    role: Role
    unit: str | None = None
    title: str | None = None
    database_type: str | None = None
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class GoldFacts:
    """What the aggregates know exactly, over all versions that the pipeline ever had.

    `always` is a measure that every row has, so that its samples count the events; None: there is none.
    """

    dimensions: frozenset[str]
    measures: frozenset[str]
    always: frozenset[str]

    def seen_under(self, effect: Effect) -> "GoldFacts | None":
        """None where rows are judged by what is no dimension: then gold cannot tell whose its numbers are."""
        if effect.ruled and not effect.judged_by <= self.dimensions:
            return None
        masked = frozenset(effect.masks)
        return GoldFacts(self.dimensions - masked, self.measures - masked, self.always - masked)


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view to read. `order_column` breaks ties of time; `pipeline_id` is None for a model.

    `hidden`: fields that whoever asks may not name. `guards`: which rows they may see, judged by the
    columns `judges` as they are.
    """

    schema: str
    name: str
    fields: dict[str, FieldInfo]
    time_column: str | None
    order_column: str | None
    pipeline_id: int | None = None
    gold: GoldFacts | None = None
    hidden: frozenset[str] = frozenset()
    guards: tuple[Guard, ...] = ()
    judges: Mapping[str, ColumnInfo] | None = None

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def suggest(self, name: str) -> str:
        """The end of a sentence that helps someone who wrote an unknown name."""
        return suggestion(name, self.fields)

    def seen_under(self, effect: Effect) -> "Relation":
        """As it is for those whom the rules concern: masked, and without gold where gold knows too little."""
        if not effect.touches:
            return self
        masks = {name: mask for name, mask in effect.masks.items() if name in self.fields}
        return replace(
            self,
            fields={
                name: _masked(field, masks[name]) if name in masks else field
                for name, field in self.fields.items()
                if name not in masks or masks[name].kind != "hide"
            },
            hidden=frozenset(name for name, mask in masks.items() if mask.kind == "hide"),
            time_column=None if self.time_column in masks else self.time_column,
            gold=None if self.gold is None else self.gold.seen_under(effect),
            guards=effect.guards,
            judges={
                name: ColumnInfo(f.type, cast=f.type is not FieldType.JSON and f.database_type not in _PLAIN)
                for name, f in self.fields.items()
            },
        )

    def guard(self, bind: Callable[[Any], Composable]) -> Composable | None:
        """The rows that whoever asks may see, as a condition; None: nothing judges, or the policy alone."""
        judges = self.judges
        if judges is None or not all(fields(guard.condition) <= judges.keys() for guard in self.guards):
            return None
        parts = [known_condition(g.condition, judges, dict(g.attributes), bind) for g in self.guards]
        return SQL(" AND ").join([SQL("({})").format(part) for part in parts]) if parts else None


def _masked(field: FieldInfo, mask: Mask) -> FieldInfo:
    role: Role = "dimension" if field.role == "dimension" else "attribute"
    return replace(field, type=FieldType.STRING, role=role, unit=None, mask=mask)


def suggestion(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"there are: {shown}"


def of_pipeline(pipeline: Pipeline, history: Sequence[PipelineSpec]) -> Relation:
    """The silver table of a pipeline. `history` holds the specs of all its versions."""
    fields = {name: FieldInfo(name, kind, "system", None, title) for name, kind, title in _SYSTEM_FIELDS}
    for spec in pipeline.spec.fields:
        fields[spec.name] = FieldInfo(spec.name, spec.type, spec.role.value, spec.unit, spec.title)
    return Relation(
        schema="silver",
        name=pipeline.silver_table,
        fields=fields,
        time_column="event_time",
        order_column="seq",
        pipeline_id=pipeline.id,
        gold=gold_facts(history),
    )


def gold_facts(history: Sequence[PipelineSpec]) -> GoldFacts:
    """A field that was something else in an older version has rows without samples: silver answers it."""
    roles: dict[str, set[FieldRole]] = {}
    required: dict[str, int] = {}
    for spec in history:
        for field in spec.fields:
            roles.setdefault(field.name, set()).add(field.role)
            if field.required and field.role is FieldRole.MEASURE:
                required[field.name] = required.get(field.name, 0) + 1
    return GoldFacts(
        dimensions=frozenset(name for name, seen in roles.items() if seen == {FieldRole.DIMENSION}),
        measures=frozenset(name for name, seen in roles.items() if seen == {FieldRole.MEASURE}),
        always=frozenset(name for name, times in required.items() if times == len(history)),
    )


def of_model(schema: str, name: str, columns: Sequence[tuple[str, str, str | None]]) -> Relation:
    """A relation of the modelers. `columns`: name, PostgreSQL type, comment."""
    fields: dict[str, FieldInfo] = {}
    for column, database_type, comment in columns:
        kind = MODEL_TYPES.get(database_type.partition("(")[0])
        if kind is None or column == "workspace_id":
            continue
        role: Role = "measure" if kind in NUMERIC else "dimension"
        fields[column] = FieldInfo(column, kind, role, None, comment, database_type.partition("(")[0])
    return Relation(schema, name, fields, _time_column(fields), None)


def _time_column(fields: dict[str, FieldInfo]) -> str | None:
    times = [f.name for f in fields.values() if f.type in (FieldType.TIMESTAMP, FieldType.DATE)]
    return next((name for name in _TIME_COLUMNS if name in times), times[0] if times else None)
