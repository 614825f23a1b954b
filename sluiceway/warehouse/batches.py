"""Reading what the loader did, batch by batch. Writing batches is the loading transaction's (`service`)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from sluiceway.infra.paging import newest_first
from sluiceway.kit.errors import NotFound


class BatchNotFound(NotFound):
    code = "batch_not_found"
    title = "There is no such batch"


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch: how many events came in and what became of them. `name` says where in the spool it began."""

    id: int
    pipeline: str
    name: str
    origin: Literal["live", "replay", "retry"]
    pipeline_version: int
    verdict: Literal["pass", "warn", "quarantine", "hold"]
    events: int
    rows: int
    samples: int
    duplicates: int
    dead_letters: int
    size_bytes: int
    first_seq: int | None
    last_seq: int | None
    min_event_time: datetime | None
    max_event_time: datetime | None
    min_received_at: datetime
    max_received_at: datetime
    loaded_at: datetime


_SELECT = """
SELECT b.id, p.slug AS pipeline, b.name, b.origin, b.pipeline_version, b.verdict, b.events, b.rows, b.samples,
       b.duplicates, b.dead_letters, b.size_bytes, b.first_seq, b.last_seq, b.min_event_time,
       b.max_event_time, b.min_received_at, b.max_received_at, b.loaded_at
FROM silver.batches b JOIN app.pipelines p ON p.id = b.pipeline_id
WHERE b.workspace_id = :workspace
"""


def list_batches(
    conn: sa.Connection,
    workspace_id: int,
    *,
    pipeline: str | None = None,
    origin: str | None = None,
    verdict: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int = 100,
) -> list[Batch]:
    """Batches, newest loaded first; `after`: (loaded_at, id) of the last one seen."""
    conditions = {
        "p.slug = :pipeline": pipeline,
        "b.origin = :origin": origin,
        "b.verdict = :verdict": verdict,
        "b.loaded_at >= :since": since,
        "b.loaded_at < :until": until,
    }
    wanted = "".join(f" AND {text}" for text, value in conditions.items() if value is not None)
    end, values = newest_first("b.loaded_at", "b.id", after, limit)
    rows = conn.execute(
        sa.text(f"{_SELECT}{wanted}{end}"),
        {
            "workspace": workspace_id,
            "pipeline": pipeline,
            "origin": origin,
            "verdict": verdict,
            "since": since,
            "until": until,
            **values,
        },
    )
    return [Batch(**row) for row in rows.mappings()]


def get_batch(conn: sa.Connection, workspace_id: int, batch_id: int) -> Batch:
    """Raises `BatchNotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND b.id = :id"), {"workspace": workspace_id, "id": batch_id}
    ).mappings()
    found = row.one_or_none()
    if found is None:
        raise BatchNotFound("There is no such batch in this workspace.")
    return Batch(**found)
