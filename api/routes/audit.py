"""The audit log: searched, exported, checked. Reading it is itself recorded."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.pagination import CursorParameter, Limit, Page, decode, page
from sluiceway.audit import reading
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import ActorKind, AuditEntry
from sluiceway.audit.reading import Format, Search
from sluiceway.audit.verification import Head, Verification, find_head, verify
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission

router = APIRouter(prefix="/v1/audit", tags=["audit"])

MayRead = Annotated[Caller, Depends(require(Permission.AUDIT_READ))]
Text = Annotated[str | None, Query(min_length=1, max_length=300)]
_MEDIA: dict[Format, str] = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}


class ActorOut(BaseModel):
    """Who did it. Name, address and browser are empty once the person's account is gone."""

    kind: ActorKind
    id: str = Field(description="A person's UUID, a key's id, `cli` or a process of the platform.")
    name: str = Field(description="Of a person the e-mail address.")
    address: str
    user_agent: str


class EntryOut(BaseModel):
    """What was done. `before` and `after` hold what changed."""

    seq: int = Field(description="Counts from 1 without a gap.")
    at: datetime
    action: str
    actor: ActorOut
    request_id: str
    target: str | None = Field(description="The kind of thing it was done to.")
    target_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    detail: dict[str, Any] | None
    erased: bool = Field(description="The actor's name and address were erased with their account.")
    hash: str = Field(description="SHA-256 over the hash before and this entry, in hex.")


class StoredEntryOut(EntryOut):
    """An entry with what its hash is computed from."""

    workspace_id: int
    content: str
    previous: str


class HeadOut(BaseModel):
    """A place in the chain. Note it outside: then nobody can rewrite what was before it unseen."""

    seq: int
    hash: str
    head: str = Field(description="Both together, as `verification` takes it.", examples=["17:4bf5…"])


class BrokenOut(BaseModel):
    seq: int = Field(description="The first entry that is not as it was written.")
    what: str


class VerificationOut(BaseModel):
    """Every entry that is kept was read and its hash computed again."""

    intact: bool
    entries: int = Field(description="How many were read and are as they were written.")
    start: HeadOut = Field(description="What retention dropped ended here; 0: nothing was dropped.")
    head: HeadOut
    first_at: datetime | None
    last_at: datetime | None
    erased: int = Field(description="Entries of which somebody's name and address were erased.")
    broken: BrokenOut | None


def _search(
    actor: Annotated[Text, Query(description="An id, a kind, or a part of a name.")] = None,
    action: Annotated[Text, Query(description="`key.created`, or `key` for all about keys.")] = None,
    target: Annotated[Text, Query(description="The kind of thing.")] = None,
    target_id: Text = None,
    address: Annotated[Text, Query(description="The address it came from.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Included.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Not included.")] = None,
    text: Annotated[Text, Query(description="A part of anything that the entry says.")] = None,
) -> Search:
    return Search(actor, action, target, target_id, address, since, until, text)


Wanted = Annotated[Search, Depends(_search)]


@router.get("", summary="Search the audit log")
def search_audit(
    request: Request,
    services: Services,
    caller: MayRead,
    wanted: Wanted,
    limit: Limit = 50,
    cursor: CursorParameter = None,
) -> Page[EntryOut]:
    """Newest first; all conditions have to hold. That somebody looked is recorded."""
    before = decode(cursor, int)
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.AUDIT_READ, target="audit", detail=wanted.described())
        found = reading.search(
            conn, caller.workspace_id, wanted, limit=limit + 1, before=before[0] if before else None
        )
    return page(found, limit, _entry, lambda e: (e.seq,))


@router.get("/actions", summary="What is recorded")
def list_actions(caller: MayRead) -> Page[str]:
    """The names of all actions. One page holds them all."""
    return Page(items=sorted(Action))


@router.get("/head", summary="The newest entry's hash")
def get_head(request: Request, services: Services, caller: MayRead) -> HeadOut:
    """To be noted elsewhere, and given to `verification` later."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.AUDIT_READ, target="audit")
        return _head(find_head(conn, caller.workspace_id))


@router.get("/verification", summary="Check the audit log")
def verify_audit(
    request: Request,
    services: Services,
    caller: MayRead,
    head: Annotated[
        str | None, Query(max_length=100, description="A head that was noted earlier, `<seq>:<hash>`.")
    ] = None,
) -> VerificationOut:
    """Read the whole log and compute every hash again; `broken` names the first entry that is not as it was.

    The same as `sluiceway audit verify`.
    """
    expected = None if head is None else Head.parse(head)
    with catalog(services, caller) as conn:
        found = verify(conn, caller.workspace_id, expected)
        # That all is well is said now and then; that something is wrong, every time.
        tell = note_read if found.intact else note
        tell(
            request, conn, caller, Action.AUDIT_VERIFIED, target="audit",
            detail={"intact": found.intact, "through": str(found.head)},
        )  # fmt: skip
    return _verification(found)


@router.get(
    "/export",
    summary="Export the audit log",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
            "description": "The entries, oldest first",
        }
    },
)
def export_audit(
    request: Request,
    services: Services,
    caller: MayRead,
    wanted: Wanted,
    format: Annotated[Format, Query(description="`ndjson` has what the hashes are computed from.")] = "csv",
) -> StreamingResponse:
    """All that a search finds, as a file. That it was taken is recorded."""
    with catalog(services, caller) as conn:
        detail = {"format": format, **wanted.described()}
        note(request, conn, caller, Action.EXPORT_MADE, target="audit", detail=detail)
    transactions: Callable[[], AbstractContextManager[sa.Connection]] = partial(catalog, services, caller)
    day = f"{services.clock.now():%Y-%m-%d}"
    return StreamingResponse(
        reading.exported(transactions, caller.workspace_id, wanted, format),
        media_type=_MEDIA[format],
        headers={
            "Content-Disposition": f'attachment; filename="audit-{day}.{format}"',
            "Cache-Control": "no-store",
        },
    )


@router.get("/entries/{seq}", summary="One entry")
def get_entry(
    request: Request,
    services: Services,
    caller: MayRead,
    seq: Annotated[int, Path(ge=1, le=2**63 - 1)],
) -> StoredEntryOut:
    """With what its hash is computed from."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.AUDIT_READ, target="audit")
        entry, stored = reading.find(conn, caller.workspace_id, seq)
    return StoredEntryOut(
        **_entry(entry).model_dump(),
        workspace_id=stored.workspace_id,
        content=stored.content,
        previous=stored.previous.hex(),
    )


def _entry(entry: AuditEntry) -> EntryOut:
    return EntryOut.model_validate(reading.as_dict(entry))


def _head(head: Head) -> HeadOut:
    return HeadOut(seq=head.seq, hash=head.hash.hex(), head=str(head))


def _verification(found: Verification) -> VerificationOut:
    return VerificationOut(
        intact=found.intact,
        entries=found.entries,
        start=_head(found.start),
        head=_head(found.head),
        first_at=found.first_at,
        last_at=found.last_at,
        erased=found.erased,
        broken=None if found.broken is None else BrokenOut(seq=found.broken.seq, what=found.broken.what),
    )
