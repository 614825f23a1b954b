"""Regular expressions that could stop a gate are refused, ordinary ones are not."""

import pytest

from sluiceway.quality.contracts import ExpectationSpec
from sluiceway.quality.patterns import problem


@pytest.mark.parametrize(
    "pattern",
    ["^(a+)+$", "(a*)*", "((ab)*c?)+", "(x|y+)*z", "(?:a{2,})*", "(a+?)+", "(a[a-c]+)+", "(-[^x]+)*"],
)
def test_nested_repetition_is_refused(pattern: str) -> None:
    assert "for ever" in (problem(pattern) or "")


@pytest.mark.parametrize(
    "pattern",
    [
        "^[A-Z]{3}$",
        "^[a-z]+(-[a-z]{1,9}){0,3}$",
        r"\d+\.\d*",
        "(ab)+c*",
        "^.*$",
        "^[a-z]+(-[a-z0-9]+)*$",
        "(?:,[^,]+)*",
    ],
)
def test_ordinary_ones_are_taken(pattern: str) -> None:
    assert problem(pattern) is None


def test_what_is_none_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueError, match="be a regular expression"):
        ExpectationSpec(
            name="rx", type="expect_column_values_to_match_regex", on_failure="warn",
            kwargs={"column": "b", "regex": "(["},
        )  # fmt: skip
