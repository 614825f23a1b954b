"""What every stage's judgement looks at, and how it is put together."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sluiceway.health.contracts import Figure, Finding, Stage, StageKey, Unit
from sluiceway.health.facts import Held, Past, Sample, Window
from sluiceway.health.words import clock, duration

Bad = Literal["warning", "critical"]


@dataclass(frozen=True, slots=True)
class View:
    """The newest sample, the last minute (None at first) and what the asking workspace may know.

    `stuck_s`: since when nothing could be measured, if that is long.
    """

    past: Past
    held: tuple[Held, ...]
    stuck_s: float | None

    @property
    def now(self) -> Sample:
        return self.past.newest

    @property
    def window(self) -> Window | None:
        return self.past.window()

    def rate(self, name: str, **labels: str) -> float | None:
        return None if self.window is None else self.window.rate(name, **labels)

    def grown(self, name: str, **labels: str) -> float:
        return 0.0 if self.window is None else self.window.grown(name, **labels)

    def mean(self, histogram: str, **labels: str) -> float | None:
        return None if self.window is None else self.window.mean(histogram, **labels)

    def silence(self, process: str, node: str | None = None) -> str | None:
        """Why a process is not at work, as the end of a sentence; None: it is. Of this node, or of `node`."""
        report = self.now.process(process, node)
        if report is None:
            return "it has never been heard of on this node"
        if not report.is_silent(self.now.at):
            return None
        if report.ended:
            return f"it was stopped at {clock(report.at, self.now.at)}"
        return f"it has not been heard of for {duration(report.age_s(self.now.at))}"

    def trouble(self, process: str, key: str, node: str | None = None) -> "Trouble | None":
        """What a process says it fails at, unless it is silent."""
        report = self.now.process(process, node)
        if report is None or report.is_silent(self.now.at):
            return None
        return _trouble(report.state.get(key), self.now.at)

    def job(self, name: str) -> "Trouble | None":
        """What the worker says of one of its jobs."""
        report = self.now.process("worker")
        if report is None or report.is_silent(self.now.at):
            return None
        return _trouble((report.state.get("jobs") or {}).get(name), self.now.at)

    def age_s(self, at: datetime | None) -> float | None:
        return None if at is None else max(0.0, (self.now.at - at).total_seconds())

    def stage(
        self,
        key: StageKey,
        title: str,
        about: str,
        figures: list[Figure],
        findings: list[Finding],
        trend: str,
    ) -> Stage:
        return Stage(key, title, about, figures, findings, trend, self.past.history(key))


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something fails for `lasting_s`, because of `reason`."""

    lasting_s: float
    reason: str


def figure(key: str, label: str, value: float | None, unit: Unit) -> Figure:
    return Figure(key, label, None if value is None else float(value), unit)


def warn(words: str, advice: str) -> Finding:
    return Finding("warning", words, advice)


def alarm(words: str, advice: str) -> Finding:
    return Finding("critical", words, advice)


def by(threshold: float, value: float) -> Bad:
    """Critical from `threshold` on."""
    return "critical" if value >= threshold else "warning"


def worst_first(found: Iterable[Finding | None]) -> list[Finding]:
    """Those there are, the most serious first."""
    return sorted((finding for finding in found if finding), key=lambda f: f.state != "critical")


def unknown(words: str) -> Finding:
    return Finding("unknown", words, "It is known again when the database answers.")


def _trouble(told: Any, now: datetime) -> Trouble | None:
    if not isinstance(told, dict) or not told.get("since"):
        return None
    since = datetime.fromisoformat(told["since"])
    return Trouble(max(0.0, (now - since).total_seconds()), str(told.get("reason") or "no reason was told"))
