"""What people do with their own password, factors, passkeys and sessions: for the JSON routes and the page.

Each is one transaction with its entry in the audit log. Whether the person has confirmed themselves is asked
before (`api.confirming`).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from starlette.requests import Request

from api.auditing import note
from api.deps import person_id
from api.security import session_token
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import devices, factors, own_password, passkeys, policy, sessions
from sluiceway.identity.contracts import Caller, User
from sluiceway.identity.passkeys import RelyingParty
from sluiceway.infra.database import Role
from sluiceway.kit.errors import NotFound


@dataclass(frozen=True, slots=True)
class SignInState:
    """How somebody signs in. `password_set_at`: None if it was never changed; `providers`: by name."""

    has_password: bool
    password_set_at: datetime | None
    factors: factors.FactorState
    passkeys: tuple[passkeys.Passkey, ...]
    devices: int
    providers: tuple[str, ...]
    second_factor_required: bool


@contextmanager
def own(services: ApiServices, who: Caller) -> Iterator[sa.Connection]:
    """A transaction that acts for the person, in the workspace they are in."""
    with services.database.transaction(
        Role.APP, workspace_id=who.workspace_id, user_id=str(person_id(who))
    ) as conn:
        yield conn


def state(services: ApiServices, who: Caller) -> SignInState:
    user_id = person_id(who)
    with own(services, who) as conn:
        has, since = own_password.state(conn, user_id)
        wanted = policy.get_policy(conn, who.workspace_id).second_factor_for
        known: int = conn.execute(
            sa.text("SELECT count(*) FROM app.known_devices WHERE user_id = :user"), {"user": user_id}
        ).scalar_one()
        names: Iterable[str] = conn.execute(
            sa.text(
                "SELECT p.name FROM app.federated_identities f JOIN app.identity_providers p"
                " ON p.id = f.provider_id WHERE f.user_id = :user ORDER BY p.name"
            ),
            {"user": user_id},
        ).scalars()
        return SignInState(
            has,
            since,
            factors.state(conn, user_id),
            tuple(passkeys.list_passkeys(conn, user_id)),
            known,
            tuple(names),
            policy.wants_second_factor(wanted, who.roles),
        )


def set_password(request: Request, services: ApiServices, who: Caller, password: str) -> None:
    """Change the password; the person's other sessions end. Raises `InvalidPerson`."""
    user_id = person_id(who)
    with own(services, who) as conn:
        about = (who.email or "", who.name)
        own_password.change(conn, user_id, password, about=about, now=services.clock.now())
        ended = sessions.end_own(conn, user_id, keep=session_token(request, services.settings))
        note(
            request,
            conn,
            who,
            Action.PERSON_PASSWORD_SET,
            target="user",
            target_id=user_id,
            detail={"sessions_ended": len(ended)},
        )


def begin_totp(request: Request, services: ApiServices, who: Caller) -> factors.Enrolment:
    with own(services, who) as conn:
        note(request, conn, who, Action.SECOND_FACTOR_BEGUN, target="user", target_id=who.user_id)
        return factors.begin_totp(
            conn, services.database.envelope, person_id(who), who.email or "", now=services.clock.now()
        )


def begun_totp(services: ApiServices, who: Caller, step: str) -> factors.Enrolment:
    """Raises `StepExpired`."""
    with own(services, who) as conn:
        envelope, now = services.database.envelope, services.clock.now()
        return factors.begun_totp(conn, envelope, person_id(who), step, who.email or "", now=now)


def confirm_totp(request: Request, services: ApiServices, who: Caller, step: str, code: str) -> list[str]:
    """The recovery codes. Raises `WrongCode` or `StepExpired`."""
    now = services.clock.now()
    with own(services, who) as conn:
        codes = factors.confirm_totp(conn, services.database.envelope, person_id(who), step, code, now=now)
        _shown(request, services, conn, who)
        note(request, conn, who, Action.SECOND_FACTOR_ADDED, target="user", target_id=who.user_id)
    return codes


def remove_totp(request: Request, services: ApiServices, who: Caller) -> None:
    """Raises `NotFound`."""
    with own(services, who) as conn:
        if not factors.remove_totp(conn, person_id(who)):
            raise NotFound("There is no authenticator app.")
        note(request, conn, who, Action.SECOND_FACTOR_REMOVED, target="user", target_id=who.user_id)


