"""`gold_refresh`: 1 % late events over 30 days of samples, against computing all three levels anew.

Ours: `gold.refresh_dirty()` of the continuous aggregates. Peer: PostgreSQL's own `REFRESH MATERIALIZED VIEW`
of the same three queries. Limit: reading and aggregating the touched buckets' samples, nothing written.
The late events are those of 20 outages (a device's line is down, its readings come afterwards); the detail
also has the worst case, 1 % drawn at random, which touches a third of all minutes.
"""

import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from sluiceway.infra.database import Database, Role
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import load_settings
from sluiceway.migrations import migrate
from sluiceway.runtime.gold import build_gold
from sluiceway.warehouse.gold import refresh_dirty
from sluiceway.warehouse.schema import SAMPLES, ensure_partitions

BEGIN = datetime(2025, 6, 2, tzinfo=UTC)
DAYS = 30
SERIES = 15
EVERY_S = 30
OUTAGES = 20
LEVELS = ("1m", "1h", "1d")
LATE_SHARE = 0.01


def run() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="sluiceway-gold-"))
    server = EmbeddedPostgres(folder / "pg")
    try:
        server.start()
        key = SecretKey(b"only for this benchmark, long enough")
        database = Database(server.url, key)
        migrate(database, key)
        home = {"SLUICEWAY_HOME": str(folder / "home"), "SLUICEWAY_DATABASE_URL": server.url}
        build_gold(load_settings(home), database)
        with database.connect(Role.OWNER, autocommit=True) as connection:
            return _measure(database, connection)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _measure(database: Database, connection: "psycopg.Connection[Any]") -> dict[str, Any]:
    ensure_partitions(database, SAMPLES, [BEGIN, BEGIN + timedelta(days=DAYS)])
    samples = _insert_month(connection)
    filled_s = _timed(lambda: refresh_dirty(database))
    _create_peer(connection)

    late = _insert_late(connection, outages=True)
    limit_s = _aggregate_touched(connection)
    ours_s = _timed(lambda: refresh_dirty(database))
    peer_s = _timed(lambda: _refresh_peer(connection))
    _assert_same(connection)

    scattered = _insert_late(connection, outages=False)
    buckets: list[int] = []
    scattered_s = _timed(lambda: buckets.append(refresh_dirty(database)))
    _refresh_peer(connection)
    _assert_same(connection)
    return {
        "ours": round(ours_s, 3),
        "limit": round(limit_s, 3),
        "peer": round(peer_s, 3),
        "unit": "s",
        "lower_is_better": True,
        "detail": (
            f"{samples:,} samples of {DAYS} days, {late:,} late ones in {OUTAGES} outages; the first fill"
            f" took {filled_s:.1f} s; every row compared with a full recompute. Worst case,"
            f" {scattered:,} late ones at random ({buckets[0]:,} buckets): {scattered_s:.2f} s."
            " Peer: REFRESH MATERIALIZED VIEW of the same queries."
        ),
    }


def _timed(work: Any) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _insert_month(connection: "psycopg.Connection[Any]") -> int:
    """All but the late share; buckets are marked as the loader marks them."""
    count = connection.execute(
        "INSERT INTO silver.samples SELECT 1, 1, s, %s + n * interval '1 second', random() * 100, n"
        f" FROM generate_series(0, {DAYS * 86400 - 1}, {EVERY_S}) n, generate_series(1, {SERIES}) s",
        (BEGIN,),
    ).rowcount
    _mark(connection, 0)
    connection.execute("VACUUM ANALYZE silver.samples")
    return count


