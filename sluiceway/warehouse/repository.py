"""SQL of the load, on a psycopg connection. Private to the slice: others ask `service.Warehouse`.

Every statement runs inside the caller's transaction, whose workspace is set by `begin`.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import polars as pl
import psycopg
from psycopg import sql

from sluiceway.infra import outbox
from sluiceway.infra.announcing import CHANNEL
from sluiceway.ingestion.contracts import Position
from sluiceway.kit.ids import uuid7
from sluiceway.quality.contracts import ExpectationOutcome
from sluiceway.warehouse.contracts import CursorMove

Connection = psycopg.Connection[Any]

_LOAD_LOCK = 0x10AD
_SEPARATOR = "\x1f"
_PIECE = 50_000  # ids
_SLOTS = "unnest(%s::date[]) AS d (day) CROSS JOIN generate_series(0, 7) AS s (slot)"
_LETTERS, _LETTERS_BYTES = 2_000, 8 * 1024 * 1024  # of a statement
_LONG_MS = 4 * 3_600_000  # a gate over a whole day
_LENIENT = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
# The dead letters of one event are one; what a person decided about it stays, unless it was retried in vain.
_DEAD_LETTERS = """
INSERT INTO quality.dead_letters AS known (id, workspace_id, pipeline_id, batch_name, position, event_id,
  event_time, step, code, reason, expectation, payload, headers, received_at, state)
SELECT id, workspace_id, pipeline_id, batch_name, position, event_id, event_time, step, code, reason,
  expectation, decode(payload, 'base64'), headers, received_at, state
FROM json_to_recordset(%s::json) AS new (id uuid, workspace_id integer, pipeline_id integer, batch_name text,
  position text, event_id text, event_time timestamptz, step text, code text, reason text, expectation text,
  payload text, headers jsonb, received_at timestamptz, state text)
ON CONFLICT (pipeline_id, position) DO UPDATE SET
  event_id = EXCLUDED.event_id, event_time = EXCLUDED.event_time, step = EXCLUDED.step,
  code = EXCLUDED.code, reason = EXCLUDED.reason, expectation = EXCLUDED.expectation,
  batch_name = EXCLUDED.batch_name, state = EXCLUDED.state, resolved_at = NULL
WHERE known.state IN ('open', 'held')
"""
_RESULTS = """
INSERT INTO quality.results AS known (workspace_id, pipeline_id, suite, expectation, origin, minute, action,
  batches, failed_batches, evaluated, unexpected, detail)
SELECT %s, %s, %s, r.expectation, %s, date_trunc('minute', %s::timestamptz), r.action, 1,
  r.failed, r.evaluated, r.unexpected, r.detail
FROM jsonb_to_recordset(%s::jsonb) AS r
  (expectation text, action text, failed integer, evaluated bigint, unexpected bigint, detail jsonb)
ON CONFLICT (pipeline_id, expectation, origin, minute) DO UPDATE SET
  suite = EXCLUDED.suite, action = EXCLUDED.action, batches = known.batches + 1,
  failed_batches = known.failed_batches + EXCLUDED.failed_batches,
  evaluated = known.evaluated + EXCLUDED.evaluated,
  unexpected = known.unexpected + EXCLUDED.unexpected,
  detail = CASE WHEN EXCLUDED.failed_batches > 0 THEN EXCLUDED.detail ELSE known.detail END
