"""From rows to samples: which series a row belongs to, and a sample for every measure that is not null."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from sluiceway.catalog.contracts import Pipeline
from sluiceway.transforms.series import canonical_dimensions, series_id

_GROUP = "_group"
_MAX_KNOWN = 200_000

Series = tuple[int, str, bytes]
"""Series id, metric, canonical dimensions."""


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Samples of one measure, as columns of equal length; `times_us` since 1970."""

    series: npt.NDArray[np.int64]
    times_us: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    seqs: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.series)

    def where(self, mask: npt.NDArray[np.bool_]) -> "SampleBlock":
        return SampleBlock(self.series[mask], self.times_us[mask], self.values[mask], self.seqs[mask])


def join(blocks: list[SampleBlock]) -> SampleBlock:
    return SampleBlock(
        np.concatenate([b.series for b in blocks]),
        np.concatenate([b.times_us for b in blocks]),
        np.concatenate([b.values for b in blocks]),
        np.concatenate([b.seqs for b in blocks]),
    )


@dataclass(slots=True)
class SeriesBook:
    """Series that are known to be committed. One loader's own; forgetting costs an `ON CONFLICT` only."""

    known: set[int] = field(default_factory=set)

    def fresh(self, found: list[Series]) -> list[Series]:
        return [series for series in found if series[0] not in self.known]

    def remember(self, committed: list[Series]) -> None:
        if len(self.known) > _MAX_KNOWN:
            self.known.clear()
        self.known.update(series[0] for series in committed)


def make_samples(
    pipeline: Pipeline, rows: pl.DataFrame, seqs: npt.NDArray[np.int64]
) -> tuple[SampleBlock | None, list[Series]]:
    """The samples of `rows` (whose seqs are given), and every series they belong to."""
    measures = pipeline.spec.measures
    if not measures or rows.is_empty():
        return None, []
    groups, labels = _group(pipeline, rows)
    times = rows["event_time"].to_physical().to_numpy()
    blocks: list[SampleBlock] = []
    series: list[Series] = []
    for measure in measures:
        ids = np.array([series_id(pipeline.id, measure.name, label) for label in labels], dtype=np.int64)
        there = rows[measure.name].is_not_null().to_numpy()
        if not there.any():
            continue
        whole = there.all()
        own = groups if whole else groups[there]
        values = rows[measure.name].cast(pl.Float64).fill_null(0.0).to_numpy()
        block = SampleBlock(groups, times, values, seqs)
        kept = block if whole else block.where(there)
        blocks.append(SampleBlock(ids[own], kept.times_us, kept.values, kept.seqs))
        series += [(int(ids[g]), measure.name, labels[g]) for g in np.flatnonzero(np.bincount(own))]
    return (join(blocks), series) if blocks else (None, [])


def _group(pipeline: Pipeline, rows: pl.DataFrame) -> tuple[npt.NDArray[np.int64], list[bytes]]:
    """For each row the number of its dimension values, and those values as canonical JSON by number."""
    names = [field.name for field in pipeline.spec.dimensions]
    if not names:
        return np.zeros(len(rows), dtype=np.int64), [canonical_dimensions({})]
    distinct = rows.select(names).unique(maintain_order=True)
    if len(distinct) == 1:
        groups = np.zeros(len(rows), dtype=np.int64)
    else:
        numbered = distinct.with_columns(pl.int_range(len(distinct), dtype=pl.Int64).alias(_GROUP))
        joined = rows.select(names).join(
            numbered, on=names, how="left", nulls_equal=True, maintain_order="left"
        )
        groups = joined[_GROUP].to_numpy()
    return groups, [canonical_dimensions(values) for values in distinct.iter_rows(named=True)]


def by_month(times_us: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Each calendar month (UTC) in `times_us`: a moment in it (µs), and which of them lie in it."""
    months = times_us.astype("datetime64[us]").astype("datetime64[M]")
    for month in np.unique(months):
        yield int(month.astype("datetime64[us]").astype(np.int64)), months == month
