"""Telling that a limit was reached: once a month for each limit, in the audit log, and to the owners by mail.

Not here: refusing (`intake`, `sluiceway.identity.seats`).
"""

import logging
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.service import Actor, Entry, record
from sluiceway.infra.database import Database, Role
from sluiceway.infra.mail import mail_configured, send_later
from sluiceway.infra.settings import Settings
from sluiceway.usage.contracts import MONTHLY, Used, month_of, next_month, spoken
from sluiceway.usage.service import usage

log = logging.getLogger("sluiceway.usage")

_LIMITED = sa.text("SELECT DISTINCT workspace_id FROM app.quotas ORDER BY 1")
_NOTE = sa.text("""
INSERT INTO app.quota_notices (workspace_id, measure, period, level)
VALUES (:workspace, :measure, :period, :level) ON CONFLICT DO NOTHING RETURNING 1
""")
_OWNERS = sa.text("""
SELECT u.email FROM app.memberships m JOIN app.users u ON u.id = m.user_id
WHERE m.workspace_id = :workspace AND m.role = 'owner' AND m.disabled_at IS NULL AND u.disabled_at IS NULL
ORDER BY u.email
""")
_NAMES = {
    "events": "Events a month",
    "ingested_bytes": "Bytes received a month",
    "stored_bytes": "Bytes stored",
    "seats": "Seats",
}


def tell_of_limits(database: Database, settings: Settings, now: datetime) -> int:
    """Look at every workspace with limits and tell of those that are reached; returns how many were new."""
    with database.transaction(Role.WRITER) as connection:
        workspaces: Sequence[int] = connection.execute(_LIMITED).scalars().all()
    return sum(_tell(database, settings, workspace, now) for workspace in workspaces)


def _tell(database: Database, settings: Settings, workspace_id: int, now: datetime) -> int:
    told = 0
    with database.transaction(Role.APP, workspace_id=workspace_id) as conn:
        found = usage(conn, workspace_id, now)
        for used in found.measures:
            if used.state == "ok":
                continue
            names = {
                "workspace": workspace_id,
                "measure": used.quota.measure.value,
                "period": found.month,
                "level": used.state,
            }
            if conn.execute(_NOTE, names).first() is None:
                continue
            told += 1
            _record(conn, used)
            _mail(conn, database, settings, workspace_id, used, now)
            log.warning("workspace %d: %s: %s", workspace_id, used.quota.measure.value, sentence(used, now))
    return told


def _record(conn: sa.Connection, used: Used) -> None:
    record(
        conn,
        Entry(
            Action.QUOTA_REACHED,
            Actor("system", "worker", "worker"),
            "quota",
            used.quota.measure.value,
            detail={
                "level": used.state,
                "used": used.used,
                "soft": used.quota.soft,
                "hard": used.quota.limit,
            },
        ),
    )


def _mail(
    conn: sa.Connection,
    database: Database,
    settings: Settings,
    workspace_id: int,
    used: Used,
    now: datetime,
) -> None:
    if not mail_configured(settings):
        return
    text = f"{sentence(used, now)}\n\n{settings.public_url}\n"
    addresses: Sequence[str] = conn.execute(_OWNERS, {"workspace": workspace_id}).scalars().all()
    for address in addresses:
        subject = f"Sluiceway: {_NAMES[used.quota.measure]}"
        send_later(conn, database.envelope, workspace_id, address, subject, text)


def sentence(used: Used, now: datetime) -> str:
    """What is reached and what follows from it."""
    quota = used.quota
    name, so_far = _NAMES[quota.measure], spoken(quota.measure, used.used)
    end = f"{next_month(month_of(now)):%Y-%m-%d} (UTC)"
    if used.state == "hard":
        assert quota.limit is not None
        limit = spoken(quota.measure, quota.limit)
        if quota.measure in MONTHLY:
            rest = f"No more is taken until {end}, or until the quota is raised."
        elif quota.measure == "seats":
            rest = "Nobody can be added until a member is removed or the quota is raised."
        else:
            rest = "No more is taken until something is removed or the quota is raised."
        return f"{name}: all of {limit} are used ({so_far}). {rest}"
    assert quota.soft is not None
    limit = spoken(quota.measure, quota.soft)
    return f"{name}: {so_far} are used, past the soft limit of {limit}. Nothing is refused for that."
