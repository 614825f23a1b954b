"""The page that an invitation's link leads to: join with one's account, or make one. Plain forms.

What it does is in `api.joining`. Writes are checked by their Origin.
"""

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse, Response

from api import joining
from api.deps import Services
from api.errors import problem_responses
from api.moving import move
from api.pages import invitation, shell
from api.routes.sign_in_pages import NEVER_KEPT, SignedIn, to
from api.security import check_same_origin
from api.sign_in import set_cookies
from sluiceway.identity.accepting import Offer
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvitationGone
from sluiceway.kit.errors import SluicewayError

router = APIRouter(tags=["members"], include_in_schema=False, default_response_class=HTMLResponse)

Token = Annotated[str, Path(min_length=1, max_length=200)]


@router.get("/invitation/{token}")
def invitation_page(services: Services, who: SignedIn, token: Token) -> Response:
    """Who asks to what, and the way to say yes."""
    try:
        offer, known = joining.find_offer(services, token)
    except InvitationGone as gone:
        return _gone(gone)
    return _page(invitation.offered(token, offer, who, known=known), 200)


@router.post("/invitation/{token}", responses=problem_responses((403, 404, 409, 422)))
def accept_page(
    request: Request,
    services: Services,
    who: SignedIn,
    token: Token,
    name: Annotated[str, Form(max_length=300)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Join, and go there; what was wrong is said above the form."""
    check_same_origin(request, services.settings.public_url)
    try:
        offer, known = joining.find_offer(services, token)
        if who is None and not known:
            answer = to("/")
            set_cookies(answer, services, joining.join_anew(request, services, offer, name, password))
            return answer
        if who is None:
            return to(invitation.sign_in_address(token))
        joining.join(request, services, who, offer)
    except InvitationGone as gone:
        return _gone(gone)
    except SluicewayError as error:
        content = invitation.offered(token, offer, who, known=known, error=error, name=name)
        return _page(content, error.status)
    return _go_there(request, services, who, offer)


def _go_there(request: Request, services: Services, who: Caller, offer: Offer) -> Response:
    answer = to("/")
    move(request, services, answer, who, offer.workspace_id)
    return answer


def _gone(gone: InvitationGone) -> Response:
    return _page(invitation.gone(gone.title, gone.detail), gone.status)


def _page(content: str, status: int) -> HTMLResponse:
    return HTMLResponse(shell.page("Invitation", content), status, NEVER_KEPT)
