"""What becomes of a batch when the database is there, but is read-only, or refuses what it is given."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.infra.database_errors import is_away, is_refused
from sluiceway.warehouse import repository
from tests.support.loading import Bench, check_whole, order, query


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(database, tmp_path / "spool")
    yield made
    made.close()


def failing(times: int, error: Exception, real: Callable[..., Any]) -> Callable[..., Any]:
    left = [times]

    def call(*given: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return real(*given)

    return call


def test_a_server_that_is_read_only_is_waited_for(
    bench: Bench, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    standby = psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")
    monkeypatch.setattr(repository, "insert_batch", failing(4, standby, repository.insert_batch))
    bench.send([order(n) for n in range(20)])
    bench.load()
    assert check_whole(database) == 20
    assert query(database, "SELECT count(*) FROM quality.dead_letters") == [(0,)]


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.DataCorrupted(), True),
        (psycopg.OperationalError("connection refused"), True),
        (sa.exc.InternalError("SELECT 1", None, psycopg.errors.ReadOnlySqlTransaction()), True),
        (psycopg.errors.ProgramLimitExceeded(), False),
        (psycopg.errors.StatementTooComplex(), False),
        (psycopg.errors.UniqueViolation(), False),
        (ZeroDivisionError(), False),
    ],
)
def test_what_counts_as_a_database_that_is_away(error: Exception, away: bool) -> None:
    assert is_away(error) is away
    assert not (away and is_refused(error))


def test_a_value_beyond_the_server_s_limits_is_a_dead_letter(bench: Bench, database: Database) -> None:
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("CREATE INDEX ON silver.orders (note)"))
    bench.send([order(n, note=wide_text() if n == 7 else "ok") for n in range(20)])
    bench.load()
    assert check_whole(database) == 19
    letters = query(database, "SELECT event_id, code FROM quality.dead_letters")
    assert letters == [("o-7", "refused_by_database")]


def wide_text() -> str:
    """Random, so that it does not become small enough for an index by compression."""
    return "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(6_000))


def test_an_id_that_no_index_could_hold_is_known_by_its_digest(bench: Bench, database: Database) -> None:
    bench.send([order(n, **({"id": wide_text()} if n == 7 else {})) for n in range(20)])
    bench.send([order(7, id=wide_text())])
    bench.load()
    assert check_whole(database) == 20
    assert query(database, "SELECT duplicates FROM app.pipeline_state") == [(1,)]
    ((found,),) = query(database, "SELECT event_id FROM silver.orders WHERE event_id LIKE 'sha256:%'")
    assert len(found) == 71


def test_an_id_that_the_index_refuses_costs_the_others_nothing(
    bench: Bench, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("single", "bulk"):  # as if ids were taken as they come
        monkeypatch.setattr(f"sluiceway.transforms.{module}.MAX_ID_BYTES", 1_000_000)
    bench.send([order(n) for n in range(5)])
    bench.load()
    # With ids that come twice, in this batch and from the one before.
    poisoned = [order(n, **({"id": wide_text()[:1000]} if n == 7 else {})) for n in range(20)]
    bench.send([*poisoned, order(19, amount=0), order(3, amount=0)])
    bench.load()
    assert check_whole(database) == 19
    assert query(database, "SELECT duplicates FROM app.pipeline_state") == [(7,)]
    ((code, reason),) = query(database, "SELECT code, reason FROM quality.dead_letters")
    assert code == "refused_by_database"
    assert "exceeds btree" in reason and "event_keys" in reason


def test_a_sample_that_is_refused_costs_the_others_nothing(bench: Bench, database: Database) -> None:
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("CREATE INDEX wide ON silver.series ((dimensions::text))"))
    bench.send([order(n, country=wide_text() if n == 7 else "CH") for n in range(20)])
    bench.load()
    assert check_whole(database) == 19
    assert query(database, "SELECT event_id, code FROM quality.dead_letters") == [
        ("o-7", "refused_by_database")
    ]


def test_dead_letters_that_cannot_be_written_are_written_bare(bench: Bench, database: Database) -> None:
    bench.send([order(1)], headers={"x-nul": "\0"})
    bench.send([{"id": "o-2"}], headers={"x-nul": "\0"})
    bench.load()
    found = query(database, "SELECT event_id, step, code, headers FROM quality.dead_letters")
    assert sorted(code for _, _, code, _ in found) == ["load_failed", "missing_time"]
    assert [(event_id, step, headers) for event_id, step, _, headers in found] == [(None, "map", {})] * 2
    bench.send([order(3)])
    bench.load()
    assert check_whole(database) == 1
