"""Bronze rows as Arrow and Parquet: one row per event, payload as received. Bytes in memory only."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from sluiceway.ingestion.contracts import Form, SpoolRecord

SCHEMA = pa.schema(
    [
        pa.field("node", pa.string(), nullable=False),
        pa.field("segment", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("headers", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
_ROW_GROUP_ROWS = 65_536
_BATCH_ROWS = 16_384
_ZSTD_LEVEL = 3

Split = Callable[[Form, bytes], Sequence[bytes]]


def rows_of(node: str, records: Iterable[SpoolRecord], split: Split) -> pa.Table:
    """The events of some records, in order."""
    segments: list[int] = []
    offsets: list[int] = []
    indices: list[int] = []
    received: list[int] = []
    headers: list[str] = []
    payloads: list[bytes] = []
    for record in records:
        events = split(record.form, record.body)
        count = len(events)
        payloads.extend(events)
        indices.extend(range(count))
        segments.extend([record.position.segment] * count)
        offsets.extend([record.position.offset] * count)
        received.extend([record.received_us] * count)
        headers.extend([orjson.dumps(record.headers, option=orjson.OPT_SORT_KEYS).decode()] * count)
    columns = [[node] * len(indices), segments, offsets, indices, received, headers, payloads]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


class ParquetBytes:
    """A Parquet object written to memory, batch by batch. The same rows give the same bytes."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._writer = pq.ParquetWriter(
            self._buffer,
            SCHEMA,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=["node", "headers"],
            write_statistics=["segment", "offset", "received_at"],
        )
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
        self.rows += table.num_rows

    def finish(self) -> bytes:
        self._writer.close()
        return self._buffer.getvalue()


def to_parquet(table: pa.Table) -> bytes:
    found = ParquetBytes()
    found.write(table)
    return found.finish()


def read_parquet(data: bytes) -> Iterator[pa.RecordBatch]:
    """Batches of at most 16,384 rows. Raises `pyarrow.ArrowInvalid` for what is not Parquet."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            yield batch.cast(SCHEMA)


def count_rows(data: bytes) -> int:
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return int(file.metadata.num_rows)
