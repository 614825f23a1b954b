"""The face of the quality slice: suites, what the gates found, dead letters.

Services take an open connection that acts for the workspace and do not commit. Lists are keyset-paged: ask
for one more than a page holds and hand the last shown item's `key` back as `after`. The engine that judges
is not here (`expectations.runner`), nor is the loader's hot path that writes dead letters.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sluiceway.catalog.contracts import Applied, Pipeline
from sluiceway.kit.errors import FieldError
from sluiceway.kit.yaml_source import Path, read_document, read_model
from sluiceway.quality import repository
from sluiceway.quality.contracts import (
    DeadLetter,
    DeadLetterState,
    ExpectationOutcome,
    Origin,
    QualityResult,
    QualitySummary,
    Suite,
    SuiteSpec,
)
from sluiceway.quality.errors import DeadLetterNotFound, DeadLetterResolved, InvalidSuite, SuiteNotFound

SuiteChecker = Callable[[SuiteSpec], Sequence[FieldError]]
"""What the engine has against a suite, by dotted field (`expectations.checker.check_suite`)."""


def parse_suite(source: str, check: SuiteChecker | None = None) -> SuiteSpec:
    """The suite in a YAML document. Raises `InvalidSuite` with field and line of each error."""
    spec = read_model(source, SuiteSpec, InvalidSuite)
    found = check(spec) if check is not None else ()
    if found:
        _, lines = read_document(source, InvalidSuite)
        errors = [FieldError(e.field, e.message, _line(e.field, lines)) for e in found]
        shown = "; ".join(f"{e.field} {e.message} (line {e.line})" for e in errors[:5])
        raise InvalidSuite(f"{shown}.", errors=errors)
    return spec


def _line(field: str, lines: dict[Path, int]) -> int | None:
    """Of the field, or of the nearest thing around it that is in the file."""
    path: Path = tuple(int(part) if part.isdigit() else part for part in field.split("."))
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def apply_suite(
    connection: sa.Connection, workspace_id: int, source: str, check: SuiteChecker | None = None
) -> Applied:
    """Keep the document as the suite's next version; the same text again changes nothing.

    Raises `InvalidSuite`. Running gates are told at commit (NOTIFY `{"t": "suite", "w", "name"}`).
    """
    spec = parse_suite(source, check)
    repository.lock_suite(connection, workspace_id, spec.name)
    known = repository.find_suite(connection, workspace_id, spec.name, None)
    if known is not None and known["source"] == source:
        return Applied("Suite", spec.name, known["version"], "unchanged")
    version = 1 if known is None else known["version"] + 1
    repository.insert_suite(
        connection, workspace_id, spec.name, version, spec.model_dump(mode="json"), source
    )
    repository.notify_suite(connection, workspace_id, spec.name)
    return Applied("Suite", spec.name, version, "created" if known is None else "updated")


def what_changed(
    connection: sa.Connection, workspace_id: int, applied: Applied
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Before and after, for the audit log."""
    found = repository.find_suite(connection, workspace_id, applied.name, applied.version)
    known = repository.find_suite(connection, workspace_id, applied.name, applied.version - 1)
    after = {} if found is None else found["spec"]
    if known is None:
        return None, {"version": applied.version, "spec": after}
    before = {"version": applied.version - 1, "spec": known["spec"]}
    return before, {"version": applied.version, "spec": after}


def load_suite(connection: sa.Connection, workspace_id: int, name: str) -> SuiteSpec | None:
    """The newest version's spec, or None: what a gate asks for."""
    row = repository.find_suite(connection, workspace_id, name, None)
    return None if row is None else SuiteSpec.model_validate(row["spec"])


def get_suite(connection: sa.Connection, workspace_id: int, name: str, version: int | None = None) -> Suite:
    """The newest (or the named) version. Raises `SuiteNotFound`."""
    row = repository.find_suite(connection, workspace_id, name, version)
    if row is None:
        named = f"suite {name!r}" if version is None else f"version {version} of suite {name!r}"
        raise SuiteNotFound(f"There is no {named} in this workspace.")
    return _suite(row)


def list_suites(connection: sa.Connection, workspace_id: int) -> list[Suite]:
    """The newest version of every suite, by name."""
    return [_suite(row) for row in repository.find_suites(connection, workspace_id)]


def export_suite(connection: sa.Connection, workspace_id: int, name: str, version: int | None = None) -> str:
    """The YAML exactly as it was applied. Raises `SuiteNotFound`."""
    return get_suite(connection, workspace_id, name, version).source


def _suite(row: Any) -> Suite:
    return Suite(
        id=row["id"],
        workspace_id=row["workspace_id"],
        name=row["name"],
        version=row["version"],
        spec=SuiteSpec.model_validate(row["spec"]),
        source=row["source"],
        created_at=row["created_at"],
    )


