"""Keys that events are sent with: the first use from an address is in the audit log, and delays nothing."""

import time

import pytest

from api.key_uses import KeyUses
from sluiceway.audit.contracts import AuditEntry
from sluiceway.audit.reading import Search, search
from sluiceway.identity.keys import create_key, parse_key
from sluiceway.infra.database import Database, Role

WAIT_S = 60.0


@pytest.fixture(autouse=True)
def _told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.key_uses.TELL_EVERY_S", 0.05)


def uses(database: Database) -> list[AuditEntry]:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        return search(conn, 1, Search(action="key.used"))[::-1]


def waited_for(database: Database, count: int) -> list[AuditEntry]:
    until = time.monotonic() + WAIT_S
    while len(found := uses(database)) < count:
        assert time.monotonic() < until, "the use of a key was not told"
        time.sleep(0.1)
    return found


def test_events_tell_of_their_key_once(running, database: Database) -> None:
    for _ in range(5):
        assert running.post(b'{"id": 1}').status_code == 202
    assert running.post(b'{"id": 1}', key="expired").status_code == 401
    waited_for(database, 1)
    assert running.post(b'{"id": 2}', key="every").status_code == 202
    first, second = waited_for(database, 2)
    assert first.actor.id == parse_key(running.keys["good"])[0] and first.actor.name == "good"
    assert second.actor.name == "every" and first.detail == {"of": "events"}
    assert (first.actor.kind, first.actor.address, first.target) == ("key", "127.0.0.1", "key")


def made_key(database: Database) -> str:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        return parse_key(create_key(conn, 1, "good", ["ingest"]))[0]


def test_each_address_is_told_and_processes_agree(database: Database) -> None:
    key = made_key(database)
    one, other = KeyUses(database), KeyUses(database)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        one.note(1, key, address)
        other.note(1, key, address)
    one.flush()
    other.flush()
    assert [e.actor.address for e in uses(database)] == ["192.0.2.1", "192.0.2.2"]


def test_what_the_database_does_not_take_waits(database: Database) -> None:
    key = made_key(database)
    away = Database("postgresql://127.0.0.1:1/none", database._key)
    held = KeyUses(away)
    held.note(1, key, "192.0.2.1")
    with pytest.raises(Exception, match="connection"):
        held.flush()
    held._database = database
    held.flush()
    held.flush()
    assert [e.actor.address for e in uses(database)] == ["192.0.2.1"]


def test_an_hour_later_it_is_new_to_a_process(database: Database) -> None:
    now = 0.0
    held = KeyUses(database, monotonic=lambda: now)
    held.told("abcdefghijkm", "192.0.2.1")
    assert held.is_known("abcdefghijkm", "192.0.2.1") and not held.is_known("abcdefghijkm", "192.0.2.2")
    now = 3601.0
    assert not held.is_known("abcdefghijkm", "192.0.2.1")
