"""What the harness makes of a benchmark's figures."""

import json
from pathlib import Path

import pytest

from benchmarks import harness


def test_ratios_above_one_are_better_for_rates_and_for_times() -> None:
    rate = harness.with_ratios({"ours": 50, "limit": 100, "peer": 10, "unit": "events/s", "detail": ""})
    assert (rate["of_limit"], rate["of_peer"]) == (0.5, 5)
    time = harness.with_ratios(
        {"ours": 2, "limit": 1, "peer": 30, "unit": "s", "detail": "", "lower_is_better": True}
    )
    assert (time["of_limit"], time["of_peer"]) == (0.5, 15)
    assert set(rate) == set(harness.KEYS)


def test_a_peer_without_a_figure_is_null() -> None:
    found = harness.with_ratios({"ours": 50, "limit": 100, "peer": None, "unit": "x", "detail": "none here"})
    assert found["of_peer"] is None
    assert harness.with_ratios({"ours": 1, "limit": 2, "of_limit": 0.7, "unit": "x"})["of_limit"] == 0.7


def test_results_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results.json")
    harness.keep({"b": {"ours": 1}})
    harness.keep({"a": {"ours": 2}, "b": {"ours": 3}})
    assert json.loads(harness.RESULTS.read_text()) == {"a": {"ours": 2}, "b": {"ours": 3}}
    assert list(tmp_path.iterdir()) == [harness.RESULTS]


def test_benchmarks_are_found_and_helpers_are_not() -> None:
    assert {"ingest_single", "ingest_batch"} <= set(harness.names())
    assert not {"harness", "loadgen", "ingest_stand", "__main__"} & set(harness.names())


def test_an_unknown_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness.main(["nothing"]) == 2
    assert "ingest_single" in capsys.readouterr().out
