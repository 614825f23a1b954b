"""Bronze rows as Arrow and Parquet: one row per event, payload as received. Bytes in memory only."""

import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
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


def rows_of(node: str, records: Sequence[SpoolRecord], split: Split) -> pa.Table:
    """The events of some records, in order."""
    payloads: list[bytes] = []
    counts: list[int] = []
    for record in records:
        events = split(record.form, record.body)
        payloads.extend(events)
        counts.append(len(events))
    # A record's own values are the same for each of its events: repeated by numpy, not by a loop.
    of_record = np.repeat(np.arange(len(records)), counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    own = np.array(
        [(r.position.segment, r.position.offset, r.received_us) for r in records], dtype=np.int64
    ).reshape(-1, 3)[of_record]
    headers = pa.array([orjson.dumps(r.headers, option=orjson.OPT_SORT_KEYS).decode() for r in records])
    columns = [
        pa.repeat(pa.scalar(node), len(payloads)),
        pa.array(own[:, 0]),
        pa.array(own[:, 1]),
        pa.array((np.arange(len(payloads)) - firsts).astype(np.int32)),
        pa.array(own[:, 2]).cast(SCHEMA.field("received_at").type),
        headers.cast(pa.string()).take(pa.array(of_record)),
        pa.array(payloads, pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


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
