"""Great Expectations without a data context: one suite compiled once, then asked about frame after frame.

Belongs here: everything that touches the library. Its public way (`batch.validate(suite)`) builds the
data source's batch, every expectation and the whole graph of metrics anew for each batch, which costs more
than the checks themselves. Here expectations and graph are built once per suite and column types; each frame
is then loaded into the library's own engine, its own metrics are computed and its own expectations judge
them. A test compares every outcome with the public way's.
Not here: what a failure means for a batch (`runner`).
"""

import math
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sluiceway.quality.contracts import ExpectationSpec, SuiteSpec

if TYPE_CHECKING:
    import pandas as pd

_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "include_unexpected_rows": False,
    "return_unexpected_index_query": False,
}
_EXAMPLES = 5
_MAX_PLANS = 16
_INDEX_QUERY = ".unexpected_index_query"
_BATCH = "batch"
# Conditions on one value that look at nothing else: of equal values one need be asked.
_BY_VALUE = frozenset(
    f"column_values.{name}.condition"
    for name in ("match_regex", "not_match_regex", "match_regex_list", "not_match_regex_list",
                 "in_set", "not_in_set", "value_length.between", "value_length.equals")
)  # fmt: skip
_MANY = 1_000  # rows, from which on it pays to find equal values


def switch_telemetry_off() -> None:
    """Great Expectations reports usage to its makers unless this is said before it is imported."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"


_import_lock = threading.Lock()


@cache
def _import() -> ModuleType:
    switch_telemetry_off()
    # Its deprecation warnings are for its makers, and it redirects everyone's warnings to its log.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations.expectations as core

    return core


def library() -> ModuleType:
    """`great_expectations.expectations`, imported on first use (several seconds), telemetry off."""
    with _import_lock:
        return _import()


def expectation_class(type_: str) -> Any | None:
    """The core expectation class of a type such as `expect_column_values_to_be_between`, or None.

    Expectations that run SQL are left out: a gate sees a frame, not a database.
    """
    return expectation_classes().get(type_)


@cache
def expectation_classes() -> dict[str, Any]:
    """Every core expectation class that a gate can use, by its type."""
    found = {}
    for name, class_ in vars(library()).items():
        type_ = getattr(class_, "expectation_type", None)
        needs_sql = "Query" in name or name.endswith("OtherTable")
        if name.startswith("Expect") and name != "Expectation" and type_ and not needs_sql:
            found[type_] = class_
    return found


def is_row_level(class_: Any) -> bool:
    """Whether the expectation judges single rows, so that the failing ones can be told."""
    from great_expectations.expectations import expectation as base

    kinds = (base.ColumnMapExpectation, base.ColumnPairMapExpectation, base.MulticolumnMapExpectation)
    return issubclass(class_, kinds)


def build(spec: ExpectationSpec) -> Any:
    """The library's own expectation object. Raises `ValueError` (pydantic's) for wrong arguments."""
    class_ = expectation_class(spec.type)
    if class_ is None:
        raise ValueError(f"{spec.type} is not a core expectation")
    kwargs = dict(spec.kwargs)
    if spec.mostly is not None:
        kwargs["mostly"] = spec.mostly
    return class_(**kwargs)


def columns_of(kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns that an expectation with these arguments reads, its row condition's included."""
    found = [kwargs[key] for key in ("column", "column_A", "column_B") if isinstance(kwargs.get(key), str)]
    listed = kwargs.get("column_list")
    if isinstance(listed, Sequence) and not isinstance(listed, str):
        found += [item for item in listed if isinstance(item, str)]
    _condition_columns(kwargs.get("row_condition"), found)
    return tuple(dict.fromkeys(found))


def _condition_columns(condition: Any, found: list[str]) -> None:
    if isinstance(condition, Mapping):
        column = condition.get("column")
        if isinstance(column, Mapping) and isinstance(column.get("name"), str):
            found.append(column["name"])
        for part in condition.get("conditions") or ():
            _condition_columns(part, found)


def _is_structured(condition: Any) -> bool:
    """Whether a row condition tells the columns it reads: pass-through conditions are pandas' own text."""
    if condition is None:
        return True
    if not isinstance(condition, Mapping):
        return False
    parts = condition.get("conditions")
    return all(map(_is_structured, parts)) if parts else "column" in condition


@dataclass(frozen=True, slots=True)
class Finding:
    """What an expectation found in one frame.

    `failing` are row numbers (row-level expectations only); `error` says why it could not be evaluated.
    """

    success: bool
    evaluated: int
    unexpected: int
    failing: Sequence[int] = ()
    detail: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(slots=True)
class _Step:
    """One expectation over one shape of frame: the metrics it needs, by the name it knows them by."""

    spec: ExpectationSpec
    expectation: Any
    row_level: bool
    metric_ids: dict[str, Any]
    runtime: dict[str, Any]
    problem: str | None = None


@dataclass(slots=True)
class _Plan:
    """All steps, and their metrics in levels: a level needs only what the levels before it gave."""

    steps: list[_Step]
    levels: list[list[Any]]


