"""Checks a suite before it is applied: types that exist, arguments they take, consequences that fit.

Handed to `sluiceway.quality.service.apply_suite`, which adds the lines. Imports Great Expectations when
called; `check_suite_apart` does so in a process of its own, for a process that has no other use for it.
"""

import difflib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from expectations import engine
from sluiceway.catalog.contracts import COLUMN_PATTERN
from sluiceway.kit.errors import FieldError
from sluiceway.quality.contracts import ExpectationSpec, SuiteSpec

# Arguments that are the runner's own business, or that would read something else than the frame.
_NOT_ARGUMENTS = frozenset(
    {"batch_id", "catch_exceptions", "condition_parser", "id", "meta", "notes", "rendered_content",
     "result_format", "table", "windows"}
)  # fmt: skip
_APART_TIMEOUT_S = 120


def check_suite(spec: SuiteSpec) -> list[FieldError]:
    """Everything wrong with the suite, as dotted fields (`expectations.2.kwargs.min_value`)."""
    errors: list[FieldError] = []
    for index, item in enumerate(spec.expectations):
        errors += [FieldError(f"expectations.{index}.{field}", message) for field, message in _check(item)]
    return errors


def check_suite_apart(spec: SuiteSpec) -> list[FieldError]:
    """`check_suite` in a child process: the caller neither waits for nor keeps the library's memory."""
    done = subprocess.run(
        [sys.executable, "-m", "expectations.checker"],
        input=spec.model_dump_json(), capture_output=True, text=True, timeout=_APART_TIMEOUT_S, check=True,
    )  # fmt: skip
    return [FieldError(item["field"], item["message"]) for item in json.loads(done.stdout)]


def known_types() -> list[str]:
    """Types a suite may name."""
    return sorted(engine.expectation_classes())


def _check(item: ExpectationSpec) -> list[tuple[str, str]]:
    class_ = engine.expectation_class(item.type)
    if class_ is None:
        close = difflib.get_close_matches(item.type, known_types(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return [("type", f"{item.type!r} is not a core expectation of Great Expectations{hint}")]
    row_level = engine.is_row_level(class_)
    found: list[tuple[str, str]] = []
    if item.on_failure == "quarantine" and not row_level:
        found.append(("on_failure", "quarantine needs an expectation about single rows: say hold or warn"))
    if item.mostly is not None and not row_level:
        found.append(("mostly", "goes with an expectation about single rows"))
    found += [
        (f"kwargs.{name}", "is not an argument of the expectation")
        for name in item.kwargs
        if name in _NOT_ARGUMENTS
    ]
    if "row_condition" in item.kwargs:
        found += _check_condition(item.kwargs["row_condition"], "kwargs.row_condition")
    if found:
        return found
    try:
        engine.build(item)
    except ValueError as error:
        return _from_library(error)
    return []


def _from_library(error: ValueError) -> list[tuple[str, str]]:
    details = getattr(error, "errors", None)
    if not callable(details):
        return [("kwargs", str(error).splitlines()[0])]
    found = []
    for item in details():
        path = ".".join(str(part) for part in item["loc"] if part != "__root__")
        message = {"value_error.missing": "is required", "value_error.extra": "is not an argument"}.get(
            item["type"], item["msg"]
        )
        found.append((f"kwargs.{path}" if path else "kwargs", message))
    # A field that may be one of several kinds gives an error for each: the first says enough.
    return list({field: (field, message) for field, message in reversed(found)}.values())[::-1]


def _check_condition(condition: Any, path: str) -> list[tuple[str, str]]:
    """Only conditions written as data: the library hands text to an evaluator that can run anything."""
    if not isinstance(condition, Mapping):
        return [(path, "is written as data: type, column, operator, parameter")]
    kind = condition.get("type")
    if kind in ("and", "or"):
        parts = condition.get("conditions")
        if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
            return [(f"{path}.conditions", "should list conditions")]
        return [e for i, part in enumerate(parts) for e in _check_condition(part, f"{path}.conditions.{i}")]
    if kind not in ("comparison", "nullity"):
        return [(f"{path}.type", "should be comparison, nullity, and, or")]
    column = condition.get("column")
    name = column.get("name") if isinstance(column, Mapping) else None
    if not isinstance(name, str) or not re.match(COLUMN_PATTERN, name):
        return [(f"{path}.column.name", "should be the name of a field")]
    values = condition.get("parameter")
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, str) and not re.fullmatch(r"[\w .:+/-]*", value):
            return [(f"{path}.parameter", "may hold letters, digits, spaces and . : + / - _")]
        if not isinstance(value, str | int | float | bool | None):
            return [(f"{path}.parameter", "should be text, a number, true or false, or a list of these")]
    return []


def main() -> int:
    spec = SuiteSpec.model_validate_json(sys.stdin.read())
    sys.stdout.write(json.dumps([error.as_dict() for error in check_suite(spec)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
