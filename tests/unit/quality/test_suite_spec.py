"""Suites as people write them: what is refused, and where the error points."""

import pytest

from sluiceway.kit.errors import FieldError
from sluiceway.quality.contracts import SuiteSpec, json_schema
from sluiceway.quality.errors import InvalidSuite
from sluiceway.quality.service import parse_suite

GOOD = """\
kind: Suite
name: orders
expectations:
  - name: amount-positive
    type: expect_column_values_to_be_between
    kwargs: {column: amount, min_value: 0}
    on_failure: quarantine
  - name: enough-rows
    type: expect_table_row_count_to_be_between
    kwargs: {min_value: 10}
    on_failure: warn
    min_rows: 5
"""


def errors_of(source: str) -> list[FieldError]:
    with pytest.raises(InvalidSuite) as caught:
        parse_suite(source)
    return list(caught.value.errors)


def test_a_suite_is_read() -> None:
    spec = parse_suite(GOOD)
    assert [e.name for e in spec.expectations] == ["amount-positive", "enough-rows"]
    assert spec.expectations[1].min_rows == 5


def test_a_spec_survives_its_own_document() -> None:
    spec = parse_suite(GOOD)
    assert SuiteSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("old", "new", "field", "line"),
    [
        ("on_failure: warn", "on_failure: shout", "expectations.1.on_failure", 11),
        ("min_rows: 5", "min_row: 5", "expectations.1.min_row", 12),
        ("min_rows: 5", "min_rows: -1", "expectations.1.min_rows", 12),
        ("name: orders", "name: Orders!", "name", 2),
        ("type: expect_table_row_count_to_be_between", "type: __import__", "expectations.1.type", 9),
    ],
)
def test_an_error_names_field_and_line(old: str, new: str, field: str, line: int) -> None:
    (error,) = errors_of(GOOD.replace(old, new))
    assert (error.field, error.line) == (field, line)


def test_a_name_is_used_once() -> None:
    assert "used twice" in errors_of(GOOD.replace("enough-rows", "amount-positive"))[0].message


def test_mostly_does_not_go_with_quarantine() -> None:
    (error,) = errors_of(GOOD.replace("on_failure: quarantine", "on_failure: quarantine\n    mostly: 0.9"))
    assert "quarantine is about single rows" in error.message


def test_what_the_engine_has_against_a_suite_gets_its_line() -> None:
    def against(spec: SuiteSpec) -> list[FieldError]:
        return [
            FieldError("expectations.0.kwargs.min_value", "is odd"),
            FieldError("expectations.1.kwargs.max_value", "is missing"),
        ]

    with pytest.raises(InvalidSuite) as caught:
        parse_suite(GOOD, against)
    assert [e.line for e in caught.value.errors] == [6, 10]


def test_the_schema_for_editors_knows_the_consequences() -> None:
    schema = json_schema()
    assert schema["$defs"]["ExpectationSpec"]["properties"]["on_failure"]["enum"] == [
        "quarantine",
        "hold",
        "warn",
    ]
