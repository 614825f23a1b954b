"""What is measured of a workspace, and how its limits look. Plain data, and how sizes are spoken."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

MOST = 2**62
"""No limit is higher."""
OWN_PIPELINE = "platform-health"
"""The platform's own measurements, in the first workspace: nobody's usage, and nobody's limit stops them."""
FIRST_WORKSPACE = 1


class Measure(StrEnum):
    """What can be limited: `events` and `ingested_bytes` of a calendar month (UTC), the others as is."""

    EVENTS = "events"
    """Events accepted this month."""
    INGESTED_BYTES = "ingested_bytes"
    """Bytes of the bodies accepted this month, after decompression."""
    STORED_BYTES = "stored_bytes"
    """Bytes kept in bronze, silver and dead letters, measured every hour."""
    SEATS = "seats"
    """Members who can sign in."""


MONTHLY = frozenset({Measure.EVENTS, Measure.INGESTED_BYTES})
UNITS = {
    Measure.EVENTS: "events",
    Measure.INGESTED_BYTES: "bytes",
    Measure.STORED_BYTES: "bytes",
    Measure.SEATS: "seats",
}


@dataclass(frozen=True, slots=True)
class Quota:
    """A workspace's limits of one measure; None: none. `ceiling` is the operator's: `hard` is never above."""

    measure: Measure
    soft: int | None = None
    hard: int | None = None
    ceiling: int | None = None

    @property
    def limit(self) -> int | None:
        """What holds: the lower of `hard` and `ceiling`."""
        known = [limit for limit in (self.hard, self.ceiling) if limit is not None]
        return min(known) if known else None

    def state(self, used: int) -> str:
        """`ok`, `soft` (past the soft limit) or `hard` (at the hard one: nothing more is taken)."""
        if self.limit is not None and used >= self.limit:
            return "hard"
        return "soft" if self.soft is not None and used >= self.soft else "ok"


@dataclass(frozen=True, slots=True)
class Used:
    """One measure of a workspace as it stands."""

    quota: Quota
    used: int
    as_of: datetime | None
    """When it was measured; None: it has not been yet."""

    @property
    def state(self) -> str:
        return self.quota.state(self.used)


@dataclass(frozen=True, slots=True)
class PipelineUsage:
    """One pipeline's part: events and bytes accepted in the month, bytes stored now."""

    pipeline: str
    events: int
    ingested_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class DayUsage:
    day: date
    events: int
    ingested_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace used in the month that begins with `month` (UTC). `invited`: open invitations."""

    month: date
    measures: tuple[Used, ...]
    pipelines: tuple[PipelineUsage, ...]
    days: tuple[DayUsage, ...]
    invited: int


def month_of(now: datetime) -> date:
    """The first day of the month, in UTC."""
    return now.astimezone(UTC).date().replace(day=1)


def next_month(month: date) -> datetime:
    """When the month ends, in UTC."""
    later = (month + timedelta(days=32)).replace(day=1)
    return datetime(later.year, later.month, 1, tzinfo=UTC)


def spoken(measure: Measure, number: int) -> str:
    """A number of a measure in words: `1,200 events`, `3.4 GB`."""
    if UNITS[measure] != "bytes":
        return f"{number:,} {UNITS[measure] if number != 1 else UNITS[measure][:-1]}"
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError
