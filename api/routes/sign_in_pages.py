"""Signing in and out, second factor, identity providers, forgotten passwords: as plain HTML forms.

They work without JavaScript, but for passkeys. Writes are checked by their Origin and the cookies' SameSite.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api import provider_sign_in, proving, resets, sign_in
from api.deps import Services, catalog, person_id
from api.errors import problem_responses
from api.pages import forms, leaving, shell
from api.provider_sign_in import STATE_COOKIE
from api.security import check_same_origin, cookie_name, session_caller, session_token
from api.services import ApiServices
from sluiceway.identity import providers, steps
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import (
    InvalidPerson,
    NotPermitted,
    NotSignedIn,
    ProviderFailed,
    ProviderRefused,
    ResetLinkInvalid,
    SecondFactorRequired,
    SignInThrottled,
    StepExpired,
    WrongCode,
    WrongCredentials,
)
from sluiceway.identity.preferences import get_preferences
from sluiceway.infra.database import Role
from sluiceway.infra.mail import mail_configured
from sluiceway.infra.outbound import ForbiddenAddress
from sluiceway.kit.errors import SluicewayError

router = APIRouter(tags=["session"], include_in_schema=False, default_response_class=HTMLResponse)

NEVER_KEPT = {"Cache-Control": "no-store"}
STEP_COOKIE = "sluiceway_step"
RESET_COOKIE = "sluiceway_reset"
_STEP_S = 600
_RESET_S = 3600

Next = Annotated[str | None, Query(max_length=2000)]
Text = Annotated[str, Form(max_length=1000)]
Target = Annotated[str | None, Form(max_length=2000)]


def _signed_in(request: Request, services: Services) -> Caller | None:
    token = session_token(request, services.settings)
    if token is None:
        return None
    try:
        return session_caller(services, token)
    except NotSignedIn:
        return None


SignedIn = Annotated[Caller | None, Depends(_signed_in)]


@router.get("/sign-in")
def sign_in_page(services: Services, who: SignedIn, next: Next = None) -> Response:
    """The form; whoever is signed in already goes on at once."""
    target = sign_in.local_path(next)
    if who is not None:
        return to(_start(services, who, target))
    return page("Sign in", forms.sign_in(target, _offered(services)))


@router.post("/sign-in", responses=problem_responses((401, 403, 429)))
def sign_in_form(
    request: Request,
    services: Services,
    email: Annotated[str, Form(max_length=300)] = "",
    password: Text = "",
    remember: Annotated[bool, Form()] = False,
    next: Target = None,
) -> Response:
    """Sign in and go where the person wanted to; what was wrong is said above the form."""
    target = sign_in.local_path(next)
    check_same_origin(request, services.settings.public_url)
    try:
        found = proving.by_password(request, services, email, password, remember=remember)
    except SecondFactorRequired as error:
        return _ask_for_code(services, error, target)
    except (WrongCredentials, SignInThrottled, NotPermitted) as error:
        content = forms.sign_in(target, _offered(services), email=email, remember=remember, error=error)
        return page("Sign in", content, error)
    return _begun(services, found, target)


@router.get("/sign-in/code")
def code_page(request: Request, services: Services, next: Next = None) -> Response:
    """Asks for the second factor of whoever's password was right."""
    target, step = sign_in.local_path(next), _cookie(request, services, STEP_COOKIE)
    methods = proving.methods_of(services, step)
    if methods is None or step is None:
        return to(forms.with_next("/sign-in", target))
    return page("Second factor", forms.second_factor(step, methods, target))


