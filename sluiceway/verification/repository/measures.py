"""Seqs, samples and gold against the rows and samples they are made from; a consumer's list against rows.

Samples and gold are compared in stretches of days, so that a statement never sorts more than a stretch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from sluiceway.verification.contracts import Found, LayerName, LayerReport
from sluiceway.verification.repository.session import Connection, Scope, find, number

STRETCH_ROWS = 500_000
LEVELS = ("1m", "1h", "1d")
_KINDS = ("missing", "doubled", "extra", "wrong")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Whole days (UTC) of event time, [`begin`, `end`), and about how many rows or samples they hold."""

    begin: datetime
    end: datetime
    rows: int


@dataclass(frozen=True, slots=True)
class Measure:
    """A field that makes samples. `versions`: the pipeline's versions in which it does (None: in all)."""

    name: str
    versions: tuple[int, ...] | None


def check_seqs(connection: Connection, scope: Scope, first: int) -> LayerReport:
    """Every seq that was given out belongs to one row, but for rows that a replay took away."""
    row = connection.execute(
        SQL(
            "SELECT last_seq, events, EXISTS (SELECT FROM silver.batches b"
            " WHERE b.pipeline_id = s.pipeline_id AND b.origin = 'replay')"
            " FROM app.pipeline_state s WHERE pipeline_id = {}"
        ).format(Literal(scope.pipeline.id))
    ).fetchone()
    last_seq, events, replayed = row or (0, 0, False)
    doubled = find(
        connection,
        SQL("SELECT seq AS name FROM {} GROUP BY seq HAVING count(*) > 1").format(scope.table),
        first,
    )
    beyond = SQL("SELECT seq AS name FROM {} WHERE seq > {} OR seq < 1")
    extra = find(connection, beyond.format(scope.table, Literal(last_seq)), first)
    if scope.silver_kept is not None:
        unjudged = "gaps are not judged: rows past retention take their seqs along"
        return LayerReport("seq", last_seq, doubled=doubled, extra=extra, note=unjudged)
    present = number(connection, SQL("SELECT count(DISTINCT seq) FROM {}").format(scope.table))
    gone = last_seq - (present - extra.count)
    allowed = last_seq - events if replayed else 0
    names = _gaps(connection, scope, last_seq, first) if gone > allowed else ()
    note = f"{allowed} rows were taken away by replays: the gaps named may be theirs" if allowed else None
    missing = Found(max(0, gone - allowed), names)
    return LayerReport("seq", last_seq, missing=missing, doubled=doubled, extra=extra, note=note)


def _gaps(connection: Connection, scope: Scope, last_seq: int, first: int) -> tuple[str, ...]:
    rows = connection.execute(
        SQL(
            "SELECT before + 1, seq - 1"
            " FROM (SELECT seq, lag(seq, 1, 0::bigint) OVER (ORDER BY seq) AS before"
            " FROM (SELECT seq FROM {} UNION ALL SELECT {}::bigint) s) g"
            " WHERE seq > before + 1 ORDER BY seq LIMIT {}"
        ).format(scope.table, Literal(last_seq + 1), Literal(first))
    ).fetchall()
    return tuple(str(low) if low == high else f"{low}-{high}" for low, high in rows)


def find_stretches(connection: Connection, scope: Scope, gold: str | None) -> list[Stretch]:
    """The days of the scope's rows, neighbours together; without a range also those of all samples, and of
    the aggregate by day."""
    parts: list[Composable] = [
        SQL("SELECT event_time AS at FROM {} WHERE {}").format(scope.table, scope.received())
    ]
    if not scope.ranged:
        parts.append(
            SQL("SELECT ts FROM silver.samples WHERE pipeline_id = {}").format(Literal(scope.pipeline.id))
        )
    if gold is not None and not scope.ranged:
        parts.append(
            SQL("SELECT bucket FROM {} WHERE pipeline_id = {}").format(
                Identifier(*gold.split(".")), Literal(scope.pipeline.id)
            )
        )
    rows = connection.execute(
        SQL("SELECT date_trunc('day', at, 'UTC') AS day, count(*) FROM ({}) t GROUP BY 1 ORDER BY 1").format(
            SQL(" UNION ALL ").join(parts)
        )
    ).fetchall()
    found: list[Stretch] = []
    day = timedelta(days=1)
    for at, count in rows:
        last = found[-1] if found else None
        # Only neighbours: a stretch with a hole would take in rows that are not of the scope.
        if last is not None and last.end == at and last.rows + count <= STRETCH_ROWS:
            found[-1] = Stretch(last.begin, at + day, last.rows + count)
        else:
            found.append(Stretch(at, at + day, count))
    return found


