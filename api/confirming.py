"""Confirming that it is still the same person, before what a thief of their session would do first.

For ten minutes after signing in, or after confirming, sensitive changes are let through. Not here: what is
sensitive (the routes say so), how one proves who one is (`api.proving`).
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Request

from api import proving
from api.auditing import note
from api.deps import Person, Services, person_id
from api.security import session_token
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import passkeys, sessions
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import ConfirmationRequired, NotSignedIn, PasskeyRefused, WrongCredentials
from sluiceway.identity.passkeys import RelyingParty
from sluiceway.infra.database import Role

WINDOW = timedelta(minutes=10)


def confirmed(request: Request, services: Services, who: Person) -> Caller:
    """A person who has proved who they are within `WINDOW`. Raises `ConfirmationRequired` (403)."""
    check_confirmed(request, services, who)
    return who


Confirmed = Annotated[Caller, Depends(confirmed)]


def check_confirmed(request: Request, services: ApiServices, who: Caller) -> None:
    """The same where only the route knows whether it is asked for. Raises `ConfirmationRequired`."""
    if not is_confirmed(request, services, who):
        raise ConfirmationRequired(
            "Confirm first that it is you: POST /v1/session/confirmation, or the page /confirm.",
            extra={"confirm_at": "/confirm"},
        )


def is_confirmed(request: Request, services: ApiServices, who: Caller) -> bool:
    token = session_token(request, services.settings)
    if token is None:
        return False
    with services.database.transaction(Role.APP, workspace_id=who.workspace_id) as conn:
        at = sessions.confirmed_at(conn, who.workspace_id, token)
    return at is not None and services.clock.now() - at < WINDOW


def by_password(request: Request, services: ApiServices, who: Caller, password: str) -> None:
    """Raises `WrongCredentials` or `SignInThrottled`."""
    user = proving.check_password(request, services, who.email or "", password)
    if user.id != who.user_id:
        raise WrongCredentials("The password is wrong.")
    note_confirmed(request, services, who, "password")


def by_code(request: Request, services: ApiServices, who: Caller, code: str) -> None:
    """Raises `WrongCode` or `SignInThrottled`."""
    proving.check_code(request, services, person_id(who), who.email or "", code)
    note_confirmed(request, services, who, "code", second_factor=True)


def ask_passkey(services: ApiServices, who: Caller) -> passkeys.Asked:
    """Ask for one of the person's passkeys."""
    with services.database.transaction(Role.APP, user_id=str(who.user_id)) as conn:
        party = RelyingParty.of(services.settings.public_url)
        return passkeys.ask(conn, party, now=services.clock.now(), user_id=who.user_id)


def by_passkey(
    request: Request, services: ApiServices, who: Caller, step: str, credential: Mapping[str, Any]
) -> None:
    """Raises `PasskeyRefused`, `StepExpired` or `SignInThrottled`."""
    if proving.check_passkey(request, services, step, credential) != who.user_id:
        raise PasskeyRefused("This passkey is somebody else's.")
    note_confirmed(request, services, who, "passkey", second_factor=True)


def note_confirmed(
    request: Request, services: ApiServices, who: Caller, method: str, *, second_factor: bool = False
) -> None:
    """The session's holder has proved who they are."""
    token = session_token(request, services.settings)
    if token is None:
        raise NotSignedIn("Only a session can be confirmed.")
    with services.database.transaction(Role.APP, workspace_id=who.workspace_id) as conn:
        now = services.clock.now()
        sessions.confirm(conn, who.workspace_id, token, now=now, second_factor=second_factor)
        note(request, conn, who, Action.SESSION_CONFIRMED, target="session", detail={"method": method})