@router.post("/sign-in/code", responses=problem_responses((401, 403, 429)))
def code_form(
    request: Request,
    services: Services,
    code: Annotated[str, Form(max_length=40)] = "",
    next: Target = None,
) -> Response:
    """Go on with a code."""
    check_same_origin(request, services.settings.public_url)
    target, step = sign_in.local_path(next), _cookie(request, services, STEP_COOKIE) or ""
    try:
        found = proving.by_code(request, services, step, code)
    except StepExpired as error:
        return page("Sign in", forms.sign_in(target, _offered(services), error=error), error)
    except (WrongCode, SignInThrottled) as error:
        methods = proving.methods_of(services, step) or ["totp"]
        return page("Second factor", forms.second_factor(step, methods, target, error), error)
    response = _begun(services, found, target)
    sign_in.drop_cookie(response, services, cookie_name(services.settings, STEP_COOKIE))
    return response


@router.get("/sign-in/provider/callback", responses=problem_responses((401, 403, 503)))
def provider_callback(
    request: Request,
    services: Services,
    who: SignedIn,
    state: Annotated[str, Query(max_length=100)] = "",
    code: Annotated[str | None, Query(max_length=4000)] = None,
    error: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Back from an identity provider, with its answer."""
    held = _cookie(request, services, STATE_COOKIE)
    try:
        back = provider_sign_in.finish(
            request, services, state=state, held=held, code=code, error=error, who=who
        )
    except SecondFactorRequired as asked:
        return _ask_for_code(services, asked, "/")
    except (StepExpired, ProviderRefused, ProviderFailed, ForbiddenAddress, NotPermitted) as wrong:
        return page("Not signed in", forms.refused("You are not signed in", wrong.detail), wrong)
    response = to(back.target) if back.signed_in is None else _begun(services, back.signed_in, back.target)
    sign_in.drop_cookie(response, services, cookie_name(services.settings, STATE_COOKIE))
    return response


@router.get("/sign-in/provider/{provider_id}", responses=problem_responses((404, 503)))
def provider_way(services: Services, provider_id: UUID, next: Next = None) -> Response:
    """The way to an identity provider: a link, since browsers let no form lead to another site."""
    return provider_redirect(services, provider_id, sign_in.local_path(next), None)


@router.get("/sign-out")
def sign_out_page(who: SignedIn) -> Response:
    """Asks first: a link alone must not end a session."""
    if who is None:
        return to("/sign-in")
    return page("Sign out", forms.sign_out(who.email or who.name))


@router.post("/sign-out")
def sign_out_form(request: Request, services: Services, who: SignedIn) -> Response:
    """End the session, and the one at the identity provider that it came through."""
    check_same_origin(request, services.settings.public_url)
    if who is None:
        return to("/sign-in")
    way = provider_sign_in.way_out(request, services, who)
    if way is None:
        response = to("/sign-in")
    else:  # by itself: browsers let no form's answer lead to another site
        response = page("Signed out", leaving.on_to_provider(way.name, way.url))
        response.headers["Refresh"] = f"0; url={way.url}"
    sign_in.sign_out(request, services, response, who)
    return response


@router.post(
    "/sign-in/provider/{provider_id}/logout",
    response_class=Response,
    responses=problem_responses((400, 404, 503)),
)
def provider_logout(
    request: Request,
    services: Services,
    provider_id: UUID,
    logout_token: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    """Where an identity provider says that somebody has signed out there (Back-Channel Logout)."""
    provider_sign_in.logged_out(request, services, provider_id, logout_token)
    return Response(status_code=200, headers=NEVER_KEPT)


@router.get("/forgot")
def forgot_page(services: Services) -> Response:
    """Asks for the address."""
    content = forms.forgot() if mail_configured(services.settings) else forms.no_mail()
    return page("Forgotten password", content)


@router.post("/forgot", responses=problem_responses((403, 429)))
def forgot_form(
    request: Request,
    services: Services,
    background: BackgroundTasks,
    email: Annotated[str, Form(max_length=300)] = "",
) -> Response:
    """Has the link mailed after the answer, which is the same for everybody."""
    check_same_origin(request, services.settings.public_url)
    if not mail_configured(services.settings):
        return page("Forgotten password", forms.no_mail())
    try:
        resets.ask(request, services)
    except SignInThrottled as error:
        return page("Forgotten password", forms.forgot(error, email), error)
    background.add_task(resets.send, request, services, email)
    return page("Look at your mail", forms.sent(email))


@router.get("/reset")
def reset_page(
    request: Request, services: Services, token: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """The link of the mail. Its token moves into a cookie at once, out of the address that others may see."""
    if token is not None:
        response = to("/reset")
        name = cookie_name(services.settings, RESET_COOKIE)
        sign_in.put_cookie(response, services, name, token, _RESET_S)
        return response
    try:
        user = resets.whose(services, _cookie(request, services, RESET_COOKIE))
    except ResetLinkInvalid as error:
        return page("Link is over", forms.link_gone(), error)
    return page("New password", forms.new_password(user.email))


@router.post("/reset", responses=problem_responses((403, 404, 422)))
def reset_form(request: Request, services: Services, password: Text = "") -> Response:
    """Set the password, then sign in with it: a second factor is asked for as ever."""
    check_same_origin(request, services.settings.public_url)
    token = _cookie(request, services, RESET_COOKIE) or ""
    try:
        user = resets.use(request, services, token, password)
    except ResetLinkInvalid as error:
        return page("Link is over", forms.link_gone(), error)
    except InvalidPerson as error:
        return page("New password", forms.new_password(resets.whose(services, token).email, error), error)
    try:
        proven = proving.Proven(user.id, "reset")
        response: Response = _begun(services, proving.go_on(request, services, proven, user.email), "/")
    except SecondFactorRequired as error:
        response = _ask_for_code(services, error, "/")
    except NotPermitted as error:
        response = page("No workspace", forms.refused(error.title, error.detail), error)
    sign_in.drop_cookie(response, services, cookie_name(services.settings, RESET_COOKIE))
    return response


def provider_redirect(
    services: ApiServices, provider_id: UUID, target: str, confirming_user: Caller | None
) -> Response:
    """To the provider, with the cookie that the way back is held against."""
    try:
        way = provider_sign_in.begin(
            services, provider_id, target, remember=False, confirming_user=confirming_user
        )
    except (ProviderFailed, ForbiddenAddress) as error:
        return page("Not signed in", forms.refused(error.title, error.detail), error)
    response = to(way.url)
    name = cookie_name(services.settings, STATE_COOKIE)
    lifetime_s = int(steps.LIFETIMES[steps.Kind.PROVIDER].total_seconds())
    sign_in.put_cookie(response, services, name, way.state, lifetime_s)
    return response


def page(title: str, content: str, error: SluicewayError | None = None) -> HTMLResponse:
    """A page of this site's, with the error's status."""
    response = HTMLResponse(shell.page(title, content), 200 if error is None else error.status, NEVER_KEPT)
    if error is not None and error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response


def _begun(services: ApiServices, found: proving.SignedIn, target: str) -> Response:
    response = to(
        "/account" if found.caller.second_factor_missing else _start(services, found.caller, target)
    )
    sign_in.set_cookies(response, services, found)
    return response


def _start(services: ApiServices, who: Caller, target: str) -> str:
    """Where the person wanted to go; if nowhere, the start page that they prefer."""
    if target != "/":
        return target
    with catalog(services, who) as conn:
        preferred = get_preferences(conn, who.workspace_id, person_id(who)).start_page
    return sign_in.local_path(preferred)


def _ask_for_code(services: ApiServices, error: SecondFactorRequired, target: str) -> Response:
    response = to(forms.with_next("/sign-in/code", target))
    name = cookie_name(services.settings, STEP_COOKIE)
    sign_in.put_cookie(response, services, name, str(error.extra["step"]), _STEP_S)
    return response


def _offered(services: ApiServices) -> list[tuple[UUID, str]]:
    with services.database.transaction(Role.APP) as conn:
        return providers.offered(conn)


def _cookie(request: Request, services: ApiServices, name: str) -> str | None:
    return request.cookies.get(cookie_name(services.settings, name))


def to(target: str) -> Response:
    return RedirectResponse(target, status_code=303, headers=NEVER_KEPT)
