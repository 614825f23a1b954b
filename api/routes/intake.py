"""What a pipeline's senders were refused lately by its limits and the high-water marks."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from api.deps import Services, catalog, require
from sluiceway.catalog.limits import LimitsSpec
from sluiceway.catalog.service import Catalog
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.ingestion.limits import recent_refusals

router = APIRouter(prefix="/v1/pipelines", tags=["pipelines"])


class Refused(BaseModel):
    """Requests refused for one reason."""

    code: str = Field(examples=["rate_limited"], description="The code of the answer they got.")
    requests: int
    last_minute: datetime = Field(description="The last minute in which one was.")


class Intake(BaseModel):
    """The pipeline's own limits, and which requests they and the high-water marks refused."""

    limits: LimitsSpec
    minutes: int = Field(description="How many of the last minutes were counted.")
    requests: int = Field(description="Refused requests altogether.")
    refused: list[Refused]


@router.get("/{pipeline}/intake", summary="Limits and refusals of a pipeline")
def get_intake(
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.PIPELINE_READ))],
    pipeline: Annotated[str, Path(max_length=63, examples=["nyc-flights"])],
    minutes: Annotated[int, Query(ge=1, le=1440)] = 5,
) -> Intake:
    """Counted over all web processes, some seconds late; kept for a day."""
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, pipeline)
        refused = recent_refusals(conn, caller.workspace_id, found.id, minutes)
    return Intake(
        limits=found.spec.limits,
        minutes=minutes,
        requests=sum(item.requests for item in refused),
        refused=[Refused(code=r.code, requests=r.requests, last_minute=r.last_minute) for r in refused],
    )
