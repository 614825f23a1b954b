"""How each pipeline is doing, in one query: what the pipelines page and `GET /v1/pipelines` show."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

RATE_WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """Counters since the pipeline was made; `rate` in events a second over the last minute.

    `load_wait_s`: how long the oldest event of the newest batch waited between receipt and commit.
    """

    pipeline_id: int
    seq: int
    events: int
    duplicates: int
    dead_letters: int
    open_dead_letters: int
    held_dead_letters: int
    rate: float
    load_wait_s: float | None
    last_batch_id: int | None
    last_batch_at: datetime | None
    last_batch_events: int | None
    last_received_at: datetime | None
    last_event_time: datetime | None
    last_verdict: Literal["pass", "warn", "quarantine", "hold"] | None


_QUERY = sa.text("""
SELECT s.pipeline_id, s.last_seq AS seq, s.events, s.duplicates, s.dead_letters,
       d.open AS open_dead_letters, d.held AS held_dead_letters,
       coalesce(r.events, 0) / CAST(:window AS double precision) AS rate,
       extract(epoch FROM b.loaded_at - b.min_received_at)::double precision AS load_wait_s,
       s.last_batch_id, s.last_batch_at, b.events AS last_batch_events, s.last_received_at,
       s.last_event_time, s.last_verdict
FROM app.pipeline_state s
LEFT JOIN silver.batches b ON b.id = s.last_batch_id
LEFT JOIN (
  SELECT pipeline_id, sum(events) AS events FROM silver.batches
  WHERE workspace_id = :workspace AND loaded_at > :since AND origin = 'live' GROUP BY pipeline_id
) r ON r.pipeline_id = s.pipeline_id
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE state = 'open') AS open, count(*) FILTER (WHERE state = 'held') AS held
  FROM quality.dead_letters WHERE pipeline_id = s.pipeline_id AND state IN ('open', 'held')
) d
WHERE s.workspace_id = :workspace AND (CAST(:pipeline AS integer) IS NULL OR s.pipeline_id = :pipeline)
""")


def statuses(
    conn: sa.Connection, workspace_id: int, *, now: datetime, pipeline_id: int | None = None
) -> dict[int, PipelineStatus]:
    """The status of every pipeline of the workspace (or of one), by pipeline id."""
    rows = conn.execute(
        _QUERY,
        {
            "workspace": workspace_id,
            "pipeline": pipeline_id,
            "window": RATE_WINDOW_S,
            "since": now - timedelta(seconds=RATE_WINDOW_S),
        },
    ).mappings()
    return {row["pipeline_id"]: PipelineStatus(**row) for row in rows}


def freshness(
    status: PipelineStatus | None, warn_after: timedelta, now: datetime
) -> Literal["fresh", "late", "empty"]:
    """`empty` before the first event, `late` when none came for longer than the pipeline allows."""
    if status is None or status.last_received_at is None:
        return "empty"
    return "late" if now - status.last_received_at > warn_after else "fresh"
