"""API keys: `slw_<id>_<secret>`. Only SHA-256 of the secret is kept; the text is shown once.

The secret has 256 random bits, so a fast hash is enough: there is nothing to guess, and the event route
can check a key without spending milliseconds. `authenticate` = `parse_key` ▸ `find_key` ▸ `check_key` ▸
`with_account`; the event route keeps what came of it until the key ends or it is told of a change.

A key that was rotated has two secrets for a while. Not here: rotating (`key_rotation`), the accounts that
own keys (`service_accounts`).
"""

import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from sluiceway.identity.contracts import KeyAccount, KeyCaller, KeyInfo
from sluiceway.identity.errors import ExpiredKey, InvalidKey, InvalidKeyRequest
from sluiceway.identity.permissions import Scope
from sluiceway.identity.role_permissions import permissions_of_roles
from sluiceway.infra.announcing import announce
from sluiceway.infra.database import set_identity
from sluiceway.infra.paging import newest_first
from sluiceway.kit.checks import name_problems
from sluiceway.kit.errors import FieldError, NotFound

PREFIX = "slw"
NAME_LENGTH = 100
LATEST_END = datetime(9000, 1, 1, tzinfo=UTC)
"""Later dates can be kept, but not read again in every time zone."""
_KEY = re.compile(rf"{PREFIX}_([a-z0-9]{{12}})_([A-Za-z0-9_-]{{43}})")
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_COLUMNS = (
    "id, name, scopes, pipeline_ids, created_by, created_at, expires_at, last_used_at, revoked_at,"
    " rate_per_s, burst, service_account_id, rotated_at, previous_expires_at, previous_used_at,"
    " last_used_address"
)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as kept. `secret_hash` never leaves the process."""

    id: str
    workspace_id: int
    name: str
    scopes: frozenset[Scope]
    pipeline_ids: frozenset[int] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    secret_hash: bytes = field(repr=False)
    rate_per_s: float | None = None
    burst: int | None = None
    previous_hash: bytes | None = field(default=None, repr=False)
    previous_expires_at: datetime | None = None
    account: KeyAccount | None = None
    account_disabled_at: datetime | None = None


def create_key(
    conn: sa.Connection,
    workspace_id: int,
    name: str,
    scopes: Iterable[Scope | str],
    *,
    pipeline_ids: Iterable[int] | None = None,
    created_by: uuid.UUID | None = None,
    expires_at: datetime | None = None,
    rate_per_s: float | None = None,
    burst: int | None = None,
    account_id: uuid.UUID | None = None,
) -> str:
    """Make a key and return its text, which cannot be had again. The caller's transaction commits it.

    `rate_per_s`: events a second it may send, averaged, to all its pipelines together; `burst`: how many may
    come at once. Both or neither. `account_id`: the service account that owns it. Raises `InvalidKeyRequest`
    for an unknown scope, no scope, an empty name, an unknown pipeline, or a limit or a date that cannot be.
    """
    wanted = _scopes(scopes)
    if Scope.ACCOUNT in wanted and (account_id is None or len(wanted) > 1):
        problem = FieldError("scopes", "the scope account stands alone, on a key of a service account")
        raise InvalidKeyRequest("The scope account cannot be had here.", errors=[problem])
    limited = None if pipeline_ids is None else sorted(set(pipeline_ids))
    _check_request(conn, workspace_id, name, limited)
    _check_limit(rate_per_s, burst)
    _check_end(expires_at)
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    text, hashed = new_secret(key_id)
    conn.execute(
        sa.text(
            "INSERT INTO app.api_keys"
            " (id, workspace_id, name, secret_hash, scopes, pipeline_ids, created_by, expires_at,"
            " rate_per_s, burst, service_account_id)"
            " VALUES (:id, :workspace, :name, :hash, :scopes, :pipelines, :by, :expires, :rate, :burst,"
            " :account)"
        ),
        {
            "id": key_id,
            "workspace": workspace_id,
            "name": name.strip(),
            "hash": hashed,
            "scopes": sorted(wanted),
            "pipelines": limited,
            "by": created_by,
            "expires": expires_at,
            "rate": rate_per_s,
            "burst": burst,
            "account": account_id,
        },
    )
    return text


def new_secret(key_id: str) -> tuple[str, bytes]:
    """A key's text with a fresh secret, and the hash to keep of it."""
    secret = secrets.token_urlsafe(32)
    return f"{PREFIX}_{key_id}_{secret}", _hash(secret)


def authenticate(conn: sa.Connection, text: str, *, now: datetime) -> KeyCaller:
    """Who shows this key. Needs role APP; afterwards the transaction acts for the key's workspace.

    Raises `InvalidKey` (malformed, unknown, revoked, wrong secret) or `ExpiredKey`.
    """
    key_id, secret = parse_key(text)
    found = check_key(find_key(conn, key_id), secret, now=now)
    set_identity(conn, workspace_id=found.workspace_id)
    return with_account(conn, found)