"""


@dataclass(frozen=True, slots=True)
class LoadState:
    """Where a pipeline stands, as seen under its lock."""

    last_seq: int
    cursor: Position | None


def begin(
    connection: Connection,
    workspace_id: int,
    pipeline_id: int,
    *,
    by_index: bool = False,
    wait: bool = True,
    long: bool = False,
) -> bool:
    """Act for the workspace, and let one transaction at a time load this pipeline; False if another does.

    `wait`: until the other is done, instead. `long`: there may be much to compute between two statements.
    `by_index`: everything is looked up by indexes. A leaf that is new has no statistics, and then the planner
    may read it as a whole to find one id.
    """
    plans = ", set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"
    patience = f", set_config('idle_in_transaction_session_timeout', '{_LONG_MS}', true)"
    lock = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    row = connection.execute(
        f"SELECT {lock}(%s, %s), set_config('sluiceway.workspace_id', %s, true)"
        + (plans if by_index else "")
        + (patience if long else ""),
        (_LOAD_LOCK, pipeline_id, str(workspace_id)),
    ).fetchone()
    return wait or bool(row and row[0])


def find_state(connection: Connection, pipeline_id: int, node: str | None) -> LoadState | None:
    row = connection.execute(
        'SELECT s.last_seq, c.segment, c."offset" FROM app.pipeline_state s'
        " LEFT JOIN app.spool_cursors c ON c.pipeline_id = s.pipeline_id AND c.node = %s"
        " WHERE s.pipeline_id = %s",
        (node, pipeline_id),
    ).fetchone()
    if row is None:
        return None
    return LoadState(row[0], None if row[1] is None else Position(row[1], row[2]))


def find_known_ids(
    connection: Connection, pipeline_id: int, ids: Sequence[str], since: datetime, until: datetime
) -> set[str]:
    """Those of `ids` that silver has had from the week that `since` lies in to that of `until`."""
    return find_known_ids_on(connection, pipeline_id, ids, days_between(since, until))


def find_known_ids_on(
    connection: Connection, pipeline_id: int, ids: Sequence[str], days: Sequence[date]
) -> set[str]:
    """Those of `ids` that silver has had on one of `days` of receipt."""
    # Not prepared, here and below: a plan kept from when the leaf was small would read it whole for ever.
    joined = _SEPARATOR.join(ids)
    # psycopg quotes the items of a list one by one: 6 µs each, as much as all else that is done for an event.
    together = joined.count(_SEPARATOR) == len(ids) - 1
    wanted = "string_to_array(%s, E'\\x1f')" if together else "%s"
    # A slot at a time: asked for all at once, PostgreSQL goes through slots times ids.
    rows = connection.execute(
        f"SELECT found.event_id FROM {_SLOTS} CROSS JOIN LATERAL ("  # noqa: S608
        " SELECT event_id FROM silver.event_keys k"
        f" WHERE k.pipeline_id = %s AND k.day = d.day AND k.slot = s.slot AND k.event_id = ANY({wanted})"
        " AND k.seen_at >= d.day AND k.seen_at < d.day + 1) found",
        (list(days), pipeline_id, joined if together else ids),
        prepare=False,
    )
    return {row[0] for row in rows.fetchall()}


def find_silver_ids(
    connection: Connection, table: str, ids: Sequence[str], since: datetime, until: datetime
) -> set[str]:
    """Those of `ids` that a silver table has from [`since`, `until`] of receipt. Reads it as a whole."""
    connection.execute("SELECT set_config('enable_seqscan', 'on', true)")  # there is no index on ids
    rows = connection.execute(
        sql.SQL(
            "SELECT event_id FROM {} WHERE event_id = ANY(%s) AND received_at >= %s AND received_at <= %s"
        ).format(sql.Identifier("silver", table)),
        (list(ids), since, until),
        prepare=False,
    ).fetchall()
    connection.execute("SELECT set_config('enable_seqscan', 'off', true)")
    return {row[0] for row in rows}


def days_between(since: datetime, until: datetime) -> list[date]:
    """The days (UTC) of the ISO weeks from that of `since` to that of `until`, both with them."""
    first, last = since.astimezone(UTC).date(), until.astimezone(UTC).date()
    first -= timedelta(days=first.weekday())
    last += timedelta(days=6 - last.weekday())
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def find_newest_id(
    connection: Connection, pipeline_id: int, least: str, since: datetime, until: datetime
) -> str | None:
    """The greatest id (by its bytes) that `find_known_ids` could find, unless all are below `least`."""
    # Without `least` a leaf that has no statistics yet would be read as a whole and sorted.
    row = connection.execute(
        f"SELECT max(found) FROM {_SLOTS} CROSS JOIN LATERAL ("  # noqa: S608
        " SELECT max(event_id) AS found FROM silver.event_keys k"
        " WHERE pipeline_id = %s AND k.day = d.day AND k.slot = s.slot AND event_id >= %s"
        " AND seen_at >= d.day AND seen_at < d.day + 1) n",
        (days_between(since, until), pipeline_id, least),
        prepare=False,
    ).fetchone()
    return None if row is None else row[0]


def act_for(connection: Connection, workspace_id: int) -> None:
    """Act for the workspace until the end of the transaction, without a lock."""
    connection.execute("SELECT set_config('sluiceway.workspace_id', %s, true)", (str(workspace_id),))


def find_last_seq(connection: Connection, pipeline_id: int) -> int:
    row = connection.execute(
        "SELECT last_seq FROM app.pipeline_state WHERE pipeline_id = %s", (pipeline_id,)
    ).fetchone()
    return int(row[0]) if row else 0


def count_known_ids(connection: Connection, pipeline_id: int, first: date) -> dict[date, int]:
    """How many ids `read_known_ids` gives for each day from `first` on that has any, the oldest first."""
    rows = connection.execute(
        "SELECT day, count(*) FROM silver.event_keys WHERE pipeline_id = %s AND seen_at >= %s::date"
        " GROUP BY day ORDER BY day",
        (pipeline_id, first),
    )
    return dict(rows.fetchall())


def read_known_ids(connection: Connection, pipeline_id: int, day: date) -> Iterator[pl.Series]:
    """Every id that `find_known_ids_on` could find on the day, a piece at a time."""
    with connection.cursor(name="known_ids", binary=True) as cursor:
        cursor.execute(
            "SELECT event_id FROM silver.event_keys WHERE pipeline_id = %(pipeline)s AND day = %(day)s"
            " AND seen_at >= %(day)s::date AND seen_at < %(day)s::date + 1",
            {"pipeline": pipeline_id, "day": day},
        )
        while rows := cursor.fetchmany(_PIECE):
            yield pl.Series([row[0] for row in rows], dtype=pl.String)


def find_ids_between(connection: Connection, table: str, after: int, last: int) -> pl.DataFrame:
    """Of a silver table's rows with a seq in (`after`, `last`]: `event_id`, `day` of receipt, and whether
    they are `live` (a replay may give a row another time of receipt than its key has)."""
    rows = connection.execute(
        sql.SQL(
            "SELECT t.event_id, (t.received_at AT TIME ZONE 'UTC')::date, b.origin = 'live' FROM {} t"
            " JOIN silver.batches b ON b.id = t.batch_id WHERE t.seq > %s AND t.seq <= %s"
        ).format(sql.Identifier("silver", table)),
        (after, last),
    ).fetchall()
    columns = {"event_id": pl.String, "day": pl.Date, "live": pl.Boolean}
    return pl.DataFrame(rows, schema=columns, orient="row")


def insert_batch(connection: Connection, values: Mapping[str, Any]) -> int:
    row = connection.execute(
        "INSERT INTO silver.batches (workspace_id, pipeline_id, name, origin, pipeline_version, verdict,"
        " events, rows, samples, duplicates, dead_letters, size_bytes, first_seq, last_seq,"
        " min_event_time, max_event_time, min_received_at, max_received_at)"
        " VALUES (%(workspace_id)s, %(pipeline_id)s, %(name)s, %(origin)s, %(pipeline_version)s,"
        " %(verdict)s, %(events)s, %(rows)s, %(samples)s, %(duplicates)s, %(dead_letters)s,"
        " %(size_bytes)s, %(first_seq)s, %(last_seq)s, %(min_event_time)s, %(max_event_time)s,"
        " %(min_received_at)s, %(max_received_at)s) RETURNING id",
        values,
    ).fetchone()
    assert row is not None
    return int(row[0])


def copy_into(connection: Connection, table: str, columns: Sequence[str], data: bytes) -> None:
    """COPY (binary) straight into a leaf of schema silver."""
    _copy(connection, sql.Identifier("silver", table), columns, data)


def copy_through(connection: Connection, table: str, columns: Sequence[str], data: bytes) -> None:
    """Into a table that takes no COPY (row-level security), by way of a temporary one."""
    through = sql.Identifier(f"load_{table}_{len(columns)}"[:63])
    target = sql.Identifier("silver", table)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    connection.execute("SET LOCAL client_min_messages = warning")
    connection.execute(
        sql.SQL(
            "CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA"
        ).format(through, names, target)
    )
    _copy(connection, through, columns, data)
    connection.execute(sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(target, names, names, through))
    connection.execute(sql.SQL("DELETE FROM {}").format(through))


def _copy(connection: Connection, target: sql.Identifier, columns: Sequence[str], data: bytes) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        target, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(data)


def insert_series(
    connection: Connection,
    workspace_id: int,
    pipeline_id: int,
    fresh: Iterable[tuple[int, str, bytes]],
) -> None:
    """`fresh`: (series id, metric, canonical dimensions)."""
    ids, metrics, dimensions = zip(*fresh, strict=True)
    connection.execute(
        "INSERT INTO silver.series (series_id, workspace_id, pipeline_id, metric, dimensions)"
        " SELECT i, %s, %s, m, d::jsonb FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS s (i, m, d)"
        " ON CONFLICT (series_id) DO NOTHING",
        (workspace_id, pipeline_id, list(ids), list(metrics), [d.decode() for d in dimensions]),
    )


def insert_dirty(
    connection: Connection, workspace_id: int, pipeline_id: int, buckets: Mapping[str, Sequence[int]]
) -> None:
    """`buckets`: by level, their beginnings in seconds since 1970."""
    connection.execute(
        "INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)"
        " SELECT %s, %s, l, to_timestamp(b)"
        " FROM jsonb_each(%s::jsonb) AS e (l, found), jsonb_array_elements(found)"
        " CROSS JOIN LATERAL (SELECT value::bigint) AS v (b)",
        (workspace_id, pipeline_id, orjson.dumps(buckets).decode()),
    )


def insert_dead_letters(connection: Connection, letters: Iterable[Mapping[str, Any]]) -> None:
    """Many in a statement: a request may be of nothing but bad events, and all pipelines wait meanwhile."""
    # Of two about one event the later counts, as if they came one after the other.
    once = {letter["position"]: letter for letter in letters}
    piece: list[dict[str, Any]] = []
    size_bytes = 0
    for letter in once.values():
        payload = b64encode(letter["payload"]).decode()
        piece.append({**letter, "id": uuid7(), "payload": payload, "headers": dict(letter["headers"])})
        size_bytes += len(payload)
        if len(piece) >= _LETTERS or size_bytes >= _LETTERS_BYTES:
            connection.execute(_DEAD_LETTERS, (orjson.dumps(piece).decode(),))
            piece, size_bytes = [], 0
    if piece:
        connection.execute(_DEAD_LETTERS, (orjson.dumps(piece).decode(),))


def add_results(
    connection: Connection,
    *,
    workspace_id: int,
    pipeline_id: int,
    suite: str,
    origin: str,
    at: datetime,
    outcomes: Iterable[ExpectationOutcome],
) -> None:
    found = [
        {
            "expectation": o.expectation,
            "action": o.action,
            "failed": 0 if o.success else 1,
            "evaluated": o.evaluated,
            "unexpected": o.unexpected,
            "detail": {} if o.success else o.detail,
        }
        for o in outcomes
    ]
    if found:
        connection.execute(_RESULTS, (workspace_id, pipeline_id, suite, origin, at, _json(found)))


def _json(value: Any) -> str:
    """JSON text that jsonb takes, whatever an engine put into its details."""
    return orjson.dumps(value, default=str, option=_LENIENT).decode().replace("\\u0000", "")


def advance(connection: Connection, workspace_id: int, pipeline_id: int, move: CursorMove) -> None:
    connection.execute(
        'INSERT INTO app.spool_cursors (node, pipeline_id, workspace_id, segment, "offset")'
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (node, pipeline_id) DO UPDATE"
        ' SET segment = EXCLUDED.segment, "offset" = EXCLUDED."offset", updated_at = now()',
        (move.node, pipeline_id, workspace_id, move.end.segment, move.end.offset),
    )
    if move.read_to is not None:
        advance_node(connection, move.node, move.read_to)


def advance_node(connection: Connection, node: str, read_to: Position) -> None:
    connection.execute(
        'INSERT INTO app.spool_positions AS known (node, segment, "offset") VALUES (%s, %s, %s)'
        ' ON CONFLICT (node) DO UPDATE SET segment = EXCLUDED.segment, "offset" = EXCLUDED."offset",'
        ' updated_at = now() WHERE (known.segment, known."offset") < (EXCLUDED.segment, EXCLUDED."offset")',
        (node, read_to.segment, read_to.offset),
    )


def update_state(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(
        "UPDATE app.pipeline_state SET last_seq = %(last_seq)s, events = events + %(rows)s,"
        " duplicates = duplicates + %(duplicates)s, dead_letters = dead_letters + %(dead_letters)s,"
        " last_batch_id = %(batch_id)s, last_batch_at = clock_timestamp(),"
        " last_received_at = greatest(last_received_at, %(max_received_at)s),"
        " last_event_time = greatest(last_event_time, %(max_event_time)s), last_verdict = %(verdict)s"
        " WHERE pipeline_id = %(pipeline_id)s",
        values,
    )


def notify(connection: Connection, payload: str) -> None:
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))


def add_outbox(
    connection: Connection, workspace_id: int, topic: str, payload: Mapping[str, Any], trace: str | None
) -> None:
    """`trace`: the batch's `traceparent`, if it is traced: what is delivered goes on from it."""
    connection.execute(
        "INSERT INTO app.outbox (workspace_id, topic, payload) VALUES (%s, %s, %s::jsonb)",
        (workspace_id, topic, outbox.as_json(payload, trace)),
    )


def find_node_position(connection: Connection, node: str) -> tuple[Position, datetime] | None:
    """How far a node's spool is loaded, and when that was told."""
    row = connection.execute(
        'SELECT segment, "offset", updated_at FROM app.spool_positions WHERE node = %s', (node,)
    ).fetchone()
    return None if row is None else (Position(row[0], row[1]), row[2])


def find_cursors(connection: Connection, node: str) -> dict[int, Position]:
    rows = connection.execute(
        'SELECT pipeline_id, segment, "offset" FROM app.spool_cursors WHERE node = %s', (node,)
    )
    return {row[0]: Position(row[1], row[2]) for row in rows.fetchall()}
