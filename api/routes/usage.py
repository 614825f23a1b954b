"""What the workspace used and may use, and setting its limits."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from sluiceway.audit.actions import Action
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.usage import service
from sluiceway.usage.contracts import MOST, Measure, Quota, Used, next_month

router = APIRouter(prefix="/v1", tags=["usage"])


class QuotaLimits(BaseModel):
    """The limits of one measure; null: none."""

    soft: int | None = Field(description="Past it people are told.")
    hard: int | None = Field(description="At it nothing more is taken.")
    ceiling: int | None = Field(description="The operator's own limit, which the workspace cannot change.")


class MeasureUsage(BaseModel):
    """One measure as it stands."""

    measure: Measure = Field(description="`events` and `ingested_bytes` count a calendar month (UTC).")
    used: int
    as_of: datetime | None = Field(description="When it was measured; null: not yet.")
    limits: QuotaLimits
    state: str = Field(description="`ok`, `soft` or `hard`: which limit is reached.")


class PipelineUsage(BaseModel):
    pipeline: str
    events: int
    ingested_bytes: int
    stored_bytes: int


class DayUsage(BaseModel):
    day: date
    events: int
    ingested_bytes: int


class Usage(BaseModel):
    """What the workspace used in one month."""

    month: date = Field(description="Its first day.")
    ends_at: datetime = Field(description="When the month, and what it counts, begins anew.")
    measures: list[MeasureUsage]
    invited: int = Field(description="Open invitations: whoever invites one more finds their seats taken.")
    pipelines: list[PipelineUsage]
    days: list[DayUsage] = Field(description="Days (UTC) on which anything was accepted.")


class WantedQuota(BaseModel):
    model_config = ConfigDict(extra="forbid")

    measure: Measure
    soft: int | None = Field(default=None, ge=0, le=MOST)
    hard: int | None = Field(default=None, ge=0, le=MOST)


class WantedQuotas(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"quotas": [{"measure": "events", "soft": 8_000_000, "hard": 10_000_000}]}
        },
    )

    quotas: list[WantedQuota] = Field(min_length=1, max_length=len(Measure))


class Quotas(BaseModel):
    quotas: dict[Measure, QuotaLimits]


@router.get("/usage", summary="What the workspace uses")
def get_usage(
    request: Request,
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.USAGE_READ))],
    month: Annotated[
        date | None,
        Query(ge=date(2000, 1, 1), le=date(2999, 12, 31), description="Any day of it; default: this month."),
    ] = None,
) -> Usage:
    """Events and bytes of a month, bytes stored and seats as they are, and the limits of each.

    What arrives is counted within seconds, what is stored within the hour.
    """
    with catalog(services, caller) as conn:
        found = service.usage(conn, caller.workspace_id, services.clock.now(), month)
        note_read(request, conn, caller, Action.USAGE_READ, target="usage")
    return Usage(
        month=found.month,
        ends_at=next_month(found.month),
        measures=[_measure(used) for used in found.measures],
        invited=found.invited,
        pipelines=[
            PipelineUsage(
                pipeline=p.pipeline,
                events=p.events,
                ingested_bytes=p.ingested_bytes,
                stored_bytes=p.stored_bytes,
            )
            for p in found.pipelines
        ],
        days=[DayUsage(day=d.day, events=d.events, ingested_bytes=d.ingested_bytes) for d in found.days],
    )


@router.put("/quotas", summary="Set the workspace's limits")
def put_quotas(
    request: Request,
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.QUOTA_MANAGE))],
    body: WantedQuotas,
) -> Quotas:
    """Set the limits of the measures named; the others stay. A limit that is left out is taken away.

    A hard limit holds within seconds: the event route answers 429 `quota_exceeded` until the month ends, and
    one more member is refused with 409 `seats_exceeded`. The operator's ceiling stays, and cannot be passed.
    """
    wanted = [Quota(q.measure, q.soft, q.hard) for q in body.quotas]
    with catalog(services, caller) as conn:
        before = _limits(service.quotas(conn, caller.workspace_id))
        found = service.set_quotas(conn, caller.workspace_id, wanted, by=caller.subject)
        note(
            request, conn, caller, Action.QUOTA_CHANGED, target="quota",
            before=_plain(before), after=_plain(_limits(found)),
        )  # fmt: skip
    return Quotas(quotas=_limits(found))


def _measure(used: Used) -> MeasureUsage:
    return MeasureUsage(
        measure=used.quota.measure,
        used=used.used,
        as_of=used.as_of,
        limits=_of(used.quota),
        state=used.state,
    )


def _of(quota: Quota) -> QuotaLimits:
    return QuotaLimits(soft=quota.soft, hard=quota.hard, ceiling=quota.ceiling)


def _limits(found: list[Quota]) -> dict[Measure, QuotaLimits]:
    return {quota.measure: _of(quota) for quota in found}


def _plain(limits: dict[Measure, QuotaLimits]) -> dict[str, object]:
    return {measure.value: limit.model_dump() for measure, limit in limits.items()}
