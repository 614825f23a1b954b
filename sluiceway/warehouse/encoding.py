"""Frames as the bytes COPY reads: PostgreSQL's binary format, laid out a column at a time."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_US_TO_2000 = 946_684_800_000_000  # PostgreSQL counts microseconds, and days, from 2000-01-01
_DAYS_TO_2000 = 10_957
_KINDS: dict[Any, str] = {pl.Int32: ">i4", pl.Int64: ">i8", pl.Float64: ">f8", pl.Boolean: "u1"}
# A tuple of six columns, each value after its length, all big-endian (documentation of COPY, binary format).
_SAMPLE = np.dtype(
    [
        ("columns", ">i2"),
        ("size_0", ">i4"), ("workspace_id", ">i4"),
        ("size_1", ">i4"), ("pipeline_id", ">i4"),
        ("size_2", ">i4"), ("series_id", ">i8"),
        ("size_3", ">i4"), ("ts", ">i8"),
        ("size_4", ">i4"), ("value", ">f8"),
        ("size_5", ">i4"), ("seq", ">i8"),
    ]
)  # fmt: skip
SAMPLE_COLUMNS = ("workspace_id", "pipeline_id", "series_id", "ts", "value", "seq")


def rows_to_binary(rows: pl.DataFrame, json: Collection[str] = ()) -> bytes:
    """Rows for `COPY … (FORMAT binary)` in the order of their columns; `json` names those that are jsonb.

    A cell is its length and its bytes, or the length -1. Lengths and neighbouring values of fixed width are
    laid out by numpy as one piece; pyarrow joins the pieces of each row.
    """
    pieces = _Pieces(len(rows))
    pieces.fixed(">i2", len(rows.columns))
    for column in rows.iter_columns():
        if column.dtype == pl.String:
            pieces.text("\x01" + column if column.name in json else column)
        else:
            pieces.value(column)
    return b"".join((_SIGNATURE, pieces.join(), _TRAILER))


class _Pieces:
    """The pieces that every row is made of, from left to right."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._run: list[tuple[str, Any]] = []
        self._pieces: list[pa.LargeBinaryArray] = []

    def fixed(self, kind: str, values: Any) -> None:
        self._run.append((kind, values))

    def text(self, column: pl.Series) -> None:
        self.fixed(">i4", column.str.len_bytes().cast(pl.Int32).fill_null(-1).to_numpy())
        self._flush()
        self._pieces.append(column.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_binary()))

    def value(self, column: pl.Series) -> None:
        kind, values = _physical(column)
        size = np.dtype(kind).itemsize
        there = column.is_not_null().to_numpy() if column.null_count() else None
        if there is None:
            self.fixed(">i4", size)
            self.fixed(kind, values)
            return
        self.fixed(">i4", np.where(there, size, -1))
        self._flush()
        self._add(values.astype(kind), size, there)

    def join(self) -> memoryview:
        self._flush()
        joined = pc.binary_join_element_wise(
            *self._pieces, pa.scalar(b"", pa.large_binary()), null_handling="replace", null_replacement=""
        )
        _, ends, data = joined.buffers()
        return memoryview(data)[: np.frombuffer(ends, dtype=np.int64)[self._rows]]

    def _flush(self) -> None:
        if not self._run:
            return
        layout = np.dtype([(f"f{number}", kind) for number, (kind, _) in enumerate(self._run)])
        piece = np.empty(self._rows, dtype=layout)
        for number, (_, values) in enumerate(self._run):
            piece[f"f{number}"] = values
        self._run = []
        self._add(piece, layout.itemsize, None)

    def _add(self, values: npt.NDArray[Any], size: int, there: npt.NDArray[np.bool_] | None) -> None:
        offsets = np.arange(self._rows + 1, dtype=np.int64) * size
        valid = None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
        buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(values)]
        self._pieces.append(pa.LargeBinaryArray.from_buffers(pa.large_binary(), self._rows, buffers))


def _physical(column: pl.Series) -> tuple[str, npt.NDArray[Any]]:
    """How PostgreSQL lays a value out, and the values (anything where they are null)."""
    values = column.to_physical().fill_null(0 if column.dtype != pl.Boolean else False).to_numpy()
    match column.dtype:
        case pl.Datetime():
            return ">i8", values - _US_TO_2000
        case pl.Date():
            return ">i4", values - _DAYS_TO_2000
        case other:
            return _KINDS[other], values


def samples_to_binary(
    workspace_id: int,
    pipeline_id: int,
    series: npt.NDArray[np.int64],
    times_us: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    seqs: npt.NDArray[np.int64],
) -> bytes:
    """Samples for `COPY … (FORMAT binary)` in the order of `SAMPLE_COLUMNS`; times in µs since 1970."""
    rows = np.empty(len(series), dtype=_SAMPLE)
    rows["columns"] = 6
    for column, name in enumerate(SAMPLE_COLUMNS):
        rows[f"size_{column}"] = _SAMPLE[name].itemsize
    rows["workspace_id"] = workspace_id
    rows["pipeline_id"] = pipeline_id
    rows["series_id"] = series
    rows["ts"] = times_us - _US_TO_2000
    rows["value"] = values
    rows["seq"] = seqs
    return _SIGNATURE + rows.tobytes() + _TRAILER
