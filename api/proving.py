"""Proving who one is, step by step: password, second factor, passkey, provider; then a session begins.

For the JSON routes and the pages alike. Guesses are counted before they are judged (`identity.attempts`).
Not here: cookies and ways back (`api.sign_in`), what an identity provider is asked (`api.provider_sign_in`).
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any

import sqlalchemy as sa
from starlette.requests import Request

from api.addresses import client_address, source_of
from api.auditing import note_asked, note_refused, note_started
from api.security import cookie_name, idle_limit, session_token
from api.services import ApiServices
from sluiceway.identity import (
    attempts,
    devices,
    factors,
    passkeys,
    provider_sessions,
    service,
    sessions,
    steps,
)
from sluiceway.identity.contracts import Caller, User
from sluiceway.identity.errors import (
    NotPermitted,
    PasskeyRefused,
    SecondFactorRequired,
    SignInThrottled,
    StepExpired,
    WrongCode,
    WrongCredentials,
)
from sluiceway.identity.passkeys import RelyingParty
from sluiceway.identity.policy import get_policy
from sluiceway.identity.provider_sessions import Origin
from sluiceway.identity.steps import Kind
from sluiceway.infra.database import Role, set_identity

DEVICE_COOKIE = "sluiceway_device"
# argon2id takes 19 MiB and a core for a moment: a burst of attempts must not take all of them.
_hashing = BoundedSemaphore(2)
_NOBODY = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Proven:
    """Somebody who has shown enough to be known. `rooms`: the workspaces they may begin in; None: any."""

    user_id: uuid.UUID
    method: sessions.Method
    second_factor: bool = False
    remember: bool = False
    provider_id: uuid.UUID | None = None
    rooms: tuple[int, ...] | None = None
    origin: Origin | None = None
    """Who they are at the provider."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that has begun: what its cookies hold, and who it is."""

    token: str
    device: str
    persistent: bool
    caller: Caller


def by_password(
    request: Request,
    services: ApiServices,
    email: str,
    password: str,
    *,
    remember: bool = False,
    code: str | None = None,
) -> SignedIn:
    """Sign in with a password, and with the code if one is given.

    Raises `SignInThrottled`, `WrongCredentials`, `SecondFactorRequired` (go on with `by_code` or a passkey),
    `WrongCode`, or `NotPermitted` for somebody without any workspace.
    """
    user = check_password(request, services, email, password)
    return go_on(request, services, Proven(user.id, "password", remember=remember), user.email, code)


def check_password(request: Request, services: ApiServices, email: str, password: str) -> User:
    """Whose password this is. Raises `SignInThrottled` or `WrongCredentials`."""
    with services.database.transaction(Role.APP) as conn:
        user = service.find_user(conn, email)
        attempt = _begin(request, services, conn, "password", email, user.id if user else _NOBODY)
    with services.database.transaction(Role.SIGN_IN) as conn:
        hashed = service.password_hash(conn, email)
    try:
        with _hashing, services.database.transaction(Role.APP) as conn:
            found = service.check_password(conn, email, password, hashed)
            attempts.succeeded(conn, attempt)
    except WrongCredentials as error:
        note_refused(request, services.database, email, method="password", reason=error.code)
        raise
    return found


def go_on(
    request: Request, services: ApiServices, proven: Proven, email: str, code: str | None = None
) -> SignedIn:
    """Ask for the second factor if they have one and have not shown it; else begin the session."""
    if proven.second_factor:
        return begin_session(request, services, proven)
    with services.database.transaction(Role.APP, user_id=str(proven.user_id)) as conn:
        state = factors.state(conn, proven.user_id)
        if state.any and code is None:
            raise_for = _second_step(services, conn, proven, state)
            note_asked(request, conn, _user(conn, proven.user_id), _rooms(conn, proven))
        else:
            raise_for = None
    if raise_for is not None:
        raise raise_for
    if not state.any:
        return begin_session(request, services, proven)
    check_code(request, services, proven.user_id, email, code or "")
    return begin_session(request, services, _with_second(proven))


def by_code(request: Request, services: ApiServices, step: str | None, code: str) -> SignedIn:
    """Go on with a code of the app, or a recovery code.

    Raises `StepExpired`, `SignInThrottled` or `WrongCode` (then the step still stands).
    """
    now = services.clock.now()
    with services.database.transaction(Role.APP) as conn:
        begun = steps.find(conn, Kind.SECOND_FACTOR, step, now=now)
    if begun is None or begun.user_id is None:
        raise StepExpired("This took too long. Sign in again.")
    check_code(request, services, begun.user_id, begun.payload["email"], code)
    with services.database.transaction(Role.APP) as conn:
        if steps.take(conn, Kind.SECOND_FACTOR, step, now=now) is None:
            raise StepExpired("This was done already. Sign in again.")
    return begin_session(request, services, _with_second(_proven(begun)))


