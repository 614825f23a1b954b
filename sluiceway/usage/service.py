"""Usage as people see it, and setting limits. Services take an open connection (role APP) and do not commit.

Not here: counting what arrives (`intake`), measuring what is stored (`measuring`), telling that a limit was
reached (`notices`), seats as they are taken (`sluiceway.identity.seats`).
"""

from collections.abc import Sequence
from datetime import date, datetime

import sqlalchemy as sa

from sluiceway.identity import seats
from sluiceway.kit.checks import refuse
from sluiceway.kit.errors import FieldError
from sluiceway.usage.contracts import (
    FIRST_WORKSPACE,
    MOST,
    OWN_PIPELINE,
    DayUsage,
    Measure,
    PipelineUsage,
    Quota,
    Usage,
    Used,
    month_of,
    spoken,
)
from sluiceway.usage.errors import InvalidQuota

_PIPELINES = sa.text("""
SELECT p.slug,
       coalesce(sum(d.events), 0)::bigint AS events, coalesce(sum(d.bytes), 0)::bigint AS bytes,
       coalesce((SELECT s.bronze_bytes + s.silver_bytes + s.dead_letter_bytes FROM app.usage_stored s
                 WHERE s.workspace_id = p.workspace_id AND s.pipeline_id = p.id), 0)::bigint AS stored
FROM app.pipelines p
LEFT JOIN app.usage_days d ON d.workspace_id = p.workspace_id AND d.pipeline_id = p.id
  AND d.day >= :month AND d.day < CAST(:month AS date) + interval '1 month'
WHERE p.workspace_id = :workspace AND NOT (p.slug = :own AND p.workspace_id = :first)
GROUP BY p.workspace_id, p.id, p.slug ORDER BY p.slug
""")
_DAYS = sa.text("""
SELECT d.day, sum(d.events)::bigint AS events, sum(d.bytes)::bigint AS bytes
FROM app.usage_days d JOIN app.pipelines p ON p.id = d.pipeline_id
WHERE d.workspace_id = :workspace AND NOT (p.slug = :own AND p.workspace_id = :first)
  AND d.day >= :month AND d.day < CAST(:month AS date) + interval '1 month'
GROUP BY d.day ORDER BY d.day
""")
_MEASURED = sa.text("SELECT max(measured_at) FROM app.usage_stored WHERE workspace_id = :workspace")
_QUOTAS = sa.text("SELECT measure, soft, hard, ceiling FROM app.quotas WHERE workspace_id = :workspace")
_SET = sa.text("""
INSERT INTO app.quotas AS known (workspace_id, measure, soft, hard, ceiling, updated_by)
VALUES (:workspace, :measure, :soft, :hard, :ceiling, :by)
ON CONFLICT (workspace_id, measure) DO UPDATE SET soft = excluded.soft, hard = excluded.hard,
  ceiling = excluded.ceiling, updated_at = now(), updated_by = excluded.updated_by
""")


def usage(conn: sa.Connection, workspace_id: int, now: datetime, month: date | None = None) -> Usage:
    """What the workspace used in `month` (any day of it; default: the running one) and may use."""
    first = month.replace(day=1) if month is not None else month_of(now)
    names = {"workspace": workspace_id, "month": first, "own": OWN_PIPELINE, "first": FIRST_WORKSPACE}
    rows = conn.execute(_PIPELINES, names)
    pipelines = tuple(PipelineUsage(r.slug, r.events, r.bytes, r.stored) for r in rows)
    days = tuple(DayUsage(r.day, r.events, r.bytes) for r in conn.execute(_DAYS, names))
    measured: datetime | None = conn.execute(_MEASURED, {"workspace": workspace_id}).scalar()
    used = {
        Measure.EVENTS: (sum(p.events for p in pipelines), now),
        Measure.INGESTED_BYTES: (sum(p.ingested_bytes for p in pipelines), now),
        Measure.STORED_BYTES: (sum(p.stored_bytes for p in pipelines), measured),
        Measure.SEATS: (seats.count(conn, workspace_id), now),
    }
    limits = {quota.measure: quota for quota in quotas(conn, workspace_id)}
    measures = tuple(Used(limits[m], *used[m]) for m in Measure)
    return Usage(first, measures, pipelines, days, seats.invited(conn, workspace_id))


def quotas(conn: sa.Connection, workspace_id: int) -> list[Quota]:
    """The limits of every measure, those without any too."""
    rows = conn.execute(_QUOTAS, {"workspace": workspace_id})
    found = {row.measure: Quota(Measure(row.measure), row.soft, row.hard, row.ceiling) for row in rows}
    return [found.get(measure.value, Quota(measure)) for measure in Measure]


def set_quotas(
    conn: sa.Connection,
    workspace_id: int,
    wanted: Sequence[Quota],
    *,
    by: str,
    operator: bool = False,
) -> list[Quota]:
    """Set the limits of the measures in `wanted`; others stay. `by`: subject of who sets them.

    Only the operator changes `ceiling`: for anyone else it stays, and a hard limit above it is refused.
    Raises `InvalidQuota` naming each limit that cannot be.
    """
    known = {quota.measure: quota for quota in quotas(conn, workspace_id)}
    made = [
        quota if operator else Quota(quota.measure, quota.soft, quota.hard, known[quota.measure].ceiling)
        for quota in wanted
    ]
    problems = [problem for quota in made for problem in _problems(quota)]
    if len({quota.measure for quota in made}) < len(made):
        problems.append(FieldError("quotas", "should name each measure once"))
    refuse(InvalidQuota, problems)
    for quota in made:
        conn.execute(
            _SET,
            {
                "workspace": workspace_id,
                "measure": quota.measure.value,
                "soft": quota.soft,
                "hard": quota.hard,
                "ceiling": quota.ceiling,
                "by": by,
            },
        )
    return quotas(conn, workspace_id)


def _problems(quota: Quota) -> list[FieldError]:
    name = f"quotas.{quota.measure.value}"
    found = []
    for field, limit in (("soft", quota.soft), ("hard", quota.hard), ("ceiling", quota.ceiling)):
        if limit is not None and not 0 <= limit <= MOST:
            found.append(FieldError(f"{name}.{field}", f"should be from 0 to {MOST}"))
    if quota.hard is not None and quota.ceiling is not None and quota.hard > quota.ceiling:
        most = spoken(quota.measure, quota.ceiling)
        found.append(FieldError(f"{name}.hard", f"should be at most {most}, which this installation allows"))
    if quota.soft is not None and quota.limit is not None and quota.soft > quota.limit:
        found.append(FieldError(f"{name}.soft", "should not be above the hard limit"))
    return found


__all__ = ["quotas", "set_quotas", "usage"]