def _insert_late(connection: "psycopg.Connection[Any]", *, outages: bool) -> int:
    (before,) = _one(connection, "SELECT max(seq) FROM silver.samples")
    wanted = int(DAYS * 86400 / EVERY_S * SERIES * LATE_SHARE)
    per_outage = wanted // OUTAGES
    length = int(per_outage / SERIES * EVERY_S)  # seconds
    if outages:
        at = (
            f"(n %% {OUTAGES}) * {DAYS * 86400 // OUTAGES} + 7200 + (n / {OUTAGES}) * {length} / {per_outage}"
        )
    else:
        at = f"floor(random() * {DAYS * 86400})"
    count = connection.execute(
        f"INSERT INTO silver.samples SELECT 1, 1, 1 + n %% {SERIES}, %s + ({at}) * interval '1 second',"
        f" random() * 100, %s + n FROM generate_series(1, {wanted}) n",
        (BEGIN, before),
    ).rowcount
    _mark(connection, before)
    return count


def _mark(connection: "psycopg.Connection[Any]", after: int) -> None:
    connection.execute(
        "INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)"
        " SELECT DISTINCT 1, 1, l.level, gold.time_bucket(l.width, ts) FROM silver.samples,"
        " (VALUES ('1m', interval '1 minute'), ('1h', '1 hour'), ('1d', '1 day')) AS l (level, width)"
        " WHERE seq > %s OR %s = 0",
        (after, after),
    )


def _create_peer(connection: "psycopg.Connection[Any]") -> None:
    """The same three queries as materialized views, each over the one below."""
    connection.execute("CREATE SCHEMA peer")
    source = "silver.samples"
    for level in LEVELS:
        (query,) = _one(connection, f"SELECT query FROM gold.aggregates WHERE level = '{level}'")
        connection.execute(
            f"CREATE MATERIALIZED VIEW peer.samples_{level} AS {query.replace('__input__', source)}"
        )
        source = f"peer.samples_{level}"


def _refresh_peer(connection: "psycopg.Connection[Any]") -> None:
    for level in LEVELS:
        connection.execute(f"REFRESH MATERIALIZED VIEW peer.samples_{level}")


def _aggregate_touched(connection: "psycopg.Connection[Any]") -> float:
    """Seconds to read what must be read: the dirty buckets through the views, which write nothing."""
    begun = time.monotonic()
    dirty = "(SELECT DISTINCT bucket FROM gold.dirty_buckets WHERE level = '{}') d CROSS JOIN LATERAL"
    connection.execute(
        f"SELECT sum(q.total) FROM {dirty.format('1m')} ("
        "SELECT series_id, count(*), sum(value) AS total, min(value), max(value) FROM silver.samples s"
        " WHERE pipeline_id = 1 AND ts >= d.bucket AND ts < d.bucket + interval '1 minute' GROUP BY 1) q"
    )
    for level, width, below in (("1h", "1 hour", "1m"), ("1d", "1 day", "1h")):
        connection.execute(
            f"SELECT sum(q.total) FROM {dirty.format(level)} ("
            "SELECT series_id, sum(b.count), sum(b.sum) AS total, min(b.min), max(b.max)"
            f" FROM gold.samples_{below}_materialized b WHERE pipeline_id = 1 AND b.bucket >= d.bucket"
            f" AND b.bucket < d.bucket + interval '{width}' GROUP BY 1) q"
        )
    return time.monotonic() - begun


def _assert_same(connection: "psycopg.Connection[Any]") -> None:
    for level in LEVELS:
        different = _one(
            connection,
            f"SELECT count(*) FROM gold.samples_{level}_materialized g"
            f" FULL JOIN peer.samples_{level} p USING (pipeline_id, series_id, bucket)"
            " WHERE (g.count, g.min, g.max, g.first, g.first_ts, g.last, g.last_ts)"
            " IS DISTINCT FROM (p.count, p.min, p.max, p.first, p.first_ts, p.last, p.last_ts)"
            " OR abs(g.sum - p.sum) > 1e-6 OR abs(g.sum_sq - p.sum_sq) > 1e-4",
        )
        if different != (0,):
            raise RuntimeError(f"samples_{level} differs from the full recompute in {different[0]} rows")


def _one(connection: "psycopg.Connection[Any]", query: Any) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)
