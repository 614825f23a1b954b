"""The log itself: entries come with their transaction, without a gap, and nobody can change or remove one."""

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.audit.chain import START, link
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.reading import Search, search
from sluiceway.audit.service import record, record_once, record_raw
from sluiceway.audit.verification import find_head, verify
from sluiceway.infra.database import Database, Role, set_identity
from tests.support.audited import ADA, numbered, put

WAIT_S = 60.0


def entries(database: Database, workspace_id: int = 1) -> list[sa.Row[tuple[object, ...]]]:
    with database.engine(Role.OWNER).connect() as conn:
        return list(
            conn.execute(
                sa.text("SELECT * FROM app.audit_entries WHERE workspace_id = :w ORDER BY seq"),
                {"w": workspace_id},
            )
        )


def second_workspace(database: Database) -> None:
    with database.engine(Role.OWNER).begin() as conn:
        conn.execute(
            sa.text("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
        )


def test_an_entry_is_read_as_it_was_recorded(database: Database) -> None:
    before, after = (
        {"role": "viewer", "email": "bob@example.com"},
        {"role": "admin", "email": "bob@example.org"},
    )
    put(database, Entry("member.role_changed", ADA, "member", "7", before, after, {"why": "promoted"}))
    with database.transaction(Role.APP, workspace_id=1) as conn:
        (found,) = search(conn, 1, Search())
    assert (found.seq, found.action, found.target, found.target_id) == (
        1,
        "member.role_changed",
        "member",
        "7",
    )
    assert (found.actor, found.before, found.after) == (ADA, before, after)
    assert found.detail == {"why": "promoted"} and not found.erased
    assert abs(datetime.now(UTC) - found.at) < timedelta(hours=1)


def test_the_chain_is_what_is_documented(database: Database) -> None:
    put(database, *numbered(3))
    previous = START
    for seq, row in enumerate(entries(database), 1):
        assert (row.seq, bytes(row.previous)) == (seq, previous)
        previous = link(previous, 1, seq, row.at, row.content)
        assert bytes(row.hash) == previous
    with database.transaction(Role.APP, workspace_id=1) as conn:
        head = find_head(conn, 1)
    assert (head.seq, head.hash) == (3, previous)


def test_a_transaction_that_fails_leaves_no_entry_and_no_gap(database: Database) -> None:
    put(database, *numbered(1))
    with (
        pytest.raises(ZeroDivisionError),
        database.transaction(Role.APP, workspace_id=1) as conn,
    ):
        record(conn, Entry("pipeline.applied", ADA))
        raise ZeroDivisionError
    with database.transaction(Role.APP, workspace_id=1) as conn:
        with pytest.raises(RuntimeError), conn.begin_nested():
            record(conn, Entry("pipeline.paused", ADA))
            raise RuntimeError
        record(conn, Entry("pipeline.resumed", ADA))
    assert [(row.seq, row.action) for row in entries(database)] == [
        (1, "pipeline.applied"), (2, "pipeline.resumed"),
    ]  # fmt: skip


def test_entries_of_one_transaction_stand_in_their_order(database: Database) -> None:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        for entry in numbered(5):
            record(conn, entry)
    assert [row.target_id for row in entries(database)] == ["p1", "p2", "p3", "p4", "p5"]


def test_the_order_is_that_of_commits_and_nobody_waits_for_an_open_transaction(database: Database) -> None:
    with database.transaction(Role.APP, workspace_id=1) as slow:
        record(slow, Entry("pipeline.applied", ADA, "pipeline", "slow"))
        put(database, Entry("pipeline.applied", ADA, "pipeline", "quick"))
        assert [row.target_id for row in entries(database)] == ["quick"]
    assert [row.target_id for row in entries(database)] == ["quick", "slow"]


def test_many_at_once_make_one_chain_without_gaps(database: Database) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            put(database, *numbered(12))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not failed and not any(thread.is_alive() for thread in threads)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        found = verify(conn, 1)
    assert (found.broken, found.entries, found.head.seq) == (None, 72, 72)
    with database.engine(Role.OWNER).connect() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM app.audit_waiting")).scalar() == 0


def test_each_workspace_has_a_chain_of_its_own(database: Database) -> None:
    second_workspace(database)
    put(database, *numbered(2))
    put(database, *numbered(1), workspace_id=2)
    assert [row.seq for row in entries(database, 2)] == [1]
    with database.transaction(Role.APP, workspace_id=2) as conn:
        assert [e.seq for e in search(conn, 2, Search())] == [1]
        assert search(conn, 1, Search()) == []  # the policies, not the condition, keep it out
        assert verify(conn, 2).entries == 1


def test_without_a_workspace_nothing_can_be_recorded(database: Database) -> None:
    with (
        pytest.raises(sa.exc.DBAPIError, match="needs the workspace"),
        database.transaction(Role.APP) as conn,
    ):
        record(conn, Entry("pipeline.applied", ADA))


def test_an_entry_belongs_to_the_workspace_it_was_recorded_in(database: Database) -> None:
    second_workspace(database)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        record(conn, Entry("pipeline.applied", ADA))
        set_identity(conn, workspace_id=2)
        record(conn, Entry("pipeline.paused", ADA))
    assert [row.action for row in entries(database, 1)] == ["pipeline.applied"]
    assert [row.action for row in entries(database, 2)] == ["pipeline.paused"]


def test_the_loaders_role_records_on_its_own_connection(database: Database) -> None:
    with database.connect(Role.WRITER) as connection:
        connection.execute("SELECT set_config('sluiceway.workspace_id', '1', true)")
        record_raw(connection, Entry("dead_letter.retried", ADA))
    assert [row.action for row in entries(database)] == ["dead_letter.retried"]


CHANGES = [
    "UPDATE app.audit_entries SET content = '{}'",
    "UPDATE app.audit_entries SET who = 'x'",
    "DELETE FROM app.audit_entries",
    "TRUNCATE app.audit_entries",
    "INSERT INTO app.audit_entries (workspace_id, seq, at, content, previous, hash)"
    " VALUES (1, 9, now(), '{}', '', '')",
    "UPDATE app.audit_heads SET seq = 0",
    "DELETE FROM app.audit_heads",
    "INSERT INTO app.audit_anchors (workspace_id, seq, hash, at, dropped) VALUES (1, 1, '', now(), 1)",
    "INSERT INTO app.audit_waiting (workspace_id, content) VALUES (1, '{}')",
    "SELECT app.append_audit(1, now(), '{}', NULL, NULL)",
    "ALTER TABLE app.audit_entries DISABLE TRIGGER USER",
    "DROP TABLE app.audit_entries",
]


@pytest.mark.parametrize("role", [r for r in Role if r is not Role.OWNER])
def test_no_role_of_the_platform_can_touch_it(audited: Database, role: Role) -> None:
    for statement in CHANGES:
        with audited.connect(role) as connection, pytest.raises(psycopg.Error) as refused:
            connection.execute("SELECT set_config('sluiceway.workspace_id', '1', true)")
            connection.execute(statement)
        assert refused.value.sqlstate in ("42501", "25006"), statement  # not permitted; read-only
    assert [row.seq for row in entries(audited)] == [1]


def test_a_trigger_refuses_it_even_to_the_owner(audited: Database) -> None:
    for statement in CHANGES[:4]:
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            audited.engine(Role.OWNER).begin() as conn,
        ):
            conn.execute(sa.text(statement))
    assert [row.seq for row in entries(audited)] == [1]


