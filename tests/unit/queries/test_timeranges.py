"""Ranges, grains, and cutting a range into levels."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.queries.contracts import TimeRange
from sluiceway.queries.timeranges import (
    DAY,
    GRAINS,
    HOUR,
    LEVELS,
    RAW,
    WEEK,
    Range,
    auto_grain,
    ceil,
    coarsest_level,
    floor,
    resolve,
    split,
)

NOW = datetime(2026, 11, 21, 10, 46, 28, 123456, tzinfo=UTC)
times = st.integers(0, 315_619_200 * 10**6).map(
    lambda us: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)


@given(times, times, st.sampled_from(list(LEVELS)))
def test_parts_cover_the_range_without_gap_or_overlap(a: datetime, b: datetime, coarsest: str) -> None:
    span = Range(min(a, b), max(a, b))
    parts = split(span, coarsest)
    at = span.begin
    for part in parts:
        assert part.begin == at and part.end > part.begin
        if part.level == RAW:
            assert part.end - part.begin < LEVELS["1m"] * 2
        else:
            assert LEVELS[part.level] <= LEVELS[coarsest]
            for end in (part.begin, part.end):
                assert (end - datetime(1970, 1, 1, tzinfo=UTC)) % LEVELS[part.level] == timedelta()
        at = part.end
    assert at == span.end or (not parts and span.length == timedelta())
    assert len(parts) <= 7


@given(times, st.sampled_from(list(GRAINS)), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]))
def test_a_bucket_holds_its_time(at: datetime, grain: str, zone: str) -> None:
    size, tz = GRAINS[grain], ZoneInfo(zone)
    low, high = floor(at, size, tz), ceil(at, size, tz)
    assert low <= at <= high
    assert high - low <= size + HOUR
    assert floor(low, size, tz) == low and ceil(low, size, tz) == low


@pytest.mark.parametrize(
    ("length", "grain"),
    [(HOUR, "1m"), (6 * HOUR, "5m"), (DAY, "15m"), (WEEK, "1h"), (30 * DAY, "1d"), (365 * DAY, "1w")],
)
def test_auto_makes_at_most_two_hundred_points(length: timedelta, grain: str) -> None:
    assert auto_grain(length) == grain
    assert length / GRAINS[grain] <= 200


def test_a_rolling_range_ends_on_whole_buckets() -> None:
    span = resolve(TimeRange(last="24h"), None, NOW, "1h", "UTC")
    assert span == Range(datetime(2026, 11, 20, 10, tzinfo=UTC), datetime(2026, 11, 21, 11, tzinfo=UTC))
    day = resolve(TimeRange(last="7d"), None, NOW, "1d", "America/New_York")
    assert day.begin == datetime(2026, 11, 14, 5, tzinfo=UTC)
    assert resolve(TimeRange(last="300y"), None, NOW, None, "UTC").begin.year == 1970


def test_times_without_an_offset_are_the_querys_zone() -> None:
    asked = TimeRange.model_validate({"from": "2026-07-01", "to": "2026-07-02T00:00:00Z"})
    span = resolve(asked, None, NOW, None, "Europe/Berlin")
    assert span == Range(datetime(2026, 6, 30, 22, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC))


def test_the_end_is_not_before_the_begin() -> None:
    asked = TimeRange.model_validate({"from": "2026-07-02T00:00:00Z", "to": "2026-07-01T00:00:00Z"})
    with pytest.raises(ValueError, match="before"):
        resolve(asked, None, NOW, None, "UTC")


@pytest.mark.parametrize(
    ("grain", "zone", "level"),
    [
        (None, "Asia/Kolkata", "1d"), ("5m", "UTC", "1m"), ("1h", "UTC", "1h"), ("1h", "Asia/Kolkata", "1m"),
        ("1d", "UTC", "1d"), ("1w", "UTC", "1d"), ("1d", "Europe/Berlin", "1h"), ("1d", "Asia/Kolkata", "1m"),
        ("1w", "Australia/Lord_Howe", "1m"),
    ],
)  # fmt: skip
def test_a_level_never_crosses_a_bucket(grain: str | None, zone: str, level: str) -> None:
    span = Range(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert coarsest_level(grain, zone, span) == level
