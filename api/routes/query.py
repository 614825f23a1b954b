"""`POST /v1/query`: aggregates and raw rows, as JSON or Arrow."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from api.deps import Services, require
from api.errors import NotAcceptable, problem_responses
from api.services import ApiServices
from api.viewing import documented
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.queries.arrow import MEDIA_TYPE as ARROW
from sluiceway.queries.arrow import to_arrow
from sluiceway.queries.contracts import FreshnessState, QueryRequest, QueryResult, Verdict
from sluiceway.queries.service import QueryService

# Not an IdempotentRoute: an answer kept for a day would outlive the right to see it.
router = APIRouter(prefix="/v1", tags=["data"])

JSON = "application/json"
MayRead = Annotated[Caller, Depends(require(Permission.DATA_READ))]


class AnswerColumn(BaseModel):
    name: str
    type: Literal["string", "integer", "number", "boolean", "timestamp", "date", "json"]
    role: Literal["time", "dimension", "measure", "attribute"]
    unit: str | None
    title: str | None
    masked: Literal["hash", "partial"] | None = Field(
        description="A rule shows its values changed: filters and groupings see them so, too."
    )


class AnswerTime(BaseModel):
    """The range that was answered; `grain: auto` says which one it became."""

    model_config = ConfigDict(populate_by_name=True)

    from_: datetime | None = Field(alias="from")
    to: datetime | None
    grain: str | None


class AnswerFreshness(BaseModel):
    as_of: datetime
    last_event_time: datetime | None
    last_received_at: datetime | None
    lag_s: float | None = Field(description="Seconds since the last event was received.")
    state: FreshnessState | None = Field(description="None for a model.")
    seq: int | None = Field(
        description="The pipeline's newest durable sequence; a later one changes the answer."
    )


class AnswerQuality(BaseModel):
    verdict: Verdict | None = Field(description="The gate's worst verdict in the time range.")
    dead_letters: int = Field(description="Open and held ones in the time range.")
    duplicates: int
    as_of: datetime | None


class Answer(BaseModel):
    """Rows, in the order of `columns`, and what one must know to trust them."""

    columns: list[AnswerColumn]
    rows: list[list[Any]]
    row_count: int
    truncated: bool = Field(description="There were more rows than `limit`.")
    time: AnswerTime
    source: str = Field(examples=["gold.samples_1h"])
    freshness: AnswerFreshness
    quality: AnswerQuality
    elapsed_ms: float
    cached: bool
    restricted: bool = Field(description="A rule keeps some rows from whoever asked.")


@router.post(
    "/query",
    summary="Query a pipeline or a model",
    dependencies=[Depends(documented)],
    response_class=Response,
    responses={
        200: {
            "model": Answer,
            "description": "The answer",
            "content": {ARROW: {"schema": {"type": "string"}}},
        },
        **problem_responses((404, 406, 504)),
    },
)
def run_query(
    services: Services,
    caller: MayRead,
    query: QueryRequest,
    accept: Annotated[str | None, Header(description=f"`{JSON}` or `{ARROW}`.")] = None,
) -> Response:
    """Measures by dimensions and time, or raw rows. The planner picks gold where it is exact, else silver."""
    arrow = _wants_arrow(accept)
    result = query_service(services).run(caller.access, query)
    if arrow:
        return Response(to_arrow(result), media_type=ARROW, headers={"Vary": "Accept"})
    return Response(to_json(result), media_type=JSON, headers={"Vary": "Accept"})


def query_service(services: ApiServices) -> QueryService:
    """The process's one query service, with its cache."""
    found: QueryService = services.extra.setdefault(
        "queries", QueryService(services.database, services.clock)
    )
    return found


def to_json(result: QueryResult) -> bytes:
    """The envelope with the rows. What is not a number in JSON (NaN, infinity) is null."""
    envelope = result.envelope()
    document = {"columns": envelope.pop("columns"), "rows": result.rows, **envelope}
    return orjson.dumps(document, option=orjson.OPT_UTC_Z, default=_plain)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)


def _wants_arrow(accept: str | None) -> bool:
    """Whether Arrow is asked for. Raises `NotAcceptable` if neither it nor JSON is."""
    best: tuple[float, bool] | None = None
    for part in (accept or "*/*").split(","):
        media, _, parameters = part.strip().partition(";")
        name, quality = media.strip().lower(), _quality(parameters)
        is_arrow = name == ARROW
        known = is_arrow or name in (JSON, "application/*", "*/*", "")
        if known and quality > 0 and (best is None or quality > best[0]):
            best = (quality, is_arrow)
    if best is None:
        raise NotAcceptable(f"The answer can be {JSON} or {ARROW}.")
    return best[1]


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
