"""What is refused before a suite is applied."""

from typing import Any

import pytest

from expectations.checker import check_suite, check_suite_apart, known_types
from sluiceway.quality.contracts import ExpectationSpec, SuiteSpec

BETWEEN = "expect_column_values_to_be_between"


def check(type_: str = BETWEEN, **item: Any) -> list[tuple[str, str]]:
    spec = ExpectationSpec(**{"name": "one", "type": type_, "on_failure": "warn", **item})
    return [
        (e.field.removeprefix("expectations.0."), e.message)
        for e in check_suite(SuiteSpec(name="tested", expectations=[spec]))
    ]


def test_a_good_one_passes() -> None:
    assert check(kwargs={"column": "a", "min_value": 1}, on_failure="quarantine") == []
    assert check(kwargs={"column": "a", "min_value": 1}, mostly=0.9) == []


def test_a_wrong_type_gets_a_hint() -> None:
    ((field, message),) = check("expect_column_values_to_be_betwen")
    assert field == "type" and f"did you mean {BETWEEN}?" in message


def test_types_that_run_sql_are_not_known() -> None:
    assert len(known_types()) > 50
    for type_ in ("expect_query_results_to_match_comparison", "expect_table_row_count_to_equal_other_table"):
        assert check(type_)[0][0] == "type"


@pytest.mark.parametrize(
    ("kwargs", "field"),
    [
        ({"min_value": 1}, "kwargs.column"),
        ({"column": "a", "min_value": 1, "foo": 2}, "kwargs.foo"),
        ({"column": "a"}, "kwargs"),
        ({"column": "a", "min_value": 1, "result_format": "BASIC"}, "kwargs.result_format"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], field: str) -> None:
    assert field in [found for found, _ in check(kwargs=kwargs)]


def test_quarantine_needs_single_rows() -> None:
    ((field, _),) = check(
        "expect_table_row_count_to_be_between", kwargs={"min_value": 1}, on_failure="quarantine"
    )
    assert field == "on_failure"
    ((field, _),) = check("expect_table_row_count_to_be_between", kwargs={"min_value": 1}, mostly=0.5)
    assert field == "mostly"


def comparison(**changes: Any) -> dict[str, Any]:
    return {
        "type": "comparison",
        "column": {"name": "cancelled"},
        "operator": "==",
        "parameter": True,
        **changes,
    }


@pytest.mark.parametrize(
    "condition",
    [
        "cancelled == True",
        {"type": "pass_through", "pass_through_filter": "@__import__('os').system('true')"},
        comparison(column={"name": "a` == 1 or `b"}),
        comparison(parameter="x' or @print(1) or '"),
        {"type": "and", "conditions": ["1 == 1"]},
        {"type": "and", "conditions": []},
    ],
)
def test_a_condition_that_could_run_code_is_refused(condition: Any) -> None:
    found = check(kwargs={"column": "a", "min_value": 1, "row_condition": condition})
    assert found and found[0][0].startswith("kwargs.row_condition")


def test_a_condition_written_as_data_passes() -> None:
    both = {"type": "and", "conditions": [comparison(), comparison(operator="!=", parameter="New York")]}
    assert check(kwargs={"column": "a", "min_value": 1, "row_condition": both}) == []


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same_answer() -> None:
    spec = SuiteSpec(
        name="tested",
        expectations=[ExpectationSpec(name="one", type="expect_nothing", on_failure="warn")],
    )
    assert check_suite_apart(spec) == check_suite(spec)
