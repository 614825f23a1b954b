"""API keys: made (the text is shown once), listed without secrets, rotated, revoked."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.confirming import check_confirmed
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Limit, Page, decode_newest, newest_page
from sluiceway.audit.actions import Action
from sluiceway.catalog.limits import LEAST_RATE, MAX_BURST, MAX_RATE, key_limits
from sluiceway.catalog.service import Catalog
from sluiceway.dashboards.links import revoke_links_of
from sluiceway.identity import key_rotation, keys
from sluiceway.identity import service_accounts as accounts
from sluiceway.identity.contracts import Caller, KeyInfo
from sluiceway.identity.errors import InvalidKeyRequest
from sluiceway.identity.giving import check_gives_roles
from sluiceway.identity.permissions import Permission, Scope, permissions_of_scopes
from sluiceway.kit.checks import end_problems
from sluiceway.kit.errors import FieldError

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=IdempotentRoute)

MayRead = Annotated[Caller, Depends(require(Permission.KEY_READ))]
MayManage = Annotated[Caller, Depends(require(Permission.KEY_MANAGE))]
KeyId = Annotated[str, Path(pattern="^[a-z0-9]{12}$")]


class NewKey(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "gate sensors", "scopes": ["ingest"], "pipelines": ["nyc-flights"]}
        },
    )

    name: str = Field(min_length=1, max_length=keys.NAME_LENGTH)
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    pipelines: list[str] | None = Field(
        default=None, min_length=1, max_length=200, description="Pipelines it may send to; null: every one."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="Null: it does not expire.")
    rate: float | None = Field(
        default=None,
        gt=0,
        le=MAX_RATE,
        description="Events a second it may send, averaged, to all its pipelines together, at least one a"
        " day (1/86400); null: no limit of its own.",
        json_schema_extra={"minimum": LEAST_RATE},
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        le=MAX_BURST,
        description="Events that may come at once; null: what the rate brings in 2 seconds.",
    )


class Rotation(BaseModel):
    """For how long the secret until now goes on beside the new one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"overlap_s": 86400}})

    overlap_s: int = Field(
        default=int(key_rotation.DEFAULT_OVERLAP.total_seconds()),
        ge=0,
        le=int(key_rotation.LONGEST_OVERLAP.total_seconds()),
        description="Seconds; 0: it is refused at once.",
    )
    lost: bool = Field(
        default=False,
        description="The secret of the last rotation was lost before anybody used it: replace it, and let the"
        " one before go on as was said then.",
    )