def new_recovery_codes(request: Request, services: ApiServices, who: Caller) -> list[str]:
    """Raises `NotFound` without an authenticator app."""
    with own(services, who) as conn:
        if factors.state(conn, person_id(who)).totp_since is None:
            raise NotFound("Recovery codes come with an authenticator app, and there is none.")
        codes = factors.new_recovery_codes(conn, person_id(who), now=services.clock.now())
        note(request, conn, who, Action.RECOVERY_CODES_MADE, target="user", target_id=who.user_id)
    return codes


def ask_for_passkey(services: ApiServices, who: Caller) -> passkeys.Asked:
    """Raises `InvalidPasskey`."""
    party, now = RelyingParty.of(services.settings.public_url), services.clock.now()
    user = User(person_id(who), who.email or "", who.name, now)
    with own(services, who) as conn:
        return passkeys.ask_for_new(conn, party, user, now=now)


def add_passkey(
    request: Request,
    services: ApiServices,
    who: Caller,
    step: str,
    credential: Mapping[str, Any],
    name: str,
) -> passkeys.Passkey:
    """Raises `InvalidPasskey` or `StepExpired`."""
    party, now = RelyingParty.of(services.settings.public_url), services.clock.now()
    with own(services, who) as conn:
        made = passkeys.add(conn, party, person_id(who), step, credential, name, now=now)
        _shown(request, services, conn, who)
        note(request, conn, who, Action.PASSKEY_ADDED, target="passkey", target_id=made.id)
    return made


def rename_passkey(
    request: Request, services: ApiServices, who: Caller, passkey_id: UUID, name: str
) -> passkeys.Passkey:
    """Raises `NotFound` or `InvalidPasskey`."""
    with own(services, who) as conn:
        found = passkeys.rename(conn, person_id(who), passkey_id, name)
        note(request, conn, who, Action.PASSKEY_RENAMED, target="passkey", target_id=passkey_id)
    return found


def remove_passkey(request: Request, services: ApiServices, who: Caller, passkey_id: UUID) -> None:
    """Raises `NotFound`."""
    with own(services, who) as conn:
        if not passkeys.remove(conn, person_id(who), passkey_id):
            raise NotFound("There is no such passkey.")
        note(request, conn, who, Action.PASSKEY_REMOVED, target="passkey", target_id=passkey_id)


def forget_devices(request: Request, services: ApiServices, who: Caller) -> None:
    """Know none of the person's browsers any more."""
    with own(services, who) as conn:
        devices.forget_all(conn, person_id(who))
        note(request, conn, who, Action.DEVICES_FORGOTTEN, target="user", target_id=who.user_id)


def list_sessions(request: Request, services: ApiServices, who: Caller) -> list[sessions.Session]:
    token = session_token(request, services.settings)
    with own(services, who) as conn:
        return sessions.sessions_of(conn, person_id(who), now=services.clock.now(), token=token)


def end_session(request: Request, services: ApiServices, who: Caller, session_id: UUID) -> None:
    """End one of the person's sessions. Raises `NotFound`."""
    with own(services, who) as conn:
        ended = sessions.end_own(conn, person_id(who), session_id=session_id)
        if not ended:
            raise NotFound("There is no such session.")
        note(request, conn, who, Action.SESSION_ENDED, target="session", target_id=session_id)


def end_other_sessions(request: Request, services: ApiServices, who: Caller) -> int:
    """End all the person's sessions but this one; returns how many."""
    with own(services, who) as conn:
        ended = sessions.end_own(conn, person_id(who), keep=session_token(request, services.settings))
        note(
            request, conn, who, Action.SESSION_ENDED, target="session", detail={"sessions_ended": len(ended)}
        )
    return len(ended)


def _shown(request: Request, services: ApiServices, conn: sa.Connection, who: Caller) -> None:
    """The factor that was just set up was shown in this session, too."""
    if (token := session_token(request, services.settings)) is not None:
        sessions.confirm(conn, who.workspace_id, token, now=services.clock.now(), second_factor=True)
