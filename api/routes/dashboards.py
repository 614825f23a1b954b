"""Dashboards: list, read, apply, edit, move widgets, export, delete."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.auditing import note
from api.bodies import YAML_ANSWER, check_name, tell_outcome, yaml_or_json, yaml_source
from api.conditional import IfMatch, expected_version
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.pagination import CursorParameter, Limit, Page, decode, page
from api.routes.query import query_service
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.dashboards import service
from sluiceway.dashboards.contracts import Dashboard, DashboardSpec, Position
from sluiceway.dashboards.errors import InvalidDashboard
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import BadRequest, FieldError

router = APIRouter(prefix="/v1/dashboards", tags=["dashboards"], route_class=IdempotentRoute)

Slug = Annotated[str, Path(max_length=63, examples=["flights-operations"])]
MayRead = Annotated[Caller, Depends(require(Permission.DASHBOARD_READ))]
MayWrite = Annotated[Caller, Depends(require(Permission.DASHBOARD_WRITE))]


class Summary(BaseModel):
    slug: str
    title: str
    description: str
    version: int
    layout_version: int
    widgets: int = Field(description="How many there are.")
    created_at: datetime
    updated_at: datetime


class DashboardWarning(BaseModel):
    """A query names what is not there (yet)."""

    field: str
    message: str


class Detail(BaseModel):
    """A dashboard. `layout` has a position for every widget and goes before those in `spec`."""

    slug: str
    title: str
    description: str
    version: int = Field(description="Counts changes of the spec.")
    layout_version: int = Field(description="Counts moves of widgets.")
    spec: dict[str, Any] = Field(description="Its JSON Schema: /v1/schemas/dashboard.")
    layout: dict[str, Position]
    created_at: datetime
    updated_at: datetime
    warnings: list[DashboardWarning] = []


class AppliedAnswer(BaseModel):
    name: str
    version: int
    outcome: Literal["created", "updated", "unchanged"]
    warnings: list[DashboardWarning]


class LayoutBody(BaseModel):
    """Where widgets were moved to; those that are not named stay."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, description="The `layout_version` that was moved from.")
    client_id: str = Field(min_length=1, max_length=100, description="Comes back in the `layout` event.")
    layout: dict[str, Position] = Field(max_length=200)


class LayoutAnswer(BaseModel):
    layout_version: int


_SPEC_BODY = yaml_or_json(
    {
        "spec": {"type": "object", "description": "As in /v1/schemas/dashboard."},
        "source": {"type": "string", "description": "YAML, instead of `spec`."},
        "version": {"type": "integer", "description": "Instead of If-Match."},
    }
)


class _Body(BaseModel):
    """What was sent: a YAML text, or a spec."""

    source: str | None = None
    spec: DashboardSpec | None = None
    version: int | None = None


async def _body(request: Request) -> _Body:
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/json":
        return _Body(source=await yaml_source(request))
    try:
        data = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if not isinstance(data, dict) or ("spec" in data) == ("source" in data):
        raise InvalidDashboard(
            "Give `spec` or `source`.", errors=[FieldError("spec", "should be given (or `source`)")]
        )
    try:
        return _Body.model_validate(data)
    except ValidationError as error:
        errors = [FieldError(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_url=False)]
        sentence = "; ".join(f"{e.field}: {e.message}" for e in errors[:5])
        raise InvalidDashboard(f"{sentence}.", errors=errors) from None


Body = Annotated[_Body, Depends(_body)]


@router.get("", summary="List dashboards")
def list_dashboards(
    services: Services, caller: MayRead, limit: Limit = 200, cursor: CursorParameter = None
) -> Page[Summary]:
    """By title."""
    after = decode(cursor, str, str)
    with catalog(services, caller) as conn:
        found = service.list_dashboards(conn, caller.workspace_id)
    wanted = sorted(found, key=lambda d: (d.title.lower(), d.slug))
    if after is not None:
        wanted = [d for d in wanted if (d.title.lower(), d.slug) > (after[0], after[1])]
    return page(
        wanted[: limit + 1], limit, lambda d: Summary(**asdict(d)), lambda d: (d.title.lower(), d.slug)
    )


@router.post(
    "", status_code=201, summary="Create a dashboard", openapi_extra=_SPEC_BODY,
    responses=problem_responses((409, 415)),
)  # fmt: skip
def create_dashboard(
    request: Request, services: Services, caller: MayWrite, body: Body, response: Response
) -> Detail:
    """From YAML or a JSON spec. `warnings` say what its queries name and is not there."""
    spec = body.spec if body.spec is not None else service.parse(body.source or "")
    with catalog(services, caller) as conn:
        found = service.create_dashboard(
            conn, caller.workspace_id, spec, caller.user_id, source=body.source or ""
        )
        note(
            request, conn, caller, Action.DASHBOARD_CREATED, target="dashboard", target_id=found.slug,
            after={"version": found.version, "spec": service.plain(spec)},
        )  # fmt: skip
    response.headers["Location"] = f"/v1/dashboards/{found.slug}"
    return _detail(found, response, service.check_queries(spec, _checker(services, caller)))


