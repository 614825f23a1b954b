"""One seed: the whole platform under load, killed several times at points or moments the seed chooses."""

import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sluiceway.identity.keys import create_key
from sluiceway.infra import outbox
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.kit.faults import POINTS
from sluiceway.warehouse.schema import apply_pipeline
from tests.conftest import TEST_KEY
from tests.support.faults.checking import Verdict, check_everything
from tests.support.faults.clients import Consumer, Ledger, Sender
from tests.support.faults.stage import PATIENCE_S, PING, Child, Stage, wait_until
from tests.support.loading import ORDERS, query
from tests.support.platform import free_port

PROCESSES = ("web", "loader", "worker")
OWNERS = {
    "spool": "web", "route": "web", "live": "web", "gold": "worker", "outbox": "worker",
}  # fmt: skip
"""Whose process a point lies in, by the first part of its name; all others lie in the loader's."""
OF_LOADER = ("spool.trim_begin", "spool.trimmed")
SELDOM = ("spool.roll", "spool.recover", "spool.trim", "outbox", "gold", "lake", "trim")
LEAST_EVENTS = 150
UNREACHED_S = 3.0
"""How long a point is waited for; then the process is killed wherever it is."""


def process_of(point: str) -> str:
    if point in OF_LOADER:
        return "loader"
    return OWNERS.get(point.partition(".")[0], "loader")


@dataclass(frozen=True, slots=True)
class Kill:
    """`point` None: at a moment, `after_s` after the process was started."""

    process: str
    point: str | None
    nth: int = 1
    after_s: float = 0.0

    def __str__(self) -> str:
        where = f"at {self.point} (pass {self.nth})" if self.point else f"after {self.after_s:.2f} s"
        return f"{self.process} {where}"


def plan(seed: int) -> list[Kill]:
    """The seed's kills, in order. The first point goes round, so that a run of seeds passes all of them."""
    chance = random.Random(f"kills-{seed}")
    points = sorted(POINTS)
    kills: list[Kill] = []
    for number in range(chance.choice([2, 3, 3, 4])):
        if number and chance.random() < 0.25:
            kills.append(Kill(chance.choice(PROCESSES), None, after_s=chance.random() * 0.8))
            continue
        point = points[seed % len(points)] if number == 0 else chance.choice(points)
        most = 1 if point.startswith("spool.recover") else 2 if point.startswith(SELDOM) else 8
        kills.append(Kill(process_of(point), point, nth=chance.randint(1, most)))
    return kills


@dataclass
class Outcome:
    seed: int
    verdict: Verdict
    kills: list[str] = field(default_factory=list)
    restarts: int = 0
    requests: int = 0
    broken: int = 0
    elapsed_s: float = 0.0


