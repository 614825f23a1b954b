"""The gate as a protocol, what a suite file says, and what is kept of what the gates found.

Belongs here: shapes. Not here: Great Expectations (`expectations.runner` implements `Gate` with it) and
the database (`service`). pandas is named for types only: this module costs nothing to import.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

from pydantic import Field, model_validator

from sluiceway.catalog.contracts import SLUG_PATTERN, Pipeline, Strict
from sluiceway.quality import patterns

if TYPE_CHECKING:
    import pandas as pd

Action = Literal["quarantine", "hold", "warn"]
Verdict = Literal["pass", "warn", "quarantine", "hold"]
Origin = Literal["live", "replay", "deep"]
DeadLetterState = Literal["open", "held", "retried", "discarded"]

MAX_EXPECTATIONS = 200


@dataclass(frozen=True, slots=True)
class ExpectationOutcome:
    """What one expectation found in one batch.

    `evaluated` counts the values (or rows) looked at, `unexpected` those that failed; an expectation about
    the whole batch evaluates 1. `detail` holds what helps a person (observed value, examples, an error).
    """

    expectation: str
    action: Action
    success: bool
    evaluated: int
    unexpected: int
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What is to happen with a batch.

    `failing` gives, for each row to be quarantined (counted from 0 in the frame), the name of the first
    expectation it failed. With verdict `hold` every row is held. `failing` may be non-empty then too.
    """

    verdict: Verdict
    failing: dict[int, str] = field(default_factory=dict)
    outcomes: tuple[ExpectationOutcome, ...] = ()

    @property
    def holding(self) -> ExpectationOutcome | None:
        """The first outcome that holds the batch; its name is the reason of the held rows."""
        return next((o for o in self.outcomes if o.action == "hold" and not o.success), None)


class Gate(Protocol):
    """Judges batches. Called by one loader thread at a time; never raises for what a frame holds."""

    def check(self, pipeline: Pipeline, frame: "pd.DataFrame") -> GateVerdict:
        """The verdict on `frame`: one row per event, one column per field of the pipeline."""
        ...

    def invalidate(self) -> None:
        """Forget which suites were loaded (a suite has been applied)."""
        ...


class NoGate:
    """Lets everything pass."""

    def check(self, pipeline: Pipeline, frame: "pd.DataFrame") -> GateVerdict:
        return GateVerdict("pass")

    def invalidate(self) -> None:
        return None


class ExpectationSpec(Strict):
    """One expectation: a Great Expectations type with its arguments, and what a failure means."""

    name: str = Field(pattern=SLUG_PATTERN, description="Unique in the suite; names what failed.")
    type: str = Field(
        pattern=r"^expect_[a-z0-9_]{1,90}$",
        description="A core Great Expectations type, for example expect_column_values_to_be_between.",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="The expectation's own arguments.")
    on_failure: Action = Field(
        description=(
            "quarantine: the failing rows become dead letters and the rest loads; hold: the whole batch"
            " waits for a person; warn: everything loads and the failure is recorded."
        )
    )
    mostly: float | None = Field(
        default=None, gt=0, le=1, description="Share of rows that must pass (hold and warn only)."
    )
    min_rows: int = Field(
        default=1, ge=0, le=1_000_000, description="Batches with fewer rows are not asked this."
    )
    description: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _consistent(self) -> "ExpectationSpec":
        if self.mostly is not None and self.on_failure == "quarantine":
            raise ValueError("mostly goes with hold or warn: quarantine is about single rows")
        if "mostly" in self.kwargs:
            raise ValueError("mostly is written beside kwargs, not inside")
        given = [self.kwargs.get("regex"), *_listed(self.kwargs.get("regex_list"))]
        for pattern in given:
            wrong = patterns.problem(pattern) if isinstance(pattern, str) else None
            if wrong is not None:
                raise ValueError(f"regex should {wrong}")
        return self


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class SuiteSpec(Strict):
    """An expectation suite, as written in `expectations/suites/*.yml`."""

    kind: Literal["Suite"] = "Suite"
    name: str = Field(pattern=SLUG_PATTERN)
    title: str = Field(default="", max_length=120)
    description: str = Field(default="", max_length=2000)
    expectations: list[ExpectationSpec] = Field(min_length=1, max_length=MAX_EXPECTATIONS)

    @model_validator(mode="after")
    def _names_are_unique(self) -> "SuiteSpec":
        seen: set[str] = set()
        for index, expectation in enumerate(self.expectations):
            if expectation.name in seen:
                raise ValueError(f"expectations.{index}.name {expectation.name!r} is used twice")
            seen.add(expectation.name)
        return self


@dataclass(frozen=True, slots=True)
class Suite:
    """An applied suite in one of its versions; `source` is the YAML exactly as applied."""

    id: int
    workspace_id: int
    name: str
    version: int
    spec: SuiteSpec
    source: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class QualityResult:
    """What one expectation found in one minute, summed over that minute's batches."""

    pipeline_id: int
    pipeline: str
    suite: str
    expectation: str
    origin: Origin
    minute: datetime
    action: Action
    batches: int
    failed_batches: int
    evaluated: int
    unexpected: int
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class QualitySummary:
    """One expectation over a stretch of time; `last_detail` is that of its newest failing minute."""

    expectation: str
    suite: str
    action: Action
    batches: int
    failed_batches: int
    evaluated: int
    unexpected: int
    last_at: datetime
    last_failed_at: datetime | None
    last_detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not become silver: at which step, why, its bytes and headers as received."""

    id: UUID
    pipeline_id: int
    pipeline: str
    batch_name: str
    position: str
    event_id: str | None
    event_time: datetime | None
    step: Literal["parse", "map", "gate", "retention"]
    code: str
    reason: str
    expectation: str | None
    payload: bytes
    headers: dict[str, str]
    received_at: datetime
    created_at: datetime
    state: DeadLetterState
    resolved_at: datetime | None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a suite file, for editors."""
    schema = SuiteSpec.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Sluiceway expectation suite",
    }
