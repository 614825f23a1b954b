"""Passkeys (WebAuthn): registering them, signing in with them, listing and removing them.

A passkey is made for the public address's host, kept by the person's device or account, and always asks
them for a finger, a face or a PIN: so it counts as both factors. Only its public key is kept here.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
import sqlalchemy as sa

from sluiceway.identity import steps
from sluiceway.identity.contracts import User
from sluiceway.identity.errors import InvalidPasskey, PasskeyRefused, StepExpired
from sluiceway.kit.errors import FieldError, NotFound
from sluiceway.kit.ids import uuid7

NAME_LENGTH = 60
MOST = 20
TIMEOUT_MS = 120_000


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Whose passkeys they are: `id` is the host (no port), `origin` what browsers must have been at."""

    id: str
    origin: str

    @classmethod
    def of(cls, public_url: str) -> "RelyingParty":
        parts = urlsplit(public_url)
        return cls(parts.hostname or "localhost", f"{parts.scheme}://{parts.netloc}")


@dataclass(frozen=True, slots=True)
class Passkey:
    """`synced`: also kept in the person's account at the maker of their device."""

    id: uuid.UUID
    name: str
    synced: bool
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the browser is asked: `options` as `navigator.credentials` takes them, `step` comes back with the
    answer."""

    step: str
    options: dict[str, Any]


def ask_for_new(conn: sa.Connection, party: RelyingParty, user: User, *, now: datetime) -> Asked:
    """Ask for a new passkey of this person's. The transaction acts for them."""
    from webauthn import generate_registration_options
    from webauthn.helpers import options_to_json_dict
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    held = conn.execute(
        sa.text("SELECT credential_id FROM app.passkeys WHERE user_id = :user"), {"user": user.id}
    ).all()
    if len(held) >= MOST:
        raise InvalidPasskey(f"There are {MOST} passkeys already; remove one first.")
    options = generate_registration_options(
        rp_id=party.id,
        rp_name="Sluiceway",
        user_id=user.id.bytes,
        user_name=user.email,
        user_display_name=user.name,
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=bytes(row.credential_id)) for row in held],
    )
    payload = {"challenge": options.challenge.hex()}
    token = steps.put(conn, steps.Kind.NEW_PASSKEY, user_id=user.id, payload=payload, now=now)
    return Asked(token, options_to_json_dict(options))


def add(
    conn: sa.Connection,
    party: RelyingParty,
    user_id: uuid.UUID,
    step: str,
    credential: Mapping[str, Any],
    name: str,
    *,
    now: datetime,
) -> Passkey:
    """Keep the passkey that the browser made. The transaction acts for the person.

    Raises `InvalidPasskey` or `StepExpired`.
    """
    from webauthn import verify_registration_response
    from webauthn.helpers.structs import CredentialDeviceType

    called = _name(name)
    begun = steps.take(conn, steps.Kind.NEW_PASSKEY, step, now=now)
    if begun is None or begun.user_id != user_id:
        raise StepExpired("Making the passkey took too long. Begin again.")
    try:
        made = verify_registration_response(
            credential=orjson.dumps(credential).decode(),
            expected_challenge=bytes.fromhex(begun.payload["challenge"]),
            expected_rp_id=party.id,
            expected_origin=party.origin,
            require_user_verification=True,
        )
    except Exception as error:
        raise InvalidPasskey(f"The passkey cannot be taken: {_reason(error)}.") from None
    passkey = Passkey(
        uuid7(), called, made.credential_device_type == CredentialDeviceType.MULTI_DEVICE, now, None
    )
    done = conn.execute(
        sa.text(
            "INSERT INTO app.passkeys"
            " (id, user_id, credential_id, public_key, sign_count, transports, synced, name, created_at)"
            " VALUES (:id, :user, :credential, :key, :count, :transports, :synced, :name, :now)"
            " ON CONFLICT (credential_id) DO NOTHING"
        ),
        {
            "id": passkey.id,
            "user": user_id,
            "credential": made.credential_id,
            "key": made.credential_public_key,
            "count": made.sign_count,
            "transports": _transports(credential),
            "synced": passkey.synced,
            "name": called,
            "now": now,
        },
    )
    if done.rowcount == 0:
        raise InvalidPasskey("This passkey is registered already.")
    return passkey


