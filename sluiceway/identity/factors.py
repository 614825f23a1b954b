"""Second factors that are typed in: codes of an authenticator app (RFC 6238) and recovery codes.

Transactions act for the person (`service.act_for`). Not here: passkeys (`passkeys`), slowing guesses down
(`attempts`).
"""

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import pyotp
import sqlalchemy as sa

from sluiceway.identity import steps
from sluiceway.identity.errors import StepExpired, WrongCode
from sluiceway.infra.envelope import Envelope

ISSUER = "Sluiceway"
PERIOD_S = 30
RECOVERY_CODES = 10
_DRIFT = 1
"""Steps a phone's clock may be off, each way."""
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An authenticator app being set up: `step` goes on with it; `uri` is what its QR code says."""

    step: str
    secret: str
    uri: str


@dataclass(frozen=True, slots=True)
class FactorState:
    """`totp_since`: when the app was set up; `recovery_left`: recovery codes that are still good."""

    totp_since: datetime | None
    recovery_left: int
    passkeys: int

    @property
    def any(self) -> bool:
        return self.totp_since is not None or self.passkeys > 0


def state(conn: sa.Connection, user_id: uuid.UUID) -> FactorState:
    """Which second factors the person has."""
    row = conn.execute(
        sa.text(
            "SELECT (SELECT confirmed_at FROM app.totp WHERE user_id = :user) AS since,"
            " (SELECT count(*) FROM app.recovery_codes WHERE user_id = :user AND used_at IS NULL)"
            " AS remaining,"
            " (SELECT count(*) FROM app.passkeys WHERE user_id = :user) AS passkeys"
        ),
        {"user": user_id},
    ).one()
    return FactorState(row.since, row.remaining if row.since is not None else 0, row.passkeys)


def begin_totp(
    conn: sa.Connection, envelope: Envelope, user_id: uuid.UUID, email: str, *, now: datetime
) -> Enrolment:
    """Make a secret for the person's app. What they had stays until a code of the new one is right."""
    secret = pyotp.random_base32()
    sealed = envelope.seal(secret.encode(), _context(user_id))
    token = steps.put(conn, steps.Kind.NEW_TOTP, user_id=user_id, sealed=sealed, now=now)
    return Enrolment(token, secret, _uri(secret, email))


def begun_totp(
    conn: sa.Connection, envelope: Envelope, user_id: uuid.UUID, step: str, email: str, *, now: datetime
) -> Enrolment:
    """The same one again, for a form that is shown again. Raises `StepExpired`."""
    secret = _begun(conn, envelope, user_id, step, now)
    return Enrolment(step, secret, _uri(secret, email))


def confirm_totp(
    conn: sa.Connection, envelope: Envelope, user_id: uuid.UUID, step: str, code: str, *, now: datetime
) -> list[str]:
    """Take the app into use with its first code; returns new recovery codes, which cannot be had again.

    Raises `WrongCode` or `StepExpired`.
    """
    secret = _begun(conn, envelope, user_id, step, now)
    at = _matching_step(secret, code, now)
    if at is None:
        raise WrongCode("The code is not right. Check that the phone's clock is set by the network.")
    steps.take(conn, steps.Kind.NEW_TOTP, step, now=now)
    conn.execute(
        sa.text(
            "INSERT INTO app.totp (user_id, sealed, created_at, confirmed_at, last_step)"
            " VALUES (:user, :sealed, :now, :now, :at) ON CONFLICT (user_id) DO UPDATE SET"
            " sealed = excluded.sealed, created_at = :now, confirmed_at = :now, last_step = :at"
        ),
        {
            "user": user_id,
            "sealed": envelope.seal(secret.encode(), _context(user_id)),
            "now": now,
            "at": at,
        },
    )
    return new_recovery_codes(conn, user_id, now=now)


