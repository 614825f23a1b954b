"""A node's name is one folder's: another one is refused before anything of it is touched, and renamed."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolWriter
from sluiceway.ingestion.spool.belonging import Identity, identify, known_as, lock, node_of, rename
from sluiceway.kit.errors import InvalidInput, SluicewayError
from sluiceway.loading import service
from sluiceway.loading.claims import (
    NodeNameInUse,
    SpoolNameKept,
    SpoolNameTaken,
    SpoolUnnamed,
    claim,
    release,
)
from sluiceway.runtime.commands import spools
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import ORDERS, Bench, check_whole, order, query

POSITIONS = "SELECT node, segment > 0, spool_id FROM app.spool_positions ORDER BY node"


@pytest.fixture
def other(database: Database, tmp_path: Path) -> Iterator[Bench]:
    """Another folder of the same node, with 3 events."""
    bench = Bench(database, tmp_path / "other", source="", spool_id="other")
    bench.send([order(n) for n in range(10, 13)])
    yield bench
    bench.close()


def test_another_folder_of_the_name_is_refused_and_what_lies_in_it_is_not_passed_over(
    make: Callable[..., Bench], other: Bench, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(spool_id="first")
    bench.send([order(n) for n in range(5)])
    bench.load()
    assert bench.loader.recognised
    with pytest.raises(SpoolNameTaken, match="sluiceway spool rename"):
        other.loader.step()
    assert not other.loader.recognised
    assert (other.loader.position, other.loader.settled) == (None, None)
    assert query(database, POSITIONS) == [("test", True, "first")]
    assert check_whole(database) == 5
    bench.restart()
    bench.send([order(5)])
    bench.load()
    assert check_whole(database) == 6
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_refused_loader_says_so_once_and_goes_on_when_the_name_is_its_own(
    make: Callable[..., Bench],
    other: Bench,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = make(spool_id="first")
    bench.load()
    monkeypatch.setattr(service, "_REFUSED_PAUSE_S", 0.01)
    stop, loader = threading.Event(), other.loader
    thread = threading.Thread(target=loader.run, args=(stop,))
    thread.start()
    try:
        until(lambda: loader.stats.failing_since is not None and loader._committer.failures > 5)
        assert "spool_name_taken" in (loader.stats.last_error or "")
        assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
        with database.engine(Role.OWNER).begin() as connection:
            connection.execute(sa.text("UPDATE app.spool_positions SET spool_id = 'other'"))
        until(lambda: loader.stats.events == 3)
        until(lambda: loader.stats.failing_since is None)
    finally:
        stop.set()
        thread.join()
    assert check_whole(database) == 3


def until(met: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if met():
            return
        pause.wait(0.01)
    assert met()


def test_a_new_connection_may_lead_to_a_database_that_knows_another_folder(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make(spool_id="first")
    bench.send([order(1)])
    bench.load()
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("UPDATE app.spool_positions SET spool_id = 'other'"))
    bench.loader._committer.close()
    bench.send([order(2)])
    with pytest.raises(SpoolNameTaken):
        bench.load()
    assert check_whole(database) == 1


def test_a_name_from_before_ids_were_kept_goes_to_the_first_that_asks(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make()
    bench.send([order(1)])
    bench.load()
    assert query(database, POSITIONS) == [("test", True, None)]
    with database.connect(Role.WRITER) as connection:
        claim(connection, Identity("test", "first"))
        claim(connection, Identity("test", "first"))
        with pytest.raises(SpoolNameTaken):
            claim(connection, Identity("test", "second"))
    assert query(database, POSITIONS) == [("test", True, "first")]


def test_two_that_ask_at_once_do_not_both_get_it(database: Database) -> None:
    outcomes: list[str] = []
    ready = threading.Barrier(4)

    def ask(spool_id: str) -> None:
        with database.connect(Role.WRITER) as connection:
            ready.wait()
            try:
                claim(connection, Identity("n", spool_id))
            except SpoolNameTaken:
                outcomes.append("refused")
            else:
                outcomes.append(spool_id)

    threads = [threading.Thread(target=ask, args=(f"s{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[:3] == ["refused"] * 3
    assert query(database, POSITIONS) == [("n", False, sorted(outcomes)[3])]


def test_an_id_is_made_once_and_stays_when_the_folder_is_renamed(tmp_path: Path) -> None:
    folder = tmp_path / "n"
    assert known_as(folder) is None
    assert node_of(folder) == "n"
    made = identify(folder, "n")
    assert identify(folder, "whatever") == made == known_as(folder)
    assert rename(folder, "m") == Identity("m", made.id) == known_as(folder)
    assert node_of(folder) == "m"
    assert [path.name for path in folder.iterdir()] == ["spool.json"]


@pytest.mark.parametrize(
    ("identity", "node", "error"),
    [
        (None, "new", SpoolUnnamed),
        (Identity("used", "mine"), "new", SpoolNameKept),
        (Identity("never", "mine"), "new", SpoolNameKept),
        (Identity("used", "stray"), "cursor", NodeNameInUse),
        (Identity("used", "stray"), "used", NodeNameInUse),
        (Identity("used", "stray"), "alive", NodeNameInUse),
    ],
)
def test_what_may_not_be_renamed(
    database: Database, tmp_path: Path, identity: Identity | None, node: str, error: type[SluicewayError]
) -> None:
    apply_pipeline(database, 1, ORDERS)
    with database.engine(Role.OWNER).begin() as owner:
        owner.execute(
            sa.text(
                "INSERT INTO app.loaders (id, host, pid, spools, started_at, beat_at, expires_at)"
                " VALUES (gen_random_uuid(), 'h', 1, '{\"alive\": \"x\"}', now(), now(), now())"
            )
        )
        owner.execute(
            sa.text(
                'INSERT INTO app.spool_cursors (node, pipeline_id, workspace_id, segment, "offset")'
                " VALUES ('cursor', 1, 1, 1, 1)"
            )
        )
    with database.connect(Role.WRITER) as connection:
        claim(connection, Identity("used", "mine"))
        with pytest.raises(error):
            release(connection, identity, tmp_path, node)


def test_a_folder_is_renamed_from_the_command_line(
    database: Database,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.conftest import TEST_KEY

    monkeypatch.setenv("SLUICEWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database_url)
    monkeypatch.setenv("SLUICEWAY_SECRET_KEY", TEST_KEY)
    folder = tmp_path / "n"
    with pytest.raises(spools.NoSpool):
        spools.rename(folder, "new")
    with SpoolWriter(folder) as writer:
        writer.append_now(workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b"{}")
    made = identify(folder, "n")
    with database.connect(Role.WRITER) as connection:
        claim(connection, Identity("n", "another"))
    with pytest.raises(InvalidInput, match="up to 63 letters"):
        spools.rename(folder, "a name")
    (folder / "loaders").mkdir()
    held = lock(folder / "loaders", "x.lock")
    assert held is not None
    with pytest.raises(spools.SpoolInUse):
        spools.rename(folder, "new")
    held.close()
    spools.rename(folder, "new")
    assert f"{folder} is the spool of node new" in capsys.readouterr().out
    assert known_as(folder) == Identity("new", made.id)
    assert ("new", False, made.id) in query(database, POSITIONS)
    with pytest.raises(SpoolNameKept):
        spools.rename(folder, "newer")
