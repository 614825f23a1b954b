"""Replaces the rows of one pipeline and day of receipt by rows derived again, in one transaction.

What stays as it is: rows that a person corrected (a retry's), rows whose events are not in the bronze that
was read (not flushed yet, or past bronze's retention), and everything older than silver is kept. An event
that stays keeps its seq, so that nobody who follows the pipeline is told of it twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from psycopg import sql

from sluiceway.catalog.contracts import Pipeline
from sluiceway.transforms.contracts import Rejected
from sluiceway.warehouse import letters, repository
from sluiceway.warehouse.contracts import PreparedBatch, Span
from sluiceway.warehouse.repository import Connection

_TIME = pl.Datetime("us", "UTC")
_OLD: dict[str, Any] = {
    "seq": pl.Int64,
    "event_id": pl.String,
    "event_time": _TIME,
    "position": pl.String,
    "origin": pl.String,
}
_REPLACED = "replaced_rows"
_US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """`rows` come (before the gate), `old` ones go, `rejected` become dead letters.

    Keys of the ids in `stay` are rows' that stay in the span; those in `elsewhere` are also of rows received
    at another time, of which only the span's own keys go.
    """

    rows: pl.DataFrame
    old: pl.DataFrame
    rejected: list[Rejected]
    duplicates: int
    stay: frozenset[str]
    elsewhere: frozenset[str]


def plan(connection: Connection, batch: PreparedBatch, span: Span) -> Plan:
    """Decide what stays, goes and comes. Under the pipeline's lock."""
    pipeline, arrivals = batch.pipeline, batch.arrivals
    present = find_rows(connection, pipeline, span)
    corrected = pl.col("origin") == "retry"
    again = pl.col("position").is_in(arrivals.positions) & ~corrected
    old, stay = present.filter(again), present.filter(~again)
    settled = set(present.filter(corrected)["position"])
    settled |= letters.find_discarded(connection, pipeline.id, span.begin, span.end)
    rows = batch.mapped.rows
    if settled:
        rows = rows.filter(~pl.col("position").is_in(list(settled)))
    candidates = len(rows)
    rows = rows.sort("received_at", maintain_order=True)
    rows = rows.unique(subset="event_id", keep="first", maintain_order=True)
    staying, had = frozenset(stay["event_id"]), frozenset(old["event_id"])
    elsewhere = find_elsewhere(connection, pipeline, span, had | set(rows["event_id"]))
    window, week = pipeline.spec.dedupe.window, repository.days_between(span.begin, span.end - _US)
    first, last = span.begin - window, span.end + window
    taken = set(staying)
    for event_id, received_at in elsewhere:
        # In the window; or, of what the span did not have before, in its week: so it is in the live path.
        same_week = week[0] <= received_at.astimezone(UTC).date() <= week[-1]
        if first <= received_at < last or (same_week and event_id not in had):
            taken.add(event_id)
    if taken:
        rows = rows.filter(~pl.col("event_id").is_in(list(taken)))
    rejected = [r for r in batch.mapped.rejected if arrivals.positions[r.index] not in settled]
    others = frozenset(event_id for event_id, _ in elsewhere)
    return Plan(rows, old, rejected, candidates - len(rows), staying, others)


def find_rows(connection: Connection, pipeline: Pipeline, span: Span) -> pl.DataFrame:
    """seq, event_id, event_time, position and origin of the rows received in the span."""
    rows = connection.execute(
        sql.SQL(
            "SELECT s.seq, s.event_id, s.event_time, s.position, coalesce(b.origin, 'live') FROM {} s"
            " LEFT JOIN silver.batches b ON b.id = s.batch_id"
            " WHERE s.received_at >= %s AND s.received_at < %s AND s.event_time >= %s"
        ).format(sql.Identifier("silver", pipeline.silver_table)),
        (span.begin, span.end, span.oldest or datetime.min.replace(tzinfo=span.begin.tzinfo)),
    ).fetchall()
    return pl.DataFrame(rows, schema=_OLD, orient="row")


