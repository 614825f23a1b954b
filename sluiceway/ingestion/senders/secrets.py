"""Senders' secrets at rest: `app.pipeline_secrets`, sealed. Several are valid at a time, for rotation.

Services take an open connection (role APP) that acts for the workspace, and do not commit. A value goes in
and is never told again; only `active_secrets`, for the event route, opens them.
"""

import base64
import logging
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.senders import AnyVerify, HmacVerify, StandardWebhooksVerify
from sluiceway.infra.announcing import announce
from sluiceway.infra.envelope import CannotOpen, Envelope
from sluiceway.infra.paging import newest_first
from sluiceway.ingestion.errors import InvalidSecret, SecretNotFound
from sluiceway.ingestion.senders.contracts import ActiveSecret
from sluiceway.ingestion.senders.service import check_secret
from sluiceway.kit.checks import end_problems, length_problems, refuse
from sluiceway.kit.errors import FieldError
from sluiceway.kit.ids import uuid7

Purpose = Literal["signature", "challenge"]
NAME_LENGTH = 100
MAX_SECRET_CHARACTERS = 4096
MAX_SECRETS = 20
LATEST_END = datetime(9000, 1, 1, tzinfo=UTC)
"""Later dates can be kept, but not read again in every time zone."""
_COLUMNS = "id, name, purpose, created_by, created_at, expires_at"

log = logging.getLogger("sluiceway.ingestion")


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """A secret without its value."""

    id: uuid.UUID
    name: str
    purpose: Purpose
    created_by: uuid.UUID | None
    created_at: datetime
    expires_at: datetime | None


def generate_secret(spec: AnyVerify | None) -> str:
    """A new secret of 256 random bits, written as the scheme's senders want it."""
    match spec:
        case StandardWebhooksVerify():
            return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        case HmacVerify(secret_encoding="hex"):
            return secrets.token_hex(32)
        case HmacVerify(secret_encoding="base64"):
            return base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def add_secret(
    conn: sa.Connection,
    envelope: Envelope,
    pipeline: Pipeline,
    value: str,
    *,
    now: datetime,
    name: str = "",
    purpose: Purpose = "signature",
    expires_at: datetime | None = None,
    others_expire_at: datetime | None = None,
    created_by: uuid.UUID | None = None,
) -> SecretInfo:
    """Keep a secret; it is valid from the commit on.

    `others_expire_at`: when the pipeline's other secrets of this purpose end (those that end sooner stay as
    they are); a time that is over means now. Raises `InvalidSecret` for a value that the pipeline's scheme
    cannot use, and for dates that cannot be.
    """
    _check(pipeline, value, name, purpose, now, expires_at, others_expire_at)
    secret_id = uuid7()
    if others_expire_at is None or others_expire_at > now:
        # Where the others end now, the new one is the only one.
        _check_count(conn, pipeline, purpose, now)
    if others_expire_at is not None:
        conn.execute(
            sa.text(
                "UPDATE app.pipeline_secrets SET expires_at = :at WHERE workspace_id = :workspace"
                " AND pipeline_id = :pipeline AND purpose = :purpose"
                " AND (expires_at IS NULL OR expires_at > :at)"
            ),
            {**_of(pipeline), "purpose": purpose, "at": max(others_expire_at, now)},
        )
    conn.execute(
        sa.text(
            "INSERT INTO app.pipeline_secrets"
            " (id, workspace_id, pipeline_id, name, purpose, sealed, created_by, created_at, expires_at)"
            " VALUES (:id, :workspace, :pipeline, :name, :purpose, :sealed, :by, :now, :expires)"
        ),
        {
            **_of(pipeline),
            "id": secret_id,
            "name": name.strip(),
            "purpose": purpose,
            "sealed": envelope.seal(value.encode(), _context(pipeline.workspace_id, pipeline.id, secret_id)),
            "by": created_by,
            "now": now,
            "expires": expires_at,
        },
    )
    _notify(conn, pipeline)
    return SecretInfo(secret_id, name.strip(), purpose, created_by, now, expires_at)


def list_secrets(
    conn: sa.Connection,
    pipeline: Pipeline,
    *,
    limit: int = 1000,
    after: tuple[datetime, uuid.UUID] | None = None,
) -> list[SecretInfo]:
    """Newest first, expired ones included; `after`: (created_at, id) to go on from."""
    end, values = newest_first("created_at", "id", after, limit)
    rows = conn.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM app.pipeline_secrets"  # noqa: S608  # our own list
            f" WHERE workspace_id = :workspace AND pipeline_id = :pipeline{end}"
        ),
        {**_of(pipeline), **values},
    )
    return [SecretInfo(**row) for row in rows.mappings()]


