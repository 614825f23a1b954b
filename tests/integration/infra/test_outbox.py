"""The outbox: after the commit and not before, shared among workers, tried again, in the end given up."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.infra import outbox
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbox import OutboxMessage, OutboxWorker, lease, put, settle, sweep


def add(database: Database, topic: str = "t", number: int = 1, **options: Any) -> None:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        put(connection, 1, topic, {"n": number}, **options)


def change(database: Database, statement: str) -> None:
    with database.transaction(Role.OWNER) as connection:
        connection.execute(sa.text(statement))


def waiting(database: Database) -> list[tuple[int, int, str | None]]:
    with database.transaction(Role.WRITER) as connection:
        rows = connection.execute(
            sa.text("SELECT id, attempts, last_error FROM app.outbox WHERE done_at IS NULL ORDER BY id")
        )
        return [(row.id, row.attempts, row.last_error) for row in rows]


def test_a_message_is_handled_once_and_in_order(database: Database) -> None:
    for number in (1, 2, 3):
        add(database, number=number)
    seen: list[int] = []
    worker = OutboxWorker(database, "w", {"t": lambda message: seen.append(message.payload["n"])})
    assert worker.work() == 3 and worker.work() == 0
    assert seen == [1, 2, 3] and waiting(database) == []


def test_a_trace_goes_with_a_message_and_is_no_part_of_its_payload(database: Database) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with database.transaction(Role.APP, workspace_id=1) as connection:
        put(connection, 1, "t", {"n": 1}, trace=trace)
    add(database)
    seen: list[OutboxMessage] = []
    assert OutboxWorker(database, "w", {"t": seen.append}).work() == 2
    assert [(m.payload, m.trace) for m in seen] == [({"n": 1}, trace), ({"n": 1}, None)]


def test_what_is_rolled_back_is_never_handled(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction(Role.APP, workspace_id=1) as connection:
        put(connection, 1, "t", {})
        raise RuntimeError
    assert OutboxWorker(database, "w", {"t": lambda _: None}).work() == 0


def test_a_failure_is_noted_without_an_end_and_tried_again_later(database: Database) -> None:
    add(database)

    def fail(message: OutboxMessage) -> None:
        raise ValueError(f"attempt {message.attempts}")

    worker = OutboxWorker(database, "w", {"t": fail})
    assert worker.work() == 1 and worker.work() == 0
    assert [(a, e) for _, a, e in waiting(database)] == [(1, "ValueError: attempt 1")]
    change(database, "UPDATE app.outbox SET available_at = now()")
    assert worker.work() == 1
    change(database, f"UPDATE app.outbox SET available_at = now(), attempts = {outbox.MAX_ATTEMPTS}")
    assert worker.work() == 0 and len(waiting(database)) == 1


def test_two_workers_never_have_the_same_message(database: Database) -> None:
    for number in range(4):
        add(database, number=number)
    with database.transaction(Role.WRITER) as one, database.transaction(Role.WRITER) as two:
        first = lease(one, "one", ["t"], 2)
        second = lease(two, "two", ["t"], 4)
        assert len(first) == 2 and len(second) == 2
        assert not {m.id for m in first} & {m.id for m in second}


def test_a_dead_workers_lease_runs_out_and_its_late_answer_changes_nothing(database: Database) -> None:
    add(database)
    with database.transaction(Role.WRITER) as connection:
        (taken,) = lease(connection, "dead", ["t"], 1)
    with database.transaction(Role.WRITER) as connection:
        assert lease(connection, "alive", ["t"], 1) == []
    change(database, "UPDATE app.outbox SET leased_until = now() - interval '1 second'")
    with database.transaction(Role.WRITER) as connection:
        (again,) = lease(connection, "alive", ["t"], 1)
    assert again.id == taken.id and again.attempts == 2
    with database.transaction(Role.WRITER) as connection:
        settle(connection, "dead", taken, None)
    assert len(waiting(database)) == 1


@pytest.mark.parametrize(
    "prepare",
    [
        lambda database: add(database, "unknown"),
        lambda database: add(database, available_at=datetime.now(UTC) + timedelta(hours=1)),
    ],
    ids=["unknown topic", "not yet"],
)
def test_what_is_not_due_or_not_known_stays(database: Database, prepare: Callable[[Database], None]) -> None:
    prepare(database)
    assert OutboxWorker(database, "w", {"t": lambda _: None}).work() == 0
    assert len(waiting(database)) == 1


def test_what_was_done_long_ago_is_swept(database: Database) -> None:
    add(database)
    OutboxWorker(database, "w", {"t": lambda _: None}).work()
    with database.transaction(Role.WRITER) as connection:
        assert sweep(connection) == 0
    change(database, "UPDATE app.outbox SET done_at = now() - interval '8 days'")
    with database.transaction(Role.WRITER) as connection:
        assert sweep(connection) == 1