class CompiledSuite:
    """A suite ready to be asked about frames. Not for several threads at once."""

    def __init__(self, spec: SuiteSpec) -> None:
        """Raises `ValueError` naming the expectation whose type or arguments are wrong."""
        library()
        from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine

        self.spec = spec
        self._engine = PandasExecutionEngine(caching=False)
        self._filtered: dict[str, pd.DataFrame] = {}
        self._distinct: dict[str, _Distinct | None] = {}
        self._filter = self._engine._apply_row_condition_filter
        self._engine._apply_row_condition_filter = self._filter_once  # type: ignore[method-assign] # see there
        self._expectations = [(item, build(item)) for item in spec.expectations]
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        read = [columns_of(item.kwargs) for item in spec.expectations]
        # An expectation that names no column is about the table; free text may be about any column.
        structured = (_is_structured(item.kwargs.get("row_condition")) for item in spec.expectations)
        known = all(read) and all(structured)
        self._reads = frozenset(name for names in read for name in names) if known else None

    def run(self, frame: "pd.DataFrame", *, all_sizes: bool = False) -> list[tuple[ExpectationSpec, Finding]]:
        """Ask every expectation whose `min_rows` the frame reaches (`all_sizes`: every one).

        Rows are counted from 0 in the frame's order. What cannot be evaluated is a finding with `error`.
        """
        if self._reads is not None:  # the library copies and cuts whole frames for every metric
            frame = frame[[name for name in frame.columns if name in self._reads]]
        frame = frame.reset_index(drop=True)
        self._engine.load_batch_data(_BATCH, frame)
        try:
            plan = self._plan(frame, all_sizes=all_sizes)
            metrics, errors = self._resolve(plan, frame)
            return [(step.spec, self._judge(step, metrics, errors)) for step in plan.steps]
        finally:
            self._filtered.clear()
            self._distinct.clear()
            self._engine.load_batch_data(_BATCH, frame.iloc[:0])

    def _filter_once(
        self, data: "pd.DataFrame", row_condition: Any, domain_kwargs: dict[str, Any]
    ) -> "pd.DataFrame":
        """The rows a row condition is about. Every metric asks again, and parsing costs more than finding."""
        key = repr(row_condition)
        if key not in self._filtered:
            # A query looks at every column it is given, so it is given those that it names.
            named: list[str] = []
            if _is_structured(row_condition):
                _condition_columns(row_condition, named)
            narrow = data[list(dict.fromkeys(named))] if named else data
            found = self._filter(narrow, row_condition, domain_kwargs)
            self._filtered[key] = data.loc[found.index] if named else found
        return self._filtered[key]

    def _plan(self, frame: "pd.DataFrame", *, all_sizes: bool) -> _Plan:
        asked = tuple(all_sizes or len(frame) >= spec.min_rows for spec, _ in self._expectations)
        shape = (asked, *zip(map(str, frame.columns), map(str, frame.dtypes), strict=True))
        found = self._plans.get(shape)
        if found is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.pop(next(iter(self._plans)))
            chosen = [item for item, wanted in zip(self._expectations, asked, strict=True) if wanted]
            found = self._plans[shape] = self._make_plan(chosen, set(map(str, frame.columns)))
        return found

    def _make_plan(self, chosen: Sequence[tuple[ExpectationSpec, Any]], present: set[str]) -> _Plan:
        from great_expectations.validator.metrics_calculator import MetricsCalculator

        calculator = MetricsCalculator(execution_engine=self._engine, show_progress_bars=False)
        steps: list[_Step] = []
        edges: list[Any] = []
        for spec, expectation in chosen:
            step = _Step(spec, expectation, is_row_level(type(expectation)), {}, {})
            steps.append(step)
            missing = [name for name in columns_of(spec.kwargs) if name not in present]
            if missing:
                step.problem = f"the pipeline has no field {', '.join(map(repr, missing))}"
                continue
            try:
                wanted = expectation.get_validation_dependencies(
                    execution_engine=self._engine, runtime_configuration={"result_format": _RESULT_FORMAT}
                )
                for name in [n for n in wanted.get_metric_names() if n.endswith(_INDEX_QUERY)]:
                    wanted.remove_metric_configuration(name)
                configurations = wanted.get_metric_configurations()
                graph = calculator.build_metric_dependency_graph(
                    metric_configurations=configurations,
                    runtime_configuration={"result_format": _RESULT_FORMAT},
                )
            except Exception as error:  # whatever the library cannot plan is a finding, not a crash
                step.problem = _sentence(error)
                continue
            step.runtime = {"result_format": wanted.result_format}
            step.metric_ids = {name: c.id for name, c in wanted.metric_configurations.items()}
            edges += graph.edges
        return _Plan(steps, _levels(edges))

    def _resolve(self, plan: _Plan, frame: "pd.DataFrame") -> tuple[dict[Any, Any], dict[Any, str]]:
        """Values of all metrics, and what went wrong with those that have none, by metric id."""
        metrics: dict[Any, Any] = {}
        errors: dict[Any, str] = {}
        for level in plan.levels:
            ready = []
            for metric in level:
                broken = next(
                    (errors[d.id] for d in metric.metric_dependencies.values() if d.id in errors), None
                )
                if broken is None:
                    ready.append(metric)
                else:
                    errors[metric.id] = broken
            try:
                rest = [metric for metric in ready if not self._ask_by_value(metric, frame, metrics)]
                metrics.update(self._engine.resolve_metrics(rest, metrics, {}))
            except Exception:  # one bad metric fails its whole level: ask again one by one
                for metric in ready:
                    try:
                        metrics.update(self._engine.resolve_metrics([metric], metrics, {}))
                    except Exception as error:
                        errors[metric.id] = _sentence(error)
        return metrics, errors

    def _ask_by_value(self, metric: Any, frame: "pd.DataFrame", metrics: dict[Any, Any]) -> bool:
        """Compute a condition on the distinct values of its column alone; False: it is not of that kind."""
        domain = metric.metric_domain_kwargs
        if metric.metric_name not in _BY_VALUE or domain.get("row_condition") or len(frame) < _MANY:
            return False
        name = domain["column"]
        if name not in self._distinct:
            self._distinct[name] = _find_distinct(frame, name)
        distinct = self._distinct[name]
        if distinct is None:
            return False
        self._engine.load_batch_data(_BATCH, distinct.values)
        try:
            found = self._engine.resolve_metrics([metric], metrics, {})
        finally:
            self._engine.load_batch_data(_BATCH, frame)
        condition, *kwargs = found[metric.id]
        metrics[metric.id] = (distinct.spread(condition), *kwargs)
        return True

    def _judge(self, step: _Step, metrics: dict[Any, Any], errors: dict[Any, str]) -> Finding:
        problem = step.problem or next(
            (errors[id_] for id_ in step.metric_ids.values() if id_ in errors), None
        )
        if problem is not None:
            return Finding(False, 0, 0, detail={"error": problem}, error=problem)
        provided = {name: metrics[id_] for name, id_ in step.metric_ids.items()}
        try:
            answer = step.expectation._validate(
                metrics=provided, runtime_configuration=dict(step.runtime), execution_engine=self._engine
            )
        except Exception as error:
            problem = _sentence(error)
            return Finding(False, 0, 0, detail={"error": problem}, error=problem)
        success = bool(answer["success"])
        result = answer["result"] if isinstance(answer, dict) else answer.result
        result = result or {}
        if "unexpected_count" not in result:
            detail = {"observed": plain(result.get("observed_value"))}
            return Finding(success, 1, 0 if success else 1, detail=detail)
        failing = next((v for n, v in provided.items() if n.endswith(".unexpected_index_list")), None) or ()
        unexpected = int(result.get("unexpected_count") or 0)
        evaluated = int(result.get("element_count") or 0) - int(result.get("missing_count") or 0)
        examples = [plain(value) for value in (result.get("partial_unexpected_list") or ())[:_EXAMPLES]]
        detail = {"examples": examples} if unexpected else {}
        return Finding(success, evaluated, unexpected, [int(row) for row in failing], detail)


