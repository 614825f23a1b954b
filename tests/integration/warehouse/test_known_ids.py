"""The filter of known ids in front of the look-up: whoever commits, no id is taken for new that is not."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse import judging, known, repository
from sluiceway.warehouse.judging import Judged
from sluiceway.warehouse.service import Connection
from tests.support.loaded import Loader
from tests.support.loading import ORDERS, order, query

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def every_batch_asks_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "WORTH_IT", 1)
    monkeypatch.setattr(judging, "_FEW", 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The ids that were looked up in the database, a set a look-up."""
    found: list[set[str]] = []
    real = repository.find_known_ids_on

    def listen(
        connection: Connection, pipeline_id: int, ids: Sequence[str], days: Sequence[date]
    ) -> set[str]:
        found.append(set(ids))
        return real(connection, pipeline_id, ids, days)

    monkeypatch.setattr(repository, "find_known_ids_on", listen)
    return found


MADE: list[Loader] = []


@pytest.fixture(autouse=True)
def ended(database: Database) -> Iterator[None]:
    """No filter is in the making when the database goes."""
    yield
    while MADE:
        MADE.pop().warehouse.close()


def loader(database: Database, name: str) -> Loader:
    found = Loader(database, ORDERS)
    MADE.append(found)
    found._batches = hash(name) % 1_000_000  # positions of its own
    found.warehouse._clock = FixedClock(NOW)  # what is received now is not late
    return found


def events(numbers: Sequence[int]) -> list[dict[str, object]]:
    return [order(number) for number in numbers]


def make_filter(of: Loader) -> None:
    """Have something looked up, so that a filter is made."""
    of.load(events([1, 2, 3]), NOW)
    of.load(events([1, 2, 3]), NOW)
    of.warehouse.known.wait()
    assert of.pipeline.id in of.warehouse.known._filters


def ids(database: Database) -> list[str]:
    return sorted(row[0] for row in query(database, "SELECT event_id FROM silver.orders"))


def test_new_ids_are_not_looked_up_and_known_ones_are(database: Database, asked: list[set[str]]) -> None:
    one = loader(database, "one")
    make_filter(one)
    asked.clear()
    assert one.load(events(range(100, 200)), NOW).duplicates == 0
    assert sum(map(len, asked)) < 20
    asked.clear()
    assert one.load(events([*range(150, 160), 3, 500]), NOW).duplicates == 11
    (looked_up,) = asked
    assert {f"o-{n}" for n in (3, *range(150, 160))} <= looked_up and "o-500" not in looked_up


def test_what_another_loader_commits_is_seen(database: Database) -> None:
    one, other = loader(database, "one"), loader(database, "other")
    make_filter(one)
    assert other.load(events(range(50)), NOW).duplicates == 3
    assert one.load(events(range(40, 60)), NOW).duplicates == 10
    assert other.load(events(range(60)), NOW).duplicates == 60
    assert len(ids(database)) == 60


def test_a_commit_that_failed_is_not_counted_as_done(database: Database) -> None:
    one, other = loader(database, "one"), loader(database, "other")
    make_filter(one)

    def fail(connection: Connection, judged: Judged) -> None:
        raise psycopg.OperationalError("the connection is lost")

    real = one.warehouse.commit
    one.warehouse.commit = lambda c, b: real(c, b, fail)  # type: ignore[method-assign,assignment]
    with pytest.raises(psycopg.OperationalError):
        one.load(events(range(10, 20)), NOW)
    one.warehouse.commit = real  # type: ignore[method-assign]
    # Another takes the seqs that were to be given out.
    assert other.load(events(range(30, 40)), NOW).rows == 10
    assert one.load(events([*range(10, 20), *range(30, 40)]), NOW).rows == 10
    assert len(ids(database)) == 23


def test_an_older_batch_asks_the_database(database: Database, asked: list[set[str]]) -> None:
    one = loader(database, "one")
    make_filter(one)
    asked.clear()
    old = [order(number, at="2026-10-01T00:00:00Z") for number in range(100, 110)]
    assert one.load(old, NOW - timedelta(days=20)).rows == 10
    assert one.load(old, NOW - timedelta(days=19)).duplicates == 10
    assert [f"o-{100}" in looked_up for looked_up in asked][-1]


def test_the_window_is_rounded_up_to_weeks_both_ways(database: Database) -> None:
    one = Loader(database, ORDERS + "dedupe: {window: 1d}\n")
    monday, friday = datetime(2026, 11, 16, 1, tzinfo=UTC), datetime(2026, 11, 20, 1, tzinfo=UTC)
    old = [order(number, at="2026-10-01T00:00:00Z") for number in range(200)]
    assert one.load(old[:50], friday).rows == 50
    assert one.load(old[:150], monday).duplicates == 50
    assert one.load(old, friday).duplicates == 150
    assert one.load(old, friday + timedelta(days=14)).rows == 200


def test_a_database_that_was_put_back_is_asked_again(database: Database) -> None:
    one = loader(database, "one")
    make_filter(one)
    with database.connect(Role.OWNER) as connection:
        connection.execute("DELETE FROM silver.orders; DELETE FROM silver.event_keys")
        connection.execute("UPDATE app.pipeline_state SET last_seq = 0, events = 0")
    assert one.load(events([1, 2]), NOW).rows == 2
    assert one.load(events([2, 3]), NOW).rows == 1


def test_seqs_that_were_taken_back_are_seen_by_batches_too_small_to_ask(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = loader(database, "one"), loader(database, "other")
    make_filter(one)
    with database.connect(Role.OWNER) as connection:
        connection.execute("DELETE FROM silver.orders; DELETE FROM silver.event_keys")
        connection.execute("UPDATE app.pipeline_state SET last_seq = 0, events = 0")
    monkeypatch.setattr(judging, "_FEW", 100)
    assert one.load(events([1]), NOW).rows == 1
    assert other.load(events(range(50, 60)), NOW).rows == 10
    monkeypatch.setattr(judging, "_FEW", 0)
    assert one.load(events(range(50, 62)), NOW).rows == 2


def test_a_filter_that_is_made_late_does_not_survive(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loader(database, "one")
    real = known._read

    def read(*given: Any) -> Any:
        made = real(*given)
        one.warehouse.forget()  # the connection is lost when it is nearly there
        return made

    monkeypatch.setattr(known, "_read", read)
    one.load(events([1, 2, 3]), NOW)
    one.load(events([1, 2, 3]), NOW)
    one.warehouse.known.wait()
    assert one.warehouse.known._filters == {}


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_two_loaders_keeps_every_id_once(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    both = [loader(database, "one"), loader(database, "other")]
    sent: set[int] = set()
    filtered = 0
    for _ in range(25):
        one = chance.choice(both)
        filtered += one.pipeline.id in one.warehouse.known._filters
        numbers = [chance.randrange(300) for _ in range(chance.choice([1, 5, 40]))]
        done = one.load(events(numbers), NOW)
        assert done.rows == len(set(numbers) - sent)
        sent |= set(numbers)
        if chance.random() < 0.1:
            one.warehouse.forget()
        if chance.random() < 0.5:
            one.warehouse.known.wait()
    assert ids(database) == sorted(f"o-{n}" for n in sent)
    assert filtered > 0
    for one in both:
        one.warehouse.known.wait()
