"""Bronze, silver, dead letters and the ledger, joined by position and by id.

`gather` makes three temporary tables that live as long as the snapshot:
- `verify_events`: a row per position, with how often each layer has it;
- `verify_ids`: a row per id, with how often it was acknowledged and how often each layer has it;
- `verify_open`: events of bronze that are neither a row nor a dead letter by themselves, and why.
"""

from psycopg.sql import SQL, Composed, Literal

from sluiceway.verification.contracts import Balance, DeadLetters, Found
from sluiceway.verification.repository.session import Connection, Scope, find, number

# The id that was received is bronze's or the dead letter's; a row has another one if a person corrected
# the bytes, or if the pipeline derives ids in another way since.
_EVENTS = """
CREATE TEMP TABLE verify_events ON COMMIT DROP AS
SELECT position,
  coalesce(max(event_id) FILTER (WHERE layer = 1), max(event_id) FILTER (WHERE layer = 3)) AS received_id,
  max(event_id) FILTER (WHERE layer = 2) AS silver_id,
  count(*) FILTER (WHERE layer = 1) AS bronze,
  count(*) FILTER (WHERE layer = 2) AS silver,
  count(*) FILTER (WHERE layer = 3) AS letters,
  coalesce(bool_or(retried), false) AS retried,
  min(received_at) AS received_at, max(event_time) AS event_time
FROM (
  SELECT 1 AS layer, position, event_id, event_time, received_at, NULL::boolean AS retried FROM verify_bronze
  UNION ALL
  SELECT 2, position COLLATE "C", event_id COLLATE "C", event_time, received_at, NULL
  FROM {table} WHERE {received}
  UNION ALL
  SELECT 3, position COLLATE "C", event_id COLLATE "C", event_time, received_at, state = 'retried'
  FROM quality.dead_letters WHERE pipeline_id = {pipeline} AND {received}
) e GROUP BY position
"""
# A retried letter accounts for its event only by the row that came of it. What was acknowledged by its
# position has the id that the event there has; a position that nobody knows is its own name.
_IDS = """
CREATE TEMP TABLE verify_ids ON COMMIT DROP AS
SELECT event_id, sum(acknowledged) AS acknowledged, min(at) AS at, sum(bronze) AS bronze,
  sum(silver) AS silver, sum(letters) AS letters, sum(changed) AS changed
FROM (
  SELECT event_id, 1 AS acknowledged, at, 0 AS bronze, 0 AS silver, 0 AS letters, 0 AS changed
  FROM verify_ledger WHERE pipeline_id = {pipeline} AND event_id IS NOT NULL
  UNION ALL
  SELECT coalesce(e.received_id, e.silver_id, l.position), 1, l.at,
    CASE WHEN coalesce(e.received_id, e.silver_id) IS NULL THEN coalesce(e.bronze, 0) ELSE 0 END, 0,
    CASE WHEN coalesce(e.received_id, e.silver_id) IS NULL AND NOT e.retried THEN e.letters ELSE 0 END, 0
  FROM verify_ledger l LEFT JOIN verify_events e ON e.position = l.position
  WHERE l.pipeline_id = {pipeline} AND l.event_id IS NULL
  UNION ALL
  SELECT coalesce(received_id, silver_id), 0, NULL, bronze,
    CASE WHEN silver_id <> received_id THEN 0 ELSE silver END,
    CASE WHEN retried THEN 0 ELSE letters END,
    CASE WHEN silver_id <> received_id THEN silver ELSE 0 END
  FROM verify_events WHERE coalesce(received_id, silver_id) IS NOT NULL
  UNION ALL
  SELECT silver_id, 0, NULL, bronze, silver, 0, silver FROM verify_events WHERE silver_id <> received_id
) i GROUP BY event_id
"""
_OPEN = """
CREATE TEMP TABLE verify_open ON COMMIT DROP AS
SELECT e.position, e.received_id, CASE
    WHEN i.silver > 0 OR i.letters > 0 OR i.changed > 0 OR k.event_id IS NOT NULL THEN 'again'
    WHEN c.node IS NULL OR (e.at[2]::bigint, e.at[3]::bigint) >= (c.segment, c."offset") THEN 'waiting'
    WHEN e.event_time < {silver_kept} THEN 'old'
    ELSE 'lost' END AS fate
FROM (
  SELECT *, regexp_match(position, '^(.*)/([0-9]+)/([0-9]+)/[0-9.]+$') AS at
  FROM verify_events WHERE bronze > 0 AND silver = 0 AND (letters = 0 OR retried)
) e
LEFT JOIN verify_ids i ON i.event_id = e.received_id
LEFT JOIN ({known}) k ON k.event_id = e.received_id
LEFT JOIN app.spool_cursors c ON c.pipeline_id = {pipeline} AND c.node = e.at[1]
"""
# Ids that silver or the dead letters know from outside of the range that is looked at.
_KNOWN = """
SELECT event_id COLLATE "C" AS event_id FROM {table} WHERE event_id COLLATE "C" IN ({wanted})
UNION SELECT event_id COLLATE "C" FROM quality.dead_letters
WHERE pipeline_id = {pipeline} AND state <> 'retried' AND event_id COLLATE "C" IN ({wanted})
"""
_NONE_KNOWN = SQL('SELECT NULL::text COLLATE "C" AS event_id WHERE false')
_ABSENT = SQL("acknowledged > 0 AND silver = 0 AND letters = 0 AND changed = 0")