def find_elsewhere(
    connection: Connection, pipeline: Pipeline, span: Span, ids: Iterable[str]
) -> list[tuple[str, datetime]]:
    """Rows with one of `ids` received outside of the span, in the weeks of its de-duplication window."""
    connection.execute("CREATE TEMP TABLE replay_ids (event_id text) ON COMMIT DROP")
    with connection.cursor() as cursor, cursor.copy("COPY replay_ids FROM STDIN") as copy:
        for event_id in ids:
            copy.write_row((event_id,))
    days = _days_around(pipeline, span)
    rows = connection.execute(
        sql.SQL(
            "SELECT s.event_id, s.received_at FROM {} s JOIN replay_ids USING (event_id)"
            " WHERE (s.received_at < %s OR s.received_at >= %s)"
            " AND s.received_at >= %s::date AND s.received_at < %s::date + 1"
        ).format(sql.Identifier("silver", pipeline.silver_table)),
        (span.begin, span.end, days[0], days[-1]),
    )
    return rows.fetchall()


def _days_around(pipeline: Pipeline, span: Span) -> list[date]:
    window = pipeline.spec.dedupe.window
    return repository.days_between(span.begin - window, span.end + window)


def remove(
    connection: Connection, pipeline: Pipeline, span: Span, plan: Plan, rows: pl.DataFrame
) -> set[str]:
    """Take away the old rows and their samples, and the keys of old and new rows that are no other row's.

    Returns ids of `rows` that have a key in their week all the same, which a leaf may not take twice.
    """
    create = sql.SQL("CREATE TEMP TABLE {} (seq bigint, event_id text, elsewhere boolean) ON COMMIT DROP")
    connection.execute(create.format(sql.Identifier(_REPLACED)))
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(_REPLACED))
    had = set(plan.old["event_id"])
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for seq, event_id in plan.old.select("seq", "event_id").iter_rows():
            key = None if event_id in plan.stay else event_id
            copy.write_row((seq, key, event_id in plan.elsewhere))
        for event_id in set(rows["event_id"]) - had:
            copy.write_row((None, event_id, event_id in plan.elsewhere))
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(_REPLACED)))
    if len(plan.old):
        _remove_rows(connection, pipeline, plan.old)
    days = _days_around(pipeline, span)
    # Outside of the span only keys that rows left which are lost.
    connection.execute(
        sql.SQL(
            "DELETE FROM silver.event_keys k USING {} r WHERE k.pipeline_id = %s AND k.event_id = r.event_id"
            " AND k.day = ANY(%s::date[]) AND k.slot = ANY('{{0,1,2,3,4,5,6,7}}')"
            " AND k.seen_at >= %s::date AND k.seen_at < %s::date + 1"
            " AND (NOT r.elsewhere OR (k.seen_at >= %s AND k.seen_at < %s))"
        ).format(sql.Identifier(_REPLACED)),
        (pipeline.id, days, days[0], days[-1], span.begin, span.end),
    )
    shared = [event_id for event_id in rows["event_id"] if event_id in plan.elsewhere]
    if not shared:
        return set()
    return repository.find_known_ids(connection, pipeline.id, shared, span.begin, span.end - _US)


def _remove_rows(connection: Connection, pipeline: Pipeline, old: pl.DataFrame) -> None:
    first, last = old["event_time"].min(), old["event_time"].max()
    replaced = sql.Identifier(_REPLACED)
    connection.execute(
        sql.SQL(
            "DELETE FROM {} s USING {} r WHERE s.seq = r.seq AND s.event_time >= %s AND s.event_time <= %s"
        ).format(sql.Identifier("silver", pipeline.silver_table), replaced),
        (first, last),
    )
    connection.execute(
        sql.SQL(
            "DELETE FROM silver.samples s USING {} r"
            " WHERE s.pipeline_id = %s AND s.seq = r.seq AND s.ts >= %s AND s.ts <= %s"
        ).format(replaced),
        (pipeline.id, first, last),
    )


def keep_seqs(rows: pl.DataFrame, old: pl.DataFrame, last_seq: int) -> tuple[npt.NDArray[np.int64], int]:
    """The seq of each row: the one its event had, else the next ones; and how many are new."""
    known = dict(old.select("event_id", "seq").iter_rows())
    seqs = np.empty(len(rows), dtype=np.int64)
    fresh = 0
    for number, event_id in enumerate(rows["event_id"]):
        seq = known.get(event_id)
        if seq is None:
            fresh += 1
            seq = last_seq + fresh
        seqs[number] = seq
    return seqs, fresh
