"""Links to dashboards, for those who make them: made (the address is shown once), listed, revoked."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.idempotency import IdempotentRoute
from api.links import forget
from api.pagination import CursorParameter, Limit, Page, decode_newest, newest_page
from api.routes.query import query_service
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.dashboards import links, service
from sluiceway.dashboards.contracts import Dashboard
from sluiceway.dashboards.errors import InvalidLink
from sluiceway.dashboards.link_queries import misfits
from sluiceway.dashboards.links import DashboardLink
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.kit.checks import end_problems, refuse
from sluiceway.queries.contracts import Filter, TimeRange

router = APIRouter(prefix="/v1", tags=["links"], route_class=IdempotentRoute)

MayShare = Annotated[Caller, Depends(require(Permission.DASHBOARD_SHARE))]
Slug = Annotated[str, Path(max_length=63, examples=["flights-operations"])]


class NewLink(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "board on the wall",
                "expires_at": "2027-01-01T00:00:00Z",
                "filters": [{"field": "carrier", "op": "eq", "value": "B6"}],
                "time": {"last": "7d"},
            }
        },
    )

    name: str = Field(min_length=1, max_length=links.NAME_LENGTH)
    expires_at: AwareDatetime | None = Field(default=None, description="Null: it does not end by itself.")
    password: SecretStr | None = Field(
        default=None,
        min_length=links.SHORTEST_PASSWORD,
        max_length=links.LONGEST_PASSWORD,
        description="Asked for when the link is opened; null: the link alone is enough.",
    )
    filters: list[Filter] = Field(
        default=[],
        max_length=links.MOST_FILTERS,
        description="Added to the query of every widget, and not to be taken away by who looks.",
    )
    time: TimeRange | None = Field(
        default=None, description="The only range that is shown; null: who looks may choose."
    )


class Link(BaseModel):
    """A link without its token. Data is read with the role `link`: its row rules and column masks hold."""

    id: UUID
    dashboard: str
    name: str
    state: str = Field(description="`active`, `expired` or `revoked`.")
    password: bool = Field(description="Whether one is asked for.")
    filters: list[Filter]
    time: TimeRange | None
    made_by: str = Field(description="`user:<uuid>`, `key:<id>` or `cli`.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None
    uses: int = Field(description="How often it was opened.")


class CreatedLink(BaseModel):
    """A new link. Neither `token` nor `url` is kept; they cannot be shown again."""

    token: str = Field(examples=["sll_…"])
    url: str = Field(examples=["https://sluiceway.example.com/link/sll_…"])
    info: Link


@router.post("/dashboards/{slug}/links", status_code=201, summary="Make a link to a dashboard")
def create_link(
    request: Request, services: Services, caller: MayShare, slug: Slug, body: NewLink, response: Response
) -> CreatedLink:
    """Whoever has the address sees this dashboard, read-only. Filters have to fit every widget's query."""
    now = services.clock.now()
    refuse(InvalidLink, end_problems(body.expires_at, now))
    with catalog(services, caller) as conn:
        if body.filters:
            _check_filters(
                services, caller, service.get_dashboard(conn, caller.workspace_id, slug), body.filters
            )
        token, made = links.create_link(
            conn,
            caller.workspace_id,
            slug,
            body.name,
            made_by=caller.subject,
            created_by=caller.user_id,
            expires_at=body.expires_at,
            password=None if body.password is None else body.password.get_secret_value(),
            filters=body.filters,
            time=body.time,
        )
        note(
            request, conn, caller, Action.LINK_CREATED, target="dashboard", target_id=slug,
            after={
                "link": str(made.id), "name": made.name, "expires_at": made.expires_at,
                "password": made.has_password, "filters": [f.model_dump() for f in made.filters],
                "time": None if made.time is None else made.time.model_dump(mode="json", by_alias=True),
            },
        )  # fmt: skip
    response.headers["Cache-Control"] = "no-store"
    url = f"{services.settings.public_url.rstrip('/')}/link/{token}"
    return CreatedLink(token=token, url=url, info=_link(made, now))


@router.get("/links", summary="List links to dashboards")
def list_links(
    request: Request,
    services: Services,
    caller: MayShare,
    dashboard: Annotated[str | None, Query(max_length=63, description="Only this dashboard's.")] = None,
    limit: Limit = 50,
    cursor: CursorParameter = None,
) -> Page[Link]:
    """Newest first, revoked ones included; without tokens."""
    after = decode_newest(cursor)
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.LINK_LISTED, target="link")
        found = links.list_links(conn, caller.workspace_id, dashboard, limit=limit + 1, after=after)
    now = services.clock.now()
    return newest_page(found, limit, lambda k: _link(k, now))


@router.get("/links/{link_id}", summary="One link to a dashboard")
def get_link(request: Request, services: Services, caller: MayShare, link_id: UUID) -> Link:
    """A link without its token."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.LINK_LISTED, target="link", target_id=link_id)
        return _link(links.get_link(conn, caller.workspace_id, link_id), services.clock.now())


@router.delete("/links/{link_id}", summary="Revoke a link to a dashboard")
def revoke_link(request: Request, services: Services, caller: MayShare, link_id: UUID) -> Link:
    """It shows nothing any more, within seconds also where it is open. Revoking again changes nothing."""
    now = services.clock.now()
    with catalog(services, caller) as conn:
        found = links.revoke_link(conn, caller.workspace_id, link_id, at=now)
        note(
            request, conn, caller, Action.LINK_REVOKED, target="dashboard", target_id=found.dashboard,
            detail={"link": str(link_id), "name": found.name},
        )  # fmt: skip
    forget(services, link_id)
    return _link(found, now)


def _check_filters(
    services: ApiServices, caller: Caller, dashboard: Dashboard, filters: list[Filter]
) -> None:
    eyes, queries = links.link_eyes(caller.workspace_id), query_service(services)
    errors = misfits(dashboard, filters, lambda query: queries.check(eyes, query))
    if errors:
        raise InvalidLink("A filter does not fit the dashboard.", errors=errors)


def _link(found: DashboardLink, now: datetime) -> Link:
    state = "revoked" if found.revoked_at else "active" if found.works_at(now) else "expired"
    return Link(
        id=found.id,
        dashboard=found.dashboard,
        name=found.name,
        state=state,
        password=found.has_password,
        filters=list(found.filters),
        time=found.time,
        made_by=found.made_by,
        created_at=found.created_at,
        expires_at=found.expires_at,
        revoked_at=found.revoked_at,
        last_used_at=found.last_used_at,
        last_used_address=found.last_used_address,
        uses=found.uses,
    )