def with_account(conn: sa.Connection, caller: KeyCaller) -> KeyCaller:
    """With what the owning account's roles allow. The transaction acts for the key's workspace.

    Until this was asked, a key of a service account may do nothing.
    """
    if caller.account is None:
        return caller
    allowed = permissions_of_roles(conn, caller.workspace_id, caller.account.roles)
    return replace(caller, account=replace(caller.account, permissions=allowed))


def parse_key(text: str) -> tuple[str, str]:
    """The id and the secret in a key's text. Raises `InvalidKey` if it has another shape."""
    match = _KEY.fullmatch(text)
    if match is None:
        raise InvalidKey("An API key looks like slw_<id>_<secret>; this one does not.")
    return match[1], match[2]


def find_key(conn: sa.Connection, key_id: str) -> StoredKey | None:
    """The stored key, whatever its workspace."""
    row = conn.execute(sa.text("SELECT * FROM app.find_api_key(:id)"), {"id": key_id}).first()
    if row is None:
        return None
    account = None
    if row.account_id is not None:
        attributes = tuple((name, tuple(values)) for name, values in sorted(row.account_attributes.items()))
        account = KeyAccount(row.account_id, row.account_name, tuple(row.account_roles), attributes)
    return StoredKey(
        id=row.id,
        workspace_id=row.workspace_id,
        name=row.name,
        scopes=frozenset(Scope(s) for s in row.scopes),
        pipeline_ids=None if row.pipeline_ids is None else frozenset(row.pipeline_ids),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        secret_hash=bytes(row.secret_hash),
        rate_per_s=row.rate_per_s,
        burst=row.burst,
        previous_hash=None if row.previous_hash is None else bytes(row.previous_hash),
        previous_expires_at=row.previous_expires_at,
        account=account,
        account_disabled_at=row.account_disabled_at,
    )


def check_key(stored: StoredKey | None, secret: str, *, now: datetime) -> KeyCaller:
    """Compare in constant time, then look at revocation and expiry. No I/O: microseconds.

    The secret before the last rotation counts until its own end. Raises `InvalidKey` or `ExpiredKey`.
    """
    found = _hash(secret)
    current = stored is not None and hmac.compare_digest(found, stored.secret_hash)
    previous = (
        stored is not None
        and stored.previous_hash is not None
        and hmac.compare_digest(found, stored.previous_hash)
    )
    if stored is None or not (current or previous) or stored.revoked_at or stored.account_disabled_at:
        raise InvalidKey("The API key is unknown, revoked or mistyped.")
    ends = [stored.expires_at, None if current else stored.previous_expires_at]
    expires_at = min((end for end in ends if end is not None), default=None)
    if expires_at is not None and expires_at <= now:
        raise ExpiredKey(f"The API key expired on {expires_at:%Y-%m-%d %H:%M} UTC.")
    return _caller(stored, expires_at, by_previous=not current)


def standing_of(conn: sa.Connection, workspace_id: int, key_id: str, *, now: datetime) -> KeyCaller | None:
    """What a key that was recognised before may do now; None: nothing, it was revoked or has ended.

    The transaction acts for the workspace.
    """
    stored = find_key(conn, key_id)
    if stored is None or stored.workspace_id != workspace_id:
        return None
    if stored.revoked_at or stored.account_disabled_at:
        return None
    if stored.expires_at is not None and stored.expires_at <= now:
        return None
    return with_account(conn, _caller(stored, stored.expires_at, by_previous=False))


def _caller(stored: StoredKey, expires_at: datetime | None, *, by_previous: bool) -> KeyCaller:
    return KeyCaller(
        key_id=stored.id,
        workspace_id=stored.workspace_id,
        name=stored.name,
        scopes=stored.scopes,
        pipeline_ids=stored.pipeline_ids,
        expires_at=expires_at,
        rate_per_s=stored.rate_per_s,
        burst=stored.burst,
        by_previous=by_previous,
        account=stored.account,
    )


def touch_key(conn: sa.Connection, caller: KeyCaller, at: datetime, address: str = "") -> None:
    """Note when and from where the key was used, at most once a minute for each address."""
    conn.execute(
        sa.text(
            "UPDATE app.api_keys SET last_used_at = greatest(last_used_at, :at),"
            " last_used_address = coalesce(nullif(:address, ''), last_used_address),"
            " previous_used_at = CASE WHEN :previous THEN :at ELSE previous_used_at END"
            " WHERE workspace_id = :workspace AND id = :id AND ("
            " last_used_at IS NULL OR last_used_at < CAST(:at AS timestamptz) - interval '1 minute'"
            " OR last_used_address IS DISTINCT FROM coalesce(nullif(:address, ''), last_used_address)"
            " OR (:previous AND (previous_used_at IS NULL"
            "  OR previous_used_at < CAST(:at AS timestamptz) - interval '1 minute')))"
        ),
        {
            "at": at,
            "address": address[:100],
            "previous": caller.by_previous,
            "workspace": caller.workspace_id,
            "id": caller.key_id,
        },
    )


