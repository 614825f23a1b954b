"""What a pipeline is, as written in YAML. These models are the schema that editors and the API publish.

Belongs here: the shape and its checks. Not here: reading YAML (`yaml_source`), keeping it (`service`).
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

SLUG_PATTERN = r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$"
COLUMN_PATTERN = r"^[a-z][a-z0-9_]{0,57}$"
MAX_FIELDS = 200
# Columns every silver table has before the pipeline's own fields.
SYSTEM_COLUMNS = (
    "workspace_id", "seq", "event_id", "event_time", "received_at", "batch_id", "position",
)  # fmt: skip

_DURATION = re.compile(r"^(\d+)\s*(m|h|d|w|y)$")
_DURATION_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(value: object) -> object:
    """`90d` → 90 days; `y` is 365 days. Anything else goes on to pydantic unchanged."""
    if isinstance(value, str) and (match := _DURATION.match(value)):
        count, unit = int(match[1]), match[2]
        return timedelta(days=365 * count) if unit == "y" else timedelta(**{_DURATION_UNITS[unit]: count})
    if isinstance(value, timedelta):
        return value
    raise ValueError("should be a whole number and a unit: m, h, d, w or y (for example 90d)")


def format_duration(value: timedelta) -> str:
    minutes = int(value.total_seconds() // 60)
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str),
]
EventPath = Annotated[str, Field(min_length=1, max_length=300)]
"""Where a value is: dotted keys (`repository.full_name`, `items.0.price`), a JSON Pointer (`/a.b/c`), or
`header:x-github-event` for a request header."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    DATE = "date"
    JSON = "json"


class FieldRole(StrEnum):
    DIMENSION = "dimension"
    MEASURE = "measure"
    ATTRIBUTE = "attribute"


class FieldSpec(Strict):
    """One typed column of the silver table.

    A measure (integer or number) also becomes samples; a dimension (string, boolean or integer) names
    the series they belong to; an attribute is only a column.
    """

    name: str = Field(pattern=COLUMN_PATTERN)
    path: EventPath | None = Field(default=None, description="Where it is in the event; default: its name.")
    type: FieldType
    role: FieldRole = FieldRole.ATTRIBUTE
    required: bool = False
    default: str | int | float | bool | None = None
    unit: str | None = Field(default=None, max_length=20)
    title: str | None = Field(default=None, max_length=80)
    description: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _role_fits_type(self) -> "FieldSpec":
        if self.name in SYSTEM_COLUMNS:
            raise ValueError(f"name {self.name!r} is one of the platform's own columns")
        if self.role is FieldRole.MEASURE and self.type not in (FieldType.INTEGER, FieldType.NUMBER):
            raise ValueError("a measure has type integer or number")
        if self.role is FieldRole.DIMENSION and self.type not in (
            FieldType.STRING, FieldType.BOOLEAN, FieldType.INTEGER,
        ):  # fmt: skip
            raise ValueError("a dimension has type string, boolean or integer")
        return self

    @property
    def source_path(self) -> str:
        return self.path or self.name


class EventSpec(Strict):
    """How an event is told from another and when it happened.

    `id`: one path, or several whose values together identify the event; absent: the platform assigns one
    from where the event lies in the spool. `time`: absent: when it was received.
    """

    id: EventPath | list[EventPath] | None = None
    time: EventPath | None = None

    @property
    def id_paths(self) -> tuple[str, ...]:
        if self.id is None:
            return ()
        return (self.id,) if isinstance(self.id, str) else tuple(self.id)


class SourceSpec(Strict):
    type: Literal["webhook"] = "webhook"
    split: EventPath | None = Field(
        default=None, description="Path of an array inside the body whose items are the events."
    )


class QualitySpec(Strict):
    suite: str = Field(pattern=SLUG_PATTERN, description="Name of an applied expectation suite.")


class DedupeSpec(Strict):
    window: Duration = timedelta(days=7)


class RetentionSpec(Strict):
    """How long each layer is kept. Gold outlives silver, and silver never outlives bronze by need."""

    bronze: Duration | None = None
    silver: Duration | None = Field(default=None, description="Older events become dead letters.")


class FreshnessSpec(Strict):
    """After how long without an event the pipeline counts as late."""

    warn_after: Duration = timedelta(hours=1)


class PipelineSpec(Strict):
    """A pipeline: source, identity and time of events, fields, quality, retention."""

    kind: Literal["Pipeline"] = "Pipeline"
    name: str = Field(pattern=SLUG_PATTERN)
    title: str = Field(default="", max_length=120)
    description: str = Field(default="", max_length=2000)
    source: SourceSpec = SourceSpec()
    event: EventSpec = EventSpec()
    fields: list[FieldSpec] = Field(min_length=1, max_length=MAX_FIELDS)
    quality: QualitySpec | None = None
    dedupe: DedupeSpec = DedupeSpec()
    retention: RetentionSpec = RetentionSpec()
    freshness: FreshnessSpec = FreshnessSpec()

    @model_validator(mode="after")
    def _names_are_unique(self) -> "PipelineSpec":
        seen: set[str] = set()
        for index, field in enumerate(self.fields):
            if field.name in seen:
                raise ValueError(f"fields.{index}.name {field.name!r} is used twice")
            seen.add(field.name)
        return self

    @property
    def measures(self) -> list[FieldSpec]:
        return [f for f in self.fields if f.role is FieldRole.MEASURE]

    @property
    def dimensions(self) -> list[FieldSpec]:
        return [f for f in self.fields if f.role is FieldRole.DIMENSION]

    @property
    def header_names(self) -> tuple[str, ...]:
        """Lower-case names of the request headers that paths of this pipeline read."""
        paths = [*self.event.id_paths, self.event.time, *(f.source_path for f in self.fields)]
        return tuple(
            sorted({p.removeprefix("header:").lower() for p in paths if p and p.startswith("header:")})
        )


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An applied pipeline: its place in the database and its newest (or the named) version's spec."""

    id: int
    workspace_id: int
    slug: str
    name: str
    version: int
    state: Literal["active", "paused", "archived"]
    silver_table: str
    spec: PipelineSpec
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a file did."""

    kind: Literal["Pipeline", "Suite", "Dashboard"]
    name: str
    version: int
    outcome: Literal["created", "updated", "unchanged"]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a pipeline file, for editors."""
    schema = PipelineSpec.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Sluiceway pipeline",
    }
