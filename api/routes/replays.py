"""Replays: derive days of a pipeline's silver again from bronze, in the background."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Limit, Page, decode_newest, newest_page
from sluiceway.audit.actions import Action
from sluiceway.catalog.service import Catalog
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.loading import jobs

router = APIRouter(prefix="/v1/replays", tags=["replays"], route_class=IdempotentRoute)

MayRead = Annotated[Caller, Depends(require(Permission.REPLAY_READ))]


class ReplayRequest(BaseModel):
    """UTC days of receipt, both included."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        json_schema_extra={"example": {"pipeline": "nyc-flights", "from": "2026-11-01", "to": "2026-11-07"}},
    )

    pipeline: str = Field(max_length=63)
    from_: date = Field(alias="from")
    to: date | None = Field(default=None, description="Absent: that one day.")


class ReplayOut(BaseModel):
    """A replay and how far it is."""

    model_config = ConfigDict(populate_by_name=True)

    id: UUID
    pipeline: str
    from_: date = Field(alias="from")
    to: date
    state: Literal["queued", "running", "done", "failed"]
    days: int
    days_done: int
    events: int = Field(description="Events read from bronze so far.")
    rows: int = Field(description="Rows that replaced the old ones.")
    dead_letters: int
    error: str | None
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@router.post("", status_code=202, summary="Replay days", responses=problem_responses((404,)))
def create_replay(
    request: Request,
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.REPLAY_RUN))],
    body: ReplayRequest,
    response: Response,
) -> ReplayOut:
    """A worker derives each day's silver again from bronze with the newest pipeline version and suite.

    Watch it at the address in `Location`.
    """
    with catalog(services, caller) as conn:
        pipeline = Catalog().get(conn, caller.workspace_id, body.pipeline)
        found = jobs.request_replay(
            conn,
            pipeline,
            body.from_,
            body.to or body.from_,
            requested_by=caller.subject,
            now=services.clock.now(),
        )
        note(
            request, conn, caller, Action.REPLAY_REQUESTED, target="replay", target_id=found.id,
            detail={"pipeline": found.pipeline, "from": found.from_day, "to": found.to_day},
        )  # fmt: skip
    response.headers["Location"] = f"/v1/replays/{found.id}"
    return _out(found)


@router.get("", summary="List replays")
def list_replays(
    services: Services,
    caller: MayRead,
    pipeline: Annotated[str | None, Query(max_length=63)] = None,
    limit: Limit = 50,
    cursor: CursorParameter = None,
) -> Page[ReplayOut]:
    """Newest first."""
    after = decode_newest(cursor)
    with catalog(services, caller) as conn:
        found = jobs.list_replays(conn, caller.workspace_id, pipeline=pipeline, after=after, limit=limit + 1)
    return newest_page(found, limit, _out)


@router.get("/{replay_id}", summary="One replay")
def get_replay(services: Services, caller: MayRead, replay_id: UUID) -> ReplayOut:
    """How far it is."""
    with catalog(services, caller) as conn:
        return _out(jobs.get_replay(conn, caller.workspace_id, replay_id))


def _out(replay: jobs.Replay) -> ReplayOut:
    names = set(ReplayOut.model_fields) - {"from_", "to"}
    values = {name: getattr(replay, name) for name in names}
    return ReplayOut.model_validate({"from": replay.from_day, "to": replay.to_day, **values})