def note_address(conn: sa.Connection, workspace_id: int, key_id: str, address: str) -> None:
    """Note from where a key was used last, where looking it up did not know (the event route)."""
    conn.execute(
        sa.text(
            "UPDATE app.api_keys SET last_used_address = :address"
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {"address": address[:100], "workspace": workspace_id, "id": key_id},
    )


def list_keys(
    conn: sa.Connection,
    workspace_id: int,
    *,
    limit: int = 1000,
    after: tuple[datetime, str] | None = None,
    account_id: uuid.UUID | None = None,
) -> list[KeyInfo]:
    """Keys of the workspace, newest first, revoked ones included; `after`: (created_at, id) to go on from.

    `account_id`: only that service account's.
    """
    end, values = newest_first("created_at", "id", after, limit)
    rows = conn.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM app.api_keys WHERE workspace_id = :workspace"  # noqa: S608  # our own list
            f" AND (CAST(:account AS uuid) IS NULL OR service_account_id = :account){end}"
        ),
        {"workspace": workspace_id, "account": account_id, **values},
    )
    return [_info(row) for row in rows]


def get_key(conn: sa.Connection, workspace_id: int, key_id: str) -> KeyInfo:
    """One key without its secret. Raises `NotFound`."""
    row = conn.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM app.api_keys"  # noqa: S608  # our own list
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {"workspace": workspace_id, "id": key_id},
    ).first()
    if row is None:
        raise NotFound("There is no such key in this workspace.")
    return _info(row)


def revoke_key(conn: sa.Connection, workspace_id: int, key_id: str, *, at: datetime) -> KeyInfo:
    """Revoke at once (doing it again changes nothing); processes that cache keys are told at commit."""
    conn.execute(
        sa.text(
            "UPDATE app.api_keys SET revoked_at = coalesce(revoked_at, :at)"
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {"at": at, "workspace": workspace_id, "id": key_id},
    )
    found = get_key(conn, workspace_id, key_id)
    tell_changed(conn, workspace_id, key_id)
    return found


def tell_changed(conn: sa.Connection, workspace_id: int, key_id: str) -> None:
    """Processes that keep what they know of keys hear at commit that this one is to be asked for anew."""
    announce(conn, {"t": "keys", "w": workspace_id, "k": key_id})


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _scopes(scopes: Iterable[Scope | str]) -> frozenset[Scope]:
    try:
        found = frozenset(Scope(s) for s in scopes)
    except ValueError as error:
        problem = FieldError("scopes", f"{error}; the scopes are {', '.join(Scope)}")
        raise InvalidKeyRequest("A scope is unknown.", errors=[problem]) from None
    if not found:
        problem = FieldError("scopes", f"name at least one of {', '.join(Scope)}")
        raise InvalidKeyRequest("A key needs a scope.", errors=[problem])
    return found


def _check_request(conn: sa.Connection, workspace_id: int, name: str, pipeline_ids: list[int] | None) -> None:
    if problems := name_problems(name, NAME_LENGTH):
        raise InvalidKeyRequest("The key's name is not valid.", errors=problems)
    if pipeline_ids is None:
        return
    known: int = conn.execute(
        sa.text("SELECT count(*) FROM app.pipelines WHERE workspace_id = :workspace AND id = ANY(:ids)"),
        {"workspace": workspace_id, "ids": pipeline_ids},
    ).scalar_one()
    if not pipeline_ids or known != len(pipeline_ids):
        problem = FieldError("pipelines", "names a pipeline that this workspace does not have")
        raise InvalidKeyRequest("A pipeline is unknown.", errors=[problem])


def _check_limit(rate_per_s: float | None, burst: int | None) -> None:
    if (rate_per_s is None) != (burst is None):
        problem = FieldError("burst", "goes with a rate: both or neither")
        raise InvalidKeyRequest("The key's limit is not whole.", errors=[problem])
    if rate_per_s is not None and burst is not None and not (rate_per_s > 0 and burst >= 1):
        problem = FieldError("rate", "should be above 0, and the burst at least 1")
        raise InvalidKeyRequest("The key's limit lets nothing through.", errors=[problem])


def _check_end(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at >= LATEST_END:
        problem = FieldError("expires_at", f"should be before the year {LATEST_END.year}")
        raise InvalidKeyRequest("The key's end is not a date that can be kept.", errors=[problem])


def _info(row: sa.Row[tuple[object, ...]]) -> KeyInfo:
    found = row._mapping
    return KeyInfo(
        id=found["id"],
        name=found["name"],
        scopes=tuple(Scope(s) for s in found["scopes"]),
        pipeline_ids=None if found["pipeline_ids"] is None else tuple(found["pipeline_ids"]),
        created_by=found["created_by"],
        created_at=found["created_at"],
        expires_at=found["expires_at"],
        last_used_at=found["last_used_at"],
        revoked_at=found["revoked_at"],
        rate_per_s=found["rate_per_s"],
        burst=found["burst"],
        account_id=found["service_account_id"],
        rotated_at=found["rotated_at"],
        previous_expires_at=found["previous_expires_at"],
        previous_used_at=found["previous_used_at"],
        last_used_address=found["last_used_address"],
    )