# What a row should have as samples, and what is there under its seq.
_SAMPLES = """
SELECT seq, metric, max(should) AS should, sum(found) AS found, bool_or(tolerated) AS tolerated,
  bool_or(found = 0) AND (min(value) IS DISTINCT FROM max(value) OR min(ts) <> max(ts)) AS differs
FROM (
  SELECT r.seq, v.metric COLLATE "C" AS metric, v.value, r.event_time AS ts,
    v.applies::integer AS should, 0 AS found, NOT v.applies AS tolerated
  FROM {table} r {batches} CROSS JOIN LATERAL (VALUES {measures}) AS v (metric, value, applies)
  WHERE r.event_time >= {begin} AND r.event_time < {end} AND v.value IS NOT NULL
  UNION ALL
  SELECT x.seq, coalesce(s.metric, '?') COLLATE "C", x.value, x.ts, 0, 1, false
  FROM silver.samples x LEFT JOIN silver.series s
    ON s.series_id = x.series_id AND s.pipeline_id = x.pipeline_id
  WHERE x.pipeline_id = {pipeline} AND x.ts >= {begin} AND x.ts < {end}
) u GROUP BY seq, metric
"""


class SampleFindings:
    """Samples that do not fit their rows, gathered stretch by stretch."""

    def __init__(self, connection: Connection, scope: Scope, measures: Sequence[Measure], first: int) -> None:
        self._connection, self._scope, self._first = connection, scope, first
        self._measures = measures
        self.checked = 0
        connection.execute("CREATE TEMP TABLE verify_samples (name text, kind text) ON COMMIT DROP")

    def check(self, stretch: Stretch) -> None:
        bounds = {"begin": Literal(stretch.begin), "end": Literal(stretch.end)}
        pipeline = Literal(self._scope.pipeline.id)
        # Without measures whatever samples there are have no row.
        values: list[Composable] = [_value(measure) for measure in self._measures] or [
            SQL("(NULL::text, NULL::double precision, true)")
        ]
        versioned = any(measure.versions is not None for measure in self._measures)
        compared = SQL(_SAMPLES).format(
            table=self._scope.table, pipeline=pipeline, measures=SQL(", ").join(values),
            batches=SQL("LEFT JOIN silver.batches b ON b.id = r.batch_id") if versioned else SQL(""),
            **bounds,
        )  # fmt: skip
        row = self._connection.execute(
            SQL("""
            WITH c AS MATERIALIZED ({compared}), bad AS (
              INSERT INTO verify_samples
              SELECT 'seq ' || seq || ' ' || metric, CASE
                WHEN should = 0 THEN 'extra' WHEN found = 0 THEN 'missing'
                WHEN found > 1 THEN 'doubled' ELSE 'wrong' END
              FROM c WHERE (should <> found OR differs) AND NOT (tolerated AND found <= 1))
            SELECT sum(found) FROM c
            """).format(compared=compared)
        ).fetchone()
        self.checked += int(row[0] or 0) if row else 0

    def report(self) -> LayerReport:
        kinds = {
            kind: find(
                self._connection,
                SQL("SELECT name FROM verify_samples WHERE kind = {}").format(Literal(kind)),
                self._first,
            )
            for kind in _KINDS
        }
        return _report("samples", self.checked, kinds)