def record_outcomes(
    connection: sa.Connection,
    pipeline: Pipeline,
    outcomes: Iterable[ExpectationOutcome],
    *,
    origin: Origin,
    at: datetime,
) -> None:
    """Add one batch's outcomes to the results of the minute that `at` lies in (writer's role)."""
    minute = at.astimezone(UTC).replace(second=0, microsecond=0)
    suite = pipeline.spec.quality.suite if pipeline.spec.quality else ""
    rows = [
        {
            "workspace_id": pipeline.workspace_id, "pipeline_id": pipeline.id, "suite": suite,
            "expectation": o.expectation, "origin": origin, "minute": minute, "action": o.action,
            "batches": 1, "failed_batches": 0 if o.success else 1, "evaluated": o.evaluated,
            "unexpected": o.unexpected, "detail": {} if o.success else o.detail,
        }
        for o in outcomes
    ]  # fmt: skip
    repository.add_results(connection, rows)


ResultKey = tuple[datetime, int, str, str]


def result_key(result: QualityResult) -> ResultKey:
    """Where a result stands in `list_results`: (minute, pipeline id, expectation, origin)."""
    return (result.minute, result.pipeline_id, result.expectation, result.origin)


def list_results(
    connection: sa.Connection,
    workspace_id: int,
    *,
    pipeline: str | None = None,
    expectation: str | None = None,
    origin: Origin | None = None,
    failed: bool | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: ResultKey | None = None,
    limit: int = 100,
) -> list[QualityResult]:
    """Results by minute, newest first; `pipeline` is a slug, `failed` picks minutes with (without) one."""
    rows = repository.find_results(
        connection, workspace_id, pipeline=pipeline, expectation=expectation, origin=origin,
        failed=failed, since=since, until=until, after=after, limit=limit,
    )  # fmt: skip
    names = QualityResult.__dataclass_fields__
    return [QualityResult(**{name: row[name] for name in names}) for row in rows]


def summarise_results(
    connection: sa.Connection,
    workspace_id: int,
    pipeline_id: int,
    *,
    since: datetime,
    until: datetime,
    origin: Origin | None = None,
) -> list[QualitySummary]:
    """Each expectation over [`since`, `until`), those that failed most first."""
    rows = repository.summarise(connection, workspace_id, pipeline_id, since, until, origin)
    return [QualitySummary(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class DeadLetterCount:
    pipeline: str
    state: DeadLetterState
    step: str
    code: str
    expectation: str | None
    count: int
    newest_at: datetime


DeadLetterKey = tuple[datetime, UUID]


def dead_letter_key(letter: DeadLetter) -> DeadLetterKey:
    """Where a dead letter stands in `list_dead_letters`: (created at, id)."""
    return (letter.created_at, letter.id)


def list_dead_letters(
    connection: sa.Connection,
    workspace_id: int,
    *,
    pipeline: str | None = None,
    state: DeadLetterState | None = None,
    step: str | None = None,
    code: str | None = None,
    expectation: str | None = None,
    event_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: DeadLetterKey | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """Dead letters, newest first; `pipeline` is a slug, times are those of becoming one."""
    filters = {
        "pipeline": pipeline, "state": state, "step": step, "code": code,
        "expectation": expectation, "event_id": event_id,
    }  # fmt: skip
    rows = repository.find_dead_letters(
        connection, workspace_id, filters=filters, since=since, until=until, after=after, limit=limit
    )
    return [_dead_letter(row) for row in rows]


def count_dead_letters(
    connection: sa.Connection,
    workspace_id: int,
    *,
    pipeline: str | None = None,
    state: DeadLetterState | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[DeadLetterCount]:
    """How many there are of each (pipeline, state, step, code, expectation), most first."""
    rows = repository.count_dead_letters(
        connection, workspace_id, filters={"pipeline": pipeline, "state": state}, since=since, until=until
    )
    return [DeadLetterCount(**row) for row in rows]


def get_dead_letter(connection: sa.Connection, workspace_id: int, id_: UUID) -> DeadLetter:
    """Raises `DeadLetterNotFound`."""
    row = repository.find_dead_letter(connection, workspace_id, id_)
    if row is None:
        raise DeadLetterNotFound("There is no such dead letter in this workspace.")
    return _dead_letter(row)


_FROM: dict[DeadLetterState, tuple[DeadLetterState, ...]] = {
    "open": ("held", "discarded", "open"),
    "held": ("open", "discarded", "held"),
    "discarded": ("open", "held", "discarded"),
    "retried": ("open", "held", "discarded", "retried"),
}


def set_states(
    connection: sa.Connection, workspace_id: int, ids: Sequence[UUID], state: DeadLetterState
) -> int:
    """Put dead letters into a state; returns how many are in it now.

    What has been retried is done with. Raises `DeadLetterNotFound`, `DeadLetterResolved`; then none changed.
    """
    wanted = list(dict.fromkeys(ids))
    known = repository.find_states(connection, workspace_id, wanted)
    if len(known) < len(wanted):
        raise DeadLetterNotFound("There is no such dead letter in this workspace.")
    if any(found not in _FROM[state] for found in known.values()):
        raise DeadLetterResolved("A dead letter that has been retried stays retried.")
    return len(repository.set_states(connection, workspace_id, wanted, state, _FROM[state]))


def _dead_letter(row: Any) -> DeadLetter:
    values = {name: row[name] for name in DeadLetter.__dataclass_fields__}
    return DeadLetter(**{**values, "payload": bytes(values["payload"])})
