"""Time in queries: grains, the bounds of a range, and which gold level answers which part of it.

Pure. All times are aware; a range holds its begin and not its end.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sluiceway.queries.contracts import MAX_BUCKETS, TimeRange

MINUTE, HOUR, DAY, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=7)
GRAINS = {
    "1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": HOUR, "1d": DAY, "1w": WEEK,
}  # fmt: skip
LEVELS = {"1m": MINUTE, "1h": HOUR, "1d": DAY}
RAW = "raw"
AUTO_BUCKETS = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The catalog takes no event before 1970 and PostgreSQL none after 294276: what is outside is empty anyway.
EARLIEST, LATEST = _EPOCH, datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Range:
    begin: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a range, answered by one gold level, or by the samples themselves (`raw`)."""

    level: str
    begin: datetime
    end: datetime


def resolve(
    asked: TimeRange | None, extent: Range | None, now: datetime, grain: str | None, timezone: str
) -> Range:
    """The bounds of a query in UTC. `extent` is what the pipeline holds; None: nothing.

    Raises ValueError (a sentence) where the end is before the begin.
    """
    zone = ZoneInfo(timezone)
    if asked is None:
        return extent or Range(_floor(now, DAY), _floor(now, DAY) + DAY)
    if (last := asked.last_duration) is not None:
        begin = now - last if last < now - EARLIEST else EARLIEST
        unit = snap_unit(last, grain)
        # What happens this very moment belongs to it, also on the stroke of the hour.
        return Range(floor(begin, unit, zone), ceil(now + timedelta(microseconds=1), unit, zone))
    begin = _aware(asked.from_, zone) if asked.from_ else (extent.begin if extent else EARLIEST)
    end = _aware(asked.to, zone) if asked.to else now
    if end < begin:
        raise ValueError("`to` should not be before `from`")
    return Range(max(begin, EARLIEST), min(max(end, EARLIEST), LATEST))


def snap_unit(last: timedelta, grain: str | None) -> timedelta:
    """To what the ends of a rolling range are moved: at most about 2% of its length without a grain."""
    if grain is not None and grain != "auto":
        return GRAINS[grain]
    if grain == "auto":
        return GRAINS[auto_grain(last)]
    return MINUTE if last < 2 * DAY else HOUR if last < 60 * DAY else DAY


def auto_grain(length: timedelta) -> str:
    """The finest grain that makes at most about 200 buckets."""
    for name, size in GRAINS.items():
        if length <= size * AUTO_BUCKETS:
            return name
    return "1w"


def too_many_buckets(length: timedelta, grain: str | None) -> bool:
    return grain is not None and length / GRAINS[grain] > MAX_BUCKETS


def floor(at: datetime, unit: timedelta, zone: ZoneInfo) -> datetime:
    """The begin of the bucket of length `unit` that holds `at`: days and weeks (from Monday) of the zone."""
    if unit < DAY:
        if unit < HOUR:
            return _floor(at, unit)
        offset = at.astimezone(zone).utcoffset() or timedelta()
        return _floor(at + offset, unit) - offset
    local = at.astimezone(zone).date()
    if unit == WEEK:
        local -= timedelta(days=local.weekday())
    return datetime(local.year, local.month, local.day, tzinfo=zone).astimezone(UTC)


def ceil(at: datetime, unit: timedelta, zone: ZoneInfo) -> datetime:
    low = floor(at, unit, zone)
    if low == at:
        return low
    if unit < DAY:
        return low + unit
    local = low.astimezone(zone).date() + unit
    return datetime(local.year, local.month, local.day, tzinfo=zone).astimezone(UTC)


def coarsest_level(grain: str | None, timezone: str, span: Range) -> str:
    """The coarsest gold level whose buckets never cross a bucket of the grain. Gold's days are UTC's."""
    if grain is None:
        return "1d"
    size = GRAINS[grain]
    if size < HOUR:
        return "1m"
    if timezone == "UTC" and size >= DAY:
        return "1d"
    return "1h" if timezone == "UTC" or _whole_hours(ZoneInfo(timezone), span) else "1m"


def split(span: Range, coarsest: str) -> tuple[Segment, ...]:
    """Cut a range into the coarsest level in the middle and ever finer ones at its ends, in time order.

    What is finer than a minute is left to the samples themselves. Parts never overlap and leave no gap.
    """
    sizes = [(name, size) for name, size in LEVELS.items() if size <= LEVELS[coarsest]]
    return tuple(_split(span.begin, span.end, list(reversed(sizes))))


def _split(begin: datetime, end: datetime, levels: list[tuple[str, timedelta]]) -> list[Segment]:
    if begin >= end:
        return []
    if not levels:
        return [Segment(RAW, begin, end)]
    (name, size), finer = levels[0], levels[1:]
    low, high = _ceil(begin, size), _floor(end, size)
    if low >= high:
        return _split(begin, end, finer)
    return [*_split(begin, low, finer), Segment(name, low, high), *_split(high, end, finer)]


def _whole_hours(zone: ZoneInfo, span: Range) -> bool:
    """Whether the zone's offset from UTC is whole hours all through the range (asked every four weeks)."""
    at, step = span.begin, 4 * WEEK
    if span.length > 13 * 200 * step:
        return False
    while at < span.end + step:
        offset = at.astimezone(zone).utcoffset() or timedelta()
        if offset % HOUR:
            return False
        at += step
    return True


def _floor(at: datetime, unit: timedelta) -> datetime:
    return at - (at - _EPOCH) % unit


def _ceil(at: datetime, unit: timedelta) -> datetime:
    low = _floor(at, unit)
    return low if low == at else low + unit


def _aware(at: datetime, zone: ZoneInfo) -> datetime:
    try:
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        return EARLIEST if at.year < EARLIEST.year else LATEST
