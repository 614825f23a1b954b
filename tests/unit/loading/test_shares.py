"""Whose turn it is, on a simulated loader: a clock that runs by what each turn would cost."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluiceway.loading.shares import QUANTUM_S, Shares, Turn

MAX_BYTES = 8 * 1024 * 1024
OVERHEAD_S = 0.01


@dataclass
class Stand:
    """A loader of which only the time counts. `rates`: bytes a second by pipeline (default 10 MB)."""

    rates: dict[int, float] = field(default_factory=dict)
    now: float = 100.0
    waiting: dict[int, int] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    served_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shares = Shares(MAX_BYTES, now=lambda: self.now)

    def put(self, pipeline_id: int, size_bytes: int) -> None:
        self.waiting[pipeline_id] = self.waiting.get(pipeline_id, 0) + size_bytes

    def turn(self) -> Turn | None:
        chosen = self.shares.choose(dict(self.waiting))
        if chosen is None:
            return None
        sizes: dict[int, int] = {}
        elapsed_s = 0.0
        for pipeline_id in chosen.pipelines:
            limit = self.waiting[pipeline_id] if chosen.light else chosen.max_bytes
            sizes[pipeline_id] = min(limit, self.waiting[pipeline_id])
            cost_s = OVERHEAD_S + sizes[pipeline_id] / self.rates.get(pipeline_id, 10e6)
            self.served_s[pipeline_id] = self.served_s.get(pipeline_id, 0.0) + cost_s
            elapsed_s += cost_s
            self.waiting[pipeline_id] -= sizes[pipeline_id]
            if not self.waiting[pipeline_id]:
                del self.waiting[pipeline_id]
        self.now += elapsed_s
        self.shares.charge(sizes, elapsed_s, heavy=not chosen.light)
        self.turns.append(chosen)
        return chosen


def test_nobody_waits() -> None:
    assert Stand().turn() is None


def test_alone_a_pipeline_gets_full_batches() -> None:
    stand = Stand()
    stand.put(1, 100 * MAX_BYTES)
    for _ in range(5):
        turn = stand.turn()
        assert turn is not None
        assert (turn.pipelines, turn.max_bytes, turn.light) == ((1,), MAX_BYTES, False)


def test_with_others_about_its_batches_come_to_a_quantum() -> None:
    stand = Stand(rates={1: 4e6})
    stand.put(1, 1000 * MAX_BYTES)
    for _ in range(30):
        stand.put(2, 200)
        stand.turn()
        stand.turn()
    before = stand.now
    stand.put(2, 200)
    assert stand.turn() == Turn((2,), MAX_BYTES, True)
    stand.turn()
    assert stand.now - before == pytest.approx(QUANTUM_S, rel=0.25)


def test_a_quiet_pipeline_waits_for_no_more_than_the_batch_at_work() -> None:
    stand = Stand()
    for noisy in (1, 2, 3):
        stand.put(noisy, 10_000 * MAX_BYTES)
    for _ in range(200):
        stand.turn()
        stand.put(9, 300)
        turn = stand.turn()
        assert turn is not None and turn.pipelines == (9,)


def test_many_quiet_ones_are_served_together() -> None:
    stand = Stand()
    stand.put(1, 1000 * MAX_BYTES)
    stand.turn()
    for quiet in range(10, 30):
        stand.put(quiet, 500)
    turn = stand.turn()
    assert turn is not None and set(turn.pipelines) == set(range(10, 30))


def test_a_trickle_does_not_eat_the_time_of_a_backlog() -> None:
    stand = Stand()
    stand.put(1, 10_000 * MAX_BYTES)
    while stand.now < 160:
        stand.put(2, 300)  # there is always something of it, never much
        stand.turn()
    assert stand.served_s[1] > 8 * stand.served_s[2]


def test_too_many_small_ones_do_not_starve_a_backlog() -> None:
    stand = Stand()
    stand.put(1, 10_000 * MAX_BYTES)
    while stand.now < 160:
        for quiet in range(10, 200):
            stand.put(quiet, 300)
        stand.turn()
    assert stand.served_s[1] > 5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e6, 40e6), min_size=2, max_size=6))
def test_backlogs_share_the_time_however_much_their_bytes_cost(rates: list[float]) -> None:
    stand = Stand(rates=dict(enumerate(rates)))
    for pipeline_id in range(len(rates)):
        stand.put(pipeline_id, 100_000 * MAX_BYTES)
    while stand.now < 200:
        stand.turn()
    shares = list(stand.served_s.values())
    assert max(shares) - min(shares) < 3 * QUANTUM_S + 8 / 4, "within the first batches of unknown cost"


def test_one_just_below_a_quantum_gets_no_more_than_its_share() -> None:
    stand = Stand()
    for noisy in (1, 2, 3):
        stand.put(noisy, 100_000 * MAX_BYTES)
    while stand.now < 300:
        missing = 2_000_000 - stand.waiting.get(4, 0)
        if missing > 0:
            stand.put(4, missing)
        stand.turn()
    total = sum(stand.served_s.values())
    assert stand.served_s[4] < 0.3 * total


def test_who_was_away_saves_up_no_claim() -> None:
    stand = Stand()
    stand.put(1, 100_000 * MAX_BYTES)
    stand.put(2, 1)
    while stand.now < 160:
        stand.turn()
    stand.put(2, 100_000 * MAX_BYTES)
    begun, had = stand.now, stand.served_s[1]
    while stand.now < begun + 20:
        stand.turn()
    assert stand.served_s[1] - had > 8


def test_a_prepared_batch_is_next_but_for_the_quiet() -> None:
    stand = Stand()
    for noisy in (1, 2):
        stand.put(noisy, 100 * MAX_BYTES)
    stand.turn()
    shares = stand.shares
    turn = shares.choose({1: 50 * MAX_BYTES, 2: 50 * MAX_BYTES, 3: 10}, ahead=1)
    assert turn is not None and turn.pipelines == (3,)
    turn = shares.choose({1: 50 * MAX_BYTES, 2: 50 * MAX_BYTES}, ahead=1)
    assert turn is not None and turn.pipelines == (1,)
    found = shares.following({2: 50 * MAX_BYTES, 3: 10}, {1})
    assert found is not None and found[0] == 2
    assert shares.following({3: 10}, {1}) is None