def ask(
    conn: sa.Connection, party: RelyingParty, *, now: datetime, user_id: uuid.UUID | None = None
) -> Asked:
    """Ask for a passkey: any of this site's, or (`user_id`, for whom the transaction acts) one of theirs."""
    from webauthn import generate_authentication_options
    from webauthn.helpers import options_to_json_dict
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor, UserVerificationRequirement

    allowed = None
    if user_id is not None:
        rows = conn.execute(
            sa.text("SELECT credential_id FROM app.passkeys WHERE user_id = :user"), {"user": user_id}
        )
        allowed = [PublicKeyCredentialDescriptor(id=bytes(row.credential_id)) for row in rows]
    options = generate_authentication_options(
        rp_id=party.id,
        timeout=TIMEOUT_MS,
        allow_credentials=allowed,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    payload = {"challenge": options.challenge.hex()}
    token = steps.put(conn, steps.Kind.PASSKEY, user_id=user_id, payload=payload, now=now)
    return Asked(token, options_to_json_dict(options))


def check(
    conn: sa.Connection, party: RelyingParty, step: str, credential: Mapping[str, Any], *, now: datetime
) -> uuid.UUID:
    """Whose passkey signed the challenge; from here on the transaction acts for them.

    Raises `PasskeyRefused` or `StepExpired`.
    """
    from webauthn import verify_authentication_response
    from webauthn.helpers import base64url_to_bytes

    begun = steps.take(conn, steps.Kind.PASSKEY, step, now=now)
    if begun is None:
        raise StepExpired("This took too long. Begin again.")
    try:
        credential_id = base64url_to_bytes(str(credential.get("id", "")))
    except ValueError:
        raise PasskeyRefused("The passkey's answer cannot be read.") from None
    row = conn.execute(
        sa.text("SELECT user_id, disabled FROM app.find_passkey(:id)"), {"id": credential_id}
    ).first()
    if row is None or row.disabled or begun.user_id not in (None, row.user_id):
        raise PasskeyRefused("This passkey is not registered here.")
    conn.execute(sa.text("SELECT set_config('sluiceway.user_id', :id, true)"), {"id": str(row.user_id)})
    # Locked, so that of two answers with the same counter one is refused.
    kept = conn.execute(
        sa.text("SELECT public_key, sign_count FROM app.passkeys WHERE credential_id = :id FOR UPDATE"),
        {"id": credential_id},
    ).one()
    try:
        checked = verify_authentication_response(
            credential=orjson.dumps(credential).decode(),
            expected_challenge=bytes.fromhex(begun.payload["challenge"]),
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=bytes(kept.public_key),
            credential_current_sign_count=kept.sign_count,
            require_user_verification=True,
        )
    except Exception as error:
        raise PasskeyRefused(f"The passkey's answer does not hold: {_reason(error)}.") from None
    conn.execute(
        sa.text("UPDATE app.passkeys SET sign_count = :count, last_used_at = :now WHERE credential_id = :id"),
        {"count": checked.new_sign_count, "now": now, "id": credential_id},
    )
    found: uuid.UUID = row.user_id
    return found


def list_passkeys(conn: sa.Connection, user_id: uuid.UUID) -> list[Passkey]:
    """The person's passkeys, the oldest first. The transaction acts for them."""
    rows = conn.execute(
        sa.text(
            "SELECT id, name, synced, created_at, last_used_at FROM app.passkeys WHERE user_id = :user"
            " ORDER BY created_at, id"
        ),
        {"user": user_id},
    )
    return [Passkey(r.id, r.name, r.synced, r.created_at, r.last_used_at) for r in rows]


def rename(conn: sa.Connection, user_id: uuid.UUID, passkey_id: uuid.UUID, name: str) -> Passkey:
    """Raises `NotFound` or `InvalidPasskey`. The transaction acts for the person."""
    conn.execute(
        sa.text("UPDATE app.passkeys SET name = :name WHERE user_id = :user AND id = :id"),
        {"name": _name(name), "user": user_id, "id": passkey_id},
    )
    for found in list_passkeys(conn, user_id):
        if found.id == passkey_id:
            return found
    raise NotFound("There is no such passkey.")


def remove(conn: sa.Connection, user_id: uuid.UUID, passkey_id: uuid.UUID | None = None) -> int:
    """Forget one passkey, or all of the person's; returns how many. The transaction acts for them."""
    done = conn.execute(
        sa.text("DELETE FROM app.passkeys WHERE user_id = :user AND (CAST(:id AS uuid) IS NULL OR id = :id)"),
        {"user": user_id, "id": passkey_id},
    )
    return done.rowcount


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not 1 <= len(name) <= NAME_LENGTH:
        problem = FieldError("name", f"should have 1 to {NAME_LENGTH} characters")
        raise InvalidPasskey("The passkey's name is not valid.", errors=[problem])
    return name


def _transports(credential: Mapping[str, Any]) -> list[str]:
    response = credential.get("response")
    said = response.get("transports") if isinstance(response, Mapping) else None
    known = {"usb", "nfc", "ble", "internal", "hybrid", "smart-card", "cable"}
    return sorted({str(t) for t in said} & known) if isinstance(said, list) else []


def _reason(error: Exception) -> str:
    """What the library says of its own checks; of anything else (input it cannot parse) only that."""
    known = type(error).__module__.startswith("webauthn.")
    return " ".join(str(error).split())[:200].rstrip(".") if known else "it cannot be read"