def _value(measure: Measure) -> Composed:
    """The measure of a row, and whether the version that loaded the row made samples of it."""
    applies: Composable = SQL("true")
    if measure.versions is not None:
        # Of another version, or of a batch whose row was swept away: samples may be there or not.
        applies = SQL("coalesce(b.pipeline_version = ANY({}), false)").format(Literal(list(measure.versions)))
    column = SQL("r.{}::double precision").format(Identifier(measure.name))
    return SQL("({}::text, {}, {})").format(Literal(measure.name), column, applies)


# Recomputed from the samples by a formula of its own, not by the aggregate's.
_GOLD = """
WITH made AS (
  SELECT series_id, date_bin({width}::interval, ts, timestamptz '2000-01-03 00:00:00+00') AS bucket,
    count(*) AS count, sum(value) AS sum, sum(abs(value)) AS size, min(value) AS min, max(value) AS max,
    sum(value * value) AS sum_sq, (array_agg(value ORDER BY ts, seq))[1] AS first, min(ts) AS first_ts,
    (array_agg(value ORDER BY ts DESC, seq DESC))[1] AS last, max(ts) AS last_ts
  FROM silver.samples WHERE pipeline_id = {pipeline} AND ts >= {begin} AND ts < {end} GROUP BY 1, 2
), kept AS (
  SELECT *, count(*) OVER (PARTITION BY series_id, bucket) AS times FROM {aggregate}
  WHERE pipeline_id = {pipeline} AND bucket >= {begin} AND bucket < {end}
), compared AS (
  SELECT coalesce(m.series_id, k.series_id) AS series_id, coalesce(m.bucket, k.bucket) AS bucket, CASE
    WHEN k.series_id IS NULL THEN 'missing' WHEN m.series_id IS NULL THEN 'extra'
    WHEN k.times > 1 THEN 'doubled'
    WHEN (k.count, k.min, k.max, k.first, k.first_ts, k.last, k.last_ts) IS DISTINCT FROM
         (m.count, m.min, m.max, m.first, m.first_ts, m.last, m.last_ts)
      OR NOT coalesce(abs(k.sum - m.sum) <= 1e-9 * m.size, false)
      OR NOT coalesce(abs(k.sum_sq - m.sum_sq) <= 1e-9 * m.sum_sq, false) THEN 'wrong'
    END AS kind
  FROM made m FULL JOIN kept k ON k.series_id = m.series_id AND k.bucket = m.bucket
)
SELECT c.kind, count(*), (array_agg(
    {level} || ' ' || to_char(c.bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') || ' '
      || coalesce(s.metric || ' ' || s.dimensions::text, 'series ' || c.series_id)
    ORDER BY c.bucket, c.series_id)
  FILTER (WHERE c.kind IS NOT NULL))[1:{first}]
FROM compared c LEFT JOIN silver.series s USING (series_id) GROUP BY 1
"""


def find_gold(connection: Connection) -> tuple[dict[str, str], datetime | None]:
    """The aggregates that are built, by level; and the floor below which gold is history."""
    rows = connection.execute(
        "SELECT level, name FROM gold.aggregates WHERE level = ANY(%s)", (list(LEVELS),)
    ).fetchall()
    row = connection.execute("SELECT floor FROM gold.floors WHERE source = 'silver.samples'").fetchone()
    return dict(rows), row[0] if row else None


class GoldFindings:
    """Buckets that are not what their samples add up to. `connection` may read gold (`Session.modeler`)."""

    def __init__(
        self, connection: Connection, scope: Scope, aggregates: Mapping[str, str], first: int
    ) -> None:
        self._connection, self._scope, self._first = connection, scope, first
        self._aggregates = aggregates
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def check(self, stretch: Stretch) -> None:
        for level, width in zip(LEVELS, ("1 minute", "1 hour", "1 day"), strict=True):
            name = self._aggregates.get(level)
            if name is None:
                continue
            rows = self._connection.execute(
                SQL(_GOLD).format(
                    width=Literal(width),
                    level=Literal(level),
                    aggregate=Identifier(*name.split(".")),
                    pipeline=Literal(self._scope.pipeline.id),
                    begin=Literal(stretch.begin),
                    end=Literal(stretch.end),
                    first=Literal(max(self._first, 1)),
                )
            )
            for kind, count, names in rows.fetchall():
                self._counts["checked"] = self._counts.get("checked", 0) + count
                if kind is not None:
                    self._counts[kind] = self._counts.get(kind, 0) + count
                    known = self._names.setdefault(kind, [])
                    known += names[: self._first - len(known)]

    def report(self, note: str | None) -> LayerReport:
        kinds = {
            kind: Found(self._counts.get(kind, 0), tuple(self._names.get(kind, [])[: self._first]))
            for kind in _KINDS
        }
        return _report("gold", self._counts.get("checked", 0), kinds, note)


