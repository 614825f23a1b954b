"""Expectation suites, and what the gates found."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from api.auditing import note
from api.bodies import YAML_ANSWER, YAML_BODY, check_name, tell_outcome, yaml_source
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.pagination import CursorParameter, Limit, Page, decode, page
from api.viewing import rule_book
from sluiceway.audit.actions import Action as Audited
from sluiceway.catalog.service import Catalog
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.quality import service
from sluiceway.quality.contracts import QualityResult, Suite, SuiteSpec
from sluiceway.quality.errors import InvalidSuite

router = APIRouter(prefix="/v1/quality", tags=["quality"])

MayRead = Annotated[Caller, Depends(require(Permission.QUALITY_READ))]
MayWrite = Annotated[Caller, Depends(require(Permission.QUALITY_WRITE))]
Name = Annotated[str, Path(max_length=63, examples=["nyc-flights"])]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Absent: the newest.")]
Action = Literal["quarantine", "hold", "warn"]
Origin = Literal["live", "replay", "deep"]


class SuiteSummary(BaseModel):
    name: str
    title: str
    description: str
    version: int
    expectations: int
    created_at: datetime


class SuiteDetail(SuiteSummary):
    spec: SuiteSpec
    source: str = Field(description="The YAML exactly as it was applied.")


class AppliedSuite(BaseModel):
    name: str
    version: int
    outcome: Literal["created", "updated", "unchanged"]


class ResultOut(BaseModel):
    """What one expectation found in one minute, summed over that minute's batches."""

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
    detail: dict[str, Any] = Field(description="Of the newest failing batch: observed value, examples.")


class SummaryOut(BaseModel):
    """What one expectation found over a stretch of time."""

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


@router.get("/suites", summary="List suites")
def list_suites(
    services: Services, caller: MayRead, limit: Limit = 200, cursor: CursorParameter = None
) -> Page[SuiteSummary]:
    """The newest version of each, by name."""
    after = decode(cursor, str)
    with catalog(services, caller) as conn:
        found = service.list_suites(conn, caller.workspace_id)
    wanted = [s for s in found if after is None or s.name > after[0]]
    return page(wanted[: limit + 1], limit, lambda s: SuiteSummary(**_summary(s)), lambda s: (s.name,))


@router.get("/suites/{suite}", summary="One suite")
def get_suite(services: Services, caller: MayRead, suite: Name, version: Version = None) -> SuiteDetail:
    """The newest (or the named) version."""
    with catalog(services, caller) as conn:
        found = service.get_suite(conn, caller.workspace_id, suite, version)
    return SuiteDetail(**_summary(found), spec=found.spec, source=found.source)


@router.get(
    "/suites/{suite}/export",
    summary="Export a suite",
    response_class=Response,
    responses=YAML_ANSWER,
)
def export_suite(
    request: Request, services: Services, caller: MayRead, suite: Name, version: Version = None
) -> Response:
    """The YAML exactly as it was applied, comments included."""
    with catalog(services, caller) as conn:
        source = service.export_suite(conn, caller.workspace_id, suite, version)
        note(request, conn, caller, Audited.EXPORT_MADE, target="suite", target_id=suite)
    return Response(source, media_type="text/yaml")


@router.put(
    "/suites/{suite}",
    summary="Apply a suite",
    openapi_extra=YAML_BODY,
    responses={201: {"model": AppliedSuite, "description": "Created"}, **problem_responses((415,))},
)
def apply_suite(
    request: Request,
    services: Services,
    caller: MayWrite,
    suite: Name,
    source: Annotated[str, Depends(yaml_source)],
    response: Response,
) -> AppliedSuite:
    """Check the YAML, each expectation's arguments included, and keep it as the next version.

    Running gates use it from their next batch on.
    """
    spec = service.parse_suite(source, services.check_suite)
    check_name(spec.name, suite, InvalidSuite)
    with catalog(services, caller) as conn:
        applied = service.apply_suite(conn, caller.workspace_id, source)
        if applied.outcome != "unchanged":
            before, after = service.what_changed(conn, caller.workspace_id, applied)
            note(
                request, conn, caller, Audited.SUITE_APPLIED, target="suite", target_id=suite,
                before=before, after=after,
            )  # fmt: skip
    tell_outcome(response, applied.outcome, f"/v1/quality/suites/{applied.name}")
    return AppliedSuite(name=applied.name, version=applied.version, outcome=applied.outcome)


@router.get("/results", summary="What the gates found")
def list_results(
    services: Services,
    caller: MayRead,
    pipeline: Annotated[str | None, Query(max_length=63)] = None,
    expectation: Annotated[str | None, Query(max_length=63)] = None,
    origin: Origin | None = None,
    failed: Annotated[bool | None, Query(description="Only minutes with (or without) a failure.")] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Limit = 100,
    cursor: CursorParameter = None,
) -> Page[ResultOut]:
    """By minute, newest first."""
    after = decode(cursor, datetime.fromisoformat, int, str, str)
    with catalog(services, caller) as conn:
        found = service.list_results(
            conn,
            caller.workspace_id,
            pipeline=pipeline,
            expectation=expectation,
            origin=origin,
            failed=failed,
            since=since,
            until=until,
            after=after,
            limit=limit + 1,
        )
        touched = rule_book(services).touched(conn, caller.access)
    names = ResultOut.model_fields

    def told(r: QualityResult) -> ResultOut:
        # Examples of what failed are values of the data.
        kept = replace(r, detail={}) if r.pipeline in touched else r
        return ResultOut(**{name: getattr(kept, name) for name in names})

    return page(
        found,
        limit,
        told,
        lambda r: (r.minute.isoformat(), *service.result_key(r)[1:]),
    )


@router.get("/summary", summary="Expectations of a pipeline over time", responses=problem_responses((404,)))
def summarise(
    services: Services,
    caller: MayRead,
    pipeline: Annotated[str, Query(max_length=63)],
    since: Annotated[AwareDatetime | None, Query(description="Absent: a day before `until`.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Absent: now.")] = None,
    origin: Origin | None = None,
) -> Page[SummaryOut]:
    """Each expectation, those that failed most first. One page holds them all."""
    end = until or services.clock.now() + timedelta(minutes=1)
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, pipeline)
        rows = service.summarise_results(
            conn,
            caller.workspace_id,
            found.id,
            since=since or end - timedelta(days=1),
            until=end,
            origin=origin,
        )
        if found.slug in rule_book(services).touched(conn, caller.access):
            rows = [replace(row, last_detail={}) for row in rows]
    return Page(items=[SummaryOut(**asdict(row)) for row in rows])


def _summary(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "title": suite.spec.title,
        "description": suite.spec.description,
        "version": suite.version,
        "expectations": len(suite.spec.expectations),
        "created_at": suite.created_at,
    }
