"""What goes into a transform and what comes out.

Belongs here: shapes that the loader, the replay and the lake share. Not here: how the work is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

Step = Literal["parse", "map", "gate", "retention"]

INDEX = "_index"
"""Column of `Mapped.rows` that says which arrival a row came from."""


class BodyForm(IntEnum):
    """How the events lie in a request's body (the values of the spool's `Form`)."""

    OBJECT = 1
    ARRAY = 2
    NDJSON = 3
    FORM = 4


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Events of one pipeline in the order in which they were received; the four lists run in step.

    `positions` are `node/segment/offset/index`, `received_us` microseconds since 1970, `headers` the
    request headers (lower-case names) that the pipeline's paths read. A payload is JSON, or a form where its
    headers' `content-type` says so.
    """

    payloads: Sequence[bytes]
    positions: Sequence[str]
    received_us: Sequence[int]
    headers: Sequence[Mapping[str, str]]

    def __len__(self) -> int:
        return len(self.payloads)

    def take(self, indices: Sequence[int]) -> "Arrivals":
        return Arrivals(
            [self.payloads[i] for i in indices],
            [self.positions[i] for i in indices],
            [self.received_us[i] for i in indices],
            [self.headers[i] for i in indices],
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that did not become a row: at which step, a stable code, and a sentence for a person.

    `index` counts the arrivals it came with. `event_id` and `event_us` are known if mapping got so far.
    """

    index: int
    step: Step
    code: str
    reason: str
    event_id: str | None = None
    event_us: int | None = None
    expectation: str | None = None


@dataclass(frozen=True, slots=True)
class Mapped:
    """Typed rows and what could not be typed.

    `rows` has the columns `_index`, `event_id`, `event_time`, `received_at`, `position`, then the pipeline's
    fields: String, Int64, Float64, Boolean, Datetime('us', 'UTC'), Date; json as String holding JSON text.
    """

    rows: "pl.DataFrame"
    rejected: list[Rejected] = field(default_factory=list)
