"""After a pause: what was passed over is replayed from bronze, once bronze has all of it.

The loader notes the oldest event that it passed over, each spool's keeper how far the lake is; a replay that
catches up begins when every node's lake is beyond the moment from which on every loader knew that the
pipeline is active again. Not here: the replay itself (`jobs`, `replay`).
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from sluiceway.catalog.contracts import Applied, Pipeline
from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.catalog.service import Catalog, parse
from sluiceway.infra import outbox
from sluiceway.infra.clock import Clock
from sluiceway.infra.database import Database, Role
from sluiceway.loading.jobs import MAX_DAYS, TOPIC, Replay, request_replay
from sluiceway.warehouse import schema
from sluiceway.warehouse.contracts import EPOCH

EVERYWHERE_AFTER = timedelta(seconds=20)
"""A change of a pipeline is known to every loader, and a request that began before is in the spool."""
LOOK_AGAIN = timedelta(seconds=15)
DRAINED = "infinity"
_DAY = timedelta(days=1)

log = logging.getLogger(__name__)

# Nodes that loaders see but whose first word is still to come count as well.
_BEHIND = sa.text("""
SELECT n.node FROM (
  SELECT node FROM app.spool_positions
  UNION SELECT jsonb_object_keys(spools) FROM app.loaders WHERE expires_at > now()
) n LEFT JOIN app.spool_positions s USING (node)
WHERE s.kept_until IS NULL OR s.kept_until < :after ORDER BY n.node
""")
_TAKE_UP = sa.text("""
UPDATE app.replays r SET error = NULL, to_day = greatest(to_day, CAST(:last AS date)),
  from_day = greatest(CAST(:first AS date), least(from_day, (s.unloaded_since AT TIME ZONE 'UTC')::date - 1))
FROM app.pipeline_state s
WHERE r.id = :id AND r.workspace_id = :workspace AND s.pipeline_id = r.pipeline_id AND r.state = 'queued'
""")
# What a newer replay is to take up stays noted, and what is being passed over again.
_TAKEN_UP = sa.text("""
UPDATE app.pipeline_state s SET unloaded_since = NULL
FROM app.replays r JOIN app.pipelines p ON p.id = r.pipeline_id
WHERE r.id = :id AND r.workspace_id = :workspace AND s.pipeline_id = r.pipeline_id AND p.state = 'active'
  AND NOT EXISTS (SELECT FROM app.replays o
    WHERE o.pipeline_id = r.pipeline_id AND o.id <> r.id AND o.state = 'queued')
""")


def note_unloaded(connection: psycopg.Connection[Any], pipeline: Pipeline, oldest_us: int) -> None:
    """An event received then is passed over by the loader: before its spool's position says so."""
    oldest = EPOCH + timedelta(microseconds=oldest_us)
    with connection.transaction():
        connection.execute(
            "SELECT set_config('sluiceway.workspace_id', %s, true)", (str(pipeline.workspace_id),)
        )
        connection.execute(
            "UPDATE app.pipeline_state SET unloaded_since = %s WHERE pipeline_id = %s"
            " AND (unloaded_since IS NULL OR unloaded_since > %s)",
            (oldest, pipeline.id, oldest),
        )


def note_kept(database: Database, node: str, until: datetime | None) -> None:
    """The node's lake has what it received before `until`; None: everything, its spool is drained."""
    with database.connect(Role.WRITER) as connection:
        connection.execute(
            "UPDATE app.spool_positions SET kept_until = %s::timestamptz WHERE node = %s",
            (DRAINED if until is None else until.isoformat(), node),
        )


def request_catch_up(
    conn: sa.Connection, pipeline: Pipeline, *, requested_by: str, now: datetime, flush_s: float
) -> Replay:
    """Replay from the day before the oldest event that was passed over, else since the last load (role APP).

    It begins when the lake has everything up to now and a moment (`is_ready`). `flush_s`: how often bronze is
    written.
    """
    row = conn.execute(
        sa.text(
            "SELECT unloaded_since, last_received_at FROM app.pipeline_state WHERE pipeline_id = :pipeline"
        ),
        {"pipeline": pipeline.id},
    ).one_or_none()
    unloaded, loaded = (row[0], row[1]) if row else (None, None)
    since = unloaded - _DAY if unloaded else loaded or pipeline.created_at
    today = now.astimezone(UTC).date()
    first = min(today, max(since.astimezone(UTC).date(), today - (MAX_DAYS - 1) * _DAY))
    after = now + EVERYWHERE_AFTER
    ready = after + timedelta(seconds=flush_s)
    return request_replay(
        conn, pipeline, first, today, requested_by=requested_by, now=now, ready=ready, after=after
    )


def nodes_behind(conn: sa.Connection, after: datetime) -> list[str]:
    """Nodes whose lake has not all yet that they received before `after` (role WRITER)."""
    return [row[0] for row in conn.execute(_BEHIND, {"after": after})]


def is_ready(database: Database, workspace_id: int, replay_id: UUID, after: datetime, clock: Clock) -> bool:
    """Whether bronze of every node is beyond `after`; else the replay says what it waits for, and is put
    into the outbox again. What was noted as passed over meanwhile is taken up."""
    found = {"id": replay_id, "workspace": workspace_id}
    with database.transaction(Role.WRITER, workspace_id=workspace_id) as conn:
        behind = nodes_behind(conn, after)
        if not behind:
            last = after.astimezone(UTC).date()
            conn.execute(_TAKE_UP, {**found, "last": last, "first": last - (MAX_DAYS - 1) * _DAY})
            conn.execute(_TAKEN_UP, found)
            return True
        waits = f"Waits until the lake has what was received before {after:%Y-%m-%d %H:%M:%S} UTC on: "
        conn.execute(
            sa.text(
                "UPDATE app.replays SET error = :why"
                " WHERE id = :id AND workspace_id = :workspace AND state = 'queued'"
            ),
            {**found, "why": waits + ", ".join(behind)},
        )
        payload = {"replay_id": str(replay_id), "after": after.isoformat()}
        outbox.put(conn, workspace_id, TOPIC, payload, available_at=clock.now() + LOOK_AGAIN)
    log.info("the replay %s waits for the lake of %s", replay_id, ", ".join(behind))
    return False


def apply_pipeline(
    database: Database,
    workspace_id: int,
    source: str,
    by: UUID | None,
    *,
    now: datetime,
    flush_s: float,
    then: schema.Then | None = None,
) -> Applied:
    """`schema.apply_pipeline`; a paused or archived pipeline that this brings back catches up."""
    spec = parse(source)
    with database.transaction(Role.APP, workspace_id=workspace_id) as conn:
        try:
            known = Catalog().get(conn, workspace_id, spec.name)
        except PipelineNotFound:
            known = None
    applied = schema.apply_pipeline(database, workspace_id, source, by, then=then)
    if known is not None and known.state != "active":
        with database.transaction(Role.APP, workspace_id=workspace_id) as conn:
            fresh = Catalog().get(conn, workspace_id, spec.name)
            if fresh.state == "active":
                who = "apply" if by is None else str(by)
                request_catch_up(conn, fresh, requested_by=who, now=now, flush_s=flush_s)
    return applied
