"""What is laid out for binary COPY is what the server reads, for every type and for nulls."""

import json
from datetime import UTC, date, datetime

import polars as pl

from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.encoding import rows_to_binary

COLUMNS = {
    "small": ("integer", pl.Int32, [7, -7, None]),
    "big": ("bigint", pl.Int64, [2**63 - 1, None, -(2**63)]),
    "number": ("double precision", pl.Float64, [None, -0.0, 1.7976931348623157e308]),
    "flag": ("boolean", pl.Boolean, [True, False, None]),
    "at": (
        "timestamptz",
        pl.Datetime("us", "UTC"),
        [datetime(1, 1, 1, tzinfo=UTC), None, datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)],
    ),
    "day": ("date", pl.Date, [date(1, 1, 1), date(2000, 2, 29), None]),
    "words": ("text", pl.String, ["", 'a "b", c\r\n\\N', None]),
    "more": ("text", pl.String, [None, "Zürich 🛫", "\\."]),
    "document": ("jsonb", pl.String, ['{"a": [1, null]}', None, '"text"']),
    "whole": ("bigint", pl.Int64, [1, 2, 3]),
}


def test_every_type_arrives_as_it_was(database: Database) -> None:
    rows = pl.DataFrame({name: pl.Series(values, dtype=kind) for name, (_, kind, values) in COLUMNS.items()})
    with database.connect(Role.WRITER) as connection:
        columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in COLUMNS.items())
        connection.execute(f"CREATE TEMP TABLE taken ({columns})")
        for part in (rows, rows[1:], rows[2:]):
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY taken FROM STDIN (FORMAT binary)") as copy,
            ):
                copy.write(rows_to_binary(part, {"document"}))
        found = connection.execute("SELECT * FROM taken").fetchall()
    wanted = [
        tuple(json.loads(value) if name == "document" and value else value for name, value in row.items())
        for row in rows.iter_rows(named=True)
    ]
    assert found == [*wanted, *wanted[1:], *wanted[2:]]