def methods_of(services: ApiServices, step: str | None) -> list[str] | None:
    """How somebody whose password was right may go on; None: the step is over."""
    now = services.clock.now()
    with services.database.transaction(Role.APP) as conn:
        begun = steps.find(conn, Kind.SECOND_FACTOR, step, now=now)
        if begun is None or begun.user_id is None:
            return None
        service.act_for(conn, begun.user_id)
        return _methods(factors.state(conn, begun.user_id))


def check_code(request: Request, services: ApiServices, user_id: uuid.UUID, email: str, code: str) -> None:
    """Take a code of this person's. Raises `SignInThrottled` or `WrongCode`."""
    now = services.clock.now()
    with services.database.transaction(Role.APP) as conn:
        attempt = _begin(request, services, conn, "code", str(user_id), user_id)
    try:
        with services.database.transaction(Role.APP, user_id=str(user_id)) as conn:
            factors.check_code(conn, services.database.envelope, user_id, code, now=now)
            attempts.succeeded(conn, attempt)
    except WrongCode as error:
        note_refused(request, services.database, email, method="code", reason=error.code)
        raise


def ask_passkey(services: ApiServices, step: str | None = None) -> passkeys.Asked:
    """Ask for a passkey: anybody's, or theirs whose password was right (`step`). Raises `StepExpired`."""
    now = services.clock.now()
    party = RelyingParty.of(services.settings.public_url)
    with services.database.transaction(Role.APP) as conn:
        user_id = None
        if step is not None:
            begun = steps.find(conn, Kind.SECOND_FACTOR, step, now=now)
            if begun is None or begun.user_id is None:
                raise StepExpired("This took too long. Sign in again.")
            user_id = begun.user_id
            service.act_for(conn, user_id)
        return passkeys.ask(conn, party, now=now, user_id=user_id)


def by_passkey(
    request: Request,
    services: ApiServices,
    step: str,
    credential: Mapping[str, Any],
    *,
    remember: bool = False,
    after: str | None = None,
) -> SignedIn:
    """Sign in with a passkey; `after`: the step that a right password had begun.

    Raises `StepExpired`, `PasskeyRefused`, `SignInThrottled` or `NotPermitted`.
    """
    user_id = check_passkey(request, services, step, credential)
    proven = Proven(user_id, "passkey", second_factor=True, remember=remember)
    if after is not None:
        with services.database.transaction(Role.APP) as conn:
            begun = steps.take(conn, Kind.SECOND_FACTOR, after, now=services.clock.now())
        if begun is None or begun.user_id != user_id:
            raise StepExpired("This took too long. Sign in again.")
        proven = _with_second(_proven(begun))
    return begin_session(request, services, proven)


def check_passkey(
    request: Request, services: ApiServices, step: str, credential: Mapping[str, Any]
) -> uuid.UUID:
    """Whose passkey it is. Raises `StepExpired`, `PasskeyRefused` or `SignInThrottled`."""
    now = services.clock.now()
    source = source_of(client_address(request.scope))
    with services.database.transaction(Role.APP) as conn:
        attempt = attempts.begin_by(conn, "passkey", source, now=now)
    try:
        with services.database.transaction(Role.APP) as conn:
            party = RelyingParty.of(services.settings.public_url)
            user_id = passkeys.check(conn, party, step, credential, now=now)
            attempts.succeeded(conn, attempt)
    except PasskeyRefused as error:
        note_refused(request, services.database, "", method="passkey", reason=error.code)
        raise
    return user_id


