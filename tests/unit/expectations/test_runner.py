"""From findings to a verdict, and which suites the gate loads when."""

from typing import Any

import pandas as pd
import pytest

from expectations.engine import Finding
from expectations.runner import SUITE_BROKEN, SUITE_MISSING, GreatExpectationsGate, verdict
from sluiceway.quality.contracts import ExpectationSpec, Gate, GateVerdict, NoGate, SuiteSpec
from tests.support.bronze import pipeline

ORDERS = pipeline(quality={"suite": "orders"})
FRAME = pd.DataFrame({"amount": [1.0, -2.0, 3.0]})


def item(name: str, on_failure: str, **given: Any) -> ExpectationSpec:
    document = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "amount", "min_value": 0},
        **given,
        "name": name,
        "on_failure": on_failure,
    }
    return ExpectationSpec.model_validate(document)


def bad(*rows: int, error: str | None = None) -> Finding:
    return Finding(False, 3, len(rows), rows, {"error": error} if error else {}, error)


GOOD = Finding(True, 3, 0)
COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 10}}


@pytest.mark.parametrize(
    ("findings", "strongest", "failing"),
    [
        ([("quarantine", GOOD), ("hold", GOOD), ("warn", GOOD)], "pass", {}),
        ([("warn", bad(0))], "warn", {}),
        ([("quarantine", bad(1)), ("warn", bad(0))], "quarantine", {1: "e0"}),
        ([("quarantine", bad(1)), ("hold", bad())], "hold", {1: "e0"}),
        ([("quarantine", bad(2)), ("quarantine", bad(0, 2))], "quarantine", {2: "e0", 0: "e1"}),
        ([("quarantine", bad(error="no field"))], "warn", {}),
        ([("hold", bad(error="no field"))], "hold", {}),
        ([], "pass", {}),
    ],
)
def test_the_strongest_consequence_wins(
    findings: list[tuple[str, Finding]], strongest: str, failing: dict[int, str]
) -> None:
    found = verdict([(item(f"e{i}", action), finding) for i, (action, finding) in enumerate(findings)])
    assert (found.verdict, found.failing) == (strongest, failing)
    assert [o.success for o in found.outcomes] == [finding.success for _, finding in findings]
    if strongest == "hold":
        assert found.holding is not None and found.holding.action == "hold"


class Suites:
    """Counts how often it is asked."""

    def __init__(self, *items: ExpectationSpec) -> None:
        self.spec: SuiteSpec | None = SuiteSpec(name="orders", expectations=list(items)) if items else None
        self.asked: list[tuple[int, str]] = []

    def __call__(self, workspace_id: int, name: str) -> SuiteSpec | None:
        self.asked.append((workspace_id, name))
        return self.spec


def test_a_suite_is_loaded_once_until_one_is_applied() -> None:
    suites = Suites(item("positive", "quarantine"))
    gate = GreatExpectationsGate(suites)
    for _ in range(3):
        assert gate.check(ORDERS, FRAME).failing == {1: "positive"}
    assert suites.asked == [(1, "orders")]
    suites.spec = SuiteSpec(name="orders", expectations=[item("above-two", "quarantine", kwargs={
        "column": "amount", "min_value": 2})])  # fmt: skip
    assert gate.check(ORDERS, FRAME).failing == {1: "positive"}
    gate.invalidate()
    assert gate.check(ORDERS, FRAME).failing == {0: "above-two", 1: "above-two"}
    suites.spec = None
    gate.invalidate()
    assert gate.check(ORDERS, FRAME).outcomes[0].expectation == SUITE_MISSING


def test_a_pipeline_without_a_suite_passes_unasked() -> None:
    suites = Suites()
    assert GreatExpectationsGate(suites).check(pipeline(), FRAME) == GateVerdict("pass")
    assert suites.asked == []


def test_a_suite_that_is_not_there_warns_and_loads() -> None:
    found = GreatExpectationsGate(Suites()).check(ORDERS, FRAME)
    assert found.verdict == "warn" and found.failing == {}
    assert found.outcomes[0].detail["error"] == "no suite 'orders' has been applied"


def test_a_suite_that_cannot_be_compiled_warns_and_loads() -> None:
    found = GreatExpectationsGate(Suites(item("odd", "hold", type="expect_the_impossible"))).check(
        ORDERS, FRAME
    )
    assert found.verdict == "warn"
    assert found.outcomes[0].expectation == SUITE_BROKEN
    assert "expect_the_impossible" in found.outcomes[0].detail["error"]


def test_an_empty_batch_passes() -> None:
    gate = GreatExpectationsGate(Suites(item("enough", "hold", **COUNT)))
    assert gate.check(ORDERS, FRAME.iloc[:0]).verdict == "pass"


def test_held_by_the_whole_batch() -> None:
    gate = GreatExpectationsGate(Suites(item("positive", "quarantine"), item("enough", "hold", **COUNT)))
    found = gate.check(ORDERS, FRAME)
    assert found.verdict == "hold"
    assert found.holding is not None and found.holding.expectation == "enough"


def test_mostly_is_a_share_of_the_batch() -> None:
    for share, strongest in ((0.6, "pass"), (0.7, "hold")):
        gate = GreatExpectationsGate(Suites(item("mostly", "hold", mostly=share)))
        assert gate.check(ORDERS, FRAME).verdict == strongest


def test_a_deep_check_asks_everything_and_only_reports() -> None:
    gate = GreatExpectationsGate(Suites(item("enough", "hold", min_rows=1000, **COUNT)))
    assert gate.check(ORDERS, FRAME).outcomes == ()
    (outcome,) = gate.deep_check(ORDERS, FRAME)
    assert (outcome.expectation, outcome.success, outcome.detail) == ("enough", False, {"observed": 3})


def test_warming_up_compiles_before_the_first_event() -> None:
    suites = Suites(item("positive", "quarantine"))
    gate = GreatExpectationsGate(suites)
    gate.warm_up(ORDERS)
    gate.check(ORDERS, FRAME)
    assert len(suites.asked) == 1


def test_both_gates_are_gates() -> None:
    gates: list[Gate] = [NoGate(), GreatExpectationsGate(Suites())]
    assert gates[0].check(ORDERS, FRAME) == GateVerdict("pass")
    gates[0].invalidate()
