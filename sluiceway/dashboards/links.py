"""Links to dashboards: whoever has one sees that dashboard, read-only, without signing in.

A link is a random token of which only SHA-256 is kept. It can end, ask for a password, and fix filters and
the time range. Functions take an open connection (role APP) and do not commit. Not here: which queries a
link allows (`link_queries`), how a browser shows what it has opened (`link_access`).
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import TypeAdapter

from sluiceway.dashboards import repository
from sluiceway.dashboards.errors import DashboardNotFound, InvalidLink, LinkNotFound
from sluiceway.identity import passwords
from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.database import set_identity
from sluiceway.infra.paging import newest_first
from sluiceway.kit import ids
from sluiceway.kit.checks import name_problems, refuse
from sluiceway.kit.errors import FieldError, NotFound
from sluiceway.queries.contracts import Filter, TimeRange

PREFIX = "sll_"
ROLE = "link"
"""The role whose row rules and column masks hold for whoever has a link."""
NAME_LENGTH = 100
MOST_FILTERS = 20
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 200
_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_FILTERS = TypeAdapter(tuple[Filter, ...])
_TIME = TypeAdapter(TimeRange | None)
_SELECT = (
    "SELECT l.id, l.workspace_id, d.slug AS dashboard, l.name, l.password_hash, l.filters, l.time, l.made_by,"
    " l.created_by, l.created_at, l.expires_at, l.revoked_at, l.last_used_at, l.last_used_address, l.uses"
    " FROM app.dashboard_links l JOIN app.dashboards d ON d.id = l.dashboard_id"
    " WHERE l.workspace_id = :workspace"
)


@dataclass(frozen=True, slots=True)
class DashboardLink:
    """A link without its token. `filters` are added to every query; `time`: the only range; None: any."""

    id: UUID
    workspace_id: int
    dashboard: str
    name: str
    has_password: bool
    filters: tuple[Filter, ...]
    time: TimeRange | None
    made_by: str
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None
    uses: int

    @property
    def access(self) -> DataAccess:
        return link_eyes(self.workspace_id)

    def works_at(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def link_eyes(workspace_id: int) -> DataAccess:
    """With whose eyes links' data is read; whoever made a link stands behind them (`api.links`)."""
    return DataAccess.of(workspace_id, (ROLE,))


def create_link(
    conn: sa.Connection,
    workspace_id: int,
    dashboard: str,
    name: str,
    *,
    made_by: str,
    created_by: UUID | None = None,
    expires_at: datetime | None = None,
    password: str | None = None,
    filters: Sequence[Filter] = (),
    time: TimeRange | None = None,
) -> tuple[str, DashboardLink]:
    """Make a link and return its token, which cannot be had again. `made_by`: the caller's subject.

    Raises `DashboardNotFound`, or `InvalidLink` for a name, a password or filters that cannot be.
    """
    _check(name, password, filters)
    row = repository.find(conn, workspace_id, dashboard)
    if row is None:
        raise DashboardNotFound(f"There is no dashboard {dashboard!r} in this workspace.")
    token = PREFIX + ids.token(32)
    link_id = ids.uuid7()
    conn.execute(
        sa.text(
            "INSERT INTO app.dashboard_links"
            " (id, workspace_id, dashboard_id, name, token_hash, password_hash, filters, time, made_by,"
            " created_by, expires_at)"
            " VALUES (:id, :workspace, :dashboard, :name, :hash, :password, CAST(:filters AS jsonb),"
            " CAST(:time AS jsonb), :made_by, :by, :expires)"
        ),
        {
            "id": link_id,
            "workspace": workspace_id,
            "dashboard": row["id"],
            "name": name.strip(),
            "hash": _hash(token),
            "password": None if password is None else passwords.hash_password(password),
            "filters": _FILTERS.dump_json(tuple(filters), by_alias=True).decode(),
            "time": None if time is None else time.model_dump_json(by_alias=True, exclude_none=True),
            "made_by": made_by,
            "by": created_by,
            "expires": expires_at,
        },
    )
    return token, get_link(conn, workspace_id, link_id)


def list_links(
    conn: sa.Connection,
    workspace_id: int,
    dashboard: str | None = None,
    *,
    limit: int = 1000,
    after: tuple[datetime, UUID] | None = None,
) -> list[DashboardLink]:
    """Newest first, revoked ones included; of one dashboard or of all. `after`: (created_at, id)."""
    end, values = newest_first("l.created_at", "l.id", after, limit)
    rows = conn.execute(
        sa.text(f"{_SELECT} AND (CAST(:dashboard AS text) IS NULL OR d.slug = :dashboard){end}"),
        {"workspace": workspace_id, "dashboard": dashboard, **values},
    )
    return [_link(row) for row in rows]


