"""Rotating a key: it keeps its id, scopes and limits and gets a new secret; the one before works a while yet.

Because the id stays, the key's rate limit and its history hold over the overlap, and revoking the key ends
both secrets at once. Functions take an open connection (role APP) that acts for the workspace, and do not
commit. Not here: making and checking keys (`keys`).
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from sluiceway.identity.contracts import KeyInfo
from sluiceway.identity.errors import InvalidKeyRequest, KeyNotActive, RotationRunning
from sluiceway.identity.keys import get_key, new_secret, tell_changed
from sluiceway.kit.errors import FieldError

DEFAULT_OVERLAP = timedelta(days=1)
LONGEST_OVERLAP = timedelta(days=90)


def rotate_key(
    conn: sa.Connection,
    workspace_id: int,
    key_id: str,
    *,
    now: datetime,
    overlap: timedelta = DEFAULT_OVERLAP,
    lost: bool = False,
) -> tuple[str, KeyInfo]:
    """Give the key a new secret: its text, which cannot be had again, and the key as it stands.

    The secret until now is refused once `overlap` is over (zero: at once), and never works longer than the
    key itself. `lost`: the newest secret was lost before anybody used it; it is replaced, and the one before
    goes on as was said. Raises `NotFound`, `KeyNotActive`, `InvalidKeyRequest` for an overlap that cannot be,
    or `RotationRunning` while an earlier secret still works.
    """
    if not timedelta() <= overlap <= LONGEST_OVERLAP:
        problem = FieldError("overlap_s", f"should be from 0 to {LONGEST_OVERLAP.total_seconds():.0f}")
        raise InvalidKeyRequest("The overlap cannot be.", errors=[problem])
    conn.execute(
        sa.text("SELECT 1 FROM app.api_keys WHERE workspace_id = :workspace AND id = :id FOR UPDATE"),
        {"workspace": workspace_id, "id": key_id},
    )
    found = get_key(conn, workspace_id, key_id)
    if found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= now):
        raise KeyNotActive("A key that was revoked or has expired is not rotated: make a new one.")
    running = found.previous_expires_at is not None and found.previous_expires_at > now
    if running and not lost:
        raise RotationRunning(
            f"The secret before the last rotation works until {found.previous_expires_at:%Y-%m-%d %H:%M} UTC."
            " End it first, or say that the newest one was lost."
        )
    text, hashed = new_secret(key_id)
    ends = now + overlap
    if found.expires_at is not None:
        ends = min(ends, found.expires_at)
    conn.execute(
        sa.text(
            "UPDATE app.api_keys SET secret_hash = :hash, rotated_at = :now,"
            " previous_hash ="
            "  CASE WHEN :running THEN previous_hash WHEN :none THEN NULL ELSE secret_hash END,"
            " previous_expires_at ="
            "  CASE WHEN :running THEN previous_expires_at WHEN :none THEN NULL ELSE :ends END,"
            " previous_used_at = CASE WHEN :running THEN previous_used_at END"
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {
            "hash": hashed,
            "now": now,
            "running": running,
            "none": overlap == timedelta(),
            "ends": ends,
            "workspace": workspace_id,
            "id": key_id,
        },
    )
    tell_changed(conn, workspace_id, key_id)
    return text, get_key(conn, workspace_id, key_id)


def end_overlap(conn: sa.Connection, workspace_id: int, key_id: str) -> KeyInfo:
    """Refuse the secret before the last rotation from now on (doing it again changes nothing).

    Raises `NotFound`.
    """
    conn.execute(
        sa.text(
            "UPDATE app.api_keys SET previous_hash = NULL, previous_expires_at = NULL"
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {"workspace": workspace_id, "id": key_id},
    )
    found = get_key(conn, workspace_id, key_id)
    tell_changed(conn, workspace_id, key_id)
    return found
