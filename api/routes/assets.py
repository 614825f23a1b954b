"""The browser's bundles: the canvas, its shared worker and its fonts, under names that hold a hash.

A name never means other bytes, so a browser may keep them for ever. They hold no data and need no sign-in.
"""

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter

from sluiceway.kit.errors import NotFound

router = APIRouter(prefix="/assets", include_in_schema=False)

_NAME = re.compile(r"[A-Za-z0-9._-]+-[A-Za-z0-9]{8,16}\.(js|woff2)")
_TYPES = {"js": "text/javascript; charset=utf-8", "woff2": "font/woff2"}


class UnknownAsset(NotFound):
    code = "unknown_asset"
    title = "There is no such file"


@lru_cache
def _folder() -> Path | None:
    """Where the build puts them. Found by name: the app's package is not imported here."""
    spec = find_spec("dashboards_app")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) / "canvas" / "dist" if places else None


@router.api_route("/canvas/{name}", methods=["GET", "HEAD"])
def canvas_asset(request: Request, name: Annotated[str, PathParameter(max_length=120)]) -> Response:
    """One file, compressed where the browser takes that."""
    folder = _folder()
    match = _NAME.fullmatch(name)
    if folder is None or match is None or not (folder / name).is_file():
        raise UnknownAsset(
            "It may belong to another version: reload the page."
            if folder is not None and folder.is_dir()
            else "The canvas is not built: run 'python -m dashboards_app.canvas.build'."
        )
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    path = folder / name
    zipped = folder / f"{name}.gz"
    if "gzip" in request.headers.get("accept-encoding", "") and zipped.is_file():
        headers["Content-Encoding"] = "gzip"
        path = zipped
    return Response(path.read_bytes(), headers=headers, media_type=_TYPES[match[1]])
