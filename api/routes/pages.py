"""The API's reference, and the files that all pages of the API's own are made of.

Not here: signing in (`api.routes.sign_in_pages`) and one's own account (`api.routes.account_pages`).
"""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from api.pages import reference, shell
from sluiceway.kit.errors import NotFound

router = APIRouter(tags=["session"], include_in_schema=False, default_response_class=HTMLResponse)

_MEDIA = {
    "svg": "image/svg+xml",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
_KEPT_FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}


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
    return HTMLResponse(reference.render(request.app.openapi()))