# A consumer that knows seqs must have all from its first to its last; one that knows ids only, all of them.
_CONSUMED = """
WITH got AS (
  SELECT seq, event_id, count(*) AS times FROM verify_consumer WHERE pipeline_id = {pipeline}
    AND seq IS NOT NULL GROUP BY 1, 2
), range AS (SELECT min(seq) AS low, max(seq) AS high FROM got),
rows AS (
  SELECT DISTINCT seq, event_id COLLATE "C" AS event_id FROM {table}, range WHERE seq BETWEEN low AND high
)
SELECT CASE
    WHEN g.seq IS NULL THEN 'missing' WHEN r.seq IS NULL THEN 'extra'
    WHEN g.event_id <> r.event_id THEN 'wrong' ELSE 'doubled' END AS kind,
  'seq ' || coalesce(r.seq, g.seq) || coalesce(' ' || coalesce(r.event_id, g.event_id), '') AS name
FROM got g FULL JOIN rows r ON r.seq = g.seq
WHERE g.seq IS NULL OR r.seq IS NULL OR g.event_id <> r.event_id OR g.times > 1
UNION ALL
SELECT CASE WHEN g.event_id IS NULL THEN 'missing' WHEN r.event_id IS NULL THEN 'extra' ELSE 'doubled' END,
  coalesce(g.event_id, r.event_id)
FROM (
  SELECT event_id, count(*) AS times FROM verify_consumer WHERE pipeline_id = {pipeline} AND seq IS NULL
  GROUP BY 1
) g FULL JOIN (
  SELECT DISTINCT event_id COLLATE "C" AS event_id FROM {table}
  WHERE {received} AND EXISTS (SELECT FROM verify_consumer WHERE pipeline_id = {pipeline} AND seq IS NULL)
) r ON r.event_id = g.event_id
WHERE g.event_id IS NULL OR r.event_id IS NULL OR g.times > 1
"""


def check_consumer(connection: Connection, scope: Scope, first: int) -> LayerReport:
    """What a consumer received against the rows."""
    pipeline = Literal(scope.pipeline.id)
    connection.execute(
        SQL("CREATE TEMP TABLE verify_consumed ON COMMIT DROP AS {}").format(
            SQL(_CONSUMED).format(pipeline=pipeline, table=scope.table, received=scope.received())
        )
    )
    kinds = {
        kind: find(
            connection,
            SQL("SELECT name FROM verify_consumed WHERE kind = {}").format(Literal(kind)),
            first,
        )
        for kind in _KINDS
    }
    received = SQL("SELECT count(*) FROM verify_consumer WHERE pipeline_id = {}").format(pipeline)
    return _report("consumer", number(connection, received), kinds)


def above(stretches: Sequence[Stretch], floor: datetime | None) -> Iterator[Stretch]:
    """The stretches, cut off below the floor (the beginning of a day)."""
    for stretch in stretches:
        if floor is None or stretch.begin >= floor:
            yield stretch
        elif stretch.end > floor:
            yield Stretch(floor, stretch.end, stretch.rows)


def _report(
    layer: LayerName, checked: int, kinds: Mapping[str, Found], note: str | None = None
) -> LayerReport:
    missing, doubled, extra, wrong = (kinds[kind] for kind in _KINDS)
    return LayerReport(layer, checked, missing, doubled, extra, wrong, note=note)
