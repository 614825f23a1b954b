"""The platform's processes on a database and folder of their own, under load, and what must be true after."""

import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import sqlalchemy as sa

from sluiceway.identity.keys import create_key
from sluiceway.infra import outbox
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.lake.writer import Cursor
from sluiceway.verification.drain import look
from sluiceway.warehouse.schema import apply_pipeline
from tests.conftest import TEST_KEY
from tests.support.faults.checking import Verdict, check_everything
from tests.support.faults.clients import Consumer, Ledger, MakeEvent, Sender, order_event
from tests.support.faults.stage import PATIENCE_S, PING, Child, Stage, wait_until
from tests.support.loading import ORDERS, query

PROCESSES = ("web", "loader", "worker")
LEAST_EVENTS = 150


class World:
    """Web, loader and worker. `database` is the test's own way to the database; theirs is `url`."""

    def __init__(
        self,
        stage: Stage,
        database: Database,
        url: str,
        home: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.stage, self.database, self.home = stage, database, home
        # Bound for as long as the world lives, and never listening: while the web process is dead no other
        # program can be given the port.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self.environment = {
            "SLUICEWAY_HOME": str(home),
            "SLUICEWAY_DATABASE_URL": url,
            "SLUICEWAY_SECRET_KEY": TEST_KEY,
            "SLUICEWAY_NODE": "test",
            "SLUICEWAY_PORT": str(self.port),
            "SLUICEWAY_LOG_LEVEL": "warning",
            **(environment or {}),
        }
        self.settings: Settings = load_settings(self.environment)
        self.children: dict[str, Child] = {}
        self.options: dict[str, dict[str, Any]] = {role: {} for role in PROCESSES}
        """What `acting.act` is told of a role, from its next start on."""
        self.senders: list[Sender] = []
        self.consumer: Consumer | None = None
        with database.transaction(Role.APP, workspace_id=1) as connection:
            self.key = create_key(connection, 1, "sender", ["ingest"])
            self.read_key = create_key(connection, 1, "consumer", ["read"])

    def start(self, role: str, **armed: Any) -> Child:
        child = self.stage.start(
            role, self.environment, self.home / "logs", **{**self.options[role], **armed}
        )
        self.children[role] = child
        return child

    def restart(self, role: str) -> Child:
        """`kill -9`, and a fresh start."""
        self.children[role].kill()
        return self.start(role)

    def get(self, path: str) -> httpx.Response:
        """The web process's answer; waits until it listens."""
        found: list[httpx.Response] = []

        def answers() -> bool:
            self.check_alive("web")
            try:
                found.append(
                    httpx.get(
                        f"http://127.0.0.1:{self.port}{path}",
                        headers={"Authorization": f"Bearer {self.read_key}"},
                        timeout=PATIENCE_S,
                    )
                )
            except httpx.TransportError:
                return False
            return True

        wait_until("the web process", answers)
        return found[-1]

    def acknowledged(self) -> int:
        """How many ids were acknowledged by now; raises what stopped a sender."""
        for client in (*self.senders, self.consumer):
            if client is not None and client.error is not None:
                raise client.error
        return sum(len(sender.ledger.acknowledged) for sender in self.senders)

    def wait_for_more(self, count: int) -> None:
        """Until `count` more ids are acknowledged than now."""
        enough = self.acknowledged() + count
        wait_until(f"{count} more events", lambda: self.check_all() and self.acknowledged() >= enough)

    def broken(self) -> int:
        """How many requests were refused or got no answer by now."""
        return sum(sender.ledger.broken + sender.ledger.refused for sender in self.senders)

    def loaded(self) -> int:
        """Rows in silver."""
        ((count,),) = query(self.database, "SELECT count(*) FROM silver.orders")
        return int(count)

    def check_alive(self, role: str) -> None:
        child = self.children[role]
        assert child.alive, f"{role} ended by itself with {child.code}:\n{child.tail()}"

    def check_all(self) -> bool:
        for role in PROCESSES:
            self.check_alive(role)
        return True

    def settle(self, ledger: Ledger, consumer: Consumer | None, pings: int) -> None:
        """Until everything that was acknowledged has come to its end everywhere, and what is in the log
        without its sender having been told (it gave up) as well."""
        spools = self.settings.spool_dir.parent
        for what, done in (
            ("silver", lambda: self._is_loaded(ledger)),
            ("bronze", lambda: self._is_in_lake(ledger)),
            ("the end of the log", lambda: all(spool.drained for spool in look(self.database, spools))),
            ("gold", lambda: query(self.database, "SELECT count(*) FROM gold.dirty_buckets") == [(0,)]),
            ("the outbox", lambda: self._handled() >= pings),
        ):
            wait_until(what, lambda done=done: self.check_all() and done())  # type: ignore[misc]
        if consumer is not None:
            last = "SELECT last_seq FROM app.pipeline_state"
            wait_until("the consumer", lambda: consumer.last_seq >= query(self.database, last)[0][0])

    def stop(self) -> None:
        for child in self.children.values():
            if child.alive:
                child.kill()
        self._place.close()

    def _is_loaded(self, ledger: Ledger) -> bool:
        found = query(self.database, 'SELECT segment, "offset" FROM app.spool_positions')
        return bool(found) and tuple(found[0]) > ledger.position

    def _is_in_lake(self, ledger: Ledger) -> bool:
        try:
            position = Cursor(self.settings.spool_dir / "bronze.cursor").position
        except FileNotFoundError:
            return False
        return (position.segment, position.offset) > ledger.position

    def _handled(self) -> int:
        done = "SELECT count(*) FROM app.outbox WHERE topic = :topic AND done_at IS NOT NULL"
        ((count,),) = query(self.database, done, topic=PING)
        return int(count)