@router.get("/{slug}", summary="One dashboard")
def get_dashboard(services: Services, caller: MayRead, slug: Slug, response: Response) -> Detail:
    """Spec and layout with their versions; the ETag is the spec's version."""
    with catalog(services, caller) as conn:
        found = service.get_dashboard(conn, caller.workspace_id, slug)
    return _detail(found, response)


@router.put(
    "/{slug}", summary="Apply a dashboard", openapi_extra=_SPEC_BODY,
    responses={201: {"model": AppliedAnswer, "description": "Created"}, **problem_responses((404, 409, 415))},
)  # fmt: skip
def apply_dashboard(
    request: Request,
    services: Services,
    caller: MayWrite,
    slug: Slug,
    body: Body,
    response: Response,
    if_match: IfMatch = None,
) -> AppliedAnswer:
    """YAML: created or replaced. A JSON spec: replaced, and `version` (or If-Match) must be the current one.

    409 says what the current version is. Widgets that people moved stay where they are.
    """
    version = body.version if body.version is not None else expected_version(if_match)
    spec = body.spec if body.spec is not None else service.parse(body.source or "")
    check_name(spec.name, slug, InvalidDashboard)
    if body.spec is not None and version is None:
        problem = FieldError("version", "is required (or If-Match): the version that was edited")
        raise InvalidDashboard("The version that was edited is missing.", errors=[problem])
    with catalog(services, caller) as conn:
        known = service.find_for_change(conn, caller.workspace_id, slug)
        if body.source is not None:
            applied = service.apply_dashboard(
                conn, caller.workspace_id, body.source, caller.user_id, expected_version=version
            )
            outcome, version = applied.outcome, applied.version
        else:
            assert version is not None
            replaced = service.replace_dashboard(conn, caller.workspace_id, spec, version, caller.user_id)
            outcome, version = "updated", replaced.version
        if outcome != "unchanged":
            before, after = service.what_changed(known, spec, version)
            action = Action.DASHBOARD_CREATED if known is None else Action.DASHBOARD_UPDATED
            note(
                request, conn, caller, action, target="dashboard", target_id=slug, before=before, after=after
            )
    tell_outcome(response, outcome, f"/v1/dashboards/{slug}")
    response.headers["ETag"] = f'"{version}"'
    warnings = service.check_queries(spec, _checker(services, caller))
    return AppliedAnswer(name=slug, version=version, outcome=outcome, warnings=_warnings(warnings))


@router.delete(
    "/{slug}", status_code=204, summary="Delete a dashboard", responses=problem_responses((400, 409))
)
def delete_dashboard(
    request: Request,
    services: Services,
    caller: MayWrite,
    slug: Slug,
    if_match: IfMatch = None,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """With If-Match (or `version`) only that version."""
    expected = version if version is not None else expected_version(if_match)
    with catalog(services, caller) as conn:
        known = service.find_for_change(conn, caller.workspace_id, slug)
        service.delete_dashboard(conn, caller.workspace_id, slug, expected)
        before = None if known is None else {"version": known.version, "spec": service.plain(known.spec)}
        note(
            request, conn, caller, Action.DASHBOARD_DELETED, target="dashboard", target_id=slug, before=before
        )
    return Response(status_code=204)


@router.put("/{slug}/layout", summary="Move widgets", responses=problem_responses((409,)))
def save_layout(
    request: Request, services: Services, caller: MayWrite, slug: Slug, body: LayoutBody
) -> LayoutAnswer:
    """Other browsers hear of it on /v1/live. 409 has the current `layout_version` and `layout`."""
    with catalog(services, caller) as conn:
        version = service.save_layout(
            conn,
            caller.workspace_id,
            slug,
            body.layout,
            expected_version=body.version,
            client_id=body.client_id,
            by=caller.user_id,
        )
        note(
            request, conn, caller, Action.DASHBOARD_MOVED, target="dashboard", target_id=slug,
            detail={"layout_version": version, "widgets": sorted(body.layout)},
        )  # fmt: skip
    return LayoutAnswer(layout_version=version)


@router.get(
    "/{slug}/export",
    summary="Export a dashboard",
    response_class=Response,
    responses=YAML_ANSWER,
)
def export_dashboard(request: Request, services: Services, caller: MayRead, slug: Slug) -> Response:
    """The YAML as applied, comments included, with the widgets where they are now."""
    with catalog(services, caller) as conn:
        source = service.export_dashboard(conn, caller.workspace_id, slug)
        note(request, conn, caller, Action.EXPORT_MADE, target="dashboard", target_id=slug)
    return Response(source, media_type="text/yaml")


def _checker(services: ApiServices, caller: Caller) -> service.CheckQuery:
    queries = query_service(services)
    return lambda query: queries.check(caller.access, query)


def _warnings(found: tuple[FieldError, ...]) -> list[DashboardWarning]:
    return [DashboardWarning(field=w.field, message=w.message) for w in found]


def _detail(found: Dashboard, response: Response, warnings: tuple[FieldError, ...] = ()) -> Detail:
    response.headers["ETag"] = f'"{found.version}"'
    return Detail(
        slug=found.slug,
        title=found.title,
        description=found.description,
        version=found.version,
        layout_version=found.layout_version,
        spec=service.plain(found.spec),
        layout=found.layout,
        created_at=found.created_at,
        updated_at=found.updated_at,
        warnings=_warnings(warnings),
    )
