"""What is committed to silver in one transaction, and what came of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.telemetry import Timeline
from sluiceway.ingestion.contracts import Position
from sluiceway.quality.contracts import GateVerdict, Verdict
from sluiceway.transforms.contracts import Arrivals, Mapped

BatchOrigin = Literal["live", "replay", "retry"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CursorMove:
    """The stretch of a node's spool that a batch takes; the cursor must not lie beyond `begin` yet.

    `read_to`: everything before it is loaded when this batch is, whatever its pipeline (None: not so).
    """

    node: str
    begin: Position
    end: Position
    read_to: Position | None = None


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """Events of one pipeline, mapped, before de-duplication and gate; its `name` is unique."""

    pipeline: Pipeline
    name: str
    origin: BatchOrigin
    arrivals: Arrivals
    mapped: Mapped
    cursor: CursorMove | None = None
    verdict: GateVerdict | None = None
    """The gate's, on all of `mapped.rows`, if it was asked ahead; it is asked again if any is a duplicate."""
    timeline: Timeline = field(default_factory=Timeline, compare=False, repr=False)
    """What its stages took, those of before included."""

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.arrivals.payloads))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a node's spool is loaded: as a whole (None: not begun; told when), and by pipeline."""

    read_to: Position | None
    cursors: dict[int, Position]
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """What one transaction did. `first_seq` and `last_seq` are None where no row was made."""

    batch_id: int
    verdict: Verdict
    events: int
    rows: int
    samples: int
    duplicates: int
    dead_letters: int
    first_seq: int | None
    last_seq: int | None
    min_event_time: datetime | None
    max_event_time: datetime | None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of receipt, [`begin`, `end`), and the oldest event time that silver still keeps."""

    begin: datetime
    end: datetime
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Replaced:
    """What replacing a span's rows did: `removed` went, `rows` came. `batch_id` is None if it was held."""

    batch_id: int | None
    verdict: Verdict
    removed: int
    rows: int
    samples: int
    duplicates: int
    dead_letters: int
