"""What the loader needs of others, and what it tells."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from sluiceway.ingestion.contracts import Position, SpoolRecord


class Reader(Protocol):
    """The spool, as `ingestion` offers it."""

    def read(self, start: Position, max_bytes: int) -> list[SpoolRecord]: ...

    def wait(self, timeout_s: float) -> bool: ...


@dataclass(slots=True)
class LoaderStats:
    """Counts since the loader started. `unknown` events had no active pipeline: bronze keeps them."""

    batches: int = 0
    events: int = 0
    rows: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    unknown: int = 0
    failing_since: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What replaying one pipeline-day did: `events` read from bronze, `removed` rows replaced by `rows`."""

    pipeline: str
    day: date
    events: int
    removed: int
    rows: int
    samples: int
    duplicates: int
    dead_letters: int
    verdict: str
    batch_id: int | None


@dataclass(frozen=True, slots=True)
class RetryResult:
    """What trying dead letters again did: `loaded` became rows (or were there already), `failed` stay."""

    tried: int
    loaded: int
    duplicates: int
    failed: int
