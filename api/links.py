"""Whoever has opened a dashboard's link: opening it, recognising them again, and what it takes to guess.

Not here: links themselves (`sluiceway.dashboards.links`), their routes (`api.routes.link`) and their page
(`api.routes.link_pages`).
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from threading import BoundedSemaphore, Lock
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from api.addresses import client_address, source_of
from api.deps import Services
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.service import USE_PAUSE, record_once
from sluiceway.dashboards import link_access, links, service
from sluiceway.dashboards.contracts import Dashboard
from sluiceway.dashboards.errors import (
    DashboardNotFound,
    LinkPasswordRequired,
    NotInLink,
    WrongLinkPassword,
)
from sluiceway.dashboards.links import DashboardLink
from sluiceway.identity import attempts
from sluiceway.identity.contracts import DataAccess
from sluiceway.identity.standing import find_standing
from sluiceway.infra.database import Role
from sluiceway.kit.errors import Unauthenticated

KEPT_S = 5.0
"""For so long a process takes a link and its dashboard to be as they were."""
_MOST_KEPT = 1000
# argon2id takes 19 MiB and a core for a moment: a burst of attempts must not take all of them.
_hashing = BoundedSemaphore(2)

link_scheme = HTTPBearer(
    scheme_name="link", description="What `POST /v1/link-sessions` gives, `sla_…`.", auto_error=False
)


@dataclass(frozen=True, slots=True)
class Viewing:
    """A link that works, its dashboard as it stands, with whose eyes and until when its holder may look."""

    link: DashboardLink
    dashboard: Dashboard
    access: DataAccess
    expires_at: datetime


class _Kept:
    """Links and their dashboards by id for a few seconds: a page asks a dozen queries at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: OrderedDict[UUID, tuple[float, DashboardLink, Dashboard, DataAccess]] = OrderedDict()

    def get(self, link_id: UUID) -> tuple[DashboardLink, Dashboard, DataAccess] | None:
        with self._lock:
            entry = self._found.get(link_id)
        return entry[1:] if entry is not None and entry[0] > time.monotonic() else None

    def put(self, link: DashboardLink, dashboard: Dashboard, access: DataAccess) -> None:
        with self._lock:
            self._found[link.id] = (time.monotonic() + KEPT_S, link, dashboard, access)
            self._found.move_to_end(link.id)
            while len(self._found) > _MOST_KEPT:
                self._found.popitem(last=False)

    def forget(self, link_id: UUID) -> None:
        with self._lock:
            self._found.pop(link_id, None)


def open_with_token(
    request: HTTPConnection, services: ApiServices, token: str, password: str | None
) -> tuple[str, Viewing]:
    """Open a link: what its holder shows from now on, and what they may see.

    Raises `LinkNotFound`, `LinkPasswordRequired`, `WrongLinkPassword`, or `SignInThrottled` after too many
    wrong passwords.
    """
    now = services.clock.now()
    with services.database.transaction(Role.APP) as conn:
        link = links.find_link(conn, token, now=now)
        if link.has_password and not password:
            raise LinkPasswordRequired("This dashboard is shown to whoever knows its password.")
        dashboard = service.get_dashboard(conn, link.workspace_id, link.dashboard)
        eyes = _eyes(conn, link, now)
    if link.has_password:
        _check_password(request, services, link, password or "")
    text, access = link_access.issue(services.key, link.workspace_id, link.id, now=now, ends=link.expires_at)
    with services.database.transaction(Role.APP, workspace_id=link.workspace_id) as conn:
        links.note_opened(conn, link, now, client_address(request.scope))
        record_once(conn, _entry(request, link, Action.LINK_OPENED), USE_PAUSE)
    return text, Viewing(link, dashboard, eyes, access.expires_at)


def view(services: ApiServices, text: str) -> Viewing:
    """What the holder of this text may see now. Blocks on the database at most every few seconds.

    Raises `LinkAccessEnded`, or `LinkNotFound` once the link was revoked or its dashboard is gone.
    """
    now = services.clock.now()
    shown = link_access.read(services.key, text, now)
    kept: _Kept = services.extra.setdefault("links", _Kept())
    found = kept.get(shown.link_id)
    if found is None or not found[0].works_at(now):
        with services.database.transaction(Role.APP) as conn:
            link = links.open_link(conn, shown.workspace_id, shown.link_id, now=now)
            try:
                dashboard = service.get_dashboard(conn, link.workspace_id, link.dashboard)
            except DashboardNotFound:
                raise links.not_found() from None
            found = (link, dashboard, _eyes(conn, link, now))
        kept.put(*found)
    return Viewing(*found, shown.expires_at)


def _eyes(conn: sa.Connection, link: DashboardLink, now: datetime) -> DataAccess:
    """Those of the role `link` and, behind it, of whoever answers for the link: a link shows nobody what its
    maker may not see. Raises `LinkNotFound` once nobody answers for it any more.

    Last in its transaction, which then acts for that person.
    """
    maker = f"user:{link.created_by}" if link.created_by is not None else link.made_by
    if maker.partition(":")[0] not in ("user", "key"):
        return link.access  # made on the command line: by whoever runs the installation
    standing = find_standing(conn, link.workspace_id, maker, now=now)
    if standing is None:
        raise links.not_found()
    return replace(link.access, behind=standing.access)


def forget(services: ApiServices, link_id: UUID) -> None:
    """Ask for the link anew: it was revoked, or its dashboard changed."""
    kept: _Kept = services.extra.setdefault("links", _Kept())
    kept.forget(link_id)


def viewer_text(
    request: Request,
    token: Annotated[
        str | None, Query(max_length=1000, description="The same text, for clients that send no header.")
    ] = None,
    _bearer: Annotated[object, Security(link_scheme)] = None,
) -> str:
    """What the request shows. Raises `Unauthenticated`, or `NotInLink` for an API key: a key is no link."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if text.startswith("slw_"):
        raise NotInLink("An API key opens no links; it has routes of its own.")
    found = text.strip() if scheme.lower() == "bearer" and text else token
    if not found:
        raise Unauthenticated("Open the link: POST /v1/link-sessions gives what is to be sent as Bearer.")
    return found


def viewer(services: Services, text: Annotated[str, Depends(viewer_text)]) -> Viewing:
    return view(services, text)


Viewer = Annotated[Viewing, Depends(viewer)]
ViewerText = Annotated[str, Depends(viewer_text)]


def _check_password(
    request: HTTPConnection, services: ApiServices, link: DashboardLink, password: str
) -> None:
    now = services.clock.now()
    source = source_of(client_address(request.scope))
    with services.database.transaction(Role.APP) as conn:
        attempt = attempts.begin(conn, "link", account=str(link.id), source=source, device=None, now=now)
    with _hashing, services.database.transaction(Role.APP, workspace_id=link.workspace_id) as conn:
        good = links.fits(conn, link, password)
        if good:
            attempts.succeeded(conn, attempt)
        else:
            record_once(conn, _entry(request, link, Action.LINK_REFUSED), USE_PAUSE)
    if not good:
        raise WrongLinkPassword("The password is wrong.")


def _entry(request: HTTPConnection, link: DashboardLink, action: Action) -> Entry:
    actor = Actor(
        kind="link",
        id=str(link.id),
        name=link.name,
        address=client_address(request.scope),
        user_agent=request.headers.get("user-agent", ""),
        request_id=str(getattr(request.state, "request_id", "")),
    )
    return Entry(action, actor, "dashboard", link.dashboard)
