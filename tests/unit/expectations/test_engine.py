"""The compiled way finds exactly what Great Expectations' public way finds, and nothing kills it."""

import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from expectations import engine
from expectations.engine import CompiledSuite, Finding
from sluiceway.quality.contracts import ExpectationSpec, SuiteSpec


def suite(*items: dict[str, Any]) -> SuiteSpec:
    return SuiteSpec(
        name="tested",
        expectations=[
            ExpectationSpec(**{"name": f"check-{i}", "on_failure": "warn", **item})
            for i, item in enumerate(items)
        ],
    )


def expect(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs}


EQUALS_TRUE = {"type": "comparison", "column": {"name": "cancelled"}, "operator": "==", "parameter": True}
ITEMS = [
    expect("column_values_to_be_between", column="delay", min_value=-60, max_value=100),
    expect("column_values_to_not_be_null", column="carrier"),
    expect("column_values_to_be_null", column="delay", row_condition=EQUALS_TRUE),
    expect("column_values_to_be_in_set", column="origin", value_set=["EWR", "JFK", "LGA"]),
    expect("column_values_to_match_regex", column="carrier", regex="^[A-Z0-9]{2}$"),
    expect("column_value_lengths_to_equal", column="origin", value=3),
    expect("column_values_to_be_unique", column="flight"),
    expect("compound_columns_to_be_unique", column_list=["carrier", "flight"]),
    expect(
        "column_pair_values_a_to_be_greater_than_b",
        column_A="arrival",
        column_B="departure",
        ignore_row_if="either_value_is_missing",
    ),
    expect("column_mean_to_be_between", column="delay", min_value=0, max_value=5),
    expect("column_median_to_be_between", column="delay", min_value=0, max_value=500),
    expect("column_proportion_of_non_null_values_to_be_between", column="delay", min_value=0.9),
    expect("table_row_count_to_be_between", min_value=3, max_value=4),
    expect("column_distinct_values_to_be_in_set", column="origin", value_set=["EWR"]),
    expect("column_values_to_be_of_type", column="flight", type_="int64"),
]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "delay": [5.0, None, 250.0, -70.0, 12.0, 0.0],
            "carrier": ["UA", None, "united", "B6", "9E", "AA"],
            "origin": ["EWR", "JFK", "BOS", "LGA", None, "EWR"],
            "flight": [1, 2, 2, 3, 4, 5],
            "arrival": [10.0, 20.0, 5.0, None, 8.0, 9.0],
            "departure": [1.0, 30.0, 6.0, 2.0, None, 1.0],
            "cancelled": [False, True, True, False, False, False],
        }
    )


def public_way(spec: SuiteSpec, frame: pd.DataFrame) -> list[Any]:
    """The library as its guide shows it: context, data source, asset, batch definition, validate."""
    engine.library()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    built = gx.ExpectationSuite(name="same", expectations=[engine.build(e) for e in spec.expectations])
    results = batch.validate(built, result_format="COMPLETE").results
    by_kind = {
        (r.expectation_config.type, str(r.expectation_config.kwargs.get("column"))): r for r in results
    }
    return [by_kind[(e.type, str(e.kwargs.get("column")))] for e in spec.expectations]


def test_compiled_and_public_way_agree(frame: pd.DataFrame) -> None:
    spec = suite(*ITEMS)
    ours = CompiledSuite(spec).run(frame)
    for (item, finding), theirs in zip(ours, public_way(spec, frame), strict=True):
        assert finding.error is None, item.type
        assert finding.success == theirs.success, item.type
        if "unexpected_count" in theirs.result:
            assert finding.unexpected == theirs.result["unexpected_count"], item.type
            assert list(finding.failing) == list(theirs.result.get("unexpected_index_list") or []), item.type
        else:
            assert finding.detail["observed"] == engine.plain(theirs.result.get("observed_value")), item.type


def test_values_that_repeat_are_judged_as_if_each_were_asked(frame: pd.DataFrame) -> None:
    spec = suite(
        expect("column_values_to_match_regex", column="carrier", regex="^[A-Z0-9]{2}$"),
        expect("column_values_to_not_match_regex", column="carrier", regex="^A"),
        expect("column_values_to_be_in_set", column="origin", value_set=["EWR", "JFK", "LGA"]),
        expect("column_value_lengths_to_equal", column="origin", value=3),
        expect("column_values_to_be_in_set", column="mixed", value_set=["1"]),
    )
    many = pd.concat([frame.assign(mixed=[1, "1", True, None, 1.0, "x"])] * 300, ignore_index=True)
    compiled = CompiledSuite(spec)
    ours = compiled.run(many)
    for (item, finding), theirs in zip(ours, public_way(spec, many), strict=True):
        assert finding.error is None, item.type
        assert finding.success == theirs.success
        assert finding.unexpected == theirs.result["unexpected_count"]
        assert finding.detail.get("examples", []) == theirs.result["partial_unexpected_list"][:5]
    for (_, once), (_, often) in zip(compiled.run(many[:6]), ours, strict=True):
        assert list(often.failing) == [copy * 6 + row for copy in range(300) for row in once.failing]


