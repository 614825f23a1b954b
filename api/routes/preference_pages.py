"""`/account/preferences`: what a person prefers, and going to another workspace, as plain forms.

Writes are checked by their Origin. The same by JSON: `api.routes.me`.
"""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, Response

from api.deps import Services, catalog, person_id
from api.errors import problem_responses
from api.moving import move
from api.own_pages import own_page
from api.pages import preferences as pages
from api.preferring import prefer
from api.routes.account_pages import OwnForm
from api.routes.me import leave
from api.routes.sign_in_pages import SignedIn, to
from sluiceway.identity import preferences, service
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidPreferences, LastOwner
from sluiceway.kit.errors import SluicewayError

router = APIRouter(tags=["me"], include_in_schema=False, default_response_class=HTMLResponse)

_DONE = {"kept": "Kept. Pages that are open show it once they are loaded anew."}


@router.get("/account/preferences")
def preferences_page(
    services: Services, who: SignedIn, done: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    """Colours, time zone, start page; the workspaces that one may enter."""
    if who is None:
        return to("/sign-in?next=/account/preferences")
    return _overview(services, who, done=_DONE.get(done, ""))


@router.post("/account/preferences", responses=problem_responses((401, 403, 422)))
def preferences_form(
    request: Request,
    services: Services,
    who: OwnForm,
    theme: Annotated[str, Form(max_length=20)] = "system",
    time_zone: Annotated[str, Form(max_length=64)] = "",
    start_page: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    """Keep them all; what was wrong is said above the form."""
    wanted = preferences.Preferences(theme, time_zone or None, start_page.strip() or None)
    try:
        prefer(request, services, who, wanted)
    except InvalidPreferences as error:
        return _overview(services, who, wanted, error=error)
    return to("/account/preferences?done=kept")


@router.post("/account/workspace", responses=problem_responses((401, 403, 404)))
def workspace_form(
    request: Request,
    services: Services,
    who: OwnForm,
    workspace_id: Annotated[int, Form(ge=1, le=2**31 - 1)],
) -> Response:
    """Go on in another workspace."""
    answer = to("/")
    move(request, services, answer, who, workspace_id)
    return answer


@router.post("/account/leaving", responses=problem_responses((401, 403, 409)))
def leaving_form(request: Request, services: Services, who: OwnForm) -> Response:
    """Leave the workspace that the session is in; afterwards nobody is signed in."""
    who.check_second_factor()
    try:
        leave(request, services, who)
    except LastOwner as error:
        return _overview(services, who, error=error)
    return to("/sign-in")


def _overview(
    services: Services,
    who: Caller,
    wanted: preferences.Preferences | None = None,
    *,
    done: str = "",
    error: SluicewayError | None = None,
) -> HTMLResponse:
    user = person_id(who)
    with catalog(services, who) as conn:
        preferred = wanted or preferences.get_preferences(conn, who.workspace_id, user)
        rooms = service.memberships(conn, user)
    content = pages.overview(preferred, rooms, who.workspace_id, done=done, error=error)
    return own_page(services, who, "Preferences", content, error, here="/account/preferences")
