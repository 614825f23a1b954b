"""A dashboard file: what is accepted, what is refused and where, and where widgets go."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sluiceway.dashboards.contracts import DashboardSpec, Position, json_schema
from sluiceway.dashboards.errors import InvalidDashboard
from sluiceway.dashboards.export import to_yaml
from sluiceway.dashboards.layouts import carry_over, place
from sluiceway.dashboards.service import parse

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "dashboards").glob("*.yml"))
SOURCE = """\
# Sales, at a glance
kind: Dashboard
name: sales
title: "Sales"      # quoted on purpose
time: {last: 7d}
widgets:
  - id: total
    type: stat
    query: {pipeline: sales, measures: [{field: amount, agg: sum}]}
    chart: {y: [amount_sum], sparkline: true, good: up}
    rules:
      - {column: amount_sum, op: lt, value: 10, tone: warning}   # little
    layout: {x: 0, y: 0, w: 3, h: 2}
  - id: by-shop
    title: By shop
    type: bar
    query: {pipeline: sales, measures: [{agg: count}], dimensions: [shop]}
  - id: words
    type: text
    text: |
      **Hello**
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(path: Path) -> None:
    spec = parse(path.read_text())
    assert spec.widgets
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())
    assert DashboardSpec.model_validate(spec.document()) == spec


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(yaml.safe_load(SOURCE), json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"kind": "Dashboard", "name": "a b"}, json_schema())


@pytest.mark.parametrize(
    ("old", "new", "field", "line"),
    [
        ("type: stat", "type: pie", "widgets.0.type", 8),
        ("y: [amount_sum]", "y: [amount]", "widgets.0", 7),
        ("column: amount_sum", "column: amount", "widgets.0", 7),
        ("id: by-shop", "id: total", "", None),
        ("w: 3, h: 2", "w: 13, h: 2", "widgets.0.layout.w", 13),
        ("x: 0, y: 0, w: 3", "x: 10, y: 0, w: 3", "widgets.0.layout", 13),
        ("    text: |\n      **Hello**\n", "", "widgets.2", 18),
        ("agg: count", "agg: cuont", "widgets.1.query.measures.0.agg", 17),
        ("last: 7d", "last: week", "time.last", 5),
        ("title: By shop", "titel: By shop", "widgets.1.titel", 15),
    ],
)
def test_errors_name_field_and_line(old: str, new: str, field: str, line: int | None) -> None:
    assert old in SOURCE
    with pytest.raises(InvalidDashboard) as found:
        parse(SOURCE.replace(old, new))
    error = found.value.errors[0]
    assert error.field == field
    assert line is None or error.line == line


def positions(**changed: Any) -> dict[str, Position]:
    return {**place(parse(SOURCE)), **changed}


def test_widgets_without_a_place_find_the_first_free_one() -> None:
    found = place(parse(SOURCE))
    assert list(found) == ["total", "by-shop", "words"]
    assert (found["by-shop"].x, found["by-shop"].y) == (3, 0)
    taken = {(x, y) for p in found.values() for x in range(p.x, p.x + p.w) for y in range(p.y, p.y + p.h)}
    assert len(taken) == sum(p.w * p.h for p in found.values())


def test_moves_stay_unless_the_file_moves_the_widget() -> None:
    old = parse(SOURCE)
    moved = positions(**{"total": Position(x=6, y=4, w=3, h=2), "by-shop": Position(x=0, y=0, w=6, h=4)})
    same_place = carry_over(old, moved, parse(SOURCE.replace("By shop", "Shops")))
    assert same_place["total"].x == 6 and same_place["by-shop"].x == 0
    new_place = carry_over(old, moved, parse(SOURCE.replace("x: 0, y: 0, w: 3", "x: 9, y: 0, w: 3")))
    assert new_place["total"].x == 9 and new_place["by-shop"].x == 0
    fewer = carry_over(old, moved, parse(SOURCE[: SOURCE.index("  - id: words")]))
    assert list(fewer) == ["total", "by-shop"]


def test_an_export_is_the_text_that_was_applied() -> None:
    spec = parse(SOURCE)
    assert to_yaml(spec, place(spec), SOURCE) == SOURCE


def test_an_export_after_a_move_keeps_every_word_and_comment() -> None:
    spec = parse(SOURCE)
    moved = positions(**{"total": Position(x=6, y=4, w=3, h=2)})
    text = to_yaml(spec, moved, SOURCE)
    for kept in ("# Sales, at a glance", '"Sales"', "# quoted on purpose", "# little"):
        assert kept in text
    again = parse(text)
    assert place(again) == moved
    bare = again.model_copy(
        update={"widgets": [w.model_copy(update={"layout": None}) for w in again.widgets]}
    )
    assert bare == spec.model_copy(
        update={"widgets": [w.model_copy(update={"layout": None}) for w in spec.widgets]}
    )
    assert to_yaml(again, place(again), text) == text


def test_what_the_api_made_is_exported_whole() -> None:
    spec = parse(SOURCE)
    again = parse(to_yaml(spec, place(spec), ""))
    assert place(again) == place(spec) and again.time == spec.time
    assert [w.query for w in again.widgets] == [w.query for w in spec.widgets]
