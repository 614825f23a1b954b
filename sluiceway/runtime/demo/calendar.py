"""Which day of 2013 stands for a day of today, and what UTC its local times are.

The year is used as a ring of 52 whole weeks, 2 January to 31 December 2013, laid so that weekdays and
seasons are true: every day is moved by whole weeks, and any day at any time has one and the same source. So
loading again, next week or on another machine, sends the same events with the same ids.
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
FIRST_SOURCE_DAY = date(2013, 1, 2)  # a Wednesday
RING_DAYS = 364
_ORIGIN = FIRST_SOURCE_DAY + timedelta(weeks=678)  # 31 December 2025, a Wednesday too


def source_of(day: date) -> date:
    """The day of 2013 that is replayed on `day`: the same weekday, within days of the same season."""
    return FIRST_SOURCE_DAY + timedelta(days=(day - _ORIGIN).days % RING_DAYS)


def local_today(now: datetime) -> date:
    """The date in New York."""
    return now.astimezone(NEW_YORK).date()


def year_until(last: date) -> list[date]:
    """The 364 days that end with `last`, the newest first."""
    return [last - timedelta(days=back) for back in range(RING_DAYS)]


def at_local(day: date, clock: int) -> datetime:
    """UTC of a local clock time such as 517 (05:17) on `day`. 2400 is the end of the day.

    An hour that daylight saving skips counts as standard time; one that comes twice is the first.
    """
    hours, minutes = divmod(clock, 100)
    local = datetime.combine(day + timedelta(days=hours // 24), time(hours % 24, minutes), NEW_YORK)
    return local.astimezone(UTC)


def start_of(day: date) -> datetime:
    """UTC of the local midnight with which `day` begins."""
    return at_local(day, 0)