def gather(connection: Connection, scope: Scope) -> None:
    """Make the tables; the ledger and bronze have been copied before."""
    pipeline = Literal(scope.pipeline.id)
    connection.execute(SQL(_EVENTS).format(table=scope.table, received=scope.received(), pipeline=pipeline))
    connection.execute("ANALYZE verify_events")
    connection.execute(SQL(_IDS).format(pipeline=pipeline))
    connection.execute("CREATE INDEX ON verify_ids (event_id); ANALYZE verify_ids")
    wanted = SQL(
        "SELECT received_id FROM verify_events WHERE bronze > 0 AND silver = 0 AND (letters = 0 OR retried)"
    )
    connection.execute(
        SQL(_OPEN).format(
            known=_known(scope, wanted), pipeline=pipeline, silver_kept=_line(scope.silver_kept)
        )
    )
    connection.execute("ANALYZE verify_open")


def _known(scope: Scope, wanted: SQL) -> Composed | SQL:
    if not scope.ranged:
        return _NONE_KNOWN
    return SQL(_KNOWN).format(table=scope.table, pipeline=Literal(scope.pipeline.id), wanted=wanted)


def _line(moment: object) -> Composed:
    return SQL("{}::timestamptz").format(Literal("-infinity" if moment is None else moment))


def acknowledged(connection: Connection) -> tuple[int, int]:
    """How many ids, and how many lines there were beyond one for each."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(acknowledged - 1), 0) FROM verify_ids WHERE acknowledged > 0"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


class BronzeFindings:
    """What bronze lacks and has too often. Nothing here is asked before it is called."""

    def __init__(self, connection: Connection, scope: Scope, first: int) -> None:
        self._connection, self._scope, self._first = connection, scope, first
        connection.execute(
            SQL("""
            CREATE TEMP TABLE verify_unkept ON COMMIT DROP AS
            SELECT coalesce(e.received_id, e.silver_id, e.position) AS name, CASE
                WHEN r.node IS NOT NULL AND (e.at[2]::bigint, e.at[3]::bigint) >= (r.segment, r."offset")
                THEN 'waiting'
                WHEN e.received_at < {kept} THEN 'old' ELSE 'missing' END AS fate
            FROM (SELECT *, regexp_match(position, '^(.*)/([0-9]+)/([0-9]+)/[0-9.]+$') AS at
                  FROM verify_events WHERE bronze = 0) e
            LEFT JOIN verify_read_to r ON r.node = e.at[1]
            UNION ALL
            SELECT i.event_id, CASE WHEN i.at < {kept} THEN 'old' ELSE 'missing' END
            FROM verify_ids i LEFT JOIN ({known}) k USING (event_id)
            WHERE {absent} AND i.bronze = 0 AND k.event_id IS NULL
            """).format(kept=_line(scope.bronze_kept), known=_known_absent(scope), absent=_ABSENT)
        )

    @property
    def checked(self) -> int:
        return number(self._connection, SQL("SELECT sum(bronze) FROM verify_events"))

    @property
    def missing(self) -> Found:
        return self._find("SELECT name FROM verify_unkept WHERE fate = 'missing'")

    @property
    def doubled(self) -> Found:
        return self._find(
            "SELECT coalesce(received_id, position) AS name FROM verify_events WHERE bronze > 1"
        )

    @property
    def extra(self) -> Found:
        return self._find(
            "SELECT event_id AS name FROM verify_ids WHERE acknowledged = 0 AND bronze > 0 AND changed = 0"
        )

    def count(self, fate: str) -> int:
        query = SQL("SELECT count(DISTINCT name) FROM verify_unkept WHERE fate = {}").format(Literal(fate))
        return number(self._connection, query)

    def _find(self, query: str) -> Found:
        return find(self._connection, SQL(query), self._first)


def _known_absent(scope: Scope) -> Composed | SQL:
    return _known(scope, SQL("SELECT event_id FROM verify_ids WHERE acknowledged > 0 AND silver = 0"))


class SilverFindings:
    """What silver lacks and has too often."""

    def __init__(self, connection: Connection, scope: Scope, first: int) -> None:
        self._connection, self._scope, self._first = connection, scope, first
        # Lost events of bronze, and acknowledged ids that nothing accounts for. An event may say that it
        # happened up to a day after it was received.
        connection.execute(
            SQL("""
            CREATE TEMP TABLE verify_missed ON COMMIT DROP AS
            SELECT coalesce(received_id, position) AS name, fate FROM verify_open WHERE fate <> 'again'
            UNION ALL
            SELECT i.event_id, CASE WHEN i.at < {kept} - interval '1 day' THEN 'old' ELSE 'lost' END
            FROM verify_ids i LEFT JOIN ({known}) k USING (event_id)
            WHERE {absent} AND i.bronze = 0 AND k.event_id IS NULL
            """).format(kept=_line(scope.silver_kept), known=_known_absent(scope), absent=_ABSENT)
        )

    @property
    def checked(self) -> int:
        return number(self._connection, SQL("SELECT sum(silver) FROM verify_events"))

    @property
    def missing(self) -> Found:
        return self._find(SQL("SELECT name FROM verify_missed WHERE fate = 'lost'"))

    @property
    def doubled(self) -> Found:
        """Ids with two rows received within the de-duplication window, and positions with two rows."""
        return self._find(
            SQL("""
            SELECT coalesce(silver_id, position) AS name FROM verify_events WHERE silver > 1
            UNION ALL
            SELECT event_id FROM (
              SELECT s.event_id COLLATE "C" AS event_id, s.received_at - lag(s.received_at)
                OVER (PARTITION BY s.event_id ORDER BY s.received_at) AS gap
              FROM {table} s JOIN verify_ids i ON i.event_id = s.event_id COLLATE "C"
              WHERE i.silver > 1) g
            WHERE gap < {window}
            """).format(table=self._scope.table, window=Literal(self._scope.pipeline.spec.dedupe.window))
        )

    @property
    def extra(self) -> Found:
        query = (
            "SELECT event_id AS name FROM verify_ids WHERE acknowledged = 0 AND silver > 0 AND changed = 0"
        )
        return self._find(SQL(query))

    def count(self, fate: str) -> int:
        query = SQL("SELECT count(DISTINCT name) FROM verify_missed WHERE fate = {}").format(Literal(fate))
        return number(self._connection, query)

    def _find(self, query: SQL | Composed) -> Found:
        return find(self._connection, query, self._first)


def find_letters(connection: Connection, scope: Scope) -> DeadLetters:
    """Dead letters of the scope by state, step and code; and the acknowledged ids they account for."""
    rows = connection.execute(
        SQL(
            "SELECT state || ' ' || step || '/' || code, count(*) FROM quality.dead_letters"
            " WHERE pipeline_id = {} AND {} GROUP BY 1 ORDER BY 1"
        ).format(Literal(scope.pipeline.id), scope.received())
    ).fetchall()
    accounted = number(
        connection,
        SQL("SELECT count(*) FROM verify_ids WHERE acknowledged > 0 AND silver = 0 AND letters > 0"),
    )
    reasons = {reason: int(count) for reason, count in rows}
    return DeadLetters(sum(reasons.values()), accounted, reasons)


def find_balance(connection: Connection) -> Balance:
    """Where the events of bronze are. A row that came of a dead letter counts as a row."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE bronze > 0), count(*) FILTER (WHERE bronze > 0 AND silver > 0),"
        " count(*) FILTER (WHERE bronze > 0 AND silver = 0 AND letters > 0 AND NOT retried)"
        " FROM verify_events"
    ).fetchone()
    assert row is not None
    fates = dict(connection.execute("SELECT fate, count(*) FROM verify_open GROUP BY 1").fetchall())
    return Balance(
        events=row[0],
        rows=row[1],
        letters=row[2],
        again=fates.get("again", 0),
        waiting=fates.get("waiting", 0),
        lost=fates.get("lost", 0),
        old=fates.get("old", 0),
    )
