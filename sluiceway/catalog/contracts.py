"""What a pipeline is, as written in YAML. These models are the schema that editors and the API publish.

Belongs here: the shape and its checks. Not here: reading YAML (`yaml_source`), keeping it (`service`).
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from sluiceway.catalog.base import Duration as Duration
from sluiceway.catalog.base import EventPath as EventPath
from sluiceway.catalog.base import Strict as Strict
from sluiceway.catalog.base import format_duration as format_duration
from sluiceway.catalog.base import parse_duration as parse_duration
from sluiceway.catalog.limits import LimitsSpec
from sluiceway.catalog.senders import KeyVerify, VerifySpec

SLUG_PATTERN = r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$"
_ORIGIN = re.compile(
    r"https?://([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(:\d{1,5})?"
)
COLUMN_PATTERN = r"^[a-z][a-z0-9_]{0,57}$"
MAX_FIELDS = 200
IDEMPOTENCY_KEY = "idempotency-key"
"""The request header whose value, with an event's place and bytes, is its id where it has no other."""
# Columns every silver table has before the pipeline's own fields.
SYSTEM_COLUMNS = (
    "workspace_id", "seq", "event_id", "event_time", "received_at", "batch_id", "position",
)  # fmt: skip


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

    `id`: one path, or several whose values together identify the event; absent: the delivery id of the
    sender's scheme, else one made of the request's Idempotency-Key, else of where the event lies in the
    spool. `time`: absent: when it was received.
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
    verify: VerifySpec | None = Field(
        default=None, description="The sender's own signature; absent: only API keys may send."
    )
    allowed_origins: list[str] = Field(
        default=[],
        max_length=50,
        description="Sites whose pages may send events from a browser, as `https://shop.example.com`.",
    )

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        found = [origin.lower() for origin in origins]
        for origin in found:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} should be a site like https://shop.example.com: scheme, host and, if need"
                    " be, port; no path and no wildcard"
                )
        return list(dict.fromkeys(found))


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
    limits: LimitsSpec = LimitsSpec()

    @model_validator(mode="after")
    def _window_covers_retries(self) -> "PipelineSpec":
        verify = self.source.verify
        if verify is not None and self.dedupe.window < verify.retry_horizon:
            raise _window_too_short(self.dedupe, verify)
        return self

    @model_validator(mode="after")
    def _no_secret_is_kept(self) -> "PipelineSpec":
        verify = self.source.verify
        if isinstance(verify, KeyVerify) and verify.header and verify.header.lower() in self.header_names:
            raise ValueError(
                f"header:{verify.header} holds the sender's secret (source.verify): no path may read it"
            )
        return self

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
    def delivery_id_paths(self) -> tuple[str, ...]:
        """Where the sender's own id of a delivery is; used where `event.id` is absent."""
        if self.event.id is not None or self.source.verify is None:
            return ()
        return self.source.verify.delivery_id

    @property
    def header_names(self) -> tuple[str, ...]:
        """Lower-case names of the request headers that are kept: those that paths of this pipeline read,
        and the Idempotency-Key where events have no id of their own."""
        paths = [
            *self.event.id_paths,
            *self.delivery_id_paths,
            self.event.time,
            *(f.source_path for f in self.fields),
        ]
        found = {p.removeprefix("header:").lower() for p in paths if p and p.startswith("header:")}
        if self.event.id is None:
            found.add(IDEMPOTENCY_KEY)
        return tuple(sorted(found))


def _window_too_short(dedupe: DedupeSpec, verify: VerifySpec) -> ValidationError:
    text = (
        "is {window}, but should be at least {horizon}: for so long a sender of the scheme {scheme} tries"
        " again, and a retry after the window would be a second event"
    )
    values = {
        "window": format_duration(dedupe.window),
        "horizon": format_duration(verify.retry_horizon),
        "scheme": verify.scheme,
    }
    problem = PydanticCustomError("window_too_short", text, values)
    error = InitErrorDetails(type=problem, loc=("dedupe", "window"), input=dedupe)
    return ValidationError.from_exception_data("PipelineSpec", [error])


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

    kind: Literal["Pipeline", "Suite", "Dashboard", "Rule"]
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
