"""The face of the slice: one `Transform` a pipeline version, from arrivals to typed rows.

The live path and the replay from bronze run this very code.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from sluiceway.catalog.contracts import FieldType, PipelineSpec
from sluiceway.kit.forms import form_to_json
from sluiceway.transforms.bulk import BulkMapper, Columns
from sluiceway.transforms.contracts import INDEX, Arrivals, Mapped, Rejected
from sluiceway.transforms.errors import CannotMap
from sluiceway.transforms.plan import Plan, make_plan
from sluiceway.transforms.single import Partial, is_form, map_event
from sluiceway.transforms.split import find_items, split

__all__ = ["Transform", "split"]

DEFAULT_MAX_EVENT_BYTES = 1024 * 1024

_TIMESTAMP = pl.Datetime("us", "UTC")
_PHYSICAL: dict[FieldType, Any] = {
    FieldType.STRING: pl.String,
    FieldType.INTEGER: pl.Int64,
    FieldType.NUMBER: pl.Float64,
    FieldType.BOOLEAN: pl.Boolean,
    FieldType.TIMESTAMP: pl.Int64,
    FieldType.DATE: pl.Int32,
    FieldType.JSON: pl.String,
}


class Transform:
    """Maps events of one pipeline version. Keeps nothing between calls; safe in several threads."""

    def __init__(self, spec: PipelineSpec, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._plan = make_plan(spec, max_event_bytes)
        self._bulk = BulkMapper.make(self._plan)
        self._retention = spec.retention.silver

    def expand(
        self, arrivals: Arrivals, wanted: Callable[[str], bool] = lambda position: True
    ) -> tuple[Arrivals, list[Rejected]]:
        """Apply the pipeline's `source.split`: each item of the named array is an event of its own.

        The item's index is `i.j`; an event without the array is rejected (and counts in the result). Arrivals
        whose position is not `wanted` stay as they are.
        """
        path = self._plan.split_path
        if path is None:
            return arrivals, []
        payloads: list[bytes] = []
        positions: list[str] = []
        origin: list[int] = []
        headers: list[Mapping[str, str]] = []
        rejected: list[Rejected] = []
        for index, payload in enumerate(arrivals.payloads):
            own = arrivals.headers[index]
            if not wanted(arrivals.positions[index]):
                payloads.append(payload)
                positions.append(arrivals.positions[index])
                origin.append(index)
                headers.append(own)
                continue
            items = None if len(payload) > self._plan.max_event_bytes else find_items(payload, path.keys)
            if items is None and is_form(payload, own):
                # What is inside a form's `payload` is JSON, and so are its items.
                items = find_items(form_to_json(payload) or b"", path.keys)
                own = {name: value for name, value in own.items() if name != "content-type"}
            if items is None:
                reason = f"There is no array at {path.text} to take events from."
                rejected.append(Rejected(len(payloads), "parse", "split_missing", reason))
                payloads.append(payload)
                positions.append(arrivals.positions[index])
                origin.append(index)
                headers.append(arrivals.headers[index])
                continue
            for number, item in enumerate(items):
                payloads.append(bytes(item))
                positions.append(f"{arrivals.positions[index]}.{number}")
                origin.append(index)
                headers.append(own)
        received = [arrivals.received_us[i] for i in origin]
        return Arrivals(payloads, positions, received, headers), rejected

    def run(self, arrivals: Arrivals, now: datetime, *, skip: frozenset[int] = frozenset()) -> Mapped:
        """Typed rows of `arrivals` (already expanded), but for the indices in `skip`.

        Events older than the pipeline keeps silver, as of `now`, are rejected with step `retention`.
        """
        columns, left = self._map_bulk(arrivals, skip)
        rejected = self._map_single(arrivals, columns, left)
        rows = self._frame(arrivals, columns)
        if left:
            rows = rows.sort(INDEX)
        if self._retention is not None:
            rows = _drop_old(rows, now - self._retention, rejected)
        rejected.sort(key=lambda r: r.index)
        return Mapped(rows, rejected)

    def _map_bulk(self, arrivals: Arrivals, skip: frozenset[int]) -> tuple[Columns, list[int]]:
        everything = range(len(arrivals))
        if self._bulk is None:
            return _no_columns(self._plan), [i for i in everything if i not in skip]
        if not skip:
            return self._bulk.map(arrivals)
        wanted = [i for i in everything if i not in skip]
        (index, ids, times, values), left = self._bulk.map(arrivals.take(wanted))
        return ([wanted[i] for i in index], ids, times, values), [wanted[i] for i in left]

    def _map_single(self, arrivals: Arrivals, columns: Columns, left: Sequence[int]) -> list[Rejected]:
        index, ids, times, values = columns
        rejected: list[Rejected] = []
        for i in left:
            partial = Partial()
            try:
                row = map_event(
                    self._plan,
                    arrivals.payloads[i],
                    arrivals.positions[i],
                    arrivals.received_us[i],
                    arrivals.headers[i],
                    partial,
                )
            except CannotMap as error:
                rejected.append(
                    Rejected(i, error.step, error.code, error.reason, partial.event_id, partial.event_us)
                )
                continue
            index.append(i)
            ids.append(row.event_id)
            times.append(row.event_us)
            for column, value in zip(values, row.values, strict=True):
                column.append(value)
        return rejected

    def _frame(self, arrivals: Arrivals, columns: Columns) -> pl.DataFrame:
        index, ids, times, values = columns
        whole = len(index) == len(arrivals) and index == list(range(len(arrivals)))
        received = arrivals.received_us if whole else [arrivals.received_us[i] for i in index]
        positions = arrivals.positions if whole else [arrivals.positions[i] for i in index]
        series = [
            pl.Series(INDEX, index, dtype=pl.UInt32),
            pl.Series("event_id", ids, dtype=pl.String),
            pl.Series("event_time", times, dtype=pl.Int64).cast(_TIMESTAMP),
            pl.Series("received_at", received, dtype=pl.Int64).cast(_TIMESTAMP),
            pl.Series("position", positions, dtype=pl.String),
        ]
        for field, column in zip(self._plan.fields, values, strict=True):
            found = pl.Series(field.name, column, dtype=_PHYSICAL[field.type])
            if field.type is FieldType.TIMESTAMP:
                found = found.cast(_TIMESTAMP)
            elif field.type is FieldType.DATE:
                found = found.cast(pl.Date)
            series.append(found)
        return pl.DataFrame(series)


def _no_columns(plan: Plan) -> Columns:
    return [], [], [], [[] for _ in plan.fields]


def _drop_old(rows: pl.DataFrame, oldest: datetime, rejected: list[Rejected]) -> pl.DataFrame:
    old = rows["event_time"] < oldest
    if not old.any():
        return rows
    found = rows.filter(old).select(INDEX, "event_id", pl.col("event_time").cast(pl.Int64))
    for index, event_id, event_us in found.iter_rows():
        reason = f"The event is older than the pipeline keeps its rows (since {oldest:%Y-%m-%d %H:%M} UTC)."
        rejected.append(Rejected(index, "retention", "too_old", reason, event_id, event_us))
    return rows.filter(~old)
