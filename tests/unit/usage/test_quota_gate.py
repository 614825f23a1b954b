"""What one process lets through near a hard limit: never more than is left, and nothing is counted twice."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime

import psycopg
import pytest

from sluiceway.usage.contracts import Measure, Quota, next_month, spoken
from sluiceway.usage.intake import Counts, Key, Limit, QuotaGate

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class Table:
    """The shared table, as its processes see it."""

    def __init__(self, *limits: Limit) -> None:
        self.limits_now = list(limits)
        self.events = dict.fromkeys((limit.workspace_id for limit in limits), 0)
        self.counts: Counts = {}
        self.away = False

    def keep(self, counts: Mapping[Key, tuple[int, int]]) -> None:
        if self.away:
            raise psycopg.OperationalError
        for key, (events, size) in counts.items():
            known = self.counts.get(key, (0, 0))
            self.counts[key] = (known[0] + events, known[1] + size)

    def limits(self, month: date) -> list[Limit]:
        if self.away:
            raise psycopg.OperationalError
        assert month == date(2026, 11, 1)
        events = sum(found for found, _ in self.counts.values())
        size = sum(found for _, found in self.counts.values())
        used = {Measure.EVENTS: events, Measure.INGESTED_BYTES: size}
        return [
            Limit(limit.workspace_id, limit.measure, limit.hard, used.get(limit.measure, limit.used))
            for limit in self.limits_now
        ]


def gate(table: Table) -> QuotaGate:
    found = QuotaGate(table, time_s=lambda: NOW)
    found.keep()
    return found


def accept(one: QuotaGate, events: int, size: int = 10, workspace: int = 1) -> bool:
    if one.take(workspace, "orders", events, size) is not None:
        return False
    one.count(workspace, 7, events, size)
    return True


def test_nothing_past_the_limit_passes() -> None:
    table = Table(Limit(1, Measure.EVENTS, 100, 0))
    one = gate(table)
    assert [accept(one, 30) for _ in range(4)] == [True, True, True, False]
    assert accept(one, 10) and not accept(one, 1)
    one.keep()
    assert table.counts == {(7, int(NOW) // 86_400): (100, 40)}
    assert not accept(one, 1)
    assert accept(one, 5, workspace=2), "another workspace has no limit"


def test_looking_at_the_table_neither_loses_nor_doubles_what_is_on_its_way() -> None:
    table = Table(Limit(1, Measure.EVENTS, 100, 0))
    one = gate(table)
    assert one.take(1, "orders", 60, 1) is None  # taken, not on disk yet
    one.keep()
    assert not accept(one, 41) and accept(one, 40)
    one.count(1, 7, 60, 1)
    one.keep()
    assert not accept(one, 1)
    assert sum(events for events, _ in table.counts.values()) == 100


def test_what_did_not_get_to_the_disk_is_given_back() -> None:
    one = gate(Table(Limit(1, Measure.EVENTS, 10, 0)))
    assert one.take(1, "orders", 10, 1) is None and not accept(one, 1)
    one.give_back(1, 10, 1)
    assert accept(one, 10)


def test_two_processes_share_one_limit() -> None:
    table = Table(Limit(1, Measure.EVENTS, 100, 0))
    one, two = gate(table), gate(table)
    assert accept(one, 60)
    one.keep()
    assert accept(two, 60), "it has not looked yet: this is what a limit may be passed by"
    two.keep(), one.keep()
    assert not accept(one, 1) and not accept(two, 1)


def test_a_process_looks_again_when_it_took_an_eighth_of_what_was_left() -> None:
    table = Table(Limit(1, Measure.EVENTS, 800, 0))
    one = QuotaGate(table, time_s=lambda: NOW, every_s=3600)
    two = gate(table)
    one.start()
    try:
        until(lambda: one.look(1, "orders") is None and one.take(1, "orders", 801, 1) is not None)
        assert accept(one, 60) and accept(one, 50)
        until(lambda: sum(events for events, _ in table.counts.values()) == 110)
        two.keep()
        assert not accept(two, 691) and accept(two, 690)
    finally:
        one.stop()


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_bytes_and_what_is_stored() -> None:
    one = gate(Table(Limit(1, Measure.INGESTED_BYTES, 1000, 0)))
    assert accept(one, 1, 900) and not accept(one, 1, 101) and accept(one, 1, 100)
    two = gate(Table(Limit(1, Measure.STORED_BYTES, 1000, 1000)))
    refused = two.take(1, "orders", 1, 1)
    assert refused is not None and refused.extra == {"measure": "stored_bytes", "limit": 1000}
    assert refused.retry_after_s == 3600


def test_a_refusal_says_until_when() -> None:
    one = gate(Table(Limit(1, Measure.EVENTS, 5_000_000, 0)))
    refused = one.take(1, "orders", 5_000_001, 1)
    assert refused is not None and (refused.code, refused.status) == ("quota_exceeded", 429)
    assert refused.retry_after_s == datetime(2026, 12, 1, tzinfo=UTC).timestamp() - NOW
    assert "5,000,000 events a month" in refused.detail and "2026-12-01" in refused.detail


def test_a_limit_that_is_raised_or_taken_away_holds_no_longer() -> None:
    table = Table(Limit(1, Measure.EVENTS, 10, 0))
    one = gate(table)
    assert accept(one, 10) and one.look(1, "orders") is not None
    table.limits_now = [Limit(1, Measure.EVENTS, 20, 0)]
    one.keep()
    assert accept(one, 10) and not accept(one, 1)
    table.limits_now = []
    one.keep()
    assert one.look(1, "orders") is None and accept(one, 1_000_000)


def test_while_the_database_is_away_the_last_limit_holds_and_counts_wait() -> None:
    table = Table(Limit(1, Measure.EVENTS, 100, 0))
    one = gate(table)
    table.away = True
    assert accept(one, 60)
    one.keep(), one.keep()
    assert not accept(one, 41) and table.counts == {}
    table.away = False
    one.keep()
    assert sum(events for events, _ in table.counts.values()) == 60
    assert accept(one, 40) and not accept(one, 1)


def test_the_platforms_own_measurements_always_pass() -> None:
    one = gate(Table(Limit(1, Measure.EVENTS, 0, 0), Limit(2, Measure.EVENTS, 0, 0)))
    assert one.take(1, "platform-health", 3, 10) is None
    assert one.take(1, "orders", 3, 10) is not None
    assert one.take(2, "platform-health", 3, 10) is not None, "a name is no way past the limit elsewhere"


@pytest.mark.parametrize(
    ("quota", "used", "state"),
    [
        (Quota(Measure.EVENTS), 10**9, "ok"),
        (Quota(Measure.EVENTS, soft=10, hard=20), 9, "ok"),
        (Quota(Measure.EVENTS, soft=10, hard=20), 10, "soft"),
        (Quota(Measure.EVENTS, soft=10, hard=20), 20, "hard"),
        (Quota(Measure.EVENTS, hard=20, ceiling=15), 15, "hard"),
        (Quota(Measure.EVENTS, ceiling=15), 15, "hard"),
    ],
)
def test_states(quota: Quota, used: int, state: str) -> None:
    assert quota.state(used) == state


def test_words() -> None:
    assert spoken(Measure.EVENTS, 1) == "1 event" and spoken(Measure.SEATS, 1200) == "1,200 seats"
    assert spoken(Measure.STORED_BYTES, 999) == "999 bytes"
    assert spoken(Measure.STORED_BYTES, 2_500_000) == "2.5 MB"
    assert next_month(date(2026, 12, 1)) == datetime(2027, 1, 1, tzinfo=UTC)
