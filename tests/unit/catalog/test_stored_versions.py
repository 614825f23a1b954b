"""Versions that were applied before a rule: they are read as they were; what has no shape is told."""

import copy
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from sluiceway.catalog import stored
from sluiceway.catalog.contracts import FieldType, PipelineSpec
from sluiceway.catalog.errors import StoredVersionUnreadable
from sluiceway.catalog.senders import CloudEventsChallenge, GithubVerify
from sluiceway.catalog.stored import read_spec

WHOLE: dict[str, Any] = PipelineSpec.model_validate(
    {
        "name": "orders",
        "source": {
            "split": "items",
            "verify": {"scheme": "github", "challenge": {"type": "cloudevents", "origins": ["a"]}},
        },
        "event": {"id": ["id", "header:x-part"], "time": "at"},
        "fields": [
            {"name": "amount", "type": "number", "role": "measure", "unit": "EUR", "default": 1.5},
            {"name": "country", "type": "string", "role": "dimension", "required": True},
        ],
        "quality": {"suite": "orders"},
        "dedupe": {"window": "14d"},
        "retention": {"silver": "90d"},
        "limits": {"events_per_s": 10, "burst": 20},
    }
).model_dump(mode="json")


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_told", set())


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    document = copy.deepcopy(WHOLE)
    change(document)
    return document


def verify(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda d: d["source"].update(verify=values)


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a window below the sender's horizon": lambda d: d["dedupe"].update(window="1d"),
    "a column of the platform's": lambda d: d["fields"][0].update(name="seq"),
    "a role that does not fit": lambda d: d["fields"][0].update(type="string"),
    "a name that comes twice": lambda d: d["fields"][1].update(name="amount"),
    "a name that is too long": lambda d: d["fields"][1].update(name="c" * 80),
    "a text that is too long": lambda d: d["fields"][1].update(description="x" * 600),
    "a pipeline's name": lambda d: d.update(name="Orders!"),
    "credentials in a field": lambda d: d["fields"][1].update(path="header:authorization"),
    "credentials in the id": lambda d: d["event"].update(id="header:cookie"),
    "credentials in one of several ids": lambda d: d["event"].update(id=["a", "header:cookie"]),
    "a path that is empty": lambda d: d["source"].update(split=""),
    "too many fields": lambda d: d.update(fields=[{**d["fields"][1], "name": f"f{n}"} for n in range(300)]),
    "a burst that is too small": lambda d: d["limits"].update(events_per_s=1000.0, burst=1),
    "a rate that is too small": lambda d: d["limits"].update(events_per_s=1e-9),
    "a suite's name": lambda d: d["quality"].update(suite="Orders Suite"),
    "a payload that fits any body": verify(
        scheme="hmac", header="x-signature", payload="{timestamp}", tolerance_s=0
    ),
    "a key in two places": verify(scheme="key", header="x-key", query="key"),
    "a challenge without origins": lambda d: d["source"]["verify"]["challenge"].update(origins=[]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_version_that_breaks_a_newer_rule_is_read_as_it_was(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    document = changed(BROKEN[name])
    with pytest.raises(ValidationError):
        PipelineSpec.model_validate(document)
    found = read_spec(document, "Version 1 of it")
    read_spec(document, "Version 1 of it")
    whole = found.model_dump(mode="json", exclude_unset=True)
    assert whole == {**document, "source": {**document["source"], "verify": whole["source"]["verify"]}}
    assert document["source"]["verify"].items() <= found.model_dump(mode="json")["source"]["verify"].items()
    (told,) = caplog.records
    assert told.levelno == logging.WARNING and told.getMessage().startswith("Version 1 of it was applied")
    assert found.header_names is not None and found.dimensions is not None


def test_its_parts_are_of_their_types() -> None:
    found = read_spec(changed(lambda d: d["dedupe"].update(window="1d")), "it")
    assert found.dedupe.window == timedelta(days=1) and found.retention.silver == timedelta(days=90)
    assert found.retention.bronze is None and found.freshness.warn_after == timedelta(hours=1)
    assert found.fields[0].type is FieldType.NUMBER and found.fields[0].default == 1.5
    assert isinstance(found.source.verify, GithubVerify)
    assert isinstance(found.source.verify.challenge, CloudEventsChallenge)
    assert found.event.id_paths == ("id", "header:x-part")
    assert [f.name for f in found.measures] == ["amount"]


def test_what_newer_versions_do_not_know_is_left_out() -> None:
    found = read_spec(changed(lambda d: d.update(colour="red") or d["limits"].update(per_day=5)), "it")
    assert found.model_dump(mode="json") == WHOLE


def test_a_good_version_is_read_as_always(caplog: pytest.LogCaptureFixture) -> None:
    assert read_spec(WHOLE, "it") == PipelineSpec.model_validate(WHOLE)
    assert not caplog.records


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("fields"),
        lambda d: d.update(fields=5),
        lambda d: d["fields"][0].update(type="money"),
        lambda d: d["fields"][0].pop("name"),
        lambda d: d["dedupe"].update(window="long"),
        lambda d: d["source"].update(verify={"scheme": "smoke signals"}),
        lambda d: d["event"].update(id=5),
    ],
)
def test_what_has_not_the_shape_is_told_with_its_fields(
    change: Callable[[dict[str, Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(StoredVersionUnreadable, match="Version 2 cannot be read"):
            read_spec(changed(change), "Version 2")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
