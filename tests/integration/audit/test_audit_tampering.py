"""What somebody does who has the whole database: every kind is found, and the first broken entry named."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.canonical import digest
from sluiceway.audit.chain import link
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.keeping import drop_old, erase_person, note_heads
from sluiceway.audit.reading import Search, of_person, search
from sluiceway.audit.service import record
from sluiceway.audit.verification import Head, Verification, find_head, verify
from sluiceway.infra.database import Database, Role
from sluiceway.kit.ids import uuid7
from tests.support.audited import ADA, numbered, owner, put, put_at

SYSTEM = Actor("system", "platform", "Sluiceway")
COUNT = 6


@pytest.fixture
def log(database: Database) -> Database:
    put(database, *numbered(COUNT, after={"email": "bob@example.com", "version": 1}))
    return database


def checked(database: Database, expected: Head | None = None) -> Verification:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        return verify(conn, 1, expected)


def head_of(database: Database) -> Head:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        return find_head(conn, 1)


def relink(database: Database, first: int, *, keep_head: bool = False) -> None:
    """Compute every hash anew from an entry on, as a patient forger would."""
    with database.engine(Role.OWNER).begin() as conn:
        conn.execute(sa.text("ALTER TABLE app.audit_entries DISABLE TRIGGER USER"))
        rows = conn.execute(sa.text("SELECT * FROM app.audit_entries ORDER BY seq")).all()
        previous = bytes(rows[0].previous)
        for row in rows:
            found = bytes(row.hash)
            if row.seq >= first:
                found = link(previous, 1, row.seq, row.at, row.content)
                conn.execute(
                    sa.text("UPDATE app.audit_entries SET previous = :p, hash = :h WHERE seq = :s"),
                    {"p": previous, "h": found, "s": row.seq},
                )
            previous = found
        if not keep_head:
            conn.execute(
                sa.text("UPDATE app.audit_heads SET seq = :s, hash = :h"), {"s": rows[-1].seq, "h": previous}
            )
        conn.execute(sa.text("ALTER TABLE app.audit_entries ENABLE TRIGGER USER"))


def test_an_untouched_log_is_intact(log: Database) -> None:
    found = checked(log)
    assert found.intact and (found.entries, found.head) == (COUNT, head_of(log))


EVE = "0198c0de-0000-7000-8000-00000000000e"
TOUCHES = {
    "who did it": f"content = replace(content, '{ADA.id}', '{EVE}')",
    "what was done": "content = replace(content, 'applied', 'created')",
    "what it is now": "content = replace(content, '\"version\":1', '\"version\":2')",
    "a space": "content = content || ' '",
    "the time": "at = at + interval '1 microsecond'",
    "its hash": "hash = sha256(hash)",
    "its link": "previous = sha256(previous)",
    "the name": "who = replace(who, 'ada', 'eve')",
    "the address": "who = replace(who, '192.0.2.7', '192.0.2.9')",
    "of whom": "whom = replace(whom, 'bob', 'eve')",
}


def attempted(database: Database, statement: str) -> Verification:
    """What is found after the owner did this; then it is taken back."""
    with database.engine(Role.OWNER).connect() as conn:
        conn.exec_driver_sql("ALTER TABLE app.audit_entries DISABLE TRIGGER USER")
        assert conn.exec_driver_sql(statement).rowcount > 0
        found = verify(conn, 1)
        conn.rollback()
    return found


def test_a_touched_entry_is_named(log: Database) -> None:
    before = stored(log)
    for what, change in TOUCHES.items():
        found = attempted(log, f"UPDATE app.audit_entries SET {change} WHERE seq = 3")
        assert found.broken is not None and found.broken.seq == 3 and found.broken.what, what
        assert found.entries == 2, what
    assert stored(log) == before and checked(log).intact


def test_an_entry_taken_out_is_named(log: Database) -> None:
    for gone in ("3", "3, 4"):
        found = attempted(log, f"DELETE FROM app.audit_entries WHERE seq IN ({gone})")
        assert found.broken is not None and found.broken.seq == 3 and "missing" in found.broken.what


def stored(database: Database) -> list[tuple[object, ...]]:
    with database.engine(Role.OWNER).connect() as conn:
        return [tuple(row) for row in conn.execute(sa.text("SELECT * FROM app.audit_entries ORDER BY seq"))]


def test_two_entries_changed_places(log: Database) -> None:
    owner(
        log, "UPDATE app.audit_entries SET seq = CASE seq WHEN 3 THEN 1004 ELSE 1003 END WHERE seq IN (3, 4)"
    )
    owner(log, "UPDATE app.audit_entries SET seq = seq - 1000 WHERE seq > 1000")
    found = checked(log)
    assert found.broken is not None and found.broken.seq == 3


def test_an_entry_put_in_between_is_named(log: Database) -> None:
    owner(log, "UPDATE app.audit_entries SET seq = seq + 1000 WHERE seq > 3")
    owner(log, "UPDATE app.audit_entries SET seq = seq - 999 WHERE seq > 1000")
    owner(
        log,
        "INSERT INTO app.audit_entries (workspace_id, seq, at, content, who, whom, previous, hash)"
        " SELECT workspace_id, 4, at, content, who, whom, hash, hash FROM app.audit_entries WHERE seq = 3",
    )
    found = checked(log)
    assert found.broken is not None and found.broken.seq == 4


def test_the_newest_cut_off_are_missed(log: Database) -> None:
    owner(log, "DELETE FROM app.audit_entries WHERE seq > 4")
    found = checked(log)
    assert found.broken is not None and (found.broken.seq, found.entries) == (5, 4)


def test_the_newest_cut_off_with_the_head_are_missed_by_who_noted_it(log: Database) -> None:
    noted = head_of(log)
    owner(log, "DELETE FROM app.audit_entries WHERE seq > 4")
    owner(
        log,
        "UPDATE app.audit_heads SET seq = 4, hash = (SELECT hash FROM app.audit_entries WHERE seq = 4)",
    )
    assert checked(log).intact  # nothing inside the database can tell
    found = checked(log, noted)
    assert found.broken is not None and found.broken.seq == 5


def test_an_entry_after_the_head_is_named(log: Database) -> None:
    owner(
        log, "UPDATE app.audit_heads SET seq = 4, hash = (SELECT hash FROM app.audit_entries WHERE seq = 4)"
    )
    found = checked(log)
    assert found.broken is not None and found.broken.seq == 5


def test_an_entry_hashed_anew_breaks_the_next_one(log: Database) -> None:
    owner(log, "UPDATE app.audit_entries SET content = replace(content, 'applied', 'created') WHERE seq = 3")
    owner(
        log,
        "UPDATE app.audit_entries SET hash = sha256(previous || convert_to("
        "concat_ws(E'\\n', workspace_id, seq, app.audit_time(at), content), 'UTF8')) WHERE seq = 3",
    )
    found = checked(log)
    assert found.broken is not None and found.broken.seq == 4


def test_a_whole_new_chain_is_found_by_who_noted_a_head(log: Database) -> None:
    noted = head_of(log)
    put(log, *numbered(2))
    owner(log, "UPDATE app.audit_entries SET content = replace(content, 'applied', 'created') WHERE seq = 3")
    relink(log, 3)
    assert checked(log).intact  # a whole chain, of lies
    found = checked(log, noted)
    assert found.broken is not None and found.broken.seq == noted.seq
    assert checked(log, Head(2, checked_hash(log, 2))).intact


def test_a_new_chain_that_forgets_the_head(log: Database) -> None:
    owner(log, "UPDATE app.audit_entries SET content = replace(content, 'applied', 'created') WHERE seq = 3")
    relink(log, 3, keep_head=True)
    found = checked(log)
    assert found.broken is not None and found.broken.seq == COUNT


def checked_hash(database: Database, seq: int) -> bytes:
    with database.engine(Role.OWNER).connect() as conn:
        found = conn.execute(
            sa.text("SELECT hash FROM app.audit_entries WHERE seq = :s"), {"s": seq}
        ).scalar()
    assert found is not None
    return bytes(found)


def aged(database: Database, *days: int) -> datetime:
    """Entries as old as that, the oldest first."""
    now = datetime.now(UTC)
    for number, age in enumerate(days, 1):
        put_at(database, now - timedelta(days=age), Entry("pipeline.applied", ADA, "pipeline", f"p{number}"))
    return now


def test_retention_drops_the_front_and_the_rest_can_still_be_checked(database: Database) -> None:
    aged(database, 500, 450, 399, 10)
    noted = Head(2, checked_hash(database, 2))
    assert drop_old(database, timedelta(days=400), SYSTEM) == 2
    found = checked(database, noted)
    assert found.intact and (found.start, found.entries, found.head.seq) == (noted, 3, 5)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        newest = search(conn, 1, Search())[0]
    assert newest.action == Action.AUDIT_DROPPED and newest.actor.kind == "system"
    assert newest.detail == {"through": str(noted), "entries": 2, "kept_days": 400}
    assert drop_old(database, timedelta(days=400), SYSTEM) == 0


def test_retention_again_and_of_everything(database: Database) -> None:
    aged(database, 500, 450, 100, 90)
    assert drop_old(database, timedelta(days=400), SYSTEM) == 2
    assert drop_old(database, timedelta(days=95), SYSTEM) == 1
    assert checked(database).intact
    assert drop_old(database, timedelta(days=30), SYSTEM) == 1
    found = checked(database)
    assert found.intact and found.start.seq == 4 and found.entries == 3
    put(database, *numbered(1))
    assert checked(database).intact


def test_a_head_from_before_what_is_kept_cannot_be_compared(database: Database) -> None:
    aged(database, 500, 450, 10)
    early = Head(1, checked_hash(database, 1))
    drop_old(database, timedelta(days=400), SYSTEM)
    found = checked(database, early)
    assert found.broken is not None and "dropped by retention" in found.broken.what


def test_an_anchor_that_somebody_put_there_is_found(log: Database) -> None:
    owner(
        log,
        "INSERT INTO app.audit_anchors (workspace_id, seq, hash, at, dropped)"
        " SELECT workspace_id, seq, hash, at, seq FROM app.audit_entries WHERE seq = 3",
    )
    owner(log, "DELETE FROM app.audit_entries WHERE seq <= 3")
    found = checked(log)
    assert found.broken is not None and found.broken.seq == 4 and "vouched" in found.broken.what


def test_an_anchor_for_another_place_is_found(database: Database) -> None:
    aged(database, 500, 450, 10)
    drop_old(database, timedelta(days=400), SYSTEM)
    owner(database, "UPDATE app.audit_anchors SET hash = sha256(hash)")
    found = checked(database)
    assert found.broken is not None and found.broken.seq == 3


def test_heads_are_told_to_the_log_of_the_process(log: Database, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        heads = note_heads(log)
    assert heads == {1: head_of(log)} and str(head_of(log)) in caplog.text


def test_a_person_is_erased_and_the_chain_stays(database: Database) -> None:
    bob = uuid7()
    acted = Actor("user", str(bob), "bob@example.com", "192.0.2.44", "Lynx")
    put(
        database,
        Entry("member.invited", ADA, "member", "7", after={"email": "Bob@example.com", "role": "viewer"}),
        Entry("session.started", acted, "session"),
        Entry("member.removed", ADA, "member", str(bob), before={"email": "bob@example.com", "name": "Bob"}),
        Entry("member.invited", ADA, "member", "8", after={"email": "notbob@example.com"}),
    )
    with database.transaction(Role.APP, workspace_id=1) as conn:
        assert erase_person(conn, bob, "bob@example.com") == 3
        record(conn, Entry(Action.PERSON_ERASED, SYSTEM, "user", str(bob)))
    found = checked(database)
    assert found.intact and (found.entries, found.erased) == (5, 3)
    with database.engine(Role.OWNER).connect() as conn:
        kept = conn.execute(
            sa.text("SELECT string_agg(concat(content, who, whom), '') FROM app.audit_entries")
        )
        text = str(kept.scalar_one()).lower()
    assert '"bob@' not in text and "lynx" not in text and "192.0.2.44" not in text
    assert "notbob@example.com" in text and "ada@example.com" in text
    with database.transaction(Role.APP, workspace_id=1) as conn:
        by_bob = search(conn, 1, Search(actor=str(bob)))
    assert [(e.action, e.erased, e.actor.id, e.actor.name) for e in by_bob] == [
        ("session.started", True, str(bob), ""),
    ]  # fmt: skip


def test_what_was_erased_cannot_be_written_again(database: Database) -> None:
    bob = uuid7()
    put(database, Entry("session.started", Actor("user", str(bob), "bob@example.com")))
    with database.transaction(Role.APP, workspace_id=1) as conn:
        erase_person(conn, bob, "bob@example.com")
    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        database.engine(Role.OWNER).begin() as conn,
    ):
        conn.execute(sa.text("UPDATE app.audit_entries SET who = '{}'"))
    owner(database, 'UPDATE app.audit_entries SET who = \'{"name":"eve"}\'')
    found = checked(database)
    assert found.broken is not None and found.broken.seq == 1


def test_people_see_what_the_log_says_of_them_and_nobody_else_does(database: Database) -> None:
    bob, eve = uuid7(), uuid7()
    put(
        database,
        Entry("session.started", Actor("user", str(bob), "bob@example.com", "192.0.2.44"), "session"),
        Entry(
            "member.role_changed", ADA, "member", str(bob), after={"role": "admin", "email": "b@example.com"}
        ),
        Entry("session.started", Actor("user", str(eve), "eve@example.com"), "session"),
    )
    with database.transaction(Role.APP, user_id=str(bob)) as conn:
        found = of_person(conn)
    assert [(e.action, e.actor.name) for e in found] == [
        ("session.started", "bob@example.com"), ("member.role_changed", ""),
    ]  # fmt: skip
    assert found[1].after == {"role": "admin", "email": "b@example.com"}
    with (
        pytest.raises(sa.exc.DBAPIError, match="that person alone"),
        database.transaction(Role.APP, user_id=str(eve)) as conn,
    ):
        conn.execute(sa.text("SELECT * FROM app.audit_of_person(:bob)"), {"bob": bob})


def test_the_hash_does_not_tell_the_name(database: Database) -> None:
    """Without the salt, trying names against the hash that stays finds nothing."""
    put(database, Entry("session.started", Actor("user", "1", "bob", "", "")))
    with database.engine(Role.OWNER).connect() as conn:
        content = str(conn.execute(sa.text("SELECT content FROM app.audit_entries")).scalar_one())
    tried = itertools.product(
        ("bob", '"bob"', '{"name":"bob"}', '{"address":"","name":"bob","user_agent":""}')
    )
    assert not any(digest(text) in content for (text,) in tried)
