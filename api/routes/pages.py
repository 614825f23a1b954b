"""Pages that FastAPI serves itself: sign-in and sign-out as plain HTML forms, and the API's reference.

They work without JavaScript. Writes from these forms are checked by their Origin (and the cookie's SameSite).
"""

from html import escape
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from api import sign_in
from api.deps import Services
from api.errors import problem_responses
from api.pages import reference, shell
from api.security import check_same_origin, session_caller, session_token
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import NotPermitted, NotSignedIn, SignInThrottled, WrongCredentials
from sluiceway.kit.errors import NotFound, SluicewayError

router = APIRouter(tags=["session"], include_in_schema=False, default_response_class=HTMLResponse)

_MEDIA = {"svg": "image/svg+xml", "css": "text/css; charset=utf-8"}
_NEVER_KEPT = {"Cache-Control": "no-store"}
_KEPT_FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}

Next = Annotated[str | None, Query(max_length=2000)]


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
def sign_in_page(who: SignedIn, next: Next = None) -> Response:
    """The form; whoever is signed in already goes on at once."""
    target = sign_in.local_path(next)
    if who is not None:
        return RedirectResponse(target, status_code=303, headers=_NEVER_KEPT)
    return _page("Sign in", _form(target))


@router.post("/sign-in", responses=problem_responses((401, 403, 429)))
def sign_in_form(
    request: Request,
    services: Services,
    email: Annotated[str, Form(max_length=300)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str | None, Form(max_length=2000)] = None,
) -> Response:
    """Sign in and go where the person wanted to; what was wrong is said above the form."""
    target = sign_in.local_path(next)
    try:
        check_same_origin(request, services.settings.public_url)
        token, _ = sign_in.sign_in(request, services, email, password)
    except (WrongCredentials, SignInThrottled, NotPermitted) as error:
        page = _page("Sign in", _form(target, email, error), error.status)
        if error.retry_after_s is not None:
            page.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
        return page
    response = RedirectResponse(target, status_code=303, headers=_NEVER_KEPT)
    sign_in.set_cookie(response, services, token)
    return response


@router.get("/sign-out")
def sign_out_page(who: SignedIn) -> Response:
    """Asks first: a link alone must not end a session."""
    if who is None:
        return RedirectResponse("/sign-in", status_code=303, headers=_NEVER_KEPT)
    content = (
        "<h1>Sign out?</h1>"
        f'<p class="lead">You are signed in as {escape(who.email or who.name)}.</p>'
        '<form method="post" action="/sign-out"><div class="row">'
        '<a class="button quiet" href="/">Stay</a>'
        '<button class="button">Sign out</button></div></form>'
    )
    return _page("Sign out", content)


@router.post("/sign-out")
def sign_out_form(request: Request, services: Services, who: SignedIn) -> Response:
    """End the session."""
    check_same_origin(request, services.settings.public_url)
    response = RedirectResponse("/sign-in", status_code=303, headers=_NEVER_KEPT)
    if who is not None:
        sign_in.sign_out(request, services, response, who)
    return response


@router.get("/assets/{name}", response_class=Response)
def asset(name: str) -> Response:
    """Styles and pictures of these pages, under an address that changes with them."""
    if name not in shell.ASSETS:
        raise NotFound(f"There is nothing at /assets/{name}.")
    return Response(shell.read(name), media_type=_MEDIA[name.rpartition(".")[2]], headers=_KEPT_FOR_GOOD)


@router.get("/openapi.json", response_class=JSONResponse)
def openapi(request: Request) -> Response:
    """The OpenAPI document (3.1)."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def docs(request: Request) -> Response:
    """The reference of the API, made from the OpenAPI document."""
    return HTMLResponse(reference.render(request.app.openapi(), shell.version()))


def _form(target: str, email: str = "", error: SluicewayError | None = None) -> str:
    alert = invalid = ""
    if error is not None:
        alert = f'<p class="alert" id="wrong" role="alert">{escape(error.detail)}</p>'
        invalid = ' aria-describedby="wrong" aria-invalid="true"'
    focus_email, focus_password = ("", " autofocus") if email else (" autofocus", "")
    action = "/sign-in" if target == "/" else f"/sign-in?next={quote(target, safe='/')}"
    return (
        '<h1>Sign in</h1><p class="lead">to your workspace</p>'
        f"{alert}"
        f'<form method="post" action="{escape(action)}">'
        f'<input type="hidden" name="next" value="{escape(target)}">'
        f'<label>E-mail<input type="email" name="email" autocomplete="username" inputmode="email"'
        f' spellcheck="false" autocapitalize="none" required maxlength="300" value="{escape(email)}"'
        f"{invalid}{focus_email}></label>"
        '<label>Password<input type="password" name="password" autocomplete="current-password" required'
        f' maxlength="1000"{invalid}{focus_password}></label>'
        '<button class="button">Sign in</button></form>'
        '<p class="hint">No account yet? The owner of your workspace can make one.</p>'
    )


def _page(title: str, content: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(shell.page(title, content), status, _NEVER_KEPT)
