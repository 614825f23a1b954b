"""The database goes away, comes back, breaks in the middle: events are taken in, none is lost or doubled.

Short by default; `FAULT_LONG=1` (`make faults`) keeps the server away for 60 seconds and runs more seeds.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from sluiceway.infra.database import Database
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from tests.support.cluster import Cluster
from tests.support.fault_proxy import Cut, FaultProxy, Faults
from tests.support.faults.plugin import LONG, Record
from tests.support.faults.stage import Stage, wait_until
from tests.support.faults.world import World, chance_of, clear, run_under_load
from tests.support.leftovers import make_folder
from tests.support.loading import query

AWAY_S = 60.0 if LONG else 0.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@dataclass
class Server:
    """A server with the settings of production, to be stopped and started; `url` of a database with gold."""

    postgres: EmbeddedPostgres
    url: str

    def crash(self) -> None:
        """Immediate shutdown: no checkpoint, connections are cut, the next start recovers from the log."""
        pid = self.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        wait_until("the server's end", lambda: not self.postgres.running)

    def start(self) -> None:
        self.postgres.start()


@pytest.fixture(scope="module")
def server(cluster: Cluster, loaded_template: str) -> Iterator[Server]:
    folder = make_folder()
    postgres = EmbeddedPostgres(folder / "pg")
    try:
        cluster.copy_to(postgres)
        postgres.start()
        yield Server(postgres, postgres.url_of(loaded_template))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_database(server: Server, secret_key: SecretKey) -> Iterator[tuple[Database, str]]:
    """A copy of the server's database for this test."""
    name = psycopg.conninfo.conninfo_to_dict(server.url)["dbname"]
    with psycopg.connect(server.postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS fault_test WITH (FORCE)")
        connection.execute(f"CREATE DATABASE fault_test TEMPLATE {name}")
    url = server.postgres.url_of("fault_test")
    database = Database(url, secret_key)
    yield database, url
    database.dispose()


def outlast(world: World, pauses: Path, tries: int = 3) -> None:
    """Until the loader has failed so often, events were taken in meanwhile, and the time is over."""
    begun = time.monotonic()
    wait_until("failed tries", lambda: world.check_all() and _lines(pauses) >= tries)
    world.wait_for_more(40)
    wait_until("the time", lambda: world.check_all() and time.monotonic() - begun > AWAY_S, pause_s=0.2)


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def test_taking_in_goes_on_while_the_server_is_away(
    stage: Stage, server: Server, own_database: tuple[Database, str], tmp_path: Path, fault: Record
) -> None:
    database, url = own_database
    pauses = tmp_path / "pauses"
    world = World(stage, database, url, tmp_path / "home")
    world.options["loader"]["pauses"] = str(pauses)

    def script(world: World) -> None:
        world.wait_for_more(60)
        broken = world.broken()
        server.crash()
        try:
            outlast(world, pauses)
        finally:
            server.start()
        world.wait_for_more(60)
        assert world.broken() == broken, "no sender notices that the database is away"

    verdict = run_under_load(world, "away", script).verdict
    fault(
        f"PostgreSQL away ({'60 s' if LONG else 'three failed loads'})", times=1,
        acknowledged=verdict.acknowledged, lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.fine, str(verdict)
    clear(world.home)


@pytest.mark.parametrize("seed", range(10 if LONG else 1))
def test_a_server_that_crashes_in_the_middle_of_loading(
    seed: int,
    stage: Stage,
    server: Server,
    own_database: tuple[Database, str],
    tmp_path: Path,
    fault: Record,
) -> None:
    database, url = own_database
    chance = chance_of("crash", seed)
    world = World(stage, database, url, tmp_path / "home")

    def script(world: World) -> None:
        for _ in range(3):
            world.wait_for_more(chance.randint(20, 120))
            server.crash()
            server.start()

    verdict = run_under_load(world, f"crash{seed}", script).verdict
    fault(
        "PostgreSQL stopped at once and recovered", times=3, acknowledged=verdict.acknowledged,
        lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.fine, f"seed {seed}: {verdict}"
    clear(world.home)


def proxied(url: str, *proxies: FaultProxy) -> str:
    """The database's address by way of the proxies, the first that answers."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
    return f"postgresql://{parts['user']}@{hosts}/{parts['dbname']}?sslmode=disable&connect_timeout=10"


def socket_of(cluster: Cluster) -> Path:
    return cluster.server.socket_dir / ".s.PGSQL.5432"


@pytest.mark.parametrize("seed", range(40 if LONG else 1))
def test_connections_cut_in_the_middle_of_a_load(
    seed: int,
    stage: Stage,
    cluster: Cluster,
    orders_database: Database,
    orders_url: str,
    tmp_path: Path,
    fault: Record,
) -> None:
    """Connections end after so many bytes: in a statement, in COPY, before the answer to a commit."""
    chance = chance_of("cut", seed)
    cuts = 4
    with FaultProxy(socket_of(cluster)) as proxy:
        world = World(stage, orders_database, proxied(orders_url, proxy), tmp_path / "home")

        def script(world: World) -> None:
            for number in range(1, cuts + 1):
                world.wait_for_more(chance.randint(5, 60))
                way = chance.choice(["up", "up", "down"])
                how = chance.choice(["reset", "close"])
                size = chance.randint(1, 12_000)
                proxy.set(Faults(cut=Cut(way, after_bytes=size, how=how, times=1)))  # type: ignore[arg-type]
                proxy.wait_for(lambda counts, number=number: counts.cuts >= number)

        verdict = run_under_load(world, f"cut{seed}", script).verdict
    fault(
        "connection to PostgreSQL cut in mid-load", times=cuts, acknowledged=verdict.acknowledged,
        lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.fine, f"seed {seed}: {verdict}"
    clear(world.home)


def test_failing_over_to_another_address(
    stage: Stage,
    cluster: Cluster,
    orders_database: Database,
    orders_url: str,
    tmp_path: Path,
    fault: Record,
) -> None:
    """Two addresses in the setting: the first goes, everybody goes on by the second; and back."""
    with FaultProxy(socket_of(cluster)) as first, FaultProxy(socket_of(cluster)) as second:
        world = World(stage, orders_database, proxied(orders_url, first, second), tmp_path / "home")

        def script(world: World) -> None:
            for gone, left in ((first, second), (second, first)):
                world.wait_for_more(60)
                left.set(Faults())
                gone.set(Faults(refuse=True))
                gone.drop()
                before = world.loaded()
                wait_until("loading", lambda before=before: world.check_all() and world.loaded() > before)
                assert left.counts.connections > 0

        verdict = run_under_load(world, "failover", script).verdict
    fault(
        "PostgreSQL failed over to another address", times=2, acknowledged=verdict.acknowledged,
        lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.fine, str(verdict)
    clear(world.home)


def test_the_databases_own_disk_is_full(
    stage: Stage, orders_database: Database, orders_url: str, tmp_path: Path, fault: Record
) -> None:
    """The server refuses to extend a table (53100): events wait, none becomes a dead letter."""
    pauses = tmp_path / "pauses"
    world = World(stage, orders_database, orders_url, tmp_path / "home")
    world.options["loader"]["pauses"] = str(pauses)

    def run(statement: str) -> None:
        with psycopg.connect(orders_url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def script(world: World) -> None:
        world.wait_for_more(60)
        run(
            "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';"
            " END $$"
        )
        run(
            "CREATE TRIGGER no_space BEFORE INSERT ON silver.batches"
            " FOR EACH ROW EXECUTE FUNCTION public.full()"
        )
        outlast(world, pauses)
        assert query(orders_database, "SELECT count(*) FROM quality.dead_letters") == [(0,)]
        run("DROP TRIGGER no_space ON silver.batches")

    verdict = run_under_load(world, "pgfull", script).verdict
    fault(
        "PostgreSQL's disk full and back", times=1, acknowledged=verdict.acknowledged,
        lost=len(verdict.lost), doubled=len(verdict.doubled),
    )  # fmt: skip
    assert verdict.fine, str(verdict)
    clear(world.home)
