"""Frames as the bytes COPY reads: CSV for rows with text, PostgreSQL's binary format for samples."""

import io

import numpy as np
import numpy.typing as npt
import polars as pl

_DATETIME = "%Y-%m-%d %H:%M:%S%.6f"
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_US_TO_2000 = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000-01-01
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


def to_csv(frame: pl.DataFrame) -> bytes:
    """CSV for `COPY … (FORMAT csv)`, times in UTC: null is nothing at all, empty text is ""."""
    # polars leaves a lone carriage return unquoted, which COPY refuses.
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    has_return = bool(texts) and any(
        frame.select(pl.col(texts).str.contains("\r", literal=True).any()).row(0)
    )
    target = io.BytesIO()
    frame.write_csv(
        target,
        include_header=False,
        null_value="",
        datetime_format=_DATETIME,
        quote_style="non_numeric" if has_return else "necessary",
    )
    return target.getvalue()


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