@dataclass(frozen=True, slots=True)
class _Distinct:
    """A column's distinct values, and for each row that is not null which of them it holds."""

    values: "pd.DataFrame"
    codes: Any
    index: Any

    def spread(self, condition: "pd.Series[Any]") -> "pd.Series[Any]":
        """What was found of the values, as if every row had been asked."""
        import pandas as pd

        return pd.Series(condition.to_numpy()[self.codes], index=self.index, name=condition.name)


def _find_distinct(frame: "pd.DataFrame", name: str) -> _Distinct | None:
    """None where it would not pay, or where equal values need not be the same (1, 1.0 and true are equal)."""
    import pandas as pd

    column = frame[name]
    if column.dtype != object:
        return None
    codes, values = pd.factorize(column)
    if len(values) * 4 > len(column) or pd.api.types.infer_dtype(values, skipna=False) != "string":
        return None
    there = codes >= 0
    whole = pd.DataFrame({name: pd.Series(values, dtype=object)})
    return _Distinct(whole, codes[there], frame.index[there])


def _levels(edges: Sequence[Any]) -> list[list[Any]]:
    """Metrics of a dependency graph, each after all it needs."""
    metrics: dict[Any, Any] = {}
    needs: dict[Any, set[Any]] = {}
    for edge in edges:
        metrics.setdefault(edge.left.id, edge.left)
        needs.setdefault(edge.left.id, set())
        if edge.right is not None:
            metrics.setdefault(edge.right.id, edge.right)
            needs[edge.left.id].add(edge.right.id)
            needs.setdefault(edge.right.id, set())
    levels: list[list[Any]] = []
    done: set[Any] = set()
    while len(done) < len(metrics):
        level = [id_ for id_ in metrics if id_ not in done and needs[id_] <= done]
        if not level:
            raise ValueError("the metrics of this suite need one another in a circle")
        levels.append([metrics[id_] for id_ in level])
        done.update(level)
    return levels


def _sentence(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinity become None, what JSON does not know becomes text."""
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in list(value.items())[:50]}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in list(value)[:50]]
    return str(value)[:300]
