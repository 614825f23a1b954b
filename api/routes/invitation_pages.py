"""The page that an invitation's link leads to: join with one's account, or make one. Plain forms.

What it does is in `api.joining`. Writes are checked by their Origin.
"""

from html import escape
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api import joining
from api.deps import Services
from api.errors import problem_responses
from api.moving import move
from api.pages import shell
from api.security import check_same_origin, session_caller, session_token
from api.sign_in import set_cookies
from sluiceway.identity.accepting import Offer
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvitationGone, NotSignedIn
from sluiceway.kit.errors import SluicewayError

router = APIRouter(tags=["members"], include_in_schema=False, default_response_class=HTMLResponse)

Token = Annotated[str, Path(min_length=1, max_length=200)]
_NEVER_KEPT = {"Cache-Control": "no-store"}


@router.get("/invitation/{token}")
def invitation_page(request: Request, services: Services, token: Token) -> Response:
    """Who asks to what, and the way to say yes."""
    try:
        offer, known = joining.find_offer(services, token)
    except InvitationGone as gone:
        return _gone(gone)
    return _page(_content(request, services, token, offer, known), 200)


@router.post("/invitation/{token}", responses=problem_responses((403, 404, 409, 422)))
def accept_page(
    request: Request,
    services: Services,
    token: Token,
    name: Annotated[str, Form(max_length=300)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Join, and go there; what was wrong is said above the form."""
    check_same_origin(request, services.settings.public_url)
    who = _visitor(request, services)
    try:
        offer, known = joining.find_offer(services, token)
        if who is None and not known:
            answer = RedirectResponse("/", status_code=303, headers=_NEVER_KEPT)
            set_cookies(answer, services, joining.join_anew(request, services, offer, name, password))
            return answer
        if who is None:
            return RedirectResponse(_sign_in(token), status_code=303, headers=_NEVER_KEPT)
        joining.join(request, services, who, offer)
    except InvitationGone as gone:
        return _gone(gone)
    except SluicewayError as error:
        return _page(_content(request, services, token, offer, known, error, name), error.status)
    return _go_there(request, services, who, offer)


def _visitor(request: Request, services: Services) -> Caller | None:
    token = session_token(request, services.settings)
    if token is None:
        return None
    try:
        return session_caller(services, token)
    except NotSignedIn:
        return None


def _go_there(request: Request, services: Services, who: Caller, offer: Offer) -> Response:
    answer = RedirectResponse("/", status_code=303, headers=_NEVER_KEPT)
    move(request, services, answer, who, offer.workspace_id)
    return answer


def _sign_in(token: str) -> str:
    return f"/sign-in?next={quote(f'/invitation/{token}', safe='/')}"


def _content(
    request: Request,
    services: Services,
    token: str,
    offer: Offer,
    known: bool,
    error: SluicewayError | None = None,
    name: str = "",
) -> str:
    """The offer, what went wrong, and the form that fits whoever is looking."""
    who = _visitor(request, services)
    by = f"{offer.inviter} asks you to join." if offer.inviter else "You are asked to join."
    alert = "" if error is None else f'<p class="alert" id="wrong" role="alert">{escape(error.detail)}</p>'
    head = (
        f'<h1>{escape(offer.workspace)}</h1><p class="lead">{escape(by)} You will be'
        f" {escape(offer.role)} there, as {escape(offer.email)}.</p>{alert}"
    )
    action = escape(f"/invitation/{quote(token, safe='')}")
    if who is not None and (who.email or "").lower() == offer.email.lower():
        return (
            f'{head}<form method="post" action="{action}"><div class="row">'
            '<a class="button quiet" href="/">Not now</a>'
            '<button class="button">Join</button></div></form>'
        )
    if who is not None:
        return (
            f'{head}<p class="alert" role="alert">You are signed in as {escape(who.email or who.name)},'
            " who was not asked. Sign out first, then open the link again.</p>"
            '<div class="row"><a class="button quiet" href="/">Stay</a>'
            '<a class="button" href="/sign-out">Sign out</a></div>'
        )
    if known:
        return (
            f'{head}<p class="hint">You have an account already.</p>'
            f'<div class="row"><a class="button" href="{escape(_sign_in(token))}">Sign in to join</a></div>'
        )
    return (
        f'{head}<form method="post" action="{action}">'
        '<label>Your name<input name="name" autocomplete="name" required maxlength="120" autofocus'
        f' value="{escape(name)}"></label>'
        f'<input type="hidden" autocomplete="username" value="{escape(offer.email)}">'
        '<label>A password<input type="password" name="password" autocomplete="new-password" required'
        ' minlength="10" maxlength="1000"></label>'
        '<button class="button">Join</button></form>'
    )


def _gone(gone: InvitationGone) -> Response:
    content = (
        f'<h1>{escape(gone.title)}</h1><p class="lead">{escape(gone.detail)}</p>'
        '<div class="row"><a class="button quiet" href="/sign-in">Sign in</a></div>'
    )
    return _page(content, gone.status)


def _page(content: str, status: int) -> HTMLResponse:
    return HTMLResponse(shell.page("Invitation", content), status, _NEVER_KEPT)
