"""Senders' secrets of a pipeline: added (a generated one is shown once), listed without values, removed."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Limit, Page, decode_newest, newest_page
from sluiceway.audit.actions import Action
from sluiceway.catalog.errors import PipelineArchived
from sluiceway.catalog.service import Catalog
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.ingestion.senders import secrets

router = APIRouter(prefix="/v1/pipelines", tags=["secrets"], route_class=IdempotentRoute)

Slug = Annotated[str, Path(max_length=63, examples=["github-webhooks"])]
MayRead = Annotated[Caller, Depends(require(Permission.KEY_READ))]
MayManage = Annotated[Caller, Depends(require(Permission.KEY_MANAGE))]


class NewSecret(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "main repository", "value": "as set at the sender"}},
    )

    value: str | None = Field(
        default=None,
        min_length=1,
        max_length=secrets.MAX_SECRET_CHARACTERS,
        description="As the sender shows it, or as you set it there; null: one is made and shown once.",
    )
    name: str = Field(default="", max_length=secrets.NAME_LENGTH, description="What it is for.")
    purpose: Literal["signature", "challenge"] = Field(
        default="signature", description="`challenge`: the verify token of a handshake, not a signing secret."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="Null: it does not expire.")
    others_expire_at: AwareDatetime | None = Field(
        default=None, description="When the pipeline's other secrets of this purpose end; null: they stay."
    )


class Secret(BaseModel):
    """A sender's secret without its value."""

    id: UUID
    name: str
    purpose: Literal["signature", "challenge"]
    state: Literal["active", "expired"]
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None


class CreatedSecret(BaseModel):
    """A new secret. `value` is there only if it was made here, and cannot be shown again."""

    value: str | None
    info: Secret


@router.get("/{pipeline}/secrets", summary="List senders' secrets")
def list_secrets(
    request: Request,
    services: Services,
    caller: MayRead,
    pipeline: Slug,
    limit: Limit = 50,
    cursor: CursorParameter = None,
) -> Page[Secret]:
    """Newest first, expired ones included; without their values, which nobody is ever told again."""
    after = decode_newest(cursor)
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, pipeline)
        rows = secrets.list_secrets(conn, found, limit=limit + 1, after=after)
        note_read(request, conn, caller, Action.SECRET_LISTED, target="pipeline", target_id=found.slug)
    now = services.clock.now()
    return newest_page(rows, limit, lambda s: _secret(s, now))


@router.post("/{pipeline}/secrets", status_code=201, summary="Add a sender's secret")
def add_secret(
    request: Request,
    services: Services,
    caller: MayManage,
    pipeline: Slug,
    body: NewSecret,
    response: Response,
) -> CreatedSecret:
    """Valid at once, beside those that are there: first add the new one, then change it at the sender, then
    remove the old one (or let it end by `others_expire_at`)."""
    now = services.clock.now()
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, pipeline)
        if found.state == "archived":
            raise PipelineArchived(f"The pipeline {pipeline!r} is archived.")
        made = None
        if body.value is None:
            verify = found.spec.source.verify
            made = secrets.generate_secret(verify if body.purpose == "signature" else None)
        info = secrets.add_secret(
            conn,
            services.database.envelope,
            found,
            body.value or made or "",
            now=now,
            name=body.name,
            purpose=body.purpose,
            expires_at=body.expires_at,
            others_expire_at=body.others_expire_at,
            created_by=caller.user_id,
        )
        note(
            request, conn, caller, Action.SECRET_ADDED, target="secret", target_id=info.id,
            after={"pipeline": found.slug, "name": info.name, "purpose": info.purpose,
                   "expires_at": info.expires_at, "others_expire_at": body.others_expire_at},
        )  # fmt: skip
    response.headers["Cache-Control"] = "no-store"
    return CreatedSecret(value=made, info=_secret(info, now))


@router.delete(
    "/{pipeline}/secrets/{secret_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a sender's secret",
)
def remove_secret(
    request: Request, services: Services, caller: MayManage, pipeline: Slug, secret_id: UUID
) -> None:
    """What is signed with it is refused from now on, everywhere within seconds."""
    with catalog(services, caller) as conn:
        found = Catalog().get(conn, caller.workspace_id, pipeline)
        secrets.remove_secret(conn, found, secret_id)
        note(
            request, conn, caller, Action.SECRET_REMOVED, target="secret", target_id=secret_id,
            before={"pipeline": found.slug},
        )  # fmt: skip


def _secret(info: secrets.SecretInfo, now: datetime) -> Secret:
    return Secret(
        id=info.id,
        name=info.name,
        purpose=info.purpose,
        state="expired" if info.expires_at is not None and info.expires_at <= now else "active",
        created_by=info.created_by,
        created_at=info.created_at,
        expires_at=info.expires_at,
    )
