"""The gate: what Great Expectations finds in a batch, made into a verdict.

Belongs here: loading and keeping compiled suites, and the rules from findings to verdict. Not here: how
the library is driven (`engine`), nor what happens to quarantined or held rows (the loader's work).
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from expectations.engine import CompiledSuite, Finding
from sluiceway.catalog.contracts import Pipeline
from sluiceway.quality.contracts import (
    ExpectationOutcome,
    ExpectationSpec,
    GateVerdict,
    SuiteSpec,
    Verdict,
)

if TYPE_CHECKING:
    import pandas as pd

LoadSuite = Callable[[int, str], SuiteSpec | None]
"""(workspace id, suite name) → the newest version of the suite, or None if none has been applied."""

SUITE_MISSING = "suite-missing"
SUITE_BROKEN = "suite-broken"


class GreatExpectationsGate:
    """A `Gate`. Suites are loaded and compiled once and kept until `invalidate`.

    An expectation that cannot be evaluated (a field the pipeline lacks, values of another kind) holds the
    batch if a failure of it would, else it warns: it never lets the loader fall over.
    """

    def __init__(self, load_suite: LoadSuite) -> None:
        self._load_suite = load_suite
        self._lock = threading.RLock()
        self._compiled: dict[tuple[int, str], CompiledSuite] = {}
        self._fresh: set[tuple[int, str]] = set()

    def check(self, pipeline: Pipeline, frame: "pd.DataFrame") -> GateVerdict:
        """The verdict on one batch: a row per event, a column per field."""
        return self._check(pipeline, frame, all_sizes=False)

    def deep_check(self, pipeline: Pipeline, frame: "pd.DataFrame") -> tuple[ExpectationOutcome, ...]:
        """What every expectation finds in a large frame (a whole day); nothing is quarantined by it."""
        return self._check(pipeline, frame, all_sizes=True).outcomes

    def invalidate(self) -> None:
        """Ask for the suites again before the next check; a suite that did not change stays compiled."""
        with self._lock:
            self._fresh.clear()

    def warm_up(self, pipeline: Pipeline) -> None:
        """Import the library and compile the pipeline's suite, so that its first event does not wait."""
        if pipeline.spec.quality is not None:
            with self._lock:
                self._suite(pipeline.workspace_id, pipeline.spec.quality.suite)

    def _check(self, pipeline: Pipeline, frame: "pd.DataFrame", *, all_sizes: bool) -> GateVerdict:
        if pipeline.spec.quality is None or len(frame) == 0:
            return GateVerdict("pass")
        name = pipeline.spec.quality.suite
        with self._lock:
            try:
                suite = self._suite(pipeline.workspace_id, name)
            except ValueError as error:
                return _only_warning(SUITE_BROKEN, f"suite {name!r} cannot be compiled: {error}")
            if suite is None:
                return _only_warning(SUITE_MISSING, f"no suite {name!r} has been applied")
            return verdict(suite.run(frame, all_sizes=all_sizes))

    def _suite(self, workspace_id: int, name: str) -> CompiledSuite | None:
        key = (workspace_id, name)
        known = self._compiled.get(key)
        if key in self._fresh:
            return known
        spec = self._load_suite(workspace_id, name)
        if spec is None:
            self._compiled.pop(key, None)
        elif known is None or known.spec != spec:
            self._compiled[key] = CompiledSuite(spec)
        self._fresh.add(key)
        return self._compiled.get(key)


def verdict(findings: list[tuple[ExpectationSpec, Finding]]) -> GateVerdict:
    """The strongest consequence of all findings: hold, then quarantine, then warn, then pass.

    A row that fails several expectations is quarantined for the first of them in the suite's order.
    """
    outcomes: list[ExpectationOutcome] = []
    failing: dict[int, str] = {}
    hold = warn = False
    for spec, finding in findings:
        outcomes.append(
            ExpectationOutcome(
                expectation=spec.name,
                action=spec.on_failure,
                success=finding.success,
                evaluated=finding.evaluated,
                unexpected=finding.unexpected,
                detail=finding.detail,
            )
        )
        if finding.success:
            continue
        if spec.on_failure == "hold":
            hold = True
        elif spec.on_failure == "warn" or not finding.failing:
            warn = True
        else:
            for row in finding.failing:
                failing.setdefault(row, spec.name)
    strongest: Verdict = "hold" if hold else "quarantine" if failing else "warn" if warn else "pass"
    return GateVerdict(strongest, failing, tuple(outcomes))


def _only_warning(name: str, message: str) -> GateVerdict:
    return GateVerdict("warn", {}, (ExpectationOutcome(name, "warn", False, 0, 0, {"error": message}),))
