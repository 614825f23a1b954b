"""The verdict of a report, and its words."""

import json
from datetime import UTC, datetime

import pytest

from sluiceway.verification.contracts import (
    Balance,
    DeadLetters,
    Found,
    LayerReport,
    PipelineReport,
    Report,
)
from sluiceway.verification.wording import as_text, verdict

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def report(*layers: LayerReport, acknowledged: int | None = 10) -> Report:
    found = {layer.layer: layer for layer in layers}
    return Report(AT, [PipelineReport("orders", found, acknowledged, 2)])


def test_nothing_found_is_whole() -> None:
    found = report(LayerReport("bronze", 12), LayerReport("silver", 10))
    assert found.ok and found.passed(exact=True)
    assert verdict(found) == "Nothing is missing and nothing is doubled."
    assert found.pipeline("orders").layer("gold").note == "not looked at"
    with pytest.raises(KeyError):
        found.pipeline("clicks")


@pytest.mark.parametrize("kind", ["missing", "doubled", "wrong"])
def test_what_is_missing_doubled_or_wrong_fails(kind: str) -> None:
    found = report(LayerReport("silver", 10, **{kind: Found(1_234, ("a",))}))  # type: ignore[arg-type]
    assert not found.ok and not found.passed()
    assert verdict(found) == f"Not whole: orders: silver 1,234 {kind}."


def test_what_is_extra_fails_only_if_asked() -> None:
    found = report(LayerReport("silver", 10, extra=Found(3, ("a", "b"))))
    assert found.passed() and not found.passed(exact=True)
    assert verdict(found).endswith("3 are extra: nobody acknowledged them.")
    assert verdict(found, exact=True) == "Not whole: orders: silver 3 extra."
    assert "silver, extra: a, b and 1 more" in as_text(found)


def test_an_acknowledged_id_that_waits_is_not_proven() -> None:
    waiting = LayerReport("silver", 10, waiting=4)
    assert not report(waiting).ok
    assert verdict(report(waiting)) == "Not whole: orders: 4 wait to be loaded."
    assert report(waiting, acknowledged=None).ok
    assert report(LayerReport("bronze", 10, waiting=4)).ok


def test_the_words_say_all_that_was_found() -> None:
    layers = {
        "bronze": LayerReport("bronze", 1_300, out_of_reach=5, waiting=1),
        "gold": LayerReport("gold", 40, wrong=Found(1, ("1h 2026-11-21T01:00Z amount {}",)), note="a note"),
    }
    letters = DeadLetters(3, 2, {"open map/wrong_type": 3})
    balance = Balance(1_300, 1_200, 3, 90, 4, 2, 1)
    text = as_text(Report(AT, [PipelineReport("orders", layers, 1_000, 7, letters, balance)]))  # type: ignore[arg-type]
    for words in (
        "orders: 1,000 acknowledged ids (7 lines named one again)",
        "gold, wrong: 1h 2026-11-21T01:00Z amount {}",
        "gold: a note",
        "bronze: 5 are past retention, out of reach",
        "bronze: 1 wait to be written to the lake",
        "dead letters: 3 open map/wrong_type; 2 acknowledged ids are among them",
        "1,300 events in bronze = 1,200 rows + 3 dead letters + 90 delivered again + 4 waiting"
        " + 1 past silver's retention + 2 lost",
        "Not whole: orders: gold 1 wrong.",
    ):
        assert words in text
    assert "compared with one another" in as_text(report(acknowledged=None))
    assert "nothing to verify" in as_text(Report(AT, []))


def test_the_report_as_json_has_everything() -> None:
    found = report(LayerReport("silver", 10, missing=Found(1, ("a",)), waiting=2))
    document = json.loads(json.dumps(found.as_dict()))
    assert document["ok"] is False
    (one,) = document["pipelines"]
    assert one["layers"]["silver"]["missing"] == {"count": 1, "first": ["a"]}
    assert (one["acknowledged"], one["repeated"], one["balance"]) == (10, 2, None)
