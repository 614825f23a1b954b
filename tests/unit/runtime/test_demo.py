"""The demo's calendar and clock: whole weeks, true weekdays, stable ids, nothing twice."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.runtime.demo.calendar import (
    FIRST_SOURCE_DAY,
    RING_DAYS,
    at_local,
    local_today,
    source_of,
    start_of,
    year_until,
)
from sluiceway.runtime.demo.flights import Event, NewYork, bodies
from sluiceway.runtime.demo.oddities import ODD_EVERY, TWICE_EVERY, disturb
from sluiceway.runtime.demo.replaying import QUIET_S, between, round_of, schedule
from sluiceway.runtime.demo.state import DemoState

DAY = date(2026, 11, 20)


@pytest.fixture(scope="module")
def new_york() -> NewYork:
    return NewYork()


@given(st.dates(min_value=date(2000, 1, 1), max_value=date(2100, 1, 1)))
def test_a_day_and_its_source_have_the_same_weekday_and_lie_whole_weeks_apart(day: date) -> None:
    source = source_of(day)
    assert FIRST_SOURCE_DAY <= source <= date(2013, 12, 31)
    assert source.weekday() == day.weekday()
    assert (day - source).days % 7 == 0


@pytest.mark.parametrize("last", [DAY, date(2027, 1, 1), date(2028, 2, 29)])
def test_a_year_holds_every_source_day_once(last: date) -> None:
    days = year_until(last)
    assert days[0] == last and len(days) == RING_DAYS
    assert len({source_of(day) for day in days}) == RING_DAYS


def test_the_season_is_true() -> None:
    assert source_of(DAY) == date(2013, 11, 22)


def test_local_times_become_utc_by_the_target_days_daylight_saving() -> None:
    assert at_local(date(2026, 7, 1), 517) == datetime(2026, 7, 1, 9, 17, tzinfo=UTC)
    assert at_local(date(2026, 12, 1), 517) == datetime(2026, 12, 1, 10, 17, tzinfo=UTC)
    assert at_local(date(2026, 12, 1), 2400) == datetime(2026, 12, 2, 5, 0, tzinfo=UTC)
    assert at_local(date(2026, 3, 8), 230) == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)  # skipped that night
    assert at_local(date(2026, 11, 1), 130) == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)  # comes twice: first
    assert local_today(datetime(2026, 11, 21, 4, 59, tzinfo=UTC)) == DAY
    assert start_of(DAY) == datetime(2026, 11, 20, 5, 0, tzinfo=UTC)


def test_flights_are_real_unique_and_in_order(new_york: NewYork) -> None:
    flights = new_york.flights(DAY)
    assert len(flights) == 999
    assert [f.at for f in flights] == sorted(f.at for f in flights)
    assert len({f.document["id"] for f in flights}) == len(flights)
    first = flights[0].document
    assert first["carrier_name"] and first["distance"] > 0 and first["scheduled"].endswith("Z")
    assert new_york.flights(DAY) == flights
    assert all(local_today(f.at) == DAY for f in flights)


def test_missing_values_are_null_and_a_cancelled_flight_has_no_delay(new_york: NewYork) -> None:
    cancelled = [f.document for f in new_york.flights(date(2026, 2, 6)) if f.document["cancelled"]]
    assert cancelled
    assert all(f["dep_delay"] is None and f["arr_delay"] is None for f in cancelled)


def test_weather_is_hourly_for_three_airports(new_york: NewYork) -> None:
    observations = new_york.weather(DAY)
    assert {o.document["origin"] for o in observations} == {"EWR", "JFK", "LGA"}
    assert len(observations) == 72


def test_bodies_hold_whole_lines_within_the_size() -> None:
    lines = [b"x" * 40 + b"\n"] * 10
    found = list(bodies(iter(lines), 100))
    assert b"".join(found) == b"".join(lines)
    assert all(len(body) <= 100 and body.endswith(b"\n") for body in found)
    assert list(bodies(iter([b"y" * 500 + b"\n"]), 100)) == [b"y" * 500 + b"\n"]


def test_between_is_half_open_and_crosses_midnight(new_york: NewYork) -> None:
    since, until = start_of(DAY), start_of(DAY) + timedelta(days=1, hours=12)
    found = between(new_york.flights, since, until)
    parts = [*between(new_york.flights, since, found[50].at), *between(new_york.flights, found[50].at, until)]
    assert [e.document["id"] for e in parts] == [e.document["id"] for e in found]
    assert {local_today(e.at) for e in found} == {DAY, DAY + timedelta(days=1)}


def test_rounds_bring_other_flights_of_the_last_day_with_ids_of_their_own(new_york: NewYork) -> None:
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    one, two = round_of(new_york.flights, now, 1), round_of(new_york.flights, now, 2)
    assert 100 < len(one) < 500
    assert all(now - timedelta(days=1) < event.at <= now for event in one)
    ids = [event.document["id"] for event in (*one, *two, *new_york.flights(DAY))]
    assert len(set(ids)) == len(ids)
    assert round_of(new_york.flights, now, 1) == one


def test_the_clock_divides_gaps_and_jumps_over_quiet_hours() -> None:
    at = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    times = [at, at + timedelta(minutes=1), at + timedelta(hours=9)]
    first, second, third = schedule(times, 60)
    assert second - first == pytest.approx(1.0)
    assert third - second == pytest.approx(QUIET_S)
    assert list(schedule([], 60)) == []


def test_oddities_are_seldom_and_always_the_same() -> None:
    event = Event(datetime(2026, 1, 1, tzinfo=UTC), {"id": "a", "scheduled": "x", "origin": "JFK"})
    assert disturb(1, event) == [event.line()]
    assert disturb(TWICE_EVERY, event) == [event.line(), event.line()]
    odd = [disturb(ODD_EVERY * n, event)[1] for n in range(1, 7)]
    assert len(set(odd)) == 6 and odd == [disturb(ODD_EVERY * n, event)[1] for n in range(1, 7)]
    assert sum(_is_json(line) for line in odd) == 5


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def test_state_survives_and_is_private(tmp_path: Path) -> None:
    state = DemoState(tmp_path / "demo" / "state.json", until=datetime(2026, 1, 1, tzinfo=UTC), rounds=3)
    state.note("nyc-flights", {DAY})
    known = DemoState.load(state.path)
    assert known == state
    assert known.sent("nyc-flights", DAY) and not known.sent("nyc-weather", DAY)
    assert state.path.stat().st_mode & 0o077 == 0