def begin_session(request: Request, services: ApiServices, proven: Proven) -> SignedIn:
    """Begin a session under a new token; the one that this browser had ends.

    Raises `NotPermitted` for somebody without any workspace.
    """
    settings, now = services.settings, services.clock.now()
    old = session_token(request, settings)
    with services.database.transaction(Role.APP, user_id=str(proven.user_id)) as conn:
        room = _room(conn, proven)
        set_identity(conn, workspace_id=room, user_id=str(proven.user_id))
        persistent = proven.remember and get_policy(conn, room).remember_me
        longest = timedelta(days=settings.session_days)
        if old is not None:
            sessions.end_by_token(conn, old)
        device = devices.remember(conn, proven.user_id, device_token(request, services), now=now)
        token = sessions.create_session(
            conn,
            user_id=proven.user_id,
            workspace_id=room,
            now=now,
            lifetime=longest if persistent else min(longest, sessions.LIFETIME),
            user_agent=request.headers.get("user-agent", ""),
            address=client_address(request.scope),
            persistent=persistent,
            method=proven.method,
            second_factor=proven.second_factor,
            provider_id=proven.provider_id,
            confirmed=proven.provider_id is None or _in_one_organization(conn, proven.user_id),
        )
        if proven.provider_id is not None and proven.origin is not None:
            envelope = services.database.envelope
            provider_sessions.remember(
                conn, envelope, token, proven.provider_id, proven.user_id, proven.origin
            )
        caller = sessions.find_session(conn, token, now=now, idle=idle_limit(settings))
        note_started(request, conn, _user(conn, proven.user_id), method=proven.method)
    return SignedIn(token, device, persistent, caller)


def device_token(request: Request, services: ApiServices) -> str | None:
    """What this browser is known by, if it says so."""
    return request.cookies.get(cookie_name(services.settings, DEVICE_COOKIE))


def _begin(
    request: Request,
    services: ApiServices,
    conn: sa.Connection,
    what: str,
    account: str,
    user_id: uuid.UUID,
) -> attempts.Attempt:
    now = services.clock.now()
    # Asked for nobody's, too: what is looked up must not tell who exists.
    service.act_for(conn, user_id)
    known = devices.known(conn, user_id, device_token(request, services), now=now)
    source = source_of(client_address(request.scope))
    try:
        return attempts.begin(conn, what, account=account, source=source, device=known, now=now)
    except SignInThrottled as error:
        said = account if what == "password" else ""
        note_refused(request, services.database, said, method=what, reason=error.code)
        raise


def _second_step(
    services: ApiServices, conn: sa.Connection, proven: Proven, state: factors.FactorState
) -> SecondFactorRequired:
    payload = {
        "method": proven.method,
        "remember": proven.remember,
        "provider": None if proven.provider_id is None else str(proven.provider_id),
        "rooms": None if proven.rooms is None else list(proven.rooms),
        # Without the ID token, which would lie there unsealed.
        "origin": None if proven.origin is None else [proven.origin.subject, proven.origin.session],
        "email": _user(conn, proven.user_id).email,
    }
    step = steps.put(
        conn, Kind.SECOND_FACTOR, user_id=proven.user_id, payload=payload, now=services.clock.now()
    )
    return SecondFactorRequired(
        "Go on with a code of your authenticator app, a recovery code or a passkey.",
        extra={"step": step, "methods": _methods(state)},
    )


def _methods(state: factors.FactorState) -> list[str]:
    typed = ["totp", "recovery"] if state.totp_since is not None else []
    return [*typed, *(["passkey"] if state.passkeys else [])]


def _proven(begun: steps.Step) -> Proven:
    assert begun.user_id is not None
    said = begun.payload
    return Proven(
        begun.user_id,
        said["method"],
        remember=bool(said["remember"]),
        provider_id=None if said["provider"] is None else uuid.UUID(said["provider"]),
        rooms=None if said["rooms"] is None else tuple(said["rooms"]),
        origin=Origin(*said["origin"]) if said.get("origin") else None,
    )


def _with_second(proven: Proven) -> Proven:
    return replace(proven, second_factor=True)


def _rooms(conn: sa.Connection, proven: Proven) -> list[int]:
    """The workspaces that they may begin in, the one they were in last first."""
    allowed: Iterable[int] = (room.workspace_id for room in service.memberships(conn, proven.user_id))
    return [room for room in allowed if proven.rooms is None or room in proven.rooms]


def _room(conn: sa.Connection, proven: Proven) -> int:
    found = _rooms(conn, proven)
    if not found:
        raise NotPermitted("You do not belong to any workspace yet; ask its owner to add you.")
    return found[0]


def _in_one_organization(conn: sa.Connection, user_id: uuid.UUID) -> bool:
    """Whoever runs one organization's provider must not change how its people get into another."""
    count: int = conn.execute(
        sa.text("SELECT count(*) FROM app.organizations_of(:user)"), {"user": user_id}
    ).scalar_one()
    return count <= 1


def _user(conn: sa.Connection, user_id: uuid.UUID) -> User:
    row = conn.execute(
        sa.text("SELECT id, email, name, created_at, disabled_at FROM app.users WHERE id = :id"),
        {"id": user_id},
    ).one()
    return User(row.id, row.email, row.name, row.created_at, row.disabled_at)
