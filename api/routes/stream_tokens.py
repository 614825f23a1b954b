"""`POST /v1/stream-tokens`: short-lived permission to follow, for clients that cannot send a header."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note_read
from api.deps import Services, catalog, require
from api.idempotency import IdempotentRoute
from sluiceway.audit.actions import Action
from sluiceway.catalog.service import Catalog
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import FieldError
from sluiceway.live import tokens
from sluiceway.live.errors import InvalidTokenRequest

router = APIRouter(prefix="/v1/stream-tokens", tags=["live"], route_class=IdempotentRoute)

MayRead = Annotated[Caller, Depends(require(Permission.DATA_READ))]


class TokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pipelines: list[str] | None = Field(
        default=None, min_length=1, max_length=50, description="Absent: every pipeline and /v1/live."
    )
    ttl_s: int = Field(
        default=int(tokens.DEFAULT_TTL.total_seconds()), ge=60, le=int(tokens.MAX_TTL.total_seconds())
    )


class IssuedToken(BaseModel):
    token: str
    expires_at: datetime


@router.post("", status_code=201, summary="Make a stream token")
def create_stream_token(
    request: Request, services: Services, caller: MayRead, wanted: TokenRequest
) -> IssuedToken:
    """Give it to `EventSource` as `?token=`. It allows following alone and ends no later than the caller."""
    with catalog(services, caller) as conn:
        if wanted.pipelines is not None:
            known = {p.slug for p in Catalog().list(conn, caller.workspace_id)}
            unknown = [i for i, slug in enumerate(wanted.pipelines) if slug not in known]
            if unknown:
                errors = [
                    FieldError(f"pipelines.{i}", "is not a pipeline of this workspace") for i in unknown
                ]
                raise InvalidTokenRequest("A pipeline that was named is not there.", errors=errors)
        # Browsers ask for one every few minutes.
        note_read(
            request, conn, caller, Action.STREAM_TOKEN_ISSUED, target="stream_token",
            detail={"pipelines": wanted.pipelines, "ttl_s": wanted.ttl_s},
        )  # fmt: skip
    expires_at = services.clock.now() + timedelta(seconds=wanted.ttl_s)
    if caller.expires_at is not None:
        expires_at = min(expires_at, caller.expires_at)
    expires_at = expires_at.replace(microsecond=0)
    pipelines = None if wanted.pipelines is None else tuple(wanted.pipelines)
    grant = tokens.StreamGrant(caller.access, pipelines, caller.subject, expires_at)
    return IssuedToken(token=tokens.issue(services.key, grant), expires_at=expires_at)
