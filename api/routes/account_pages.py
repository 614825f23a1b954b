"""`/account`: how one signs in, as a page that works without JavaScript but for passkeys.

Changes are sent as forms, checked by their Origin; a session that was not confirmed lately goes through
`/confirm` first. The same by JSON: `api.routes.own_sign_in`.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, Response

from api import confirming, own_sign_in, sign_in
from api.deps import Services
from api.errors import problem_responses
from api.own_pages import own_page
from api.pages import account, forms
from api.routes.own_sign_in import qr_svg
from api.routes.sign_in_pages import Next, SignedIn, Target, Text, page, provider_redirect, to
from api.security import check_same_origin
from api.services import ApiServices
from sluiceway.identity import providers
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import (
    InvalidPerson,
    NotSignedIn,
    SignInThrottled,
    StepExpired,
    WrongCode,
    WrongCredentials,
)
from sluiceway.infra.database import Role
from sluiceway.kit.errors import SluicewayError

router = APIRouter(tags=["session"], include_in_schema=False, default_response_class=HTMLResponse)

_DONE = {
    "password": "Your password is changed, and you are signed out everywhere else.",
    "app": "The authenticator app is removed.",
    "passkey": "The passkey is added.",
    "passkey-removed": "The passkey is removed. Your device may still offer it until you delete it there.",
    "session": "That session has ended.",
    "sessions": "You are signed out everywhere else.",
}


def _person(who: SignedIn) -> Caller:
    if who is None:
        raise NotSignedIn("Sign in first.")
    return who


def _own_form(request: Request, services: Services, who: Annotated[Caller, Depends(_person)]) -> Caller:
    """Whoever sends a form of this page, from this page."""
    check_same_origin(request, services.settings.public_url)
    return who


def _confirmed_form(
    request: Request, services: Services, who: Annotated[Caller, Depends(_own_form)]
) -> Caller:
    return confirming.confirmed(request, services, who)


OwnForm = Annotated[Caller, Depends(_own_form)]
ConfirmedForm = Annotated[Caller, Depends(_confirmed_form)]


@router.get("/account")
def account_page(
    request: Request, services: Services, who: SignedIn, done: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    """Password, authenticator app, passkeys, sessions."""
    if who is None:
        return to(forms.with_next("/sign-in", "/account"))
    return _overview(request, services, who, done=_DONE.get(done, ""))


@router.post("/account/password", responses=problem_responses((401, 403, 422)))
def password_form(request: Request, services: Services, who: ConfirmedForm, password: Text = "") -> Response:
    try:
        own_sign_in.set_password(request, services, who, password)
    except InvalidPerson as error:
        return _overview(request, services, who, error=error)
    return to("/account?done=password")


@router.post("/account/app/new", responses=problem_responses((401, 403)))
def new_app_form(request: Request, services: Services, who: ConfirmedForm) -> Response:
    made = own_sign_in.begin_totp(request, services, who)
    return own_page(services, who, "Authenticator app", account.new_app(made, qr_svg(made.uri)))


@router.post("/account/app", responses=problem_responses((401, 403)))
def first_code_form(
    request: Request,
    services: Services,
    who: ConfirmedForm,
    step: Annotated[str, Form(max_length=100)] = "",
    code: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    try:
        codes = own_sign_in.confirm_totp(request, services, who, step, code)
    except WrongCode as error:
        made = own_sign_in.begun_totp(services, who, step)
        return own_page(
            services, who, "Authenticator app", account.new_app(made, qr_svg(made.uri), error), error
        )
    except StepExpired as error:
        return _overview(request, services, who, error=error)
    return own_page(services, who, "Recovery codes", account.recovery_codes(codes))


@router.post("/account/app/remove", responses=problem_responses((401, 403, 404)))
def remove_app_form(request: Request, services: Services, who: ConfirmedForm) -> Response:
    own_sign_in.remove_totp(request, services, who)
    return to("/account?done=app")


@router.post("/account/recovery-codes", responses=problem_responses((401, 403, 404)))
def recovery_codes_form(request: Request, services: Services, who: ConfirmedForm) -> Response:
    codes = own_sign_in.new_recovery_codes(request, services, who)
    return own_page(services, who, "Recovery codes", account.recovery_codes(codes))


@router.post("/account/passkeys/{passkey_id}/remove", responses=problem_responses((401, 403, 404)))
def remove_passkey_form(
    request: Request, services: Services, who: ConfirmedForm, passkey_id: UUID
) -> Response:
    own_sign_in.remove_passkey(request, services, who, passkey_id)
    return to("/account?done=passkey-removed")


@router.post("/account/sessions/end", responses=problem_responses((401, 403)))
def end_others_form(request: Request, services: Services, who: OwnForm) -> Response:
    own_sign_in.end_other_sessions(request, services, who)
    return to("/account?done=sessions")


@router.post("/account/sessions/{session_id}/end", responses=problem_responses((401, 403, 404)))
def end_session_form(request: Request, services: Services, who: OwnForm, session_id: UUID) -> Response:
    own_sign_in.end_session(request, services, who, session_id)
    return to("/account?done=session")


@router.get("/confirm")
def confirm_page(services: Services, who: SignedIn, next: Next = None) -> Response:
    """Asks the person to prove that it is still them."""
    target = sign_in.local_path(next)
    if who is None:
        return to(forms.with_next("/sign-in", target))
    return _confirm(services, who, target)


@router.get("/confirmed")
def confirmed_page(who: SignedIn) -> Response:
    """Where the app, which waits in another tab, lets a confirmation end."""
    return to("/sign-in") if who is None else page("Confirmed", forms.confirmed())


@router.post("/confirm", responses=problem_responses((401, 403, 429)))
def confirm_form(
    request: Request,
    services: Services,
    who: OwnForm,
    password: Text = "",
    code: Annotated[str, Form(max_length=40)] = "",
    next: Target = None,
) -> Response:
    target = sign_in.local_path(next)
    try:
        if code:
            confirming.by_code(request, services, who, code)
        else:
            confirming.by_password(request, services, who, password)
    except (WrongCredentials, WrongCode, SignInThrottled) as error:
        return _confirm(services, who, target, error)
    return to(target)


@router.get("/confirm/provider/{provider_id}", responses=problem_responses((404, 503)))
def confirm_by_provider(services: Services, who: SignedIn, provider_id: UUID, next: Next = None) -> Response:
    """To the identity provider, which asks the person anew."""
    target = sign_in.local_path(next)
    if who is None:
        return to(forms.with_next("/sign-in", target))
    return provider_redirect(services, provider_id, target, who)


def _confirm(
    services: ApiServices, who: Caller, target: str, error: SluicewayError | None = None
) -> Response:
    state = own_sign_in.state(services, who)
    with services.database.transaction(Role.APP) as conn:
        offered = [p for p in providers.offered(conn) if p[1] in state.providers]
    content = forms.confirm(
        who.email or who.name,
        target,
        password=state.has_password,
        code=state.factors.totp_since is not None,
        passkey=bool(state.passkeys),
        providers=offered,
        error=error,
    )
    return page("Confirm", content, error)


def _overview(
    request: Request,
    services: ApiServices,
    who: Caller,
    *,
    done: str = "",
    error: SluicewayError | None = None,
) -> Response:
    content = account.overview(
        own_sign_in.state(services, who),
        own_sign_in.list_sessions(request, services, who),
        email=who.email or "",
        missing=who.second_factor_missing,
        now=services.clock.now(),
        done=done,
        error=error,
    )
    return own_page(services, who, "Signing in", content, error)
