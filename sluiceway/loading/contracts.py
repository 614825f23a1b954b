"""What loading tells of itself."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(slots=True)
class LoaderStats:
    """Counts since the loader started. `unknown` events had no active pipeline: bronze keeps them.

    `last_error`: why it fails since `failing_since`, in words that hold nobody's data.
    """

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