class World:
    """The platform's three processes on a database and folder of their own; whoever dies is started again."""

    def __init__(self, stage: Stage, database: Database, url: str, home: Path) -> None:
        self.stage, self.database, self.home = stage, database, home
        self.port = free_port()
        self.environment = {
            "SLUICEWAY_HOME": str(home),
            "SLUICEWAY_DATABASE_URL": url,
            "SLUICEWAY_SECRET_KEY": TEST_KEY,
            "SLUICEWAY_NODE": "test",
            "SLUICEWAY_PORT": str(self.port),
            "SLUICEWAY_LOG_LEVEL": "warning",
        }
        self.settings: Settings = load_settings(self.environment)
        self.children: dict[str, Child] = {}
        self.options: dict[str, Any] = {}
        self.restarts = 0
        self.killed: list[str] = []
        with database.transaction(Role.APP, workspace_id=1) as connection:
            self.key = create_key(connection, 1, "sender", ["ingest"])
            self.read_key = create_key(connection, 1, "consumer", ["read"])

    def start(self, role: str, kill: Kill | None = None) -> Child:
        armed = {} if kill is None or kill.point is None else {"point": kill.point, "nth": kill.nth}
        child = self.stage.start(role, self.environment, self.home / "logs", **armed, **self.options)
        self.children[role] = child
        return child

    def start_all(self) -> None:
        for role in PROCESSES:
            self.start(role)

    def answers(self) -> bool:
        """Whether the web process answers; starting it is for the caller."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=10).status_code == 200
        except httpx.HTTPError:
            self.check_alive("web")
            return False

    def check_alive(self, role: str) -> None:
        child = self.children[role]
        assert child.alive, f"{role} ended by itself with {child.code}:\n{child.tail()}"

    def kill(self, kill: Kill) -> None:
        """Let a process be killed as the plan says; it is started again at once."""
        role = kill.process
        self.check_alive(role)
        if kill.point is None:
            child = self.children[role]
            child.ended.wait(kill.after_s)
            self.check_alive(role)
            child.kill()
            self.killed.append(str(kill))
        else:
            # A process that knows its point: started anew, which is a kill as well.
            self.children[role].kill()
            child = self.start(role, kill)
            if child.ended.wait(UNREACHED_S):
                assert child.code == -9, f"{role} ended by itself with {child.code}:\n{child.tail()}"
                self.killed.append(str(kill))
            else:
                child.kill()
                self.killed.append(f"{role} after {UNREACHED_S} s without {kill.point}")
        self.restarts += 1
        self.start(role)

    def settle(self, ledger: Ledger, consumer: Consumer | None, pings: int) -> None:
        """Until everything that was acknowledged has come to its end everywhere."""
        for role in PROCESSES:
            self.check_alive(role)
        wait_until("silver", lambda: self._all_alive() and self._loaded(ledger))
        wait_until("bronze", lambda: self._all_alive() and self._in_lake(ledger))
        wait_until("gold", lambda: self._all_alive() and self._count("gold.dirty_buckets") == 0)
        wait_until("the outbox", lambda: self._all_alive() and self._pinged() >= pings)
        if consumer is not None:
            last = "SELECT last_seq FROM app.pipeline_state"
            wait_until("the consumer", lambda: consumer.last_seq >= query(self.database, last)[0][0])

    def stop(self) -> None:
        for child in self.children.values():
            if child.alive:
                child.kill()

    def _all_alive(self) -> bool:
        for role in PROCESSES:
            self.check_alive(role)
        return True

    def _loaded(self, ledger: Ledger) -> bool:
        found = query(self.database, 'SELECT segment, "offset" FROM app.spool_positions')
        return bool(found) and tuple(found[0]) > ledger.position

    def _in_lake(self, ledger: Ledger) -> bool:
        from sluiceway.lake.writer import Cursor

        try:
            position = Cursor(self.settings.spool_dir / "bronze.cursor").position
        except FileNotFoundError:
            return False
        return (position.segment, position.offset) > ledger.position

    def _pinged(self) -> int:
        ((count,),) = query(
            self.database,
            "SELECT count(*) FROM app.outbox WHERE topic = :topic AND done_at IS NOT NULL",
            topic=PING,
        )
        return int(count)

    def _count(self, table: str) -> int:
        ((count,),) = query(self.database, f"SELECT count(*) FROM {table}")
        return int(count)


def run_seed(
    seed: int,
    stage: Stage,
    database: Database,
    url: str,
    home: Path,
    *,
    kills: list[Kill] | None = None,
    before_start: Callable[[World], None] | None = None,
    until: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Load, kill, go on, compare. The database has gold and the pipeline `orders`.

    `kills`: others than the seed's. `until`: the load goes on until this is so, too.
    """
    begun = time.monotonic()
    world = World(stage, database, url, home)
    consumer = Consumer(world.port, world.read_key)
    pings = Pings(database)
    senders = [Sender(world.port, world.key, f"s{seed}-{n}") for n in range(2)]
    if before_start is not None:
        before_start(world)
    try:
        world.start_all()
        for thread in (*senders, consumer, pings):
            thread.start()
        for kill in plan(seed) if kills is None else kills:
            world.kill(kill)
        wait_until("enough events", lambda: _sent(senders) >= LEAST_EVENTS and until())
        ledger = Ledger()
        for sender in senders:
            ledger.absorb(sender.finish())
        world.settle(ledger, consumer, pings.finish())
        verdict = check_everything(database, world.settings, ledger, consumer)
        _check_handled(world, pings, verdict)
        consumer.finish()
    finally:
        for sender in senders:
            sender._ending.set()
        pings.stop()
        world.stop()
        consumer.finish()
    return Outcome(
        seed, verdict, world.killed, world.restarts, ledger.requests, ledger.broken, time.monotonic() - begun
    )


def _sent(senders: list[Sender]) -> int:
    for sender in senders:
        if sender.error is not None:
            raise sender.error
    return sum(len(sender.ledger.acknowledged) for sender in senders)


def _check_handled(world: World, pings: "Pings", verdict: Verdict) -> None:
    """At least once: that is what the outbox promises."""
    path = world.home / "handled.log"
    handled = {int(line) for line in path.read_text().split()} if path.exists() else set()
    verdict.lost += [f"message {n} of the outbox was never handled" for n in set(range(pings.put)) - handled]


class Pings(threading.Thread):
    """Puts a message into the outbox every little while."""

    def __init__(self, database: Database) -> None:
        super().__init__(name="pings", daemon=True)
        self._database = database
        self._ending = threading.Event()
        self.put = 0

    def run(self) -> None:
        while not self._ending.is_set():
            with self._database.transaction(Role.APP, workspace_id=1) as connection:
                outbox.put(connection, 1, PING, {"number": self.put})
            self.put += 1
            self._ending.wait(0.1)

    def finish(self) -> int:
        self.stop()
        return self.put

    def stop(self) -> None:
        self._ending.set()
        if self.is_alive():
            self.join(PATIENCE_S)


def prepare_template(database: Database) -> None:
    """What every seed's database has: the pipeline, and nothing waiting in the outbox."""
    apply_pipeline(database, 1, ORDERS)
    with database.transaction(Role.OWNER) as connection:
        connection.exec_driver_sql("UPDATE app.outbox SET done_at = now()")


def clear(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
