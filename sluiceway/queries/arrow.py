"""An answer as an Arrow IPC stream; all but the rows is JSON in the schema's metadata (`sluiceway`)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from sluiceway.queries.contracts import QueryResult

if TYPE_CHECKING:
    import pyarrow as pa

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
METADATA_KEY = b"sluiceway"


def to_arrow(result: QueryResult) -> bytes:
    """Columns: timestamps in microseconds UTC, integers 64 bits, numbers doubles, json as text."""
    # Imported here: whoever asks for JSON does not wait for Arrow.
    import pyarrow as pa

    arrays, fields = [], []
    values: Iterator[tuple[Any, ...]] = zip(*result.rows, strict=True) if result.rows else iter(())
    columns = list(values) or [()] * len(result.columns)
    for column, cells in zip(result.columns, columns, strict=True):
        kind = _type(column.type, pa)
        arrays.append(_array(list(cells), kind, column.type, pa))
        fields.append(pa.field(column.name, arrays[-1].type))
    envelope = orjson.dumps(result.envelope(), option=orjson.OPT_UTC_Z, default=str)
    schema = pa.schema(fields, metadata={METADATA_KEY: envelope})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table(arrays, schema=schema))
    return bytes(sink.getvalue())


def _type(name: str, pa: Any) -> "pa.DataType":
    return {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "date": pa.date32(),
    }.get(name, pa.string())


def _array(cells: list[Any], kind: "pa.DataType", name: str, pa: Any) -> "pa.Array":
    if name == "json":
        cells = [None if c is None else orjson.dumps(c).decode() for c in cells]
    if name == "integer" and any(isinstance(c, float) for c in cells):
        kind = pa.float64()  # a sum beyond 64 bits
        cells = [None if c is None else float(c) for c in cells]
    return pa.array(cells, type=kind)
