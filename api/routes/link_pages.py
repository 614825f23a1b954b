"""`/link/<token>`: a dashboard's link as a person opens it, without signing in; a form asks for a password.

The page holds what opening the link gave; the canvas in it asks the API (`api.routes.link`) for the rest.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import orjson
from fastapi import APIRouter, Form, Request
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, Response

from api import links
from api.deps import Services
from api.errors import problem_responses
from api.pages.forms import alert, invalid
from api.pages.shell import linked, page
from api.services import ApiServices
from sluiceway.dashboards.errors import LinkNotFound, LinkPasswordRequired, WrongLinkPassword
from sluiceway.identity.errors import SignInThrottled
from sluiceway.kit.errors import SluicewayError

router = APIRouter(prefix="/link", include_in_schema=False, default_response_class=HTMLResponse)

# The address holds the token: no other page is to learn it, no search engine to keep it.
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}
_ASSETS_URL = "/assets/canvas"

Token = Annotated[str, PathParameter(max_length=200)]


@router.get("/{token}")
def link_page(request: Request, services: Services, token: Token) -> Response:
    """The dashboard, or the form for its password."""
    return _open(request, services, token, None)


@router.post("/{token}", responses=problem_responses((401, 404, 429)))
def link_form(
    request: Request,
    services: Services,
    token: Token,
    password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """With the password. It begins no session and changes nothing, so any site's form may send it."""
    return _open(request, services, token, password)


def _open(request: Request, services: ApiServices, token: str, password: str | None) -> Response:
    try:
        access, viewing = links.open_with_token(request, services, token, password)
    except LinkPasswordRequired:
        return _answer(page("Password", _form(None)), 200)
    except (WrongLinkPassword, SignInThrottled) as error:
        answer = _answer(page("Password", _form(error)), error.status)
        if error.retry_after_s is not None:
            answer.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
        return answer
    except LinkNotFound as error:
        return _answer(page("No such link", _gone()), error.status)
    script = _script()
    if script is None:
        return _answer(page("Not built", _not_built()), 503)
    return _answer(linked(viewing.dashboard.title, viewing.dashboard.slug, access, script), 200)


def _form(error: SluicewayError | None) -> str:
    return (
        '<h1>A password, please</h1><p class="lead">This dashboard is shown to whoever knows it.</p>'
        f"{alert(error)}"
        '<form method="post">'
        '<label>Password<input type="password" name="password" autocomplete="off" required maxlength="1000"'
        f"{invalid(error)} autofocus></label>"
        '<button class="button">Show the dashboard</button></form>'
        '<p class="hint">Whoever sent you the link knows the password.</p>'
    )


def _gone() -> str:
    return (
        "<h1>This link does not work</h1>"
        '<p class="lead">It was revoked, has ended, or was copied in part.</p>'
        '<p class="hint">Ask whoever sent it to you for another one.</p>'
    )


def _not_built() -> str:
    return (
        '<h1>Not just now</h1><p class="lead">This installation cannot draw dashboards: its canvas was not'
        " built.</p>"
    )


def _answer(text: str, status: int) -> HTMLResponse:
    return HTMLResponse(text, status, _HEADERS)


def _script() -> str | None:
    """The address of the page's script; None where the canvas was not built."""
    folder = _folder()
    try:
        names: dict[str, str] = orjson.loads((folder / "assets.json").read_bytes()) if folder else {}
    except (OSError, orjson.JSONDecodeError):
        return None
    return f"{_ASSETS_URL}/{names['link']}" if "link" in names else None


@lru_cache
def _folder() -> Path | None:
    """Where the build puts the bundles. Found by name: the app's package is not imported here."""
    spec = find_spec("dashboards_app")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) / "canvas" / "dist" if places else None
