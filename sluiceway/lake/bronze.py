"""Bronze rows as Arrow and Parquet: one row per event, payload as received. Bytes in memory only.

Every object carries a CRC-32 of all its bytes in its footer (key `sluiceway.crc32`), because Parquet's own
checks miss flipped bits in page headers and in the footer. Objects written before that are read without it.
"""

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
ROW_GROUP_BYTES = 16 * 1024 * 1024
_ROW_GROUP_ROWS = 65_536
_BATCH_ROWS = 16_384
_ZSTD_LEVEL = 3
# Below this, handing columns to threads takes longer than reading them.
_THREADS_FROM_BYTES = 1024 * 1024
_CRC_KEY = b"sluiceway.crc32"
_NO_CRC = b"00000000"
# After the key, the footer's encoding (Thrift, compact) has one byte of field type and one of length.
_CRC_BEHIND_KEY = len(_CRC_KEY) + 2
_TAIL_BYTES = 8

Split = Callable[[Form, bytes], Sequence[bytes]]


class Damaged(Exception):
    """These bytes are no whole bronze object; the message says in what way."""


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
    """A Parquet object written to memory. The same tables in the same order give the same bytes.

    Small tables are gathered into row groups of up to 65,536 rows or about 16 MB before compression, so that
    an object made of thousands of small ones reads as fast as any other.
    """

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
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        self._waiting_bytes += table.nbytes
        self.rows += table.num_rows
        if self._waiting_rows >= _ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._write_group()

    def finish(self) -> memoryview:
        """The object's bytes; nothing can be written after this."""
        self._write_group()
        self._writer.add_key_value_metadata({_CRC_KEY.decode(): _NO_CRC.decode()})
        self._writer.close()
        data = self._buffer.getbuffer()
        at = _crc_at(data)
        assert at is not None, "the key has just been written"
        data[at : at + len(_NO_CRC)] = b"%08x" % zlib.crc32(data)
        return data

    def _write_group(self) -> None:
        if self._waiting:
            whole = pa.concat_tables(self._waiting)
            self._writer.write_table(whole, row_group_size=_ROW_GROUP_ROWS)
            self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


def to_parquet(table: pa.Table) -> bytes:
    found = ParquetBytes()
    found.write(table)
    return bytes(found.finish())


def check(data: bytes) -> None:
    """Compare the bytes with the checksum in their footer. Raises `Damaged`."""
    view = memoryview(data)
    at = _crc_at(view)
    if at is None:
        return
    end = at + len(_NO_CRC)
    found = zlib.crc32(view[end:], zlib.crc32(_NO_CRC, zlib.crc32(view[:at])))
    if bytes(view[at:end]) != b"%08x" % found:
        raise Damaged("its bytes are not those that were written (the checksum differs)")


def read_parquet(data: bytes) -> Iterator[pa.RecordBatch]:
    """Batches of at most 16,384 rows, none over more than one row group. Raises `Damaged`."""
    check(data)
    threads = len(data) > _THREADS_FROM_BYTES
    with _opened(data) as file:
        for group in range(file.num_row_groups):
            with _pyarrow_errors():
                found = file.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=threads)
                batches = [batch.cast(SCHEMA) for batch in found]
            yield from batches


def count_rows(tail: bytes) -> int:
    """How many rows an object has, from its last bytes. Raises `Damaged`."""
    with _opened(tail) as file:
        return int(file.metadata.num_rows)


def footer_bytes(tail: bytes) -> int:
    """How many bytes from the end `count_rows` needs, from the last eight or more. Raises `Damaged`."""
    size = _footer_bytes(memoryview(tail))
    if size is None:
        raise Damaged("it does not end as a Parquet file does")
    return size


@contextmanager
def _pyarrow_errors() -> Iterator[None]:
    """What pyarrow raises for bytes that are not Parquet is `Damaged`: it has no one class for it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise Damaged(f"it is not a whole Parquet file: {reason[0][:200]}") from error


def _opened(data: bytes) -> pq.ParquetFile:
    with _pyarrow_errors():
        return pq.ParquetFile(pa.BufferReader(data))


def _footer_bytes(data: memoryview) -> int | None:
    """The size of the footer with its length and magic; None if these do not end as Parquet does."""
    if len(data) < _TAIL_BYTES or bytes(data[-4:]) != b"PAR1":
        return None
    return int.from_bytes(data[-8:-4], "little") + _TAIL_BYTES


def _crc_at(data: memoryview) -> int | None:
    """Where the checksum stands; None in an object that has none."""
    size = _footer_bytes(data)
    if size is None or size > len(data):
        return None
    begin = len(data) - size
    at = bytes(data[begin:]).find(_CRC_KEY)
    return None if at < 0 else begin + at + _CRC_BEHIND_KEY