@dataclass
class Outcome:
    """What came of a run."""

    verdict: Verdict
    ledger: Ledger
    elapsed_s: float


def run_under_load(
    world: World,
    name: str,
    script: Callable[[World], None],
    *,
    make: MakeEvent = order_event,
    dead: Callable[[Ledger], int] = lambda ledger: 0,
    names: Sequence[str] = (),
    consume: bool = True,
    sender_options: Mapping[str, Any] | None = None,
) -> Outcome:
    """Start, send, let `script` do its worst, wait until all is at its end, compare.

    The database has gold and the pipeline `orders`. `dead`: how many dead letters there have to be.
    `names`: of the senders; those of the same name send the same.
    """
    begun = time.monotonic()
    consumer = world.consumer = Consumer(world.port, world.read_key) if consume else None
    pings = Pings(world.database)
    world.senders = [
        Sender(world.port, world.key, own, make=make, **(sender_options or {}))
        for own in names or (f"{name}-0", f"{name}-1")
    ]
    threads: Sequence[threading.Thread] = [*world.senders, *([consumer] if consumer else []), pings]
    try:
        for role in PROCESSES:
            world.start(role)
        for thread in threads:
            thread.start()
        script(world)
        wait_until("enough events", lambda: world.acknowledged() >= LEAST_EVENTS)
        ledger = Ledger()
        for sender in world.senders:
            ledger.absorb(sender.finish())
        world.settle(ledger, consumer, pings.finish())
        verdict = check_everything(world.database, world.settings, ledger, consumer, dead=dead(ledger))
        _check_handled(world, pings, verdict)
    finally:
        for sender in world.senders:
            sender.give_up()
        pings.stop()
        world.stop()
        if consumer is not None:
            consumer.finish()
    return Outcome(verdict, ledger, time.monotonic() - begun)


def _check_handled(world: World, pings: "Pings", verdict: Verdict) -> None:
    """At least once: that is what the outbox promises."""
    path = world.home / "handled.log"
    handled = {int(line) for line in path.read_text().split()} if path.exists() else set()
    verdict.lost += [f"message {n} of the outbox was never handled" for n in pings.put - handled]


class Pings(threading.Thread):
    """Puts a message into the outbox every little while; `put` are those of which the commit was told."""

    def __init__(self, database: Database) -> None:
        super().__init__(name="pings", daemon=True)
        self._database = database
        self._ending = threading.Event()
        self.put: set[int] = set()

    def run(self) -> None:
        number = 0
        while not self._ending.is_set():
            try:
                with self._database.transaction(Role.APP, workspace_id=1) as connection:
                    outbox.put(connection, 1, PING, {"number": number})
                self.put.add(number)
            except (sa.exc.SQLAlchemyError, psycopg.Error):
                pass  # the database is away: that is what is being tested
            number += 1
            self._ending.wait(0.1)

    def finish(self) -> int:
        self.stop()
        return len(self.put)

    def stop(self) -> None:
        self._ending.set()
        if self.is_alive():
            self.join(PATIENCE_S)


def prepare_template(database: Database) -> None:
    """What every database has: the pipeline, and nothing waiting in the outbox."""
    apply_pipeline(database, 1, ORDERS)
    with database.transaction(Role.OWNER) as connection:
        connection.exec_driver_sql("UPDATE app.outbox SET done_at = now()")


def clear(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)


def chance_of(name: str, seed: int) -> random.Random:
    """Randomness of one seed of one test."""
    return random.Random(f"{name}-{seed}")
