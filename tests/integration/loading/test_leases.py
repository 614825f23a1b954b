"""Loaders that come, go, hang and come back, on a clock of the test's own: who works on what."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluiceway.infra.database import Database, Role
from sluiceway.loading.leases import EXPIRY, Leases, Membership, owner_of

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
PIPELINES = range(12)


class Fleet:
    """Loaders of one spool, one clock, one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START
        self.members: dict[Membership, Leases] = {}
        self.beaten: dict[Membership, datetime] = {}
        self.connection = database.connect(Role.WRITER)
        with self.connection.transaction():
            self.connection.execute("DELETE FROM app.loaders")

    def join(self, spool_id: str = "one") -> Membership:
        member = Membership(self.database, now=lambda: self.now)
        self.members[member] = member.attend("n", spool_id)
        self.beat(member)
        return member

    def beat(self, member: Membership) -> None:
        member.beat()
        self.beaten[member] = self.now

    def settle(self, member: Membership, waiting: range = PIPELINES) -> frozenset[int]:
        return self.members[member].settle(lambda: self.connection, waiting)

    def end(self, member: Membership) -> None:
        member.close()
        del self.members[member]

    def kill(self, member: Membership) -> None:
        """Its row stays until it expires."""
        member._drop_connection()
        del self.members[member]

    def alive(self) -> list[Membership]:
        """Those whose word still counts."""
        return [m for m in self.members if self.now < self.beaten[m] + EXPIRY]

    def close(self) -> None:
        for member in self.members:
            member.close()
        self.members.clear()
        self.connection.close()


@pytest.fixture
def fleet(database: Database) -> Iterator[Callable[[], Fleet]]:
    made: list[Fleet] = []

    def make() -> Fleet:
        made.append(Fleet(database))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_only_a_part_moves_when_a_loader_comes() -> None:
    loaders = [uuid4() for _ in range(4)]
    before = {p: owner_of("n", p, loaders) for p in range(400)}
    assert all(list(before.values()).count(loader) > 50 for loader in loaders)
    more = [*loaders, uuid4()]
    moved = {p for p in range(400) if owner_of("n", p, more) != before[p]}
    assert {owner_of("n", p, more) for p in moved} == {more[-1]}
    assert owner_of("n", 1, []) is None
    assert [owner_of("n", p, list(reversed(loaders))) for p in range(400)] == list(before.values())


def test_one_loader_takes_everything_once_it_has_something_to_load(fleet: Callable[[], Fleet]) -> None:
    stand = fleet()
    member = stand.join()
    assert stand.settle(member, range(3)) == {0, 1, 2}
    assert stand.settle(member, range(2)) == {0, 1, 2}, "what is held stays held while nothing waits"
    assert not stand.members[member].shared


def test_a_second_loader_gets_its_share_when_the_first_gives_it_back(fleet: Callable[[], Fleet]) -> None:
    stand = fleet()
    first = stand.join()
    assert stand.settle(first) == set(PIPELINES)
    second = stand.join()
    assert stand.settle(second) == set(), "everything is held: nothing is taken from the living"
    stand.beat(first)
    kept = stand.settle(first)
    assert stand.members[first].shared
    stand.beat(second)
    got = stand.settle(second)
    assert kept | got == set(PIPELINES)
    assert not kept & got
    assert kept and got


def test_a_dead_loader_s_share_is_taken_over_when_its_time_is_up(fleet: Callable[[], Fleet]) -> None:
    stand = fleet()
    first, second = stand.join(), stand.join()
    stand.beat(first)
    stand.settle(first)
    kept = stand.settle(second)
    stand.now += EXPIRY - timedelta(seconds=1)
    stand.beat(second)
    assert stand.settle(second) == kept
    stand.now += timedelta(seconds=1)
    stand.beat(second)
    assert stand.settle(second) == set(PIPELINES)
    # It was not dead but hung: it learns with its next beat what it has lost.
    stand.beat(first)
    assert stand.members[first].held == set()


