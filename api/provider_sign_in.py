"""Signing in through an identity provider: the way there, and back with an answer; and out again.

The way is bound to the browser that began it by a cookie that holds the state: an answer to somebody else's
way signs nobody in. Not here: the protocol (`identity.oidc`), who may come in (`identity.federation`).
"""

import secrets
import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from starlette.requests import Request

from api import confirming, proving
from api.auditing import anonymous, note_federated, note_refused
from api.proving import Proven, SignedIn
from api.security import session_token
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Entry
from sluiceway.audit.service import record
from sluiceway.identity import federation, provider_sessions, providers, steps
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import ProviderFailed, ProviderRefused, StepExpired
from sluiceway.identity.oidc import Claims, ProviderClient
from sluiceway.identity.provider_sessions import Origin
from sluiceway.identity.providers import Provider
from sluiceway.identity.steps import Kind
from sluiceway.infra.database import Role, set_identity
from sluiceway.infra.outbound import ForbiddenAddress, PrivateHosts
from sluiceway.kit.errors import NotFound

STATE_COOKIE = "sluiceway_way"
CALLBACK = "/sign-in/provider/callback"


@dataclass(frozen=True, slots=True)
class Way:
    """Where to send the browser, and the state that its cookie holds."""

    url: str
    state: str


@dataclass(frozen=True, slots=True)
class Back:
    """The way's end: a session (None: the one that is there was confirmed), and where they wanted to."""

    signed_in: SignedIn | None
    target: str


def private_hosts(services: ApiServices) -> PrivateHosts:
    return PrivateHosts(services.settings.private_hosts)


def client(services: ApiServices) -> ProviderClient:
    """The process's one, which keeps what providers say of themselves."""
    found: ProviderClient = services.extra.setdefault("providers", ProviderClient(private_hosts(services)))
    return found


def begin(
    services: ApiServices,
    provider_id: uuid.UUID,
    target: str,
    *,
    remember: bool,
    confirming_user: Caller | None,
) -> Way:
    """Begin the way to a provider, to sign in or (`confirming_user`) to confirm.

    Raises `NotFound`, `ProviderFailed` or `ForbiddenAddress`.
    """
    with services.database.transaction(Role.APP) as conn:
        provider = _provider(conn, provider_id)
    fresh = confirming_user is not None
    # The state is made by the step, and the address holds it: a place for it is kept until it is known.
    place = secrets.token_urlsafe(16)
    request = client(services).begin(provider, redirect_uri=redirect_uri(services), state=place, fresh=fresh)
    payload = {
        "provider": str(provider_id),
        "nonce": request.nonce,
        "verifier": request.verifier,
        "target": target,
        "remember": remember,
        "confirms": None if confirming_user is None else str(confirming_user.user_id),
    }
    with services.database.transaction(Role.APP) as conn:
        state = steps.put(conn, Kind.PROVIDER, payload=payload, now=services.clock.now())
    return Way(request.url.replace(place, state), state)


def finish(
    request: Request,
    services: ApiServices,
    *,
    state: str,
    held: str | None,
    code: str | None,
    error: str | None,
    who: Caller | None,
) -> Back:
    """Take the provider's answer. `held`: the state in the browser's cookie; `who`: whoever is signed in.

    Raises `StepExpired`, `ProviderRefused`, `ProviderFailed`, `ForbiddenAddress`, `SecondFactorRequired` or
    `NotPermitted`.
    """
    now = services.clock.now()
    if error is not None or not code:
        raise ProviderRefused("The provider did not sign you in.")
    if held is None or not secrets.compare_digest(held.encode(), state.encode()):
        raise StepExpired("This sign-in was begun in another browser, or too long ago. Begin again.")
    with services.database.transaction(Role.APP) as conn:
        begun = steps.take(conn, Kind.PROVIDER, state, now=now)
        if begun is None:
            raise StepExpired("This took too long. Begin again.")
        provider = _provider(conn, uuid.UUID(begun.payload["provider"]))
    claims = client(services).finish(
        provider,
        provider.secret(services.database.envelope),
        code=code,
        nonce=begun.payload["nonce"],
        verifier=begun.payload["verifier"],
        redirect_uri=redirect_uri(services),
        now=now,
    )
    target = str(begun.payload["target"])
    if begun.payload["confirms"] is not None:
        _confirm(request, services, provider, claims, begun.payload["confirms"], who)
        return Back(None, target)
    return Back(_sign_in(request, services, provider, claims, bool(begun.payload["remember"])), target)


