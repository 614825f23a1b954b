"""Batches: what the loader did with what it was given."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime, BaseModel

from api.deps import Services, catalog, require
from api.pagination import CursorParameter, Limit, Page, decode, page
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.warehouse import batches

router = APIRouter(prefix="/v1/batches", tags=["batches"])

MayRead = Annotated[Caller, Depends(require(Permission.PIPELINE_READ))]


class BatchOut(BaseModel):
    """One batch. `name` is the node, segment and offset at which it began in the spool."""

    id: int
    pipeline: str
    name: str
    origin: Literal["live", "replay", "retry"]
    pipeline_version: int
    verdict: Literal["pass", "warn", "quarantine", "hold"]
    events: int
    rows: int
    samples: int
    duplicates: int
    dead_letters: int
    size_bytes: int
    first_seq: int | None
    last_seq: int | None
    min_event_time: datetime | None
    max_event_time: datetime | None
    min_received_at: datetime
    max_received_at: datetime
    loaded_at: datetime


@router.get("", summary="List batches")
def list_batches(
    services: Services,
    caller: MayRead,
    pipeline: Annotated[str | None, Query(max_length=63)] = None,
    origin: Literal["live", "replay", "retry"] | None = None,
    verdict: Literal["pass", "warn", "quarantine", "hold"] | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Limit = 50,
    cursor: CursorParameter = None,
) -> Page[BatchOut]:
    """Newest first; `since` (included) and `until` (not) are times of loading."""
    after = decode(cursor, datetime.fromisoformat, int)
    with catalog(services, caller) as conn:
        found = batches.list_batches(
            conn,
            caller.workspace_id,
            pipeline=pipeline,
            origin=origin,
            verdict=verdict,
            since=since,
            until=until,
            after=after,
            limit=limit + 1,
        )
    return page(found, limit, lambda b: BatchOut(**asdict(b)), lambda b: (b.loaded_at.isoformat(), b.id))


@router.get("/{batch_id}", summary="One batch")
def get_batch(
    services: Services, caller: MayRead, batch_id: Annotated[int, Path(ge=1, le=2**63 - 1)]
) -> BatchOut:
    """One batch of the caller's workspace."""
    with catalog(services, caller) as conn:
        return BatchOut(**asdict(batches.get_batch(conn, caller.workspace_id, batch_id)))