def remove_totp(conn: sa.Connection, user_id: uuid.UUID) -> bool:
    """Forget the app and its recovery codes; False: there was none."""
    done = conn.execute(sa.text("DELETE FROM app.totp WHERE user_id = :user"), {"user": user_id})
    conn.execute(sa.text("DELETE FROM app.recovery_codes WHERE user_id = :user"), {"user": user_id})
    return done.rowcount > 0


def new_recovery_codes(conn: sa.Connection, user_id: uuid.UUID, *, now: datetime) -> list[str]:
    """Ten new codes of 79 random bits, each good once; the old ones are good no more."""
    codes = ["".join(secrets.choice(_LETTERS) for _ in range(16)) for _ in range(RECOVERY_CODES)]
    conn.execute(sa.text("DELETE FROM app.recovery_codes WHERE user_id = :user"), {"user": user_id})
    conn.execute(
        sa.text(
            "INSERT INTO app.recovery_codes (user_id, code_hash, created_at) VALUES (:user, :hash, :now)"
        ),
        [{"user": user_id, "hash": _hash(code), "now": now} for code in codes],
    )
    return ["-".join(code[i : i + 4] for i in range(0, 16, 4)) for code in codes]


def check_code(
    conn: sa.Connection, envelope: Envelope, user_id: uuid.UUID, code: str, *, now: datetime
) -> Literal["totp", "recovery"]:
    """Which kind of code this is; it is good no more. Raises `WrongCode`."""
    text = "".join(code.split()).replace("-", "").lower()
    if text.isascii() and text.isdigit() and len(text) == 6:
        if _take_totp(conn, envelope, user_id, text, now):
            return "totp"
    elif _take_recovery(conn, user_id, text, now):
        return "recovery"
    raise WrongCode("The code is not right, or it was used already.")


def _take_totp(conn: sa.Connection, envelope: Envelope, user_id: uuid.UUID, code: str, now: datetime) -> bool:
    row = conn.execute(
        sa.text("SELECT sealed FROM app.totp WHERE user_id = :user AND confirmed_at IS NOT NULL"),
        {"user": user_id},
    ).first()
    if row is None:
        return False
    secret = envelope.open(bytes(row.sealed), _context(user_id)).decode()
    at = _matching_step(secret, code, now)
    if at is None:
        return False
    # One of two at the same moment wins: the row is locked by the first.
    done = conn.execute(
        sa.text(
            "UPDATE app.totp SET last_step = :at WHERE user_id = :user"
            " AND (last_step IS NULL OR last_step < :at)"
        ),
        {"user": user_id, "at": at},
    )
    return done.rowcount == 1


def _take_recovery(conn: sa.Connection, user_id: uuid.UUID, code: str, now: datetime) -> bool:
    done = conn.execute(
        sa.text(
            "UPDATE app.recovery_codes SET used_at = :now"
            " WHERE user_id = :user AND code_hash = :hash AND used_at IS NULL"
        ),
        {"user": user_id, "hash": _hash(code), "now": now},
    )
    return done.rowcount == 1


def _begun(conn: sa.Connection, envelope: Envelope, user_id: uuid.UUID, step: str, now: datetime) -> str:
    found = steps.find(conn, steps.Kind.NEW_TOTP, step, now=now)
    if found is None or found.user_id != user_id or found.sealed is None:
        raise StepExpired("Setting up the app took too long. Begin again.")
    return envelope.open(found.sealed, _context(user_id)).decode()


def _matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step that the code is of, the newest first; all are computed, whichever fits."""
    totp = pyotp.TOTP(secret)
    current = int(now.timestamp()) // PERIOD_S
    text = "".join(code.split())
    fitting = [
        at
        for at in range(current + _DRIFT, current - _DRIFT - 1, -1)
        if secrets.compare_digest(totp.generate_otp(at).encode(), text.encode("utf-8", "replace"))
    ]
    return fitting[0] if fitting else None


def _uri(secret: str, email: str) -> str:
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def _context(user_id: uuid.UUID) -> str:
    return f"totp:{user_id}"


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
