"""Replays that were asked for: kept in a table, run by the worker, watched by whoever asked.

A replay is days of one pipeline, each derived again from bronze in a transaction of its own
(`replay.replay_day`), so one that was interrupted is simply begun again. Not here: that derivation.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra import outbox
from sluiceway.infra.clock import Clock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.paging import newest_first
from sluiceway.kit.errors import FieldError, InvalidInput, NotFound, SluicewayError, Unavailable
from sluiceway.kit.ids import uuid7
from sluiceway.loading.contracts import ReplayResult

TOPIC = "replay"
MAX_DAYS = 3660
ReplayState = Literal["queued", "running", "done", "failed"]
ReplayDay = Callable[[Pipeline, date], ReplayResult]
"""`replay_day` with database, lake and gate bound."""

log = logging.getLogger(__name__)


class InvalidReplay(InvalidInput):
    code = "invalid_replay"
    title = "These days cannot be replayed"


class ReplayNotFound(NotFound):
    code = "replay_not_found"
    title = "There is no such replay"


class ReplayRunning(Unavailable):
    code = "replay_running"
    title = "Another worker runs this replay"


@dataclass(frozen=True, slots=True)
class Replay:
    """One request to replay the UTC days of receipt from `from_day` to `to_day`, both included."""

    id: UUID
    pipeline: str
    from_day: date
    to_day: date
    state: ReplayState
    days_done: int
    events: int
    rows: int
    dead_letters: int
    error: str | None
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def days(self) -> int:
        return (self.to_day - self.from_day).days + 1


_SELECT = """
SELECT r.id, p.slug AS pipeline, r.from_day, r.to_day, r.state, r.days_done, r.events, r.rows,
       r.dead_letters, r.error, r.requested_by, r.created_at, r.started_at, r.finished_at
FROM app.replays r JOIN app.pipelines p ON p.id = r.pipeline_id WHERE r.workspace_id = :workspace
"""


def request_replay(
    conn: sa.Connection,
    pipeline: Pipeline,
    from_day: date,
    to_day: date,
    *,
    requested_by: str,
    now: datetime,
    ready: datetime | None = None,
    after: datetime | None = None,
) -> Replay:
    """Keep the wish and tell the worker at commit (role APP); it begins at `ready` or at once, but not
    before the lake has everything up to `after` (`catching_up.is_ready`).

    Raises `InvalidReplay` for days in the wrong order, too many, or not over yet.
    """
    problem = None
    if to_day < from_day:
        problem = FieldError("to", "should not lie before from")
    elif (to_day - from_day).days >= MAX_DAYS:
        problem = FieldError("to", f"should lie at most {MAX_DAYS} days after from")
    elif to_day > now.date():
        problem = FieldError("to", "should not lie in the future")
    if problem is not None:
        raise InvalidReplay(f"{problem.field} {problem.message}.", errors=[problem])
    replay_id = uuid7()
    conn.execute(
        sa.text(
            "INSERT INTO app.replays (id, workspace_id, pipeline_id, from_day, to_day, requested_by,"
            " created_at) VALUES (:id, :workspace, :pipeline, :from_day, :to_day, :by, :now)"
        ),
        {
            "id": replay_id,
            "workspace": pipeline.workspace_id,
            "pipeline": pipeline.id,
            "from_day": from_day,
            "to_day": to_day,
            "by": requested_by,
            "now": now,
        },
    )
    payload = {"replay_id": str(replay_id)}
    if after is not None:
        payload["after"] = after.isoformat()
    outbox.put(conn, pipeline.workspace_id, TOPIC, payload, available_at=ready)
    return get_replay(conn, pipeline.workspace_id, replay_id)


def get_replay(conn: sa.Connection, workspace_id: int, replay_id: UUID) -> Replay:
    """Raises `ReplayNotFound`."""
    row = conn.execute(
        sa.text(f"{_SELECT} AND r.id = :id"), {"workspace": workspace_id, "id": replay_id}
    ).mappings()
    found = row.one_or_none()
    if found is None:
        raise ReplayNotFound("There is no such replay in this workspace.")
    return Replay(**found)


def list_replays(
    conn: sa.Connection,
    workspace_id: int,
    *,
    pipeline: str | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Replay]:
    """Newest first; `after`: (created_at, id) of the last one seen."""
    end, values = newest_first("r.created_at", "r.id", after, limit)
    wanted = "" if pipeline is None else " AND p.slug = :pipeline"
    rows = conn.execute(
        sa.text(f"{_SELECT}{wanted}{end}"), {"workspace": workspace_id, "pipeline": pipeline, **values}
    )
    return [Replay(**row) for row in rows.mappings()]


def run_replay(
    database: Database, workspace_id: int, replay_id: UUID, replay_day: ReplayDay, clock: Clock
) -> Replay:
    """Do the days one by one (role WRITER); what is finished already is left alone.

    Doing it twice changes nothing more. Expected errors end it as `failed` with their sentence; others are
    raised, and the outbox tries again. Raises `ReplayRunning` while another worker is at it.
    """
    with database.connect(Role.WRITER, autocommit=True) as guard:
        row = guard.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 23))", (str(replay_id),)
        ).fetchone()
        if row is None or not row[0]:
            raise ReplayRunning("Another worker is at it.", retry_after_s=60)
        try:
            with database.transaction(Role.WRITER, workspace_id=workspace_id) as conn:
                wanted = get_replay(conn, workspace_id, replay_id)
                pipeline = Catalog().get(conn, workspace_id, wanted.pipeline)
            if wanted.state in ("done", "failed"):
                return wanted
            return _run(database, pipeline, wanted, replay_day, clock)
        finally:  # at once: a server may take a while to notice that a connection is closed
            guard.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 23))", (str(replay_id),))


def _run(
    database: Database, pipeline: Pipeline, wanted: Replay, replay_day: ReplayDay, clock: Clock
) -> Replay:
    workspace_id = pipeline.workspace_id
    started_at = wanted.started_at or clock.now()
    _update(database, workspace_id, wanted.id, state="running", started_at=started_at, error=None)
    events, rows, dead_letters = wanted.events, wanted.rows, wanted.dead_letters
    for number in range(wanted.days_done, wanted.days):
        day = wanted.from_day + timedelta(days=number)
        try:
            result = replay_day(pipeline, day)
        except SluicewayError as error:
            if error.retryable:
                raise
            log.warning("replay of %s on %s failed: %s", pipeline.slug, day, error.detail)
            message = f"{day}: {error.detail}"
            _update(database, workspace_id, wanted.id, state="failed", error=message, finished_at=clock.now())
            break
        events, rows = events + result.events, rows + result.rows
        dead_letters += result.dead_letters
        _update(
            database,
            workspace_id,
            wanted.id,
            days_done=number + 1,
            events=events,
            rows=rows,
            dead_letters=dead_letters,
        )
    else:
        _update(database, workspace_id, wanted.id, state="done", finished_at=clock.now())
    with database.transaction(Role.WRITER, workspace_id=workspace_id) as conn:
        return get_replay(conn, workspace_id, wanted.id)


def _update(database: Database, workspace_id: int, replay_id: UUID, **values: object) -> None:
    columns = ", ".join(f"{name} = :{name}" for name in values)
    with database.transaction(Role.WRITER, workspace_id=workspace_id) as conn:
        conn.execute(
            sa.text(
                f"UPDATE app.replays SET {columns}"  # noqa: S608  # names from the calls above
                " WHERE workspace_id = :workspace AND id = :id"
            ),
            {**values, "workspace": workspace_id, "id": replay_id},
        )
