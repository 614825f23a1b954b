"""What a verification finds: per pipeline and layer, what is missing, doubled, extra or wrong.

Belongs here: the report and what decides its verdict. Not here: its words (`wording`), finding (`service`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Protocol

import pyarrow as pa

from sluiceway.catalog.contracts import Pipeline

LayerName = Literal["bronze", "silver", "seq", "samples", "gold", "consumer"]
LAYERS: tuple[LayerName, ...] = ("bronze", "silver", "seq", "samples", "gold", "consumer")


class Bronze(Protocol):
    """The lake, as far as a verification reads it (`sluiceway.lake.service.Lake` does)."""

    def days(self, pipeline: Pipeline) -> list[date]: ...

    def read_bronze(self, pipeline: Pipeline, day: date) -> Iterator[pa.RecordBatch]: ...


class Progress(Protocol):
    """Told what is being done, and how far it is; `total` is None where nobody knows."""

    def __call__(self, what: str, done: int, total: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """How many there are of a kind, and the first of them by name (event ids, or what the layer counts)."""

    count: int = 0
    first: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0


NOTHING = Found()


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer of one pipeline. `checked` counts what was compared: bronze events, silver rows, the seqs
    that were given out, samples, gold buckets of all levels, or what a consumer received.

    `missing`: should be there and is not. `doubled`: there more than once. `extra`: there, though nobody
    acknowledged it (or no row accounts for it). `wrong`: there, with another value. `waiting`: on its way, as
    the cursors say. `out_of_reach`: past retention, so that nobody can tell. `note`: what was not checked.
    """

    layer: LayerName
    checked: int = 0
    missing: Found = NOTHING
    doubled: Found = NOTHING
    extra: Found = NOTHING
    wrong: Found = NOTHING
    waiting: int = 0
    out_of_reach: int = 0
    note: str | None = None

    @property
    def ok(self) -> bool:
        return not (self.missing or self.doubled or self.wrong)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Events that are dead letters: `total` of them, `reasons` by `state step/code`.

    `accounted`: acknowledged ids whose event is no row, but a dead letter.
    """

    total: int = 0
    accounted: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Balance:
    """Where the events of bronze are: `events` = `rows` + `letters` + `again` + `waiting` + `lost` + `old`.

    `again`: the event is a row (or a dead letter) by another delivery. `old`: past silver's retention.
    """

    events: int = 0
    rows: int = 0
    letters: int = 0
    again: int = 0
    waiting: int = 0
    lost: int = 0
    old: int = 0


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """What was found for one pipeline. `acknowledged`: distinct ids of the ledger (None: there was none);
    `repeated`: its lines beyond these."""

    pipeline: str
    layers: dict[LayerName, LayerReport]
    acknowledged: int | None = None
    repeated: int = 0
    dead_letters: DeadLetters = DeadLetters()
    balance: Balance | None = None

    def layer(self, name: LayerName) -> LayerReport:
        """The layer's part; an empty one with a note if it was not looked at."""
        return self.layers.get(name) or LayerReport(name, note="not looked at")

    @property
    def ok(self) -> bool:
        """Nothing is missing, doubled or wrong, and no acknowledged id waits to be loaded."""
        waits = self.acknowledged is not None and self.layer("silver").waiting > 0
        return not waits and all(layer.ok for layer in self.layers.values())

    @property
    def extra(self) -> int:
        return sum(layer.extra.count for layer in self.layers.values())


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found. `at`: when it began; `left_out`: named by the ledger, but not asked for."""

    at: datetime
    pipelines: Sequence[PipelineReport]
    left_out: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether everything is there, once. What is extra does not count (see `extra`)."""
        return all(found.ok for found in self.pipelines)

    @property
    def extra(self) -> int:
        """How many ids (rows, samples, buckets) nobody accounts for, in all layers together."""
        return sum(found.extra for found in self.pipelines)

    def passed(self, *, exact: bool = False) -> bool:
        """The verdict; `exact`: what is extra fails it too."""
        return self.ok and not (exact and self.extra)

    def pipeline(self, slug: str) -> PipelineReport:
        """Raises `KeyError` for a pipeline that was not verified."""
        for found in self.pipelines:
            if found.pipeline == slug:
                return found
        raise KeyError(slug)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data: what `sluiceway verify --json` prints."""
        return {
            "at": self.at.isoformat(),
            "ok": self.ok,
            "extra": self.extra,
            "pipelines": [_pipeline(found) for found in self.pipelines],
            "left_out": list(self.left_out),
        }


def _pipeline(found: PipelineReport) -> dict[str, Any]:
    balance = found.balance
    return {
        "pipeline": found.pipeline,
        "ok": found.ok,
        "acknowledged": found.acknowledged,
        "repeated": found.repeated,
        "layers": {name: _layer(layer) for name, layer in found.layers.items()},
        "dead_letters": {
            "total": found.dead_letters.total,
            "accounted": found.dead_letters.accounted,
            "reasons": found.dead_letters.reasons,
        },
        "balance": None
        if balance is None
        else {name: getattr(balance, name) for name in Balance.__dataclass_fields__},
    }


def _layer(layer: LayerReport) -> dict[str, Any]:
    found: dict[str, Any] = {"checked": layer.checked}
    for name in ("missing", "doubled", "extra", "wrong"):
        ids: Found = getattr(layer, name)
        found[name] = {"count": ids.count, "first": list(ids.first)}
    return {**found, "waiting": layer.waiting, "out_of_reach": layer.out_of_reach, "note": layer.note}
