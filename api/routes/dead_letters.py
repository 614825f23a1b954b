"""Dead letters: see why an event could not become a row, correct it, try it again, or discard it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.auditing import actor_of, note
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Page, decode_newest, newest_page
from api.viewing import documented, rule_book
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Entry
from sluiceway.audit.service import record_raw
from sluiceway.catalog.contracts import Pipeline
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import Unavailable
from sluiceway.quality import service
from sluiceway.quality.contracts import DeadLetter
from sluiceway.quality.errors import PayloadWithheld

router = APIRouter(
    prefix="/v1/dead-letters",
    tags=["dead letters"],
    route_class=IdempotentRoute,
    dependencies=[Depends(documented)],
)

MayRead = Annotated[Caller, Depends(require(Permission.DEAD_LETTER_READ))]
MayResolve = Annotated[Caller, Depends(require(Permission.DEAD_LETTER_RESOLVE))]
State = Literal["open", "held", "retried", "discarded"]
Step = Literal["parse", "map", "gate", "retention"]
PREVIEW_CHARS = 2_000
MAX_IDS = 1_000
_WITHHELD = "It is not told to you: a rule keeps something of this pipeline from you."


class DeadLetterOut(BaseModel):
    """An event that could not become a row. `held`: with its whole batch, until someone retries it."""

    id: UUID
    pipeline: str
    state: State
    step: Step
    code: str
    reason: str
    expectation: str | None = Field(description="Which expectation it failed.")
    event_id: str | None
    event_time: datetime | None
    batch: str
    position: str = Field(description="Node, segment, offset and index: where it came from.")
    received_at: datetime
    created_at: datetime
    resolved_at: datetime | None
    payload: str = Field(
        description=f"The first {PREVIEW_CHARS} characters; bytes that are not UTF-8 are shown as U+FFFD."
    )
    payload_truncated: bool
    payload_bytes: int
    withheld: bool = Field(
        description="A rule keeps something of this pipeline from whoever asks: what may hold it (payload,"
        " reason, the event's id and time) is left out."
    )


class DeadLetterCountOut(BaseModel):
    pipeline: str
    state: State
    step: str
    code: str
    expectation: str | None
    count: int
    newest_at: datetime


class Correction(BaseModel):
    """What to try instead of the bytes as received, which stay with the dead letter."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"payload": '{"id": 7, "amount": 12.5}'}}
    )

    payload: str | None = Field(default=None, max_length=2_000_000, description="The event, as JSON text.")


