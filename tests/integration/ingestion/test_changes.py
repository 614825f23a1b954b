"""Hearing of changes goes on after whatever happens to the thread or its connection."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sluiceway.infra.database import Database, Role
from sluiceway.ingestion import changes
from sluiceway.ingestion.access import AccessCache
from sluiceway.ingestion.changes import ChangeListener
from tests.support.fault_proxy import FaultProxy, Faults


class Cache(AccessCache):
    """Tells what it was told to forget."""

    def __init__(self) -> None:
        super().__init__(lambda *_: pytest.fail("nobody asks"))
        self.told: list[dict[str, Any]] = []
        self.changed = threading.Event()

    def forget(self, **what: Any) -> None:
        self.told.append(what)
        self.changed.set()

    def wait(self) -> None:
        assert self.changed.wait(60)
        self.changed.clear()


@contextmanager
def listening(database: Database, cache: Cache) -> Iterator[ChangeListener]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    listener = ChangeListener(database, cache, loop)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        cache.close()


def tell(database: Database, payload: str) -> None:
    with database.connect(Role.APP, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('sluiceway_live', %s)", [payload])


def test_it_outlives_what_cannot_be_read_and_any_failure(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "AGAIN_S", 0.01)
    monkeypatch.setattr(changes, "CHECK_S", 0.0)  # the sign of life, too
    cache = Cache()
    real, failures = ChangeListener._connect, [RuntimeError("odd"), psycopg.OperationalError("gone")]

    def connect(listener: ChangeListener) -> Any:
        if failures:
            raise failures.pop()
        return real(listener)

    monkeypatch.setattr(ChangeListener, "_connect", connect)
    with listening(database, cache):
        cache.wait()
        assert cache.told == [{}] and not failures
        for payload, meaning in (
            ('"keys" {', {}),
            ('["keys"]', {}),
            ('{"t":"keys","k":"abc"}', {"key_id": "abc"}),
            ('{"t":"secrets","p":7}', {"pipeline_id": 7, "secrets": True}),
        ):
            tell(database, payload)
            cache.wait()
            assert cache.told[-1] == meaning


def test_a_connection_that_went_silent_is_noticed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither end of it is told: only that no sign of life comes."""
    monkeypatch.setattr(changes, "AGAIN_S", 0.01)
    monkeypatch.setattr(changes, "CHECK_S", 0.0)
    monkeypatch.setattr(changes, "ANSWER_S", 2.0)
    here = database.parameters(Role.APP)
    port = int(here.get("port") or 5432)
    host = str(here["host"])
    behind = Path(host) / f".s.PGSQL.{port}" if host.startswith("/") else (host, port)
    cache = Cache()
    with FaultProxy(behind) as proxy:
        through = make_conninfo(database.conninfo(Role.APP), host="127.0.0.1", port=proxy.port)
        monkeypatch.setattr(database, "conninfo", lambda _: through)
        with listening(database, cache):
            cache.wait()
            cache.changed.clear()
            proxy.set(Faults(stall="down"))
            proxy.wait_for(lambda counts: counts.connections >= 2)  # it hung up and tries again
            proxy.set(Faults())
            cache.wait()
            assert cache.told[-1] == {}
