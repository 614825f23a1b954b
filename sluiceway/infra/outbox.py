"""What a higher slice must hear after a commit: written in the same transaction, delivered afterwards.

Rows are leased with SKIP LOCKED, so that several workers share the work; a worker that dies loses its lease
and another one does it again. Delivery is at least once: handlers must bear a second time. What was traced
when it was put goes on here: each try is a span below it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from sluiceway.infra import metrics, telemetry
from sluiceway.infra.database import Database, Role
from sluiceway.infra.redaction import redact
from sluiceway.kit.faults import reach

LEASE = timedelta(seconds=60)
KEPT = timedelta(days=7)
MAX_ATTEMPTS = 20
_LONGEST_WAIT_S = 3600.0
_CHANNEL = "sluiceway_outbox"
_TRACE = ":traceparent"  # in a row's payload, under a name that no payload of ours has


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """One thing to do. `attempts` counts this attempt, from 1.

    `trace`: the `traceparent` that what it leads to goes on from; None if it is not traced.
    """

    id: int
    workspace_id: int
    topic: str
    payload: dict[str, Any]
    created_at: datetime
    attempts: int
    trace: str | None = field(default=None, compare=False)


Handler = Callable[[OutboxMessage], None]


def put(
    connection: sa.Connection,
    workspace_id: int,
    topic: str,
    payload: Mapping[str, Any],
    *,
    available_at: datetime | None = None,
    trace: str | None = None,
) -> None:
    """Have `topic` handled once the caller's transaction has committed (not before `available_at`).

    `trace`: the `traceparent` of what leads to it.
    """
    connection.execute(
        sa.text(
            "INSERT INTO app.outbox (workspace_id, topic, payload, available_at)"
            " VALUES (:workspace, :topic, CAST(:payload AS jsonb), coalesce(:at, now()))"
        ),
        {
            "workspace": workspace_id,
            "topic": topic,
            "payload": as_json(payload, trace),
            "at": available_at,
        },
    )
    connection.execute(sa.text(f"NOTIFY {_CHANNEL}"))


def as_json(payload: Mapping[str, Any], trace: str | None) -> str:
    """A row's payload, for those who write the row themselves."""
    return orjson.dumps(payload if trace is None else {**payload, _TRACE: trace}).decode()


def lease(connection: sa.Connection, worker: str, topics: list[str], limit: int) -> list[OutboxMessage]:
    """Take up to `limit` waiting messages of `topics` for `LEASE`; other workers pass them over."""
    rows = connection.execute(
        sa.text(
            "UPDATE app.outbox SET leased_by = :worker, leased_until = now() + :lease,"
            " attempts = attempts + 1"
            " WHERE id IN (SELECT id FROM app.outbox WHERE done_at IS NULL AND available_at <= now()"
            "  AND (leased_until IS NULL OR leased_until < now()) AND topic = ANY(:topics)"
            "  AND attempts < :most ORDER BY available_at, id LIMIT :limit FOR UPDATE SKIP LOCKED)"
            " RETURNING id, workspace_id, topic, payload, created_at, attempts"
        ),
        {"worker": worker, "lease": LEASE, "topics": topics, "most": MAX_ATTEMPTS, "limit": limit},
    )
    found = [_message(**row) for row in rows.mappings()]
    return sorted(found, key=lambda message: message.id)


def _message(*, payload: dict[str, Any], **rest: Any) -> OutboxMessage:
    trace = payload.pop(_TRACE, None)
    return OutboxMessage(payload=payload, trace=trace, **rest)


def settle(connection: sa.Connection, worker: str, message: OutboxMessage, error: str | None) -> None:
    """Note that the message is done, or when to try again: after 1 s, 2 s, 4 s … at most an hour.

    Does nothing if the lease has gone to another worker meanwhile.
    """
    wait = timedelta(seconds=min(_LONGEST_WAIT_S, 2.0 ** (message.attempts - 1)))
    connection.execute(
        sa.text(
            "UPDATE app.outbox SET leased_by = NULL, leased_until = NULL, last_error = :error,"
            " done_at = CASE WHEN CAST(:error AS text) IS NULL THEN now() END,"
            " available_at = CASE WHEN CAST(:error AS text) IS NULL THEN available_at ELSE now() + :wait END"
            " WHERE id = :id AND leased_by = :worker"
        ),
        {"error": error, "wait": wait, "id": message.id, "worker": worker},
    )


def sweep(connection: sa.Connection) -> int:
    """Delete what was done more than `KEPT` ago; returns how many."""
    done = connection.execute(
        sa.text("DELETE FROM app.outbox WHERE done_at < now() - CAST(:kept AS interval)"), {"kept": KEPT}
    )
    return done.rowcount


class OutboxWorker:
    """Leases messages and hands each to its topic's handler, one transaction before and one after.

    A topic without a handler stays where it is: a worker that knows it will come.
    """

    def __init__(self, database: Database, name: str, handlers: Mapping[str, Handler]) -> None:
        self._database = database
        self._name = name
        self._handlers = dict(handlers)

    def work(self, limit: int = 20) -> int:
        """Handle what waits, at most `limit`; returns how many were handled, well or not."""
        if not self._handlers:
            return 0
        with self._database.transaction(Role.WRITER) as connection:
            messages = lease(connection, self._name, list(self._handlers), limit)
        if messages:
            reach("outbox.leased")
        for message in messages:
            error = self._handle(message)
            reach("outbox.handled")
            with self._database.transaction(Role.WRITER) as connection:
                settle(connection, self._name, message, error)
            metrics.OUTBOX_MESSAGES.labels(message.topic, "done" if error is None else "failed").inc()
            if error is None:
                waited = datetime.now(UTC) - message.created_at
                metrics.OUTBOX_WAIT_SECONDS.observe(max(0.0, waited.total_seconds()))
            reach("outbox.settled")
        return len(messages)

    def _handle(self, message: OutboxMessage) -> str | None:
        """What went wrong, or None."""
        span = _start_span(message)
        error = kind = None
        try:
            traced = message if span is None else replace(message, trace=span.traceparent)
            self._handlers[message.topic](traced)
        except Exception as failure:
            kind = type(failure).__name__
            error = redact(f"{kind}: {failure}")[:500]
        if span is not None:
            span.end(time.time_ns(), error=kind)
        return error


def _start_span(message: OutboxMessage) -> telemetry.Span | None:
    """A try to deliver: below what put the message, or for itself."""
    tracing = telemetry.active()
    if tracing is None:
        return None
    waited = datetime.now(UTC) - message.created_at
    return tracing.start(
        f"deliver {message.topic}",
        time.time_ns(),
        kind="consumer",
        parent=message.trace,
        attributes={
            "sluiceway.topic": message.topic,
            "sluiceway.workspace.id": message.workspace_id,
            "sluiceway.message": message.id,
            "sluiceway.attempt": message.attempts,
            "sluiceway.waited_s": round(max(0.0, waited.total_seconds()), 3),
        },
    )