class Ids(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: list[UUID] = Field(min_length=1, max_length=MAX_IDS)


class Retried(BaseModel):
    """`loaded` became rows (or were rows already: `duplicates`), `failed` stay with their new reason."""

    tried: int
    loaded: int
    duplicates: int
    failed: int


class Discarded(BaseModel):
    discarded: int


@router.get("", summary="List dead letters")
def list_dead_letters(
    services: Services,
    caller: MayRead,
    pipeline: Annotated[str | None, Query(max_length=63)] = None,
    state: State | None = None,
    step: Step | None = None,
    code: Annotated[str | None, Query(max_length=100)] = None,
    expectation: Annotated[str | None, Query(max_length=63)] = None,
    event_id: Annotated[str | None, Query(max_length=500)] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: CursorParameter = None,
) -> Page[DeadLetterOut]:
    """Newest first, each with the beginning of its payload."""
    after = decode_newest(cursor)
    with catalog(services, caller) as conn:
        found = service.list_dead_letters(
            conn,
            caller.workspace_id,
            pipeline=pipeline,
            state=state,
            step=step,
            code=code,
            expectation=expectation,
            event_id=event_id,
            since=since,
            until=until,
            after=after,
            limit=limit + 1,
        )
        touched = rule_book(services).touched(conn, caller.access)
    if event_id is not None:
        # To be told whether there is a certain event is to be told of the event.
        found = [letter for letter in found if letter.pipeline not in touched]
    return newest_page(found, limit, lambda d: _out(d, d.pipeline in touched))


@router.get("/counts", summary="Count dead letters")
def count_dead_letters(
    services: Services,
    caller: MayRead,
    pipeline: Annotated[str | None, Query(max_length=63)] = None,
    state: State | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> Page[DeadLetterCountOut]:
    """How many there are of each kind, most first. One page holds them all."""
    with catalog(services, caller) as conn:
        found = service.count_dead_letters(
            conn, caller.workspace_id, pipeline=pipeline, state=state, since=since, until=until
        )
    names = DeadLetterCountOut.model_fields
    return Page(items=[DeadLetterCountOut(**{n: getattr(c, n) for n in names}) for c in found])


@router.post("/retry", summary="Retry dead letters", responses=problem_responses((409,)))
def retry_many(request: Request, services: Services, caller: MayResolve, body: Ids) -> Retried:
    """Try those that are open or held again, as received, with today's pipeline and suite.

    Ids that are not there, or resolved already, are left out of the counts.
    """
    return _retry(request, services, caller, body.ids, {})


@router.post("/discard", summary="Discard dead letters", responses=problem_responses((404, 409)))
def discard_many(request: Request, services: Services, caller: MayResolve, body: Ids) -> Discarded:
    """Set them aside for good; bronze still has them. All or none."""
    with catalog(services, caller) as conn:
        count = service.set_states(conn, caller.workspace_id, body.ids, "discarded")
        note(
            request,
            conn,
            caller,
            Action.DEAD_LETTER_DISCARDED,
            target="dead_letter",
            detail={"ids": body.ids},
        )
    return Discarded(discarded=count)


@router.get("/{letter_id}", summary="One dead letter")
def get_dead_letter(services: Services, caller: MayRead, letter_id: UUID) -> DeadLetterOut:
    """One dead letter with the beginning of its payload."""
    return _get(services, caller, letter_id)


@router.get(
    "/{letter_id}/payload",
    summary="The payload as received",
    response_class=Response,
    responses={
        200: {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            "description": "The bytes",
        }
    },
)
def get_payload(request: Request, services: Services, caller: MayRead, letter_id: UUID) -> Response:
    """The event's bytes exactly as they came, as a download."""
    with catalog(services, caller) as conn:
        found = service.get_dead_letter(conn, caller.workspace_id, letter_id)
        if found.pipeline in rule_book(services).touched(conn, caller.access):
            raise PayloadWithheld("A rule keeps something of this pipeline from you; a payload has it all.")
        note(
            request, conn, caller, Action.EXPORT_MADE, target="dead_letter", target_id=letter_id,
            detail={"pipeline": found.pipeline},
        )  # fmt: skip
    headers = {"Content-Disposition": f'attachment; filename="{found.id}.bin"'}
    return Response(found.payload, media_type="application/octet-stream", headers=headers)


@router.post("/{letter_id}/retry", summary="Retry a dead letter", responses=problem_responses((409,)))
def retry_dead_letter(
    request: Request,
    services: Services,
    caller: MayResolve,
    letter_id: UUID,
    body: Correction | None = None,
) -> DeadLetterOut:
    """Try it again, corrected or as received. If it fails again it stays, with the new reason."""
    found = _get(services, caller, letter_id)
    corrected = body.payload if body is not None else None
    payloads = {} if corrected is None else {found.id: corrected.encode()}
    _retry(request, services, caller, [found.id], payloads)
    return _get(services, caller, letter_id)


@router.post("/{letter_id}/discard", summary="Discard a dead letter", responses=problem_responses((409,)))
def discard_dead_letter(
    request: Request, services: Services, caller: MayResolve, letter_id: UUID
) -> DeadLetterOut:
    """Set it aside for good; bronze still has it."""
    with catalog(services, caller) as conn:
        service.set_states(conn, caller.workspace_id, [letter_id], "discarded")
        note(request, conn, caller, Action.DEAD_LETTER_DISCARDED, target="dead_letter", target_id=letter_id)
    return _get(services, caller, letter_id)


def _get(services: Services, caller: Caller, letter_id: UUID) -> DeadLetterOut:
    with catalog(services, caller) as conn:
        found = service.get_dead_letter(conn, caller.workspace_id, letter_id)
        return _out(found, found.pipeline in rule_book(services).touched(conn, caller.access))


def _retry(
    request: Request,
    services: Services,
    caller: Caller,
    ids: Sequence[UUID],
    payloads: Mapping[UUID, bytes],
) -> Retried:
    # Brings polars with it, which no other route needs.
    from sluiceway.loading.retry import retry_dead_letters

    if services.gate is None:
        raise Unavailable("This process has no gate to judge events with.")
    actor = actor_of(request, caller)

    def then(conn: "psycopg.Connection[Any]", pipeline: Pipeline, tried: Mapping[UUID, bool]) -> None:
        done, failed = [i for i, ok in tried.items() if ok], [i for i, ok in tried.items() if not ok]
        detail = {
            "pipeline": pipeline.slug, "loaded": done, "failed": failed,
            "corrected": sorted(payloads.keys() & tried.keys()),
        }  # fmt: skip
        only = str(next(iter(tried))) if len(tried) == 1 else None
        record_raw(conn, Entry(Action.DEAD_LETTER_RETRIED, actor, "dead_letter", only, detail=detail))

    result = retry_dead_letters(
        services.database,
        services.gate(),
        caller.workspace_id,
        ids,
        payloads=payloads,
        clock=services.clock,
        max_event_bytes=services.settings.max_event_bytes,
        then=then,
    )
    return Retried(
        tried=result.tried, loaded=result.loaded, duplicates=result.duplicates, failed=result.failed
    )


def _out(letter: DeadLetter, withheld: bool) -> DeadLetterOut:
    """As it is told; `withheld`: to somebody from whom a rule keeps something of its pipeline."""
    if withheld:
        letter = replace(letter, payload=b"", reason=_WITHHELD, event_id=None, event_time=None)
    text = letter.payload[: PREVIEW_CHARS * 4].decode("utf-8", "replace")
    # A NUL cannot be shown, and many clients choke on it.
    preview = text[:PREVIEW_CHARS].replace("\x00", "\ufffd")
    return DeadLetterOut(
        id=letter.id,
        pipeline=letter.pipeline,
        state=letter.state,
        step=letter.step,
        code=letter.code,
        reason=letter.reason,
        expectation=letter.expectation,
        event_id=letter.event_id,
        event_time=letter.event_time,
        batch=letter.batch_name,
        position=letter.position,
        received_at=letter.received_at,
        created_at=letter.created_at,
        resolved_at=letter.resolved_at,
        payload=preview,
        payload_truncated=len(text) > len(preview) or len(letter.payload) > PREVIEW_CHARS * 4,
        payload_bytes=len(letter.payload),
        withheld=withheld,
    )
