"""Errors in a document name the field and the line."""

import pytest

from sluiceway.catalog.contracts import PipelineSpec, json_schema
from sluiceway.catalog.errors import InvalidPipeline
from sluiceway.catalog.service import parse

GOOD = """\
kind: Pipeline
name: orders  # a comment that survives
event:
  id: id
  time: at
fields:
  - {name: amount, type: number, role: measure, unit: EUR}
  - {name: country, type: string, role: dimension}
"""


def test_a_pipeline_is_read() -> None:
    spec = parse(GOOD)
    assert spec.name == "orders"
    assert [f.name for f in spec.measures] == ["amount"]


@pytest.mark.parametrize(
    ("source", "field", "line", "message"),
    [
        (GOOD + "colour: red\n", "colour", 9, "is not a known field"),
        (GOOD.replace("role: measure", "role: big"), "fields.0.role", 7, "Input should be"),
        (GOOD.replace("name: orders", "name: Or ders"), "name", 2, "String should match"),
        (GOOD.replace("type: string", "type: number"), "fields.1", 8, "a dimension has type"),
        (GOOD.replace("type: number, ", ""), "fields.0.type", 7, "is required"),
        (GOOD + "name: again\n", "name", 9, "is given twice"),
        (GOOD + "retention: {silver: 3 moons}\n", "retention.silver", 9, "whole number and a unit"),
        (GOOD.replace("name: country", "name: seq"), "fields.1", 8, "platform's own"),
        (GOOD.replace("name: country", "name: amount"), "", 1, "used twice"),
        (GOOD + "---\nkind: Pipeline\n", "", 9, "put each into a file of its own"),
    ],
)
def test_an_error_names_field_and_line(source: str, field: str, line: int, message: str) -> None:
    with pytest.raises(InvalidPipeline) as found:
        parse(source)
    error = found.value.errors[0]
    assert (error.field, error.line) == (field, line)
    assert message in error.message


@pytest.mark.parametrize(
    "source",
    [
        "",
        "- a\n- b\n",
        "a: [1, 2",
        "a: \x00b",
        "a: &a [x, x]\n" + "".join(f"k{i}: &k{i} [*{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}]\n"
                                   for i, p in enumerate(["a", *[f"k{n}" for n in range(8)]])),
        "a: " + "x" * 600_000,
        "[" * 3000,
        "when: 2026-99-99\n",
    ],
    ids=["empty", "list", "unclosed", "nul", "aliases", "large", "deep", "impossible date"],
)  # fmt: skip
def test_what_is_not_a_document_is_refused(source: str) -> None:
    with pytest.raises(InvalidPipeline):
        parse(source)


def test_the_published_schema_accepts_what_the_parser_accepts() -> None:
    import jsonschema
    import yaml

    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(GOOD), schema)
    document = PipelineSpec.model_validate(parse(GOOD).model_dump(mode="json")).model_dump(mode="json")
    assert document["dedupe"]["window"] == "7d"