def test_retention_cannot_be_used_to_empty_it(audited: Database) -> None:
    for role, kept in ((Role.WRITER, "29 days"), (Role.WRITER, "-1 day"), (Role.APP, "400 days")):
        with audited.connect(role) as connection, pytest.raises(psycopg.Error):
            connection.execute(f"SELECT app.drop_audit(interval '{kept}')")
    assert [row.seq for row in entries(audited)] == [1]


def test_what_happens_over_and_over_is_told_once(database: Database) -> None:
    elsewhere = Actor(ADA.kind, ADA.id, ADA.name, "192.0.2.8")
    with database.transaction(Role.APP, workspace_id=1) as conn:
        listed = Entry("key.listed", ADA, "key")
        told = [
            record_once(conn, listed),
            record_once(conn, listed),
            record_once(conn, Entry("key.listed", ADA, "key", "abc")),
            record_once(conn, Entry("key.listed", elsewhere, "key")),
            record_once(conn, Entry("secret.listed", ADA, "key")),
        ]
    with database.transaction(Role.APP, workspace_id=1) as conn:
        told += [record_once(conn, listed), record_once(conn, listed, timedelta(0))]
    assert told == [True, False, True, True, True, False, True]
    assert len(entries(database)) == 5


def test_what_was_rolled_back_was_not_told(database: Database) -> None:
    listed = Entry("key.listed", ADA, "key")
    with pytest.raises(RuntimeError), database.transaction(Role.APP, workspace_id=1) as conn:
        assert record_once(conn, listed)
        raise RuntimeError
    with database.transaction(Role.APP, workspace_id=1) as conn:
        assert record_once(conn, listed)


def test_text_of_any_kind_is_kept(database: Database) -> None:
    odd = {
        "text": 'a\x00b \ud800 \u2028 "quotes" \\ \u202e üñ 雪 \U0001f600',
        "number": 10**40,
        "deep": [[[{}]]],
    }
    put(database, Entry("pipeline.applied", Actor("user", "1", "\x00'; DROP TABLE x;--"), "t", "i\x00", odd))
    with database.transaction(Role.APP, workspace_id=1) as conn:
        (found,) = search(conn, 1, Search())
        assert verify(conn, 1).intact
    assert found.before is not None and "雪" in found.before["text"] and found.before["number"] == 10**40