def test_a_process_that_is_gone_is_seen_by_its_lock_at_once(
    fleet: Callable[[], Fleet], tmp_path: Path
) -> None:
    stand = fleet()
    first, second = (
        Membership(stand.database, now=lambda: stand.now),
        Membership(stand.database, now=lambda: stand.now),
    )
    for member in (first, second):
        stand.members[member] = member.attend("n", "one", tmp_path)
        stand.beat(member)
    stand.beat(first)
    stand.settle(first)
    stand.beat(second)
    assert stand.settle(second) < set(PIPELINES), "both live"
    held = first._spools["n"].lock
    assert held is not None
    held.close()  # as the system does when a process ends
    stand.kill(first)
    stand.beat(second)
    assert stand.settle(second) == set(PIPELINES)
    assert [path.name for path in (tmp_path / "loaders").iterdir()] == [f"{second.id}.lock"]
    second.leave("n")
    assert list((tmp_path / "loaders").iterdir()) == []


def test_a_clean_end_frees_everything_at_once(fleet: Callable[[], Fleet]) -> None:
    stand = fleet()
    first, second = stand.join(), stand.join()
    stand.beat(first)
    stand.settle(first)
    stand.end(first)
    stand.beat(second)
    assert stand.settle(second) == set(PIPELINES)


def test_a_loader_of_another_folder_is_no_peer(fleet: Callable[[], Fleet]) -> None:
    stand = fleet()
    first, second = stand.join(), stand.join(spool_id="other")
    stand.beat(first)
    assert stand.settle(first) == set(PIPELINES), "all are its own: nobody else reads this folder"
    assert not stand.members[first].shared
    assert stand.settle(second) == set(), "nothing is taken from the living"


def test_a_spool_that_is_left_is_free(fleet: Callable[[], Fleet]) -> None:
    stand = fleet()
    first, second = stand.join(), stand.join()
    stand.beat(first)
    stand.settle(first)
    first.leave("n")
    stand.beat(first)
    stand.beat(second)
    assert stand.settle(second) == set(PIPELINES)
    assert stand.settle(first) == set()


def test_the_database_away_keeps_what_is_held(fleet: Callable[[], Fleet]) -> None:
    stand = fleet()
    member = stand.join()
    held = stand.settle(member)

    def away() -> psycopg.Connection[object]:
        raise psycopg.OperationalError("away")

    assert stand.members[member].settle(away, PIPELINES) == held
    with pytest.raises(psycopg.OperationalError):
        stand.members[member].settle(away, [99])


def test_a_hung_process_does_not_beat(database: Database) -> None:
    import threading

    stop = threading.Event()
    asked: list[UUID] = []

    def working() -> bool:
        asked.append(member.id)
        stop.set()
        return False

    member = Membership(database, working=working)
    member.attend("n", "one")
    member.run(stop)
    with database.connect(Role.WRITER) as connection:
        assert connection.execute("SELECT count(*) FROM app.loaders").fetchone() == (0,)
    assert asked


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_nobody_shares_a_pipeline_and_in_the_end_each_has_one(
    fleet: Callable[[], Fleet], seed: int
) -> None:
    chance = random.Random(seed)
    stand = fleet()
    for _ in range(40):
        stand.now += timedelta(seconds=chance.choice([0, 0, 1, 1, 2, 6]))
        members = list(stand.members)
        action = chance.random()
        if not members or (action < 0.15 and len(members) < 4):
            stand.join()
        elif action < 0.22:
            stand.end(chance.choice(members))
        elif action < 0.28:
            stand.kill(chance.choice(members))
        elif action < 0.7:
            stand.beat(chance.choice(members))
        else:
            stand.settle(chance.choice(members), range(chance.randint(0, 12)))
        claims = [stand.members[m].held for m in stand.alive()]
        assert sum(map(len, claims)) == len(frozenset().union(*claims)), "one holder among the living"
    if not stand.members:
        stand.join()
    stand.now += EXPIRY
    for _ in range(3):
        for member in stand.members:
            stand.beat(member)
        for member in stand.members:
            stand.settle(member)
    claims = [stand.members[m].held for m in stand.members]
    assert frozenset().union(*claims) == set(PIPELINES)
    assert sum(map(len, claims)) == len(PIPELINES)
    ids = [m.id for m in stand.members]
    for member, leases in stand.members.items():
        assert leases.held == {p for p in PIPELINES if owner_of("n", p, ids) == member.id}
    stand.close()
