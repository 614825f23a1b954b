"""What a loader meets beside its batches: a gate that fails early, ids given out twice, older databases."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import load_settings
from sluiceway.ingestion.contracts import Form, Position
from sluiceway.ingestion.spool import SpoolWriter
from sluiceway.loading.leases import Membership, SpoolNameTaken
from sluiceway.runtime.spools import Finder, SpoolWork
from sluiceway.warehouse import repository
from sluiceway.warehouse.errors import CursorMoved
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import NOW, NOW_US, ORDERS, Bench, RuleGate, check_whole, order, query


def send_backlog(bench: Bench, rounds: int = 6) -> int:
    for number in range(rounds):
        bench.send([order(number * 1000 + n, note="x" * 400) for n in range(1000)])
    return rounds * 1000


def test_a_gate_that_fails_ahead_is_asked_again_with_the_commit(
    make: Callable[..., Bench], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(frame: Any) -> Any:
        raise RuntimeError("a fault in the engine")

    bench = make(source=ORDERS + "quality: {suite: orders}\n", gate=RuleGate(boom))
    monkeypatch.setattr("sluiceway.loading.committing._FIRST_PAUSE_S", 0.001)
    sent = send_backlog(bench)
    bench.load()
    assert query(database, "SELECT code, count(*) FROM quality.dead_letters GROUP BY 1") == [
        ("load_failed", sent)
    ]


def test_what_fails_while_it_is_prepared_ahead_is_prepared_again(
    make: Callable[..., Bench], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    real = bench.loader._chunks._read_ahead
    failed: list[int] = []

    def fail_once(*given: Any) -> Any:
        if not failed:
            failed.append(1)
            raise MemoryError
        return real(*given)

    monkeypatch.setattr(bench.loader._chunks, "_read_ahead", fail_once)
    sent = send_backlog(bench)
    bench.load()
    assert failed
    assert check_whole(database) == sent


def test_an_event_of_another_workspace_is_not_taken_for_this_one_s(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make()

    def send_strange() -> None:
        bench.writer.append_now(
            workspace_id=2, pipeline_id=1, form=Form.OBJECT, events=1,
            body=b'{"id":"strange","at":"2026-11-21T00:00:00Z"}', received_us=NOW_US,
        )  # fmt: skip

    send_strange()
    bench.send([order(1)])
    send_strange()
    bench.load()
    bench.send([order(2)])
    bench.load()
    assert check_whole(database) == 2
    assert query(database, "SELECT count(*) FROM silver.orders WHERE event_id = 'strange'") == [(0,)]
    assert bench.loader.stats.unknown == 2
    cursor = query(database, 'SELECT segment, "offset" FROM app.spool_cursors')
    bench.restart()
    bench.load()
    assert query(database, 'SELECT segment, "offset" FROM app.spool_cursors') == cursor


def set_position(database: Database, segment: int) -> None:
    """The database as it was (or will be) when the node's log was read to another segment."""
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text(
                'UPDATE app.spool_positions SET segment = :segment, "offset" = 0,'
                " updated_at = '2026-11-18T12:00Z'"
            ),
            {"segment": segment},
        )


def test_a_database_older_than_what_is_left_of_the_log_is_told_with_the_days(
    make: Callable[..., Bench], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make()
    bench.send([order(1)])
    bench.load()
    bench.restart()
    bench.load()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    first, newest = bench.reader.bounds() or (0, 0)
    set_position(database, first - 3)
    bench.restart()
    bench.load()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "replay the days from 2026-11-18 to 2026-11-21" in told
    caplog.clear()
    set_position(database, newest + 3)
    bench.restart()
    bench.load()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert f"the newest of the folder is {newest}" in told


def test_nothing_is_let_go_of_while_the_database_is_away_or_older(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make()
    bench.send([order(1)])
    bench.load()
    assert bench.loader.position is not None
    assert settled(bench) == bench.loader.position
    bench.loader.stats.failing_since = NOW
    assert settled(bench) is None
    bench.loader.stats.failing_since = None
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("DELETE FROM app.spool_cursors"))
    bench.loader._find_out(CursorMoved("It went back."))
    assert not bench.loader.position
    assert settled(bench) is None


def settled(bench: Bench) -> Position | None:
    return bench.loader.settled


def test_another_folder_of_a_node_s_name_does_not_take_its_place(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    membership = Membership(database)
    spools = tmp_path / "spool"
    (spools / "own").mkdir(parents=True)
    with closing(SpoolWriter(spools / "old")) as writer:
        writer.append_now(workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b"{}")
    own = membership.attend("n", "own", spools / "own")
    membership.beat()
    for spool_id in ("old", "own"):  # one that was lost and found again, and a copy
        with pytest.raises(SpoolNameTaken):
            membership.attend("n", spool_id, spools / "old")
    with database.connect(Role.WRITER) as connection:
        assert own.settle(lambda: connection, [1]) == {1}

    settings = load_settings({"SLUICEWAY_HOME": str(tmp_path), "SLUICEWAY_NODE": "own"})

    def refuse(folder: Path) -> SpoolWork:
        membership.attend("n", "old", folder)
        raise AssertionError("it was taken")

    finder = Finder(settings, refuse, left_after_s=0)
    finder.look()
    finder.look()
    assert not finder.works
    assert [r.levelname for r in caplog.records if r.name == "sluiceway.runtime.spools"] == ["ERROR"]
    membership.leave("n")
    membership.close()


def test_a_pipeline_that_someone_else_is_at_holds_up_nobody(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make(max_batch_bytes=200_000)
    apply_pipeline(database, 1, ORDERS.replace("name: orders", "name: returns"))
    with database.connect(Role.WRITER) as other, other.transaction():
        assert repository.begin(other, 1, 1)
        sent = send_backlog(bench)
        bench.send([order(n) for n in range(5)], pipeline_id=2)
        while query(database, "SELECT count(*) FROM silver.returns") != [(5,)]:
            bench.loader.step()
        assert query(database, "SELECT count(*) FROM silver.orders") == [(0,)]
        assert not repository.begin(bench.loader._committer.connect(), 1, 1, wait=False)
        bench.loader._committer.close()
    bench.load()
    assert check_whole(database) == sent
