"""Stream tokens: short-lived, signed permission to follow, for clients that cannot send a header.

`slt_<payload>.<HMAC-SHA-256>`, both base64url. Nothing is stored: the token says itself with whose eyes one
may follow, which pipelines and until when. Pure.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.keys import SecretKey
from sluiceway.live.errors import InvalidStreamToken, StreamTokenExpired

PREFIX = "slt_"
DEFAULT_TTL = timedelta(hours=1)
MAX_TTL = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StreamGrant:
    """What a token allows. `pipelines`: slugs; None: every one, and the workspace's notifications.

    `access`: whose row rules and masks hold, as they were when the token was made.
    """

    access: DataAccess
    pipelines: tuple[str, ...] | None
    subject: str
    expires_at: datetime


def issue(key: SecretKey, grant: StreamGrant) -> str:
    payload = orjson.dumps(
        {
            "a": [_eye(e) for e in grant.access.eyes],
            "p": None if grant.pipelines is None else list(grant.pipelines),
            "s": grant.subject,
            "e": int(grant.expires_at.timestamp()),
        }
    )
    return f"{PREFIX}{_text(payload)}.{_text(_sign(key, payload))}"


def verify(key: SecretKey, token: str, now: datetime) -> StreamGrant:
    """What the token allows. Raises `InvalidStreamToken` or `StreamTokenExpired`."""
    payload_text, dot, signature_text = token.removeprefix(PREFIX).partition(".")
    if not token.startswith(PREFIX) or not dot:
        raise InvalidStreamToken("This is not a stream token; POST /v1/stream-tokens makes one.")
    try:
        payload, signature = _bytes(payload_text), _bytes(signature_text)
    except (binascii.Error, ValueError):
        raise InvalidStreamToken("The stream token is damaged.") from None
    if not hmac.compare_digest(signature, _sign(key, payload)):
        raise InvalidStreamToken("The stream token was not made by this installation.")
    data = orjson.loads(payload)
    if "a" not in data:
        raise InvalidStreamToken("The stream token is of an older version; ask for a new one.")
    expires_at = datetime.fromtimestamp(data["e"], UTC)
    if expires_at <= now:
        raise StreamTokenExpired("The stream token has expired; ask for a new one.")
    pipelines = None if data["p"] is None else tuple(data["p"])
    return StreamGrant(_access(data["a"]), pipelines, data["s"], expires_at)


def _eye(access: DataAccess) -> list[Any]:
    user = None if access.user_id is None else str(access.user_id)
    return [access.workspace_id, access.roles, access.attributes, user]


def _access(eyes: list[list[Any]]) -> DataAccess:
    found: DataAccess | None = None
    for workspace_id, roles, attributes, user in reversed(eyes):
        named = tuple((name, tuple(values)) for name, values in attributes)
        user_id = None if user is None else UUID(user)
        found = DataAccess(workspace_id, tuple(roles), named, user_id, behind=found)
    assert found is not None
    return found


def _sign(key: SecretKey, payload: bytes) -> bytes:
    return hmac.new(key.derive("stream-token"), payload, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
