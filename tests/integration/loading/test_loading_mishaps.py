"""What a loader meets beside its batches: a gate that fails early, ids given out twice, older databases."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.infra.database import Database
from sluiceway.ingestion.contracts import Form
from tests.support.loading import NOW_US, ORDERS, Bench, RuleGate, check_whole, order, query


@pytest.fixture
def make(database: Database, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(**options: Any) -> Bench:
        made.append(Bench(database, tmp_path / "spool", **options))
        return made[-1]

    yield bench
    for item in made:
        item.close()


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
    real = bench.loader._read_ahead
    failed: list[int] = []

    def fail_once(*given: Any) -> Any:
        if not failed:
            failed.append(1)
            raise MemoryError
        return real(*given)

    monkeypatch.setattr(bench.loader, "_read_ahead", fail_once)
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
