"""JSON Schemas of the files people write. Open to everyone: editors fetch them, and no data is in them.

They change with the platform's version alone: each is made once a process and known by its ETag.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Path, Response
from fastapi.concurrency import run_in_threadpool

from sluiceway.catalog.contracts import json_schema as pipeline_schema
from sluiceway.dashboards.contracts import json_schema as dashboard_schema
from sluiceway.quality.contracts import json_schema as suite_schema
from sluiceway.rules.contracts import json_schema as rule_schema

router = APIRouter(prefix="/v1/schemas", tags=["schemas"])

MEDIA_TYPE = "application/schema+json"
_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "pipeline": pipeline_schema,
    "suite": suite_schema,
    "dashboard": dashboard_schema,
    "rule": rule_schema,
}


@dataclass(frozen=True, slots=True)
class _Schema:
    body: bytes
    tag: str


_known: dict[str, _Schema] = {}


@router.get(
    "/{kind}",
    summary="The JSON Schema of a kind of file",
    response_class=Response,
    responses={
        200: {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}},
        304: {"description": "It is as `If-None-Match` says."},
    },
)
async def get_schema(
    kind: Annotated[
        Literal["pipeline", "suite", "dashboard", "rule"], Path(description="Of which kind of file.")
    ],
    if_none_match: Annotated[
        str | None, Header(max_length=1_000, description="ETags of what is there already.")
    ] = None,
) -> Response:
    """Draft 2020-12. In an editor: `# yaml-language-server: $schema=…/v1/schemas/dashboard`."""
    found = _known.get(kind)
    if found is None:  # made in a thread: it takes a while
        found = _known[kind] = await run_in_threadpool(_make, kind)
    headers = {"ETag": found.tag, "Cache-Control": "max-age=300"}
    if if_none_match is not None and _names(if_none_match, found.tag):
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=MEDIA_TYPE, headers=headers)


def _names(header: str, tag: str) -> bool:
    """Whether `If-None-Match` names the tag; weak and strong are alike here (RFC 9110, 13.1.2)."""
    wanted = [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in wanted or tag in wanted


def _make(kind: str) -> _Schema:
    body = orjson.dumps(_SCHEMAS[kind]())
    return _Schema(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
