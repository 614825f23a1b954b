"""What the health page shows. States: ok, unknown, warning (look at it), critical (something is broken)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

State = Literal["ok", "unknown", "warning", "critical"]
Unit = Literal["count", "per_s", "bytes", "seconds", "ratio"]
StageKey = Literal[
    "receiving", "spool", "bronze", "loading", "gate", "gold", "live", "delivery", "database", "disk"
]

_ORDER: tuple[State, ...] = ("ok", "unknown", "warning", "critical")


def worst(states: Sequence[State]) -> State:
    """The most serious of some states; ok for none."""
    return max(states, key=_ORDER.index, default="ok")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a stage; `value` None: not known."""

    key: str
    label: str
    value: float | None
    unit: Unit


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong and what to do about it, each one or two sentences."""

    state: Literal["warning", "critical", "unknown"]
    words: str
    advice: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of an event's way, or what it stands on. `findings`: the most serious first.

    `history` is of the figure `trend`, oldest first, one value every `Health.history_step_s`.
    """

    key: StageKey
    title: str
    about: str
    figures: list[Figure]
    findings: list[Finding]
    trend: str
    history: list[float | None] = field(default_factory=list)

    @property
    def state(self) -> State:
        return worst([finding.state for finding in self.findings])


@dataclass(frozen=True, slots=True)
class Process:
    """A process that reports; `state` critical: it fell silent, warning: it was stopped."""

    node: str
    name: str
    state: State
    heard_at: datetime
    started_at: datetime
    memory_bytes: float | None
    cpu_ratio: float | None


@dataclass(frozen=True, slots=True)
class Health:
    """Everything at `at`. `words` is the headline."""

    at: datetime
    state: State
    words: str
    stages: list[Stage]
    processes: list[Process]
    history_step_s: float