class Key(BaseModel):
    """An API key without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    pipelines: list[str] | None
    state: str = Field(description="`active`, `expired` or `revoked`.")
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None
    revoked_at: datetime | None
    service_account: UUID | None = Field(description="Whose key it is; null: the workspace's.")
    rotated_at: datetime | None
    previous_until: datetime | None = Field(
        description="Until when the secret before the last rotation works; null: it does not."
    )
    previous_used_at: datetime | None = Field(description="When that secret was used last.")
    rate: float | None = Field(description="Events a second it may send; null: no limit of its own.")
    burst: int | None = Field(description="Events that may come at once.")


class CreatedKey(BaseModel):
    """A new key. `key` is not kept and cannot be shown again."""

    key: str = Field(examples=["slw_abcdefghijkm_…"])
    info: Key


@router.get("", summary="List keys")
def list_keys(
    request: Request, services: Services, caller: MayRead, limit: Limit = 50, cursor: CursorParameter = None
) -> Page[Key]:
    """Newest first, revoked ones included; without secrets."""
    after = decode_newest(cursor, str)
    with catalog(services, caller) as conn:
        found = keys.list_keys(conn, caller.workspace_id, limit=limit + 1, after=after)
        note_read(request, conn, caller, Action.KEY_LISTED, target="key")
        names = pipeline_names(conn, caller)
    now = services.clock.now()
    return newest_page(found, limit, lambda k: describe_key(k, names, now))


@router.post("", status_code=201, summary="Make a key")
def create_key(
    request: Request, services: Services, caller: MayManage, body: NewKey, response: Response
) -> CreatedKey:
    """Make a key. Its text is in this answer and nowhere else."""
    now = services.clock.now()
    check_end(body.expires_at, now)
    limits = key_limits(body.rate, body.burst)
    caller.check_gives(permissions_of_scopes(body.scopes))
    with catalog(services, caller) as conn:
        ids = {p.slug: p.id for p in Catalog().list(conn, caller.workspace_id) if p.state != "archived"}
        unknown = [
            FieldError(f"pipelines.{i}", f"there is no pipeline {slug!r}")
            for i, slug in enumerate(body.pipelines or [])
            if slug not in ids
        ]
        if unknown:
            raise InvalidKeyRequest("A pipeline is unknown.", errors=unknown)
        text = keys.create_key(
            conn,
            caller.workspace_id,
            body.name,
            body.scopes,
            pipeline_ids=None if body.pipelines is None else [ids[slug] for slug in body.pipelines],
            created_by=caller.user_id,
            expires_at=body.expires_at,
            rate_per_s=limits.events_per_s if limits else None,
            burst=limits.burst if limits else None,
        )
        info = keys.get_key(conn, caller.workspace_id, keys.parse_key(text)[0])
        note(
            request, conn, caller, Action.KEY_CREATED, target="key", target_id=info.id,
            after={"name": info.name, "scopes": info.scopes, "pipelines": body.pipelines,
                   "expires_at": info.expires_at, "rate": info.rate_per_s, "burst": info.burst},
        )  # fmt: skip
    return shown_once(response, text, describe_key(info, {v: k for k, v in ids.items()}, now))


@router.get("/{key_id}", summary="One key")
def get_key(request: Request, services: Services, caller: MayRead, key_id: KeyId) -> Key:
    """A key without its secret."""
    with catalog(services, caller) as conn:
        found = keys.get_key(conn, caller.workspace_id, key_id)
        note_read(request, conn, caller, Action.KEY_LISTED, target="key", target_id=key_id)
        names = pipeline_names(conn, caller)
    return describe_key(found, names, services.clock.now())


@router.post(
    "/{key_id}/rotation", status_code=201, summary="Rotate a key", responses=problem_responses((409,))
)
def rotate_key(
    request: Request, services: Services, caller: MayManage, key_id: KeyId, body: Rotation, response: Response
) -> CreatedKey:
    """A new secret; the one until now works for `overlap_s` more. The text is in this answer alone.

    The key keeps its id, scopes, limits and end. 409 while the secret before an earlier rotation still works.
    """
    now = services.clock.now()
    _check_others(request, services, caller, key_id)
    with catalog(services, caller) as conn:
        _check_gives(conn, caller, key_id)
        text, info = key_rotation.rotate_key(
            conn,
            caller.workspace_id,
            key_id,
            now=now,
            overlap=timedelta(seconds=body.overlap_s),
            lost=body.lost,
        )
        note(
            request, conn, caller, Action.KEY_ROTATED, target="key", target_id=key_id,
            detail={"name": info.name, "previous_until": info.previous_expires_at, "lost": body.lost},
        )  # fmt: skip
        names = pipeline_names(conn, caller)
    return shown_once(response, text, describe_key(info, names, now))


@router.delete("/{key_id}/rotation", summary="End a rotation's overlap")
def end_rotation(request: Request, services: Services, caller: MayManage, key_id: KeyId) -> Key:
    """Refuse the secret before the last rotation from now on. Doing it again changes nothing."""
    with catalog(services, caller) as conn:
        found = key_rotation.end_overlap(conn, caller.workspace_id, key_id)
        note(
            request, conn, caller, Action.KEY_OVERLAP_ENDED, target="key", target_id=key_id,
            detail={"name": found.name},
        )  # fmt: skip
        names = pipeline_names(conn, caller)
    return describe_key(found, names, services.clock.now())


@router.delete("/{key_id}", summary="Revoke a key")
def revoke_key(request: Request, services: Services, caller: MayManage, key_id: KeyId) -> Key:
    """Refused from now on, everywhere within seconds, and so are the links that were made with it.

    Revoking again changes nothing.
    """
    now = services.clock.now()
    _check_others(request, services, caller, key_id)
    with catalog(services, caller) as conn:
        found = keys.revoke_key(conn, caller.workspace_id, key_id, at=now)
        revoke_links_of(conn, caller.workspace_id, f"key:{key_id}", at=now)
        if found.revoked_at == now:
            note(
                request, conn, caller, Action.KEY_REVOKED, target="key", target_id=key_id,
                before={"state": "active"}, after={"state": "revoked"}, detail={"name": found.name},
            )  # fmt: skip
        names = pipeline_names(conn, caller)
    return describe_key(found, names, now)


def _check_others(request: Request, services: Services, caller: Caller, key_id: str) -> None:
    """What somebody else made is touched only by a person who has just proved who they are."""
    with catalog(services, caller) as conn:
        made_by = keys.get_key(conn, caller.workspace_id, key_id).created_by
    if made_by != caller.user_id:
        check_confirmed(request, services, caller)


def _check_gives(conn: sa.Connection, caller: Caller, key_id: str) -> None:
    """Whoever is given a key's secret may do what it may: only who holds all of that is."""
    found = keys.get_key(conn, caller.workspace_id, key_id)
    if found.account_id is None:
        caller.check_gives(permissions_of_scopes(found.scopes))
    else:
        account = accounts.get_account(conn, caller.workspace_id, found.account_id)
        check_gives_roles(conn, caller.workspace_id, caller, account.roles)


def check_end(expires_at: datetime | None, now: datetime) -> None:
    """Raises `InvalidKeyRequest` for a key that would have expired already."""
    if problems := end_problems(expires_at, now):
        raise InvalidKeyRequest("The key would have expired already.", errors=problems)


def pipeline_names(conn: sa.Connection, caller: Caller) -> dict[int, str]:
    """Slugs of the workspace's pipelines by id."""
    return {p.id: p.slug for p in Catalog().list(conn, caller.workspace_id)}


def shown_once(response: Response, text: str, info: Key) -> CreatedKey:
    """A key with its text, in an answer that nobody on the way keeps."""
    response.headers["Cache-Control"] = "no-store"
    return CreatedKey(key=text, info=info)


def describe_key(info: KeyInfo, names: dict[int, str], now: datetime) -> Key:
    """The key as it is answered. `names`: slugs of pipelines by id."""
    overlapping = info.previous_expires_at is not None and info.previous_expires_at > now
    expired = info.expires_at is not None and info.expires_at <= now
    state = "revoked" if info.revoked_at else "expired" if expired else "active"
    return Key(
        id=info.id,
        name=info.name,
        scopes=list(info.scopes),
        pipelines=None if info.pipeline_ids is None else [names.get(i, str(i)) for i in info.pipeline_ids],
        state=state,
        created_by=info.created_by,
        created_at=info.created_at,
        expires_at=info.expires_at,
        last_used_at=info.last_used_at,
        last_used_address=info.last_used_address,
        revoked_at=info.revoked_at,
        service_account=info.account_id,
        rotated_at=info.rotated_at,
        previous_until=info.previous_expires_at if overlapping else None,
        previous_used_at=info.previous_used_at,
        rate=info.rate_per_s,
        burst=info.burst,
    )