@dataclass(frozen=True, slots=True)
class WayOut:
    """Where a browser signs out at its provider, and what the provider is called."""

    url: str
    name: str


def way_out(request: Request, services: ApiServices, who: Caller) -> WayOut | None:
    """The provider's own end of the session that asks; None: it came through none, or that has no such place.

    To be asked before the session ends here. A provider that does not answer holds nobody back.
    """
    token = session_token(request, services.settings)
    if token is None:
        return None
    with services.database.transaction(
        Role.APP, workspace_id=who.workspace_id, user_id=str(who.user_id)
    ) as conn:
        found = provider_sessions.find(conn, services.database.envelope, token)
        provider = None if found is None else providers.find(conn, found[0])
    if found is None or provider is None:
        return None
    try:
        url = client(services).end_session_url(
            provider, id_token=found[1].id_token, return_to=f"{services.settings.public_url}/sign-in"
        )
    except (ProviderFailed, ForbiddenAddress):
        return None
    return None if url is None else WayOut(url, provider.spec.name)


def logged_out(request: Request, services: ApiServices, provider_id: uuid.UUID, token: str) -> None:
    """The provider says that somebody has signed out there: their sessions that came through it end.

    Raises `NotFound`, `InvalidLogoutToken`, `ProviderFailed` or `ForbiddenAddress`.
    """
    with services.database.transaction(Role.APP) as conn:
        provider = _provider(conn, provider_id)
    said = client(services).logged_out(provider, token, now=services.clock.now())
    with services.database.transaction(Role.APP) as conn:
        ended = provider_sessions.end(conn, provider_id, said)
        for session in ended:
            set_identity(conn, workspace_id=session.workspace_id)
            actor = anonymous(request, provider.spec.name)
            detail = {"user_id": session.user_id, "by": "identity provider"}
            record(
                conn, Entry(Action.SESSION_ENDED, actor, "session", str(session.session_id), detail=detail)
            )


def redirect_uri(services: ApiServices) -> str:
    """To be registered at every provider."""
    return f"{services.settings.public_url}{CALLBACK}"


def _sign_in(
    request: Request, services: ApiServices, provider: Provider, claims: Claims, remember: bool
) -> SignedIn:
    try:
        with services.database.transaction(Role.APP) as conn:
            admitted = federation.admit(conn, provider, claims, now=services.clock.now())
            note_federated(request, conn, admitted, provider)
        federation.check_rooms(admitted.rooms)
    except ProviderRefused as error:
        note_refused(
            request, services.database, claims.email or "", method=provider.spec.name, reason=error.code
        )
        raise
    proven = Proven(
        admitted.user.id,
        "provider",
        second_factor=admitted.second_factor,
        remember=remember,
        provider_id=provider.id,
        rooms=tuple(room.workspace_id for room in admitted.rooms),
        origin=Origin.of(claims),
    )
    return proving.go_on(request, services, proven, admitted.user.email)


def _confirm(
    request: Request,
    services: ApiServices,
    provider: Provider,
    claims: Claims,
    user_id: str,
    who: Caller | None,
) -> None:
    at = claims.auth_time
    if at is None or services.clock.now().timestamp() - at > confirming.WINDOW.total_seconds():
        raise ProviderRefused("The provider did not ask you anew who you are. Confirm in another way.")
    with services.database.transaction(Role.APP) as conn:
        same = (
            who is not None
            and str(who.user_id) == user_id
            and federation.speaks_for(conn, provider, claims, uuid.UUID(user_id))
        )
    if not same or who is None:
        raise ProviderRefused("The provider says that you are somebody else.")
    confirming.note_confirmed(request, services, who, provider.spec.name)


def _provider(conn: sa.Connection, provider_id: uuid.UUID) -> Provider:
    found = providers.find(conn, provider_id)
    if found is None:
        raise NotFound("There is no such identity provider.")
    return found
