"""Finding the rows that the database refuses: a batch is tried by halves, and each try is rolled back.

Everything is tried that a commit would write of a row: its id, itself, its series and samples, whatever
indexes, constraints and triggers these have. Not here: what becomes of such rows (`judgement`).
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl
import psycopg

from sluiceway.infra.database_errors import is_refused
from sluiceway.transforms.contracts import INDEX
from sluiceway.warehouse import repository
from sluiceway.warehouse.contracts import EPOCH, PreparedBatch

Connection = psycopg.Connection[Any]
Insert = Callable[[pl.DataFrame], None]


def find_refused(connection: Connection, batch: PreparedBatch, insert: Insert) -> dict[int, str]:
    """The refused rows by arrival index, with what the database says of each.

    Only of those that a commit would write: no row whose id came before, here or in silver. Raises psycopg's
    errors that are not about values.
    """
    refused: dict[int, str] = {}
    waiting = [batch.mapped.rows.unique(subset="event_id", keep="first", maintain_order=True)]
    while waiting:
        rows = waiting.pop()
        error = None if rows.is_empty() else _try(connection, batch, rows, insert)
        if error is None:
            continue
        if len(rows) == 1:
            refused[rows[INDEX][0]] = error
        else:
            half = len(rows) // 2
            waiting += [rows[:half], rows[half:]]
    return refused


def _try(connection: Connection, batch: PreparedBatch, rows: pl.DataFrame, insert: Insert) -> str | None:
    try:
        with connection.transaction(force_rollback=True):
            repository.begin(connection, batch.pipeline.workspace_id, batch.pipeline.id)
            known = _known(connection, batch, rows["event_id"].to_list())
            insert(rows.filter(~pl.col("event_id").is_in(known)) if known else rows)
    except psycopg.Error as error:
        if not is_refused(error):
            raise
        return str(error).splitlines()[0]
    return None


def _known(connection: Connection, batch: PreparedBatch, ids: list[str]) -> list[str]:
    """Those of `ids` whose key cannot be written a second time: another event had the id that day, or so."""
    received, window = batch.arrivals.received_us, batch.pipeline.spec.dedupe.window
    since = EPOCH + timedelta(microseconds=min(received)) - window
    until = EPOCH + timedelta(microseconds=max(received)) + window
    return list(repository.find_known_ids(connection, batch.pipeline.id, ids, since, until))
