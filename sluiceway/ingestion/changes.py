"""Hearing of revoked keys and changed pipelines, so that what is remembered of them is asked for anew.

One thread with a connection of its own that listens. Whatever happens to either, it goes on; and as nobody
knows what was said while it did not hear, everything is forgotten when it hears again. Not here: what is
remembered (`ingestion.access`), the stream of changes to browsers (`live`).
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import orjson
import psycopg

from sluiceway.infra.announcing import CHANNEL
from sluiceway.infra.database import Database, Role
from sluiceway.infra.trouble import describe
from sluiceway.ingestion.access import AccessCache

log = logging.getLogger("sluiceway.ingestion")

CHECK_S = 30.0  # so often the server is asked for a sign of life
ANSWER_S = 10.0  # so long it may take to give one
AGAIN_S = 1.0
# Of a connection on which nothing is said: a router that forgot it tells neither side.
_KEEPALIVES: dict[str, Any] = {
    "keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}  # fmt: skip


class ChangeListener:
    """A thread that hears of revoked keys and changed pipelines, and makes the cache forget."""

    def __init__(self, database: Database, cache: AccessCache, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._cache = cache
        self._loop = loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest-listen", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        well = True
        while not self._stop.is_set():
            try:
                with self._connect() as connection:
                    _execute(connection, f"LISTEN {CHANNEL}")
                    self._tell(None)  # what was said before is not known
                    well = True
                    self._listen(connection)
            except psycopg.Error as error:
                if well:  # once, not every second of an outage
                    log.warning("changes of keys and pipelines are not heard: %s", describe(error))
                well = False
                self._stop.wait(AGAIN_S)
            except Exception:
                log.exception("hearing of changes of keys and pipelines failed; it begins anew")
                self._stop.wait(AGAIN_S)

    def _connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self._database.conninfo(Role.APP), autocommit=True, **_KEEPALIVES)

    def _listen(self, connection: "psycopg.Connection[Any]") -> None:
        checked = time.monotonic()
        while not self._stop.is_set():
            for notice in connection.notifies(timeout=0.5):
                self._tell(notice.payload)
            if time.monotonic() - checked >= CHECK_S:
                _execute(connection, "SELECT 1")
                checked = time.monotonic()

    def _tell(self, payload: str | None) -> None:
        call = self._meaning(payload)
        if call is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(call)

    def _meaning(self, payload: str | None) -> Callable[[], None] | None:
        if payload is None:
            return self._cache.forget
        if not ('"keys"' in payload or '"catalog"' in payload or '"secrets"' in payload):
            return None
        try:
            message = orjson.loads(payload)
            kind = message.get("t")
        except (ValueError, AttributeError):
            log.warning("a notice of a change cannot be read: all is asked for anew")
            return self._cache.forget
        match kind:
            case "keys":
                return partial(self._cache.forget, key_id=message.get("k"))
            case "catalog":
                return partial(self._cache.forget, pipeline_id=message.get("p"))
            case "secrets":
                return partial(self._cache.forget, pipeline_id=message.get("p"), secrets=True)
        return None


def _execute(connection: "psycopg.Connection[Any]", statement: str) -> None:
    """Run a statement; hang up on a server that does not answer in time. Raises `psycopg.Error` then."""
    timer = threading.Timer(ANSWER_S, _hang_up, [connection])
    timer.daemon = True
    timer.start()
    try:
        connection.execute(statement.encode())
    finally:
        timer.cancel()


def _hang_up(connection: "psycopg.Connection[Any]") -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as found:
        found.shutdown(socket.SHUT_RDWR)
