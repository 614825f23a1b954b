"""Suites, results and dead letters in the database, by page and by workspace."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.quality import service
from sluiceway.quality.contracts import ExpectationOutcome
from sluiceway.quality.errors import DeadLetterNotFound, DeadLetterResolved, InvalidSuite, SuiteNotFound
from sluiceway.warehouse.schema import apply_pipeline

SUITE = """\
kind: Suite
name: orders
expectations:
  - name: positive
    type: expect_column_values_to_be_between
    kwargs: {column: amount, min_value: 0}
    on_failure: quarantine
"""
ORDERS = "name: orders\nfields: [{name: amount, type: number}]\nquality: {suite: orders}\n"
AT = datetime(2026, 6, 1, 12, 30, 15, tzinfo=UTC)


@pytest.fixture
def orders(database: Database) -> Pipeline:
    apply_pipeline(database, 1, ORDERS)
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        return Catalog().get(connection, 1, "orders")


@pytest.fixture
def other_workspace(database: Database) -> int:
    with database.engine(Role.OWNER).begin() as connection:
        return int(
            connection.execute(
                sa.text(
                    "INSERT INTO app.workspaces (organization_id, slug, name)"
                    " VALUES (1, 'other', 'Other') RETURNING id"
                )
            ).scalar_one()
        )


def test_suites_have_versions_and_come_back_as_written(database: Database) -> None:
    changed = SUITE + "# a remark\n"
    with database.transaction(Role.APP, workspace_id=1) as connection:
        for source, outcome, version in (
            (SUITE, "created", 1),
            (SUITE, "unchanged", 1),
            (changed, "updated", 2),
            (SUITE, "updated", 3),
        ):
            applied = service.apply_suite(connection, 1, source)
            assert (applied.kind, applied.outcome, applied.version) == ("Suite", outcome, version)
        assert service.export_suite(connection, 1, "orders", version=2) == changed
        assert service.get_suite(connection, 1, "orders").version == 3
        assert [(s.name, s.version) for s in service.list_suites(connection, 1)] == [("orders", 3)]
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        spec = service.load_suite(connection, 1, "orders")
        assert spec is not None and spec.expectations[0].kwargs == {"column": "amount", "min_value": 0}
        assert service.load_suite(connection, 1, "nothing") is None
        with pytest.raises(SuiteNotFound):
            service.get_suite(connection, 1, "nothing")
        with pytest.raises(SuiteNotFound, match="version 9"):
            service.get_suite(connection, 1, "orders", version=9)


def test_a_wrong_suite_leaves_nothing_behind(database: Database) -> None:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        with pytest.raises(InvalidSuite):
            service.apply_suite(connection, 1, SUITE.replace("quarantine", "nothing"))
        assert service.list_suites(connection, 1) == []


def test_applying_is_told_to_every_process_at_commit(database: Database) -> None:
    with database.connect(Role.WRITER, autocommit=True) as listener:
        listener.execute("LISTEN sluiceway_live")
        with database.transaction(Role.APP, workspace_id=1) as connection:
            service.apply_suite(connection, 1, SUITE)
        (notice,) = listener.notifies(timeout=30, stop_after=1)
    assert json.loads(notice.payload) == {"t": "suite", "w": 1, "name": "orders"}


def test_another_workspace_sees_no_suite(database: Database, other_workspace: int) -> None:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        service.apply_suite(connection, 1, SUITE)
    with database.transaction(Role.APP, workspace_id=other_workspace) as connection:
        assert service.load_suite(connection, other_workspace, "orders") is None
        assert service.load_suite(connection, 1, "orders") is None
        assert service.apply_suite(connection, other_workspace, SUITE).version == 1


def outcome(name: str, *, success: bool, unexpected: int = 0) -> ExpectationOutcome:
    detail = {} if success else {"examples": [unexpected]}
    return ExpectationOutcome(name, "quarantine", success, 10, unexpected, detail)


def record(database: Database, orders: Pipeline, at: datetime, *outcomes: ExpectationOutcome) -> None:
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        service.record_outcomes(connection, orders, outcomes, origin="live", at=at)


def test_results_are_summed_by_minute(database: Database, orders: Pipeline) -> None:
    record(database, orders, AT, outcome("a", success=False, unexpected=3))
    record(database, orders, AT + timedelta(seconds=20), outcome("a", success=True))
    with database.transaction(Role.READER, workspace_id=1) as connection:
        (found,) = service.list_results(connection, 1)
    assert found.minute == AT.replace(second=0)
    assert (found.batches, found.failed_batches, found.evaluated, found.unexpected) == (2, 1, 20, 3)
    assert (found.pipeline, found.suite, found.detail) == ("orders", "orders", {"examples": [3]})


def test_results_are_paged_without_gap_or_double(database: Database, orders: Pipeline) -> None:
    for minute in range(5):
        both = outcome("a", success=minute % 2 == 0, unexpected=1), outcome("b", success=True)
        record(database, orders, AT + timedelta(minutes=minute), *both)
    with database.transaction(Role.READER, workspace_id=1) as connection:
        everything = service.list_results(connection, 1)
        assert len(everything) == 10
        seen, after = [], None
        while page := service.list_results(connection, 1, after=after, limit=3):
            seen += page
            after = service.result_key(page[-1])
        assert seen == everything
        assert [r.minute.minute for r in service.list_results(connection, 1, failed=True)] == [33, 31]
        window = service.list_results(
            connection, 1, expectation="b", since=AT + timedelta(minutes=1), until=AT + timedelta(minutes=3)
        )
        assert [r.minute.minute for r in window] == [33, 32]
        assert service.list_results(connection, 1, pipeline="nothing") == []
        assert service.list_results(connection, 1, origin="deep") == []


def test_the_summary_puts_what_fails_most_first(database: Database, orders: Pipeline) -> None:
    record(database, orders, AT, outcome("calm", success=True), outcome("bad", success=False, unexpected=2))
    record(database, orders, AT + timedelta(minutes=1), outcome("bad", success=True))
    with database.transaction(Role.READER, workspace_id=1) as connection:
        first, second = service.summarise_results(
            connection, 1, orders.id, since=AT - timedelta(hours=1), until=AT + timedelta(hours=1)
        )
    assert (first.expectation, first.batches, first.failed_batches) == ("bad", 2, 1)
    assert first.last_failed_at == AT.replace(second=0) and first.last_detail == {"examples": [2]}
    assert (second.expectation, second.last_failed_at, second.last_detail) == ("calm", None, {})


def letter(database: Database, orders: Pipeline, number: int, state: str = "open") -> UUID:
    id_ = uuid4()
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO quality.dead_letters (id, workspace_id, pipeline_id, batch_name, position, step,"
                " code, reason, expectation, payload, received_at, created_at, state)"
                " VALUES (:id, 1, :pipeline, 'n/1/0', :position, 'gate', 'quarantined', 'odd', 'positive',"
                " :payload, :at, :at, :state)"
            ),
            {
                "id": id_, "pipeline": orders.id, "position": f"n/1/0/{number}", "state": state,
                "payload": b'{"amount": \xff\x00}', "at": AT + timedelta(seconds=number // 2),
            },
        )  # fmt: skip
    return id_


def test_dead_letters_are_paged_newest_first(database: Database, orders: Pipeline) -> None:
    for number in range(7):
        letter(database, orders, number)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        everything = service.list_dead_letters(connection, 1)
        assert [(d.created_at, d.id) for d in everything] == sorted(
            ((d.created_at, d.id) for d in everything), reverse=True
        )
        seen, after = [], None
        while page := service.list_dead_letters(connection, 1, after=after, limit=2):
            seen += page
            after = service.dead_letter_key(page[-1])
        assert seen == everything and len(seen) == 7
    assert everything[0].payload == b'{"amount": \xff\x00}'
    assert (everything[0].pipeline, everything[0].expectation) == ("orders", "positive")


def test_dead_letters_are_filtered_and_counted(database: Database, orders: Pipeline) -> None:
    letter(database, orders, 0)
    letter(database, orders, 2, state="held")
    letter(database, orders, 4, state="held")
    with database.transaction(Role.APP, workspace_id=1) as connection:
        assert len(service.list_dead_letters(connection, 1, pipeline="orders", state="held")) == 2
        assert service.list_dead_letters(connection, 1, expectation="other") == []
        assert len(service.list_dead_letters(connection, 1, until=AT + timedelta(seconds=1))) == 1
        counts = service.count_dead_letters(connection, 1)
    assert [(c.state, c.step, c.code, c.count) for c in counts] == [
        ("held", "gate", "quarantined", 2),
        ("open", "gate", "quarantined", 1),
    ]
    assert counts[0].newest_at == AT + timedelta(seconds=2)


def test_states_change_until_a_letter_is_retried(database: Database, orders: Pipeline) -> None:
    first, second = letter(database, orders, 0), letter(database, orders, 1, state="held")
    with database.transaction(Role.APP, workspace_id=1) as connection:
        assert service.set_states(connection, 1, [first, second, first], "discarded") == 2
        gone = service.get_dead_letter(connection, 1, first)
        assert gone.state == "discarded" and gone.resolved_at is not None
        assert service.set_states(connection, 1, [first], "open") == 1
        assert service.get_dead_letter(connection, 1, first).resolved_at is None
        service.set_states(connection, 1, [second], "retried")
        with pytest.raises(DeadLetterResolved):
            service.set_states(connection, 1, [first, second], "discarded")
        assert service.get_dead_letter(connection, 1, first).state == "open"
        with pytest.raises(DeadLetterNotFound):
            service.set_states(connection, 1, [first, uuid4()], "discarded")


def test_another_workspace_sees_no_dead_letter_and_no_result(
    database: Database, orders: Pipeline, other_workspace: int
) -> None:
    id_ = letter(database, orders, 0)
    record(database, orders, AT, outcome("a", success=True))
    with database.transaction(Role.APP, workspace_id=other_workspace) as connection:
        for asked in (1, other_workspace):
            assert service.list_dead_letters(connection, asked) == []
            assert service.list_results(connection, asked) == []
            assert service.count_dead_letters(connection, asked) == []
            with pytest.raises(DeadLetterNotFound):
                service.get_dead_letter(connection, asked, id_)
            with pytest.raises(DeadLetterNotFound):
                service.set_states(connection, asked, [id_], "discarded")
