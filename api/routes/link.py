"""A dashboard as whoever has its link sees it: opened once, then its spec, its widgets' data and changes.

Nothing here asks for a permission of a person or a key: the link is the permission, and it is for this one
dashboard and the queries of its widgets alone.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.concurrency import run_in_threadpool

from api import links
from api.deps import Services
from api.errors import problem_responses
from api.links import Viewer, ViewerText, Viewing
from api.routes.live import PACE_S
from api.routes.query import Answer, query_service, to_json
from api.services import ApiServices
from api.streams.access import broker_of
from api.streams.sse import KEEP_ALIVE, MAX_AGE_S, MEDIA_TYPE, EventStream, encode
from sluiceway.dashboards.contracts import Position
from sluiceway.dashboards.link_queries import allowed_query, pipelines_of, shown
from sluiceway.kit.errors import SluicewayError
from sluiceway.live.contracts import BatchLoaded, Change, DashboardChanged, LayoutSaved, Missed
from sluiceway.queries.contracts import QueryRequest

router = APIRouter(prefix="/v1", tags=["links"])

LOOK_S = 5.0
"""So often a stream looks whether its link still works."""


class LinkOpening(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"token": "sll_…"}})

    token: str = Field(min_length=1, max_length=200, description="What stands in the link's address.")
    password: SecretStr | None = Field(default=None, max_length=1000)


class OpenedLink(BaseModel):
    """What to send as `Authorization: Bearer …` from now on."""

    access: str = Field(examples=["sla_…"])
    expires_at: datetime
    title: str


class LinkedDashboard(BaseModel):
    """The dashboard. `fixed_time`: whether the range is the link's, and cannot be chosen."""

    slug: str
    title: str
    description: str
    version: int
    layout_version: int
    spec: dict[str, Any] = Field(description="Its JSON Schema: /v1/schemas/dashboard.")
    layout: dict[str, Position]
    fixed_time: bool
    expires_at: datetime = Field(
        description="Until when this may be looked at without opening the link again."
    )


class LinkQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    widget: str = Field(min_length=1, max_length=63)
    query: QueryRequest = Field(description="The widget's, for a time range and a grain that it is shown at.")


@router.post(
    "/link-sessions", status_code=201, summary="Open a link", responses=problem_responses((401, 404, 429))
)
def open_link(request: Request, services: Services, body: LinkOpening, response: Response) -> OpenedLink:
    """With its password if it has one (401 `link_password_required` says so). 404: it does not work."""
    password = None if body.password is None else body.password.get_secret_value()
    text, viewing = links.open_with_token(request, services, body.token, password)
    response.headers["Cache-Control"] = "no-store"
    return OpenedLink(access=text, expires_at=viewing.expires_at, title=viewing.dashboard.title)


@router.get("/link/dashboard", summary="A link's dashboard", responses=problem_responses((404,)))
def linked_dashboard(viewing: Viewer, response: Response) -> LinkedDashboard:
    """Spec and layout."""
    response.headers["Cache-Control"] = "no-store"
    dashboard = viewing.dashboard
    return LinkedDashboard(
        slug=dashboard.slug,
        title=dashboard.title,
        description=dashboard.description,
        version=dashboard.version,
        layout_version=dashboard.layout_version,
        spec=shown(dashboard, viewing.link),
        layout=dashboard.layout,
        fixed_time=viewing.link.time is not None,
        expires_at=viewing.expires_at,
    )


@router.post(
    "/link/query",
    summary="Query for a widget of a link's dashboard",
    response_class=Response,
    responses={200: {"model": Answer, "description": "The answer"}, **problem_responses((404, 504))},
)
def linked_query(services: Services, viewing: Viewer, body: LinkQuery) -> Response:
    """The widget's own query, with the link's filters and range. 403 `not_in_link` for any other."""
    query = allowed_query(viewing.dashboard, viewing.link, body.widget, body.query, services.clock.now())
    result = query_service(services).run(viewing.access, query)
    return Response(to_json(result), media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get(
    "/link/live",
    summary="Follow changes of a link's dashboard",
    response_class=Response,
    responses={
        200: {"description": "Events, for ever.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
        **problem_responses((404,)),
    },
)
async def linked_changes(services: Services, viewing: Viewer, text: ViewerText) -> Response:
    """`change`: a widget may have news. `layout`, `dashboard`: it was changed. Never any rows."""
    left = max(0.0, (viewing.expires_at - services.clock.now()).total_seconds())
    return EventStream(
        _events(services, text, viewing), stopping=services.stopping, max_age_s=min(left, MAX_AGE_S)
    )


async def _events(services: ApiServices, text: str, viewing: Viewing) -> AsyncGenerator[bytes, None]:
    looked = time.monotonic()
    with broker_of(services).subscribe(viewing.link.workspace_id) as subscription:
        while True:
            changes = await subscription.next(LOOK_S)
            if time.monotonic() - looked >= LOOK_S:
                try:
                    viewing = await run_in_threadpool(links.view, services, text)
                except SluicewayError:
                    return
                looked = time.monotonic()
                yield KEEP_ALIVE
            for change in changes:
                if isinstance(change, DashboardChanged):
                    links.forget(services, viewing.link.id)
                if (event := _event(change, viewing)) is not None:
                    yield event
            await asyncio.sleep(PACE_S)


def _event(change: Change, viewing: Viewing) -> bytes | None:
    """What the viewer is told: that something changed, and no more of it than they may see."""
    slug = viewing.dashboard.slug
    if isinstance(change, Missed):
        return encode("reset", b'{"reason":"missed"}')
    if isinstance(change, BatchLoaded) and change.pipeline in pipelines_of(viewing.dashboard):
        document = {"pipeline": change.pipeline, "min": change.min_event_time, "max": change.max_event_time}
        return encode("change", orjson.dumps(document))
    if isinstance(change, LayoutSaved) and change.dashboard == slug:
        layout = {"dashboard": slug, "layout_version": change.layout_version, "layout": change.layout}
        return encode("layout", orjson.dumps(layout))
    if isinstance(change, DashboardChanged) and change.dashboard == slug:
        return encode("dashboard", orjson.dumps({"dashboard": slug, "version": change.version}))
    return None
