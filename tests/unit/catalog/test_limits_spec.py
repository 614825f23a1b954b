"""A pipeline's limits and a key's: what is written comes back, what cannot be is named with its line."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from sluiceway.catalog.contracts import PipelineSpec, json_schema
from sluiceway.catalog.errors import InvalidPipeline
from sluiceway.catalog.limits import LEAST_RATE, KeyLimits, LimitsSpec, key_limits
from sluiceway.catalog.service import parse
from sluiceway.identity.errors import InvalidKeyRequest

SOURCE = """\
name: orders
fields:
  - {name: amount, type: number}
limits:
  events_per_s: 0.5
  burst: 40
  bytes_per_s: 100000
  body_bytes: 200000
  event_bytes: 4000
  events_per_request: 40
"""


def test_every_limit_is_read_and_in_the_schema() -> None:
    limits = parse(SOURCE).limits
    assert limits == LimitsSpec(
        events_per_s=0.5, burst=40, bytes_per_s=100000, body_bytes=200000, event_bytes=4000,
        events_per_request=40,
    )  # fmt: skip
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(SOURCE))
    assert set(json_schema()["$defs"]["LimitsSpec"]["properties"]) == set(LimitsSpec.model_fields)


def test_a_pipeline_without_limits_has_none() -> None:
    spec = parse("name: orders\nfields: [{name: amount, type: number}]\n")
    assert spec.limits == LimitsSpec()
    assert PipelineSpec.model_validate(spec.model_dump(mode="json")) == spec
    older = {k: v for k, v in spec.model_dump(mode="json").items() if k != "limits"}
    assert PipelineSpec.model_validate(older) == spec  # versions kept before there were limits


@pytest.mark.parametrize(
    ("rate", "events", "size", "at_once"),
    [(0.1, 1, 100, 1024 * 1024), (3.0, 6, 1_000_000, 2_000_000), (1000.0, 2000, 1, 1024 * 1024)],
)
def test_a_burst_that_is_not_given_is_two_seconds_worth(
    rate: float, events: int, size: int, at_once: int
) -> None:
    limits = LimitsSpec(events_per_s=rate, bytes_per_s=size)
    assert (limits.events_burst, limits.bytes_burst) == (events, at_once)


@pytest.mark.parametrize(
    ("old", "new", "field", "says"),
    [
        ("events_per_s: 0.5", "events_per_s: 0", "limits.events_per_s", "greater than 0"),
        ("events_per_s: 0.5", "events_per_s: 1.0e-310", "limits.events_per_s", "one event a day"),
        ("events_per_s: 0.5", "events_per_s: 1000", "limits", "at least 100"),
        ("  events_per_s: 0.5\n", "", "limits", "needs events_per_s"),
        ("burst: 40", "burst: 0", "limits.burst", "greater than or equal to 1"),
        ("bytes_per_s: 100000", "bytes_per_s: many", "limits.bytes_per_s", "integer"),
        ("event_bytes: 4000", "event_size: 4000", "limits.event_size", "not a known field"),
    ],
)
def test_what_cannot_be_is_named_with_its_line(old: str, new: str, field: str, says: str) -> None:
    source = SOURCE.replace(old, new)
    with pytest.raises(InvalidPipeline) as caught:
        parse(source)
    (error,) = caught.value.errors
    assert error.field == field and says in error.message
    named = field.split(".")[-1]
    assert error.line == next(n for n, line in enumerate(source.split("\n"), 1) if f"{named}:" in line)


def test_a_keys_limit_is_whole_or_absent() -> None:
    assert key_limits(None, None) is None
    assert key_limits(5, None) == KeyLimits(5, 10)
    assert key_limits(0.01, 3) == KeyLimits(0.01, 3)
    assert key_limits(LEAST_RATE, None) == KeyLimits(LEAST_RATE, 1)


@pytest.mark.parametrize(
    ("rate", "burst", "field"), [(None, 5, "burst"), (0, 5, "rate"), (-1, None, "rate"), (1e9, None, "rate"),
                                 (1e-310, None, "rate"), (0.9 / 86_400, 5, "rate"),
                                 (100, 9, "burst"), (float("nan"), None, "rate")],
)  # fmt: skip
def test_a_keys_limit_that_cannot_be_is_refused(rate: float | None, burst: int | None, field: str) -> None:
    with pytest.raises(InvalidKeyRequest) as caught:
        key_limits(rate, burst)
    assert [error.field for error in caught.value.errors] == [field]


def test_the_guides_example_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "limits.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert parse(block).limits.events_burst == 1000
