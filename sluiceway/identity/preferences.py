"""What a person likes: the app's colours, the zone that times are shown in, where a sign-in leads to.

Theme and time zone are the person's everywhere; the start page is of one workspace, as its pages are.
Functions take an open connection (role APP) that acts for the workspace and the person.
"""

import re
import zoneinfo
from dataclasses import dataclass
from functools import cache
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.errors import InvalidPreferences
from sluiceway.kit.errors import FieldError, NotFound

THEMES = ("system", "light", "dark")
START_PAGE_LENGTH = 300
# A path of this site: what a browser would read as another host (`//x`, `/\\x`) is none.
_PATH = re.compile(r"/(?![/\\])[^\s\\\x00-\x1f\x7f]*")
_NO_PAGES = ("/sign-in", "/sign-out", "/v1/", "/invitation", "/link/")


@dataclass(frozen=True, slots=True)
class Preferences:
    """`theme`: `system`, `light` or `dark`. `time_zone`: an IANA name; None: the browser's own.

    `start_page`: path of a page; None: the overview of dashboards.
    """

    theme: str = "system"
    time_zone: str | None = None
    start_page: str | None = None


def get_preferences(conn: sa.Connection, workspace_id: int, user_id: UUID) -> Preferences:
    """Raises `NotFound`."""
    row = conn.execute(
        sa.text(
            "SELECT u.theme, u.time_zone, m.start_page FROM app.users u"
            " LEFT JOIN app.memberships m ON m.user_id = u.id AND m.workspace_id = :workspace"
            " WHERE u.id = :user"
        ),
        {"workspace": workspace_id, "user": user_id},
    ).first()
    if row is None:
        raise NotFound("There is no such person.")
    return Preferences(row.theme, row.time_zone, row.start_page)


def set_preferences(
    conn: sa.Connection, workspace_id: int, user_id: UUID, wanted: Preferences
) -> tuple[Preferences, Preferences]:
    """Replace all of them; returns what they were and what they are.

    Raises `InvalidPreferences` or `NotFound`.
    """
    before = get_preferences(conn, workspace_id, user_id)
    _check(wanted)
    conn.execute(
        sa.text("UPDATE app.users SET theme = :theme, time_zone = :zone WHERE id = :user"),
        {"theme": wanted.theme, "zone": wanted.time_zone, "user": user_id},
    )
    conn.execute(
        sa.text(
            "UPDATE app.memberships SET start_page = :page"
            " WHERE workspace_id = :workspace AND user_id = :user"
        ),
        {"page": wanted.start_page, "workspace": workspace_id, "user": user_id},
    )
    return before, get_preferences(conn, workspace_id, user_id)


@cache
def time_zones() -> frozenset[str]:
    """Names of the zones that can be preferred."""
    return frozenset(zoneinfo.available_timezones())


def _check(wanted: Preferences) -> None:
    problems = []
    if wanted.theme not in THEMES:
        problems.append(FieldError("theme", f"should be one of {', '.join(THEMES)}"))
    if wanted.time_zone is not None and wanted.time_zone not in time_zones():
        problems.append(FieldError("time_zone", "should be a zone's IANA name, as Europe/Vienna, or null"))
    page = wanted.start_page
    if page is not None and (
        len(page) > START_PAGE_LENGTH or not _PATH.fullmatch(page) or page.startswith(_NO_PAGES)
    ):
        problems.append(
            FieldError("start_page", "should be the path of one of the app's pages, as /pipelines")
        )
    if problems:
        raise InvalidPreferences("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)