def remove_secret(conn: sa.Connection, pipeline: Pipeline, secret_id: uuid.UUID) -> None:
    """Forget a secret; what is signed with it is refused from the commit on. Raises `SecretNotFound`."""
    removed = conn.execute(
        sa.text(
            "DELETE FROM app.pipeline_secrets"
            " WHERE workspace_id = :workspace AND pipeline_id = :pipeline AND id = :id"
        ),
        {**_of(pipeline), "id": secret_id},
    )
    if removed.rowcount == 0:
        raise SecretNotFound("There is no such secret of this pipeline.")
    _notify(conn, pipeline)


def active_secrets(
    conn: sa.Connection, envelope: Envelope, workspace_id: int, pipeline_id: int, *, now: datetime
) -> list[ActiveSecret]:
    """The values that are valid now, newest first. What cannot be opened is left out and logged."""
    rows = conn.execute(
        sa.text(
            "SELECT id, purpose, sealed, expires_at FROM app.pipeline_secrets"
            " WHERE workspace_id = :workspace AND pipeline_id = :pipeline"
            " AND (expires_at IS NULL OR expires_at > :now) ORDER BY created_at DESC, id DESC LIMIT :limit"
        ),
        {"workspace": workspace_id, "pipeline": pipeline_id, "now": now, "limit": 2 * MAX_SECRETS},
    )
    found: list[ActiveSecret] = []
    for row in rows:
        try:
            value = envelope.open(bytes(row.sealed), _context(workspace_id, pipeline_id, row.id)).decode()
        except CannotOpen as error:
            log.error("secret %s of pipeline %d: %s", row.id, pipeline_id, error.detail)
            continue
        expires = float("inf") if row.expires_at is None else row.expires_at.timestamp()
        found.append(ActiveSecret(value, row.purpose, expires))
    return found


def _check(
    pipeline: Pipeline,
    value: str,
    name: str,
    purpose: Purpose,
    now: datetime,
    expires_at: datetime | None,
    others_expire_at: datetime | None,
) -> None:
    spec = pipeline.spec.source.verify
    problems: list[FieldError] = []
    if not value.strip() or len(value) > MAX_SECRET_CHARACTERS:
        problems.append(FieldError("value", f"should have 1 to {MAX_SECRET_CHARACTERS} characters"))
    elif not value.isprintable():
        problems.append(FieldError("value", "should have no line breaks or other control characters"))
    elif spec is not None and purpose == "signature" and (wrong := check_secret(spec, value)) is not None:
        problems.append(FieldError("value", wrong))
    problems += length_problems(name.strip(), NAME_LENGTH, "name")
    problems += end_problems(expires_at, now)
    for field, end in (("expires_at", expires_at), ("others_expire_at", others_expire_at)):
        if end is not None and end >= LATEST_END:
            problems.append(FieldError(field, f"should be before the year {LATEST_END.year}"))
    refuse(InvalidSecret, problems)


def _check_count(conn: sa.Connection, pipeline: Pipeline, purpose: Purpose, now: datetime) -> None:
    if _count_valid(conn, pipeline, purpose, now) >= MAX_SECRETS:
        text = f"is one too many: a pipeline has at most {MAX_SECRETS} that are valid"
        refuse(InvalidSecret, [FieldError("value", text)])


def _count_valid(conn: sa.Connection, pipeline: Pipeline, purpose: Purpose, now: datetime) -> int:
    found: int = conn.execute(
        sa.text(
            "SELECT count(*) FROM app.pipeline_secrets WHERE workspace_id = :workspace"
            " AND pipeline_id = :pipeline AND purpose = :purpose"
            " AND (expires_at IS NULL OR expires_at > :now)"
        ),
        {**_of(pipeline), "purpose": purpose, "now": now},
    ).scalar_one()
    return found


def _of(pipeline: Pipeline) -> dict[str, Any]:
    return {"workspace": pipeline.workspace_id, "pipeline": pipeline.id}


def _context(workspace_id: int, pipeline_id: int, secret_id: uuid.UUID) -> str:
    """What a sealed value is bound to: it opens in no other row."""
    return f"pipeline-secret:{workspace_id}:{pipeline_id}:{secret_id}"


def _notify(conn: sa.Connection, pipeline: Pipeline) -> None:
    """Web processes forget what they know of the pipeline's senders, at commit."""
    announce(conn, {"t": "secrets", "w": pipeline.workspace_id, "p": pipeline.id})
