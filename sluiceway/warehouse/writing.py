"""A batch's rows, event ids and samples on their way into the leaves: cut by leaf, encoded, copied.

Of a large batch the next part is encoded in a thread while the server works on this one. Not here: the
bytes (`encoding`), the transaction (`service`).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import psycopg

from sluiceway.catalog.contracts import FieldType, Pipeline
from sluiceway.warehouse import repository
from sluiceway.warehouse.contracts import EPOCH
from sluiceway.warehouse.encoding import SAMPLE_COLUMNS, rows_to_binary, samples_to_binary
from sluiceway.warehouse.leaves import Leaves
from sluiceway.warehouse.samples import SampleBlock, by_month
from sluiceway.warehouse.schema import EVENT_KEYS, SAMPLES, partition_of

_SYSTEM = ("workspace_id", "seq", "event_id", "event_time", "received_at", "batch_id", "position")
_KEYS = ("workspace_id", "pipeline_id", "event_id", "seen_at")
_LARGE = 2_000  # rows, from which on another thread is worth its trouble


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """What one COPY takes; `encode` may be called in any thread."""

    table: str
    columns: Sequence[str]
    encode: Callable[[], bytes]


class Writer:
    """Copies the parts of a batch, into leaves where COPY may, else by way of a temporary table."""

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        self._encoder: ThreadPoolExecutor | None = None

    def write(self, connection: psycopg.Connection[Any], parts: Sequence[Part], rows: int) -> None:
        """COPY the parts in their order; `rows` says how large the batch is."""
        self.copy(connection, parts, [self.begin(part.encode, rows) for part in parts])

    def copy(
        self, connection: psycopg.Connection[Any], parts: Sequence[Part], begun: Sequence[Callable[[], bytes]]
    ) -> None:
        """COPY the parts in their order, each of which `begin` was told to encode."""
        copy = repository.copy_into if self._leaves.direct else repository.copy_through
        for part, encoded in zip(parts, begun, strict=True):
            copy(connection, part.table, part.columns, encoded())

    def begin(self, work: Callable[[], T], rows: int) -> Callable[[], T]:
        """Have `work` done meanwhile, after what was begun before; the answer waits for its result."""
        if rows < _LARGE:
            return work
        if self._encoder is None:
            self._encoder = ThreadPoolExecutor(1, thread_name_prefix="loader-encode")
        return self._encoder.submit(work).result

    def row_parts(
        self, pipeline: Pipeline, rows: pl.DataFrame, seqs: npt.NDArray[np.int64], batch_id: int
    ) -> list[Part]:
        """The silver rows."""
        fields = pipeline.spec.fields
        columns = [*_SYSTEM, *(field.name for field in fields)]
        json = {field.name for field in fields if field.type is FieldType.JSON}
        whole = rows.with_columns(
            pl.lit(pipeline.workspace_id, pl.Int32).alias("workspace_id"),
            pl.Series("seq", seqs),
            pl.lit(batch_id, pl.Int64).alias("batch_id"),
        ).select(columns)
        return self._cut(pipeline.silver_table, columns, whole, "event_time", "month", json)

    def key_parts(self, pipeline: Pipeline, rows: pl.DataFrame) -> list[Part]:
        """The event ids, in the order of their index: its pages are then visited once."""
        keys = rows.select(
            workspace_id=pl.lit(pipeline.workspace_id, pl.Int32),
            pipeline_id=pl.lit(pipeline.id, pl.Int32),
            event_id="event_id",
            seen_at="received_at",
        ).sort("event_id")
        return self._cut(EVENT_KEYS, _KEYS, keys, "seen_at", "week", set())

    def sample_parts(self, pipeline: Pipeline, samples: SampleBlock) -> list[Part]:
        if not self._leaves.direct:
            return [_samples(pipeline, SAMPLES, samples)]
        months = [(EPOCH + timedelta(microseconds=at), mask) for at, mask in by_month(samples.times_us)]
        return [_samples(pipeline, partition_of(SAMPLES, at).name, samples, mask) for at, mask in months]

    def _cut(
        self,
        parent: str,
        columns: Sequence[str],
        rows: pl.DataFrame,
        column: str,
        span: Literal["month", "week"],
        json: set[str],
    ) -> list[Part]:
        if not self._leaves.direct:
            return [Part(parent, columns, lambda: rows_to_binary(rows, json))]
        starts = rows[column].dt.truncate("1mo" if span == "month" else "1w")
        found = starts.unique().sort().to_list()

        def part(at: Any) -> Part:
            leaf = partition_of(parent, at, span).name
            if len(found) == 1:
                return Part(leaf, columns, lambda: rows_to_binary(rows, json))
            return Part(leaf, columns, lambda: rows_to_binary(rows.filter(starts == at), json))

        return [part(at) for at in found]


def _samples(
    pipeline: Pipeline, table: str, samples: SampleBlock, mask: npt.NDArray[np.bool_] | None = None
) -> Part:
    def encode() -> bytes:
        part = samples if mask is None or mask.all() else samples.where(mask)
        return samples_to_binary(
            pipeline.workspace_id, pipeline.id, part.series, part.times_us, part.values, part.seqs
        )

    return Part(table, SAMPLE_COLUMNS, encode)