def get_link(conn: sa.Connection, workspace_id: int, link_id: UUID) -> DashboardLink:
    """Raises `NotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND l.id = :id"), {"workspace": workspace_id, "id": link_id}
    ).first()
    if row is None:
        raise NotFound("There is no such link in this workspace.")
    return _link(row)


def revoke_link(conn: sa.Connection, workspace_id: int, link_id: UUID, *, at: datetime) -> DashboardLink:
    """It shows nothing from now on, within seconds also where it is open. Raises `NotFound`."""
    conn.execute(
        sa.text(
            "UPDATE app.dashboard_links SET revoked_at = coalesce(revoked_at, :at)"
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {"at": at, "workspace": workspace_id, "id": link_id},
    )
    return get_link(conn, workspace_id, link_id)


def revoke_links_of(conn: sa.Connection, workspace_id: int, made_by: str, *, at: datetime) -> int:
    """Revoke all that `made_by` has made (a key that was stolen); returns how many ended."""
    done = conn.execute(
        sa.text(
            "UPDATE app.dashboard_links SET revoked_at = :at"
            " WHERE workspace_id = :workspace AND made_by = :made_by AND revoked_at IS NULL"
        ),
        {"at": at, "workspace": workspace_id, "made_by": made_by},
    )
    return done.rowcount


def find_link(conn: sa.Connection, token: str, *, now: datetime) -> DashboardLink:
    """The link of this token; afterwards the transaction acts for its workspace.

    Raises `LinkNotFound` for one that is unknown, revoked or over.
    """
    row = None
    if _TOKEN.fullmatch(token):
        row = conn.execute(
            sa.text("SELECT workspace_id, id FROM app.find_dashboard_link(:hash)"), {"hash": _hash(token)}
        ).first()
    if row is None:
        raise not_found()
    return open_link(conn, row.workspace_id, row.id, now=now)


def open_link(conn: sa.Connection, workspace_id: int, link_id: UUID, *, now: datetime) -> DashboardLink:
    """A link that is known to be somebody's; afterwards the transaction acts for its workspace.

    Raises `LinkNotFound` for one that is gone, revoked or over.
    """
    set_identity(conn, workspace_id=workspace_id)
    try:
        found = get_link(conn, workspace_id, link_id)
    except NotFound:
        raise not_found() from None
    if not found.works_at(now):
        raise not_found()
    return found


def fits(conn: sa.Connection, link: DashboardLink, password: str) -> bool:
    """Whether the password is the link's. Costs what hashing one costs."""
    stored: str | None = conn.execute(
        sa.text("SELECT password_hash FROM app.dashboard_links WHERE workspace_id = :workspace AND id = :id"),
        {"workspace": link.workspace_id, "id": link.id},
    ).scalar_one_or_none()
    return passwords.verify(stored, password)


def note_opened(conn: sa.Connection, link: DashboardLink, at: datetime, address: str) -> None:
    conn.execute(
        sa.text(
            "UPDATE app.dashboard_links SET uses = uses + 1, last_used_at = :at, last_used_address = :address"
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {"at": at, "address": address[:100], "workspace": link.workspace_id, "id": link.id},
    )


def not_found() -> LinkNotFound:
    return LinkNotFound("The link is unknown, was revoked, or has ended.")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _check(name: str, password: str | None, filters: Iterable[Filter]) -> None:
    problems = name_problems(name, NAME_LENGTH)
    if password is not None and not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        message = f"should have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters"
        problems.append(FieldError("password", message))
    if len(list(filters)) > MOST_FILTERS:
        problems.append(FieldError("filters", f"should be at most {MOST_FILTERS}"))
    refuse(InvalidLink, problems)


def _link(row: sa.Row[tuple[object, ...]]) -> DashboardLink:
    found = row._mapping
    return DashboardLink(
        id=found["id"],
        workspace_id=found["workspace_id"],
        dashboard=found["dashboard"],
        name=found["name"],
        has_password=found["password_hash"] is not None,
        filters=_FILTERS.validate_json(orjson.dumps(found["filters"])),
        time=None if found["time"] is None else _TIME.validate_json(orjson.dumps(found["time"])),
        made_by=found["made_by"],
        created_by=found["created_by"],
        created_at=found["created_at"],
        expires_at=found["expires_at"],
        revoked_at=found["revoked_at"],
        last_used_at=found["last_used_at"],
        last_used_address=found["last_used_address"],
        uses=found["uses"],
    )
