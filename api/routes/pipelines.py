"""Pipelines as code: apply, list with their state, export, pause, archive."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api.auditing import note
from api.bodies import YAML_ANSWER, YAML_BODY, check_name, tell_outcome, yaml_source
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Limit, Page, decode, page
from sluiceway.audit.actions import Action
from sluiceway.catalog.contracts import Applied, FieldRole, FieldType, Pipeline
from sluiceway.catalog.errors import InvalidPipeline, PipelineArchived
from sluiceway.catalog.service import Catalog, State, parse
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.ingestion.limits import held_back
from sluiceway.loading import catching_up
from sluiceway.loading.overview import PipelineStatus, freshness, statuses

router = APIRouter(prefix="/v1/pipelines", tags=["pipelines"], route_class=IdempotentRoute)

HELD_BACK_MINUTES = 2

Slug = Annotated[str, Path(max_length=63, examples=["nyc-flights"])]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Absent: the newest.")]
MayRead = Annotated[Caller, Depends(require(Permission.PIPELINE_READ))]
MayWrite = Annotated[Caller, Depends(require(Permission.PIPELINE_WRITE))]


class Status(BaseModel):
    """How the pipeline is doing now. Counters run since it was made."""

    freshness: Literal["fresh", "late", "empty"] = Field(
        description="`late`: no event for longer than the pipeline's `freshness.warn_after`."
    )
    seq: int = Field(description="The newest row's durable sequence.")
    events: int
    duplicates: int
    dead_letters: int = Field(description="Events that ever became dead letters.")
    open_dead_letters: int
    held_dead_letters: int
    rate: float = Field(description="Events a second, over the last minute.")
    lag_s: float | None = Field(
        description="How long the oldest event of the newest batch waited from receipt to commit, in seconds."
    )
    last_batch_id: int | None
    last_batch_at: datetime | None
    last_batch_events: int | None
    last_received_at: datetime | None
    last_event_time: datetime | None
    verdict: Literal["pass", "warn", "quarantine", "hold"] | None = Field(
        description="What the gate decided about the newest batch."
    )
    held_back: int = Field(
        description=f"Requests told to come again (429, 503) in the last {HELD_BACK_MINUTES} minutes."
    )


class PipelineField(BaseModel):
    name: str
    type: FieldType
    role: FieldRole
    required: bool
    unit: str | None
    title: str | None
    description: str


class PipelineSummary(BaseModel):
    """A pipeline and how it is doing."""

    slug: str
    title: str
    description: str
    version: int
    state: State
    suite: str | None = Field(description="Name of the expectation suite that gates it.")
    silver_table: str
    created_at: datetime
    updated_at: datetime
    status: Status


class PipelineDetail(PipelineSummary):
    fields: list[PipelineField]
    spec: dict[str, Any] = Field(description="The whole pipeline with its defaults filled in.")


class AppliedPipeline(BaseModel):
    """What applying did: `unchanged` if the same text was applied before."""

    name: str
    version: int
    outcome: Literal["created", "updated", "unchanged"]


class PipelineVersion(BaseModel):
    version: int
    checksum: str = Field(description="SHA-256 of the YAML as applied, in hex.")
    created_by: UUID | None
    created_at: datetime


@router.get("", summary="List pipelines")
def list_pipelines(
    services: Services,
    caller: MayRead,
    state: Annotated[State | None, Query(description="Absent: all but archived ones.")] = None,
    limit: Limit = 200,
    cursor: CursorParameter = None,
) -> Page[PipelineSummary]:
    """By slug, each with its version, rate, lag, last batch, dead letters, gate verdict and freshness."""
    now = services.clock.now()
    after = decode(cursor, str)
    with catalog(services, caller) as conn:
        found = Catalog().list(conn, caller.workspace_id)
        known = statuses(conn, caller.workspace_id, now=now)
        refused = held_back(conn, caller.workspace_id, HELD_BACK_MINUTES)
    wanted = [
        p
        for p in found
        if (p.state == state if state else p.state != "archived") and (after is None or p.slug > after[0])
    ]
    return page(
        wanted[: limit + 1],
        limit,
        lambda p: _summary(p, known.get(p.id), refused.get(p.id, 0), now),
        lambda p: (p.slug,),
    )


@router.get("/{pipeline}", summary="One pipeline")
def get_pipeline(
    services: Services, caller: MayRead, pipeline: Slug, version: Version = None
) -> PipelineDetail:
    """The newest (or the named) version with its fields, and how the pipeline is doing."""
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, pipeline, version)
        return _detail(services, conn, found)


@router.put(
    "/{pipeline}",
    summary="Apply a pipeline",
    openapi_extra=YAML_BODY,
    responses={201: {"model": AppliedPipeline, "description": "Created"}, **problem_responses((409, 415))},
)
def apply_pipeline(
    request: Request,
    services: Services,
    caller: MayWrite,
    pipeline: Slug,
    source: Annotated[str, Depends(yaml_source)],
    response: Response,
) -> AppliedPipeline:
    """Check the YAML, make or extend the silver table, keep the text as the next version.

    Errors name field and line. The same text again changes nothing. A pipeline that was paused or archived
    and is active again catches up with what came meanwhile.
    """
    spec = parse(source)
    check_name(spec.name, pipeline, InvalidPipeline)

    def then(conn: sa.Connection, done: Applied) -> None:
        if done.outcome != "unchanged":
            before, after = Catalog().what_changed(conn, caller.workspace_id, done)
            note(
                request, conn, caller, Action.PIPELINE_APPLIED, target="pipeline", target_id=done.name,
                before=before, after=after,
            )  # fmt: skip

    applied = catching_up.apply_pipeline(
        services.database, caller.workspace_id, source, caller.user_id,
        now=services.clock.now(), flush_s=services.settings.bronze_flush_s, then=then,
    )  # fmt: skip
    tell_outcome(response, applied.outcome, f"/v1/pipelines/{applied.name}")
    return AppliedPipeline(name=applied.name, version=applied.version, outcome=applied.outcome)


@router.delete("/{pipeline}", summary="Archive a pipeline")
def archive_pipeline(
    request: Request, services: Services, caller: MayWrite, pipeline: Slug
) -> PipelineDetail:
    """It takes no more events and leaves the lists; its data stays. Applying it again brings it back."""
    return _set_state(request, services, caller, pipeline, "archived")


@router.get("/{pipeline}/versions", summary="Versions of a pipeline")
def list_versions(
    services: Services, caller: MayRead, pipeline: Slug, limit: Limit = 50, cursor: CursorParameter = None
) -> Page[PipelineVersion]:
    """Newest first."""
    after = decode(cursor, int)
    with catalog(services, caller) as conn:
        found = Catalog().versions(conn, caller.workspace_id, pipeline)
    wanted = [v for v in found if after is None or v.version < after[0]]
    return page(wanted[: limit + 1], limit, lambda v: PipelineVersion(**asdict(v)), lambda v: (v.version,))


@router.get(
    "/{pipeline}/export",
    summary="Export a pipeline",
    response_class=Response,
    responses=YAML_ANSWER,
)
def export_pipeline(
    request: Request, services: Services, caller: MayRead, pipeline: Slug, version: Version = None
) -> Response:
    """The YAML exactly as it was applied, comments included."""
    with catalog(services, caller) as conn:
        source = Catalog().export(conn, caller.workspace_id, pipeline, version)
        note(request, conn, caller, Action.EXPORT_MADE, target="pipeline", target_id=pipeline)
    return Response(source, media_type="text/yaml")


@router.post("/{pipeline}/pause", summary="Pause a pipeline", responses=problem_responses((409,)))
def pause_pipeline(request: Request, services: Services, caller: MayWrite, pipeline: Slug) -> PipelineDetail:
    """Events are still accepted and kept in bronze, but not loaded until the pipeline is resumed."""
    return _set_state(request, services, caller, pipeline, "paused")


@router.post("/{pipeline}/resume", summary="Resume a pipeline", responses=problem_responses((409,)))
def resume_pipeline(request: Request, services: Services, caller: MayWrite, pipeline: Slug) -> PipelineDetail:
    """Load new events again, and replay what came meanwhile as soon as all of it is in bronze."""
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, pipeline)
        if found.state == "paused":
            catching_up.request_catch_up(
                conn, found, requested_by=caller.subject, now=services.clock.now(),
                flush_s=services.settings.bronze_flush_s,
            )  # fmt: skip
    return _set_state(request, services, caller, pipeline, "active")


_STATES: dict[State, Action] = {
    "active": Action.PIPELINE_RESUMED,
    "paused": Action.PIPELINE_PAUSED,
    "archived": Action.PIPELINE_ARCHIVED,
}


def _set_state(
    request: Request, services: Services, caller: Caller, slug: str, state: State
) -> PipelineDetail:
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, slug)
        if found.state == "archived" and state != "archived":
            raise PipelineArchived("Apply the pipeline again to bring it back.")
        if found.state != state:
            note(
                request, conn, caller, _STATES[state], target="pipeline", target_id=slug,
                before={"state": found.state}, after={"state": state},
            )  # fmt: skip
            found = Catalog().set_state(conn, caller.workspace_id, slug, state)
        return _detail(services, conn, found)


def _detail(services: Services, conn: Any, pipeline: Pipeline) -> PipelineDetail:
    now = services.clock.now()
    known = statuses(conn, pipeline.workspace_id, now=now, pipeline_id=pipeline.id)
    refused = held_back(conn, pipeline.workspace_id, HELD_BACK_MINUTES)
    summary = _summary(pipeline, known.get(pipeline.id), refused.get(pipeline.id, 0), now)
    names = PipelineField.model_fields
    return PipelineDetail(
        **summary.model_dump(),
        fields=[PipelineField(**{n: getattr(f, n) for n in names}) for f in pipeline.spec.fields],
        spec=pipeline.spec.model_dump(mode="json"),
    )


def _summary(
    pipeline: Pipeline, status: PipelineStatus | None, refused: int, now: datetime
) -> PipelineSummary:
    spec = pipeline.spec
    state = freshness(status, spec.freshness.warn_after, now)
    return PipelineSummary(
        slug=pipeline.slug,
        title=spec.title or pipeline.slug,
        description=spec.description,
        version=pipeline.version,
        state=pipeline.state,
        suite=spec.quality.suite if spec.quality else None,
        silver_table=pipeline.silver_table,
        created_at=pipeline.created_at,
        updated_at=pipeline.updated_at,
        status=_status(status, state, refused),
    )


def _status(status: PipelineStatus | None, state: Literal["fresh", "late", "empty"], refused: int) -> Status:
    if status is None:  # made in another transaction just now
        status = PipelineStatus(0, 0, 0, 0, 0, 0, 0, 0.0, None, None, None, None, None, None, None)
    found = asdict(status)
    found["lag_s"], found["verdict"] = found.pop("load_wait_s"), found.pop("last_verdict")
    del found["pipeline_id"]
    return Status(freshness=state, held_back=refused, **found)