def test_rows_are_counted_from_zero_whatever_the_index(frame: pd.DataFrame) -> None:
    compiled = CompiledSuite(suite(ITEMS[0], ITEMS[2]))
    shuffled = frame.set_index(pd.Index([90, 80, 70, 60, 50, 40]))
    assert [list(f.failing) for _, f in compiled.run(shuffled)] == [[2, 3], [2]]


def test_rows_of_a_condition_are_found_anew_in_each_frame() -> None:
    compiled = CompiledSuite(suite(ITEMS[2]))
    for cancelled in (True, False, True):
        frame = pd.DataFrame({"delay": [1.0], "cancelled": [cancelled]})
        assert [f.success for _, f in compiled.run(frame)] == [not cancelled]


def test_a_condition_in_free_text_may_be_about_any_column(frame: pd.DataFrame) -> None:
    condition = {"type": "pass_through", "pass_through_filter": "cancelled == True"}
    compiled = CompiledSuite(
        suite(expect("column_values_to_be_null", column="delay", row_condition=condition), ITEMS[2])
    )
    assert [(f.error, list(f.failing)) for _, f in compiled.run(frame)] == [(None, [2]), (None, [2])]


def test_more_failing_rows_than_the_library_lists_values() -> None:
    compiled = CompiledSuite(suite(expect("column_values_to_be_between", column="v", min_value=0)))
    ((_, finding),) = compiled.run(pd.DataFrame({"v": [-1.0] * 1000}))
    assert list(finding.failing) == list(range(1000))
    assert len(finding.detail["examples"]) == 5


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"other": [1.0]}, "no field 'v'"),
        ({"v": ["text", 3]}, "type"),
    ],
)
def test_what_cannot_be_evaluated_is_a_finding(values: dict[str, list[Any]], said: str) -> None:
    spec = suite(
        expect("column_values_to_be_between", column="v", min_value=0),
        expect("table_row_count_to_be_between", min_value=1),
    )
    (_, broken), (_, fine) = CompiledSuite(spec).run(pd.DataFrame(values, dtype=object))
    assert not broken.success
    assert broken.error is not None and said in broken.error
    assert broken.detail == {"error": broken.error}
    assert fine.success


def test_one_suite_meets_frames_of_many_kinds() -> None:
    compiled = CompiledSuite(suite(expect("column_values_to_be_between", column="v", min_value=0)))
    frames = [
        pd.DataFrame({"v": [1, -1]}),
        pd.DataFrame({"v": [1.5, None, -1.5]}),
        pd.DataFrame({"v": [1, None, -1]}, dtype=object),
        pd.DataFrame({"v": [1, None, -1]}).convert_dtypes(),
        pd.DataFrame({"v": [None, None]}, dtype=object),
    ]
    assert [list(compiled.run(f)[0][1].failing) for f in frames] == [[1], [2], [2], [2], []]


def test_small_batches_are_not_asked_for_much() -> None:
    item = {**expect("column_mean_to_be_between", column="v", min_value=0), "min_rows": 3}
    compiled = CompiledSuite(suite(item))
    small = pd.DataFrame({"v": [-1.0]})
    assert compiled.run(small) == []
    assert len(compiled.run(small, all_sizes=True)) == 1


def test_nothing_is_kept_of_a_frame_that_was_judged() -> None:
    import gc
    import weakref

    compiled = CompiledSuite(suite(ITEMS[0]))
    frame = pd.DataFrame({"delay": [1.0] * 10})
    seen = weakref.ref(frame)
    compiled.run(frame)
    del frame
    gc.collect()
    assert seen() is None


def test_a_single_row_is_judged_fast_enough_to_be_live() -> None:
    compiled = CompiledSuite(suite(ITEMS[0], ITEMS[1], ITEMS[3], ITEMS[4], ITEMS[5]))
    row = pd.DataFrame({"delay": [5.0], "carrier": ["UA"], "origin": ["EWR"]})
    compiled.run(row)
    took = []
    for _ in range(20):
        begun = time.thread_time()
        compiled.run(row)
        took.append(time.thread_time() - begun)
    assert min(took) < 0.015


def test_telemetry_is_off_and_nothing_is_written(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    CompiledSuite(suite(*ITEMS)).run(frame)
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    assert list(tmp_path.iterdir()) == []
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_values_are_made_fit_for_json() -> None:
    given = {"a": float("nan"), "b": pd.Timestamp("2013-01-01"), "c": (1, 2), "d": True}
    assert engine.plain(given) == {"a": None, "b": "2013-01-01 00:00:00", "c": [1, 2], "d": True}


def test_a_finding_starts_empty() -> None:
    assert Finding(True, 1, 0) == Finding(True, 1, 0, (), {}, None)
