"""Chooses what answers a query: gold levels where they are exact, the silver table (or model) otherwise.

Pure. Law: whatever is chosen, the numbers are those of the silver table. Gold is chosen when every measure
can be put together from partial aggregates of samples and when only dimensions are grouped and filtered by.
"""

from dataclasses import dataclass

from sluiceway.queries.resolve import ResolvedMeasure, ResolvedQuery
from sluiceway.queries.timeranges import LEVELS, RAW, Segment, coarsest_level, split

DECOMPOSABLE = frozenset({"count", "sum", "avg", "min", "max", "stddev", "first", "last", "rate"})


@dataclass(frozen=True, slots=True)
class GoldPlan:
    """Parts of the range with the level that answers each, and the metric behind each measure."""

    segments: tuple[Segment, ...]
    metrics: tuple[str, ...]

    @property
    def source(self) -> str:
        """The coarsest level that is read, which answers nearly all of the range."""
        levels = [s.level for s in self.segments if s.level != RAW]
        return f"gold.samples_{max(levels, key=LEVELS.__getitem__)}"


def plan(query: ResolvedQuery) -> GoldPlan | None:
    """How gold answers the query; None: silver (or the model) must."""
    facts = query.relation.gold
    if facts is None or query.rows is not None or query.span is None:
        return None
    named = {d.name for d in query.dimensions} | {f.field.name for f in query.filters}
    if not named <= facts.dimensions:
        return None
    stand_in = _stand_in(query)
    metrics = []
    for measure in query.measures:
        metric = stand_in if measure.field is None else measure.field.name
        if measure.agg not in DECOMPOSABLE or metric is None or metric not in facts.measures:
            return None
        metrics.append(metric)
    segments = split(query.span, coarsest_level(query.grain, query.timezone, query.span))
    if all(segment.level == RAW for segment in segments):
        return None
    return GoldPlan(segments, tuple(metrics))


def _stand_in(query: ResolvedQuery) -> str | None:
    """A measure that every event has: its samples are the events. One that is asked for anyway goes first."""
    assert query.relation.gold is not None
    always = query.relation.gold.always & query.relation.gold.measures
    asked = [m.field.name for m in query.measures if _asks(m, always)]  # type: ignore[union-attr]
    return next(iter(asked), min(always, default=None))


def _asks(measure: ResolvedMeasure, always: frozenset[str]) -> bool:
    return measure.field is not None and measure.field.name in always
