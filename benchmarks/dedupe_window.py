"""`dedupe_window`: what de-duplication costs as its window fills: 0, 10 million and 100 million known ids.

Each fill is loaded with random ids (UUIDv4), whose places in the index are anywhere, and with ids that grow
with time (UUIDv7). The known ids lie in the leaf that the load writes to, the worst case. Its index is
built with the share of free space that random inserts leave behind. Of the events that are loaded every
tenth was sent before. Limit: the same load into an empty window. Peer: the same events as COPY into a staging
table and INSERT … ON CONFLICT DO NOTHING into one table with a unique index and the same fill, and no more.

`DEDUPE_FILLS` and `DEDUPE_KINDS` choose others (`DEDUPE_FILLS=0,1000000 make bench BENCH=dedupe_window`). A
hundred million ids take some 20 GB of disk, and minutes to be made.
"""

import io
import json
import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from sluiceway.infra.database import Database, Role
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.kit.ids import uuid7
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.service import Loader
from sluiceway.migrations import migrate
from sluiceway.quality.contracts import NoGate
from sluiceway.warehouse.schema import EVENT_KEYS, apply_pipeline, ensure_partitions, partition_of

FILLS = tuple(int(n) for n in os.environ.get("DEDUPE_FILLS", "0,10000000,100000000").split(","))
KINDS = tuple(os.environ.get("DEDUPE_KINDS", "random,ordered").split(","))
EVENTS = int(os.environ.get("DEDUPE_EVENTS", "200000"))  # a round
ROUNDS = int(os.environ.get("DEDUPE_ROUNDS", "3"))
AGAIN = 10  # every tenth event was sent before
BODY_EVENTS = 5_000
PEER_ROWS = 25_000  # about what a batch of the loader holds
FILL_PIECE = 5_000_000
STEADY_FILL = 70  # percent: what random inserts leave of a B-tree's pages
PIPELINE = """\
name: orders
event: {id: id, time: at}
fields:
  - {name: country, type: string, role: dimension}
  - {name: shop, type: integer, role: dimension}
  - {name: amount, type: number, role: measure}
  - {name: items, type: integer, role: measure}
  - {name: note, type: string}
"""
# Version 7 by hand: the milliseconds are spread over the past week.
IDS = {
    "random": "gen_random_uuid()::text",
    "ordered": "encode(substring(int8send((extract(epoch FROM now()) * 1000)::bigint - 604800000"
    " + n * 604800000 / {total}) FROM 3)"
    " || substring(uuid_send(gen_random_uuid()) FROM 7), 'hex')::uuid::text",
}


def fill(connection: "psycopg.Connection[Any]", leaf: str, total: int, kind: str) -> None:
    """`total` ids in the leaf, its unique index made anew behind them."""
    (index,) = connection.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass", (f"silver.{leaf}",)
    ).fetchone() or ("",)
    connection.execute(f"DROP INDEX {index}")
    for begin in range(0, total, FILL_PIECE):
        connection.execute(
            f"INSERT INTO silver.{leaf} (workspace_id, pipeline_id, event_id, seen_at)"
            f" SELECT 1, 1, {IDS[kind].format(total=max(1, total))}, now()"
            f" FROM generate_series({begin}::bigint, {min(total, begin + FILL_PIECE) - 1}::bigint) n"
        )
    connection.execute("SET maintenance_work_mem = '1GB'")
    connection.execute(
        f"CREATE UNIQUE INDEX {index.split('.')[-1]} ON silver.{leaf} (pipeline_id, event_id)"
        f" WITH (fillfactor = {STEADY_FILL if kind == 'random' else 90})"
    )
    connection.execute(f"VACUUM ANALYZE silver.{leaf}")


class Source:
    """Events with ids of a kind; every tenth has one that was given out before."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._random = random.Random(7)
        self._given: list[str] = []

    def _id(self) -> str:
        if self._given and self._random.randrange(AGAIN) == 0:
            return self._random.choice(self._given)
        if self._kind == "ordered":
            found = str(uuid7())
        else:
            found = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self._given.append(found)
        return found

    def bodies(self, events: int) -> Iterator[list[dict[str, Any]]]:
        at = datetime.now(UTC).isoformat()
        for begin in range(0, events, BODY_EVENTS):
            yield [
                {
                    "id": self._id(), "at": at, "country": ("CH", "DE", "FR")[n % 3], "shop": n % 40,
                    "amount": n % 977 / 4, "items": n % 7, "note": f"order number {n}",
                }
                for n in range(begin, min(events, begin + BODY_EVENTS))
            ]  # fmt: skip


def load_ours(database: Database, spool: Path, source: Source) -> list[float]:
    """Events a second of each round through spool reader, transform and warehouse."""
    book = PipelineBook(database, NoGate())
    reader = SpoolReader(spool)
    loader = Loader(database, reader, NoGate(), "bench", book)
    rates = []
    with SpoolWriter(spool) as writer:
        for round_ in range(ROUNDS + 1):
            events = EVENTS if round_ else EVENTS // 4  # the first one warms up
            for body in source.bodies(events):
                writer.append_now(
                    workspace_id=1, pipeline_id=1, form=Form.NDJSON, events=len(body), headers={},
                    received_us=time.time_ns() // 1000, body=b"\n".join(json.dumps(e).encode() for e in body),
                )  # fmt: skip
            began = time.perf_counter()
            while loader.step():
                pass
            rates.append(events / (time.perf_counter() - began))
    loader.close()
    reader.close()
    return rates[1:]


def load_peer(database: Database, leaf: str, source: Source) -> list[float]:
    """Events a second of each round: COPY to a staging table, then INSERT … ON CONFLICT DO NOTHING."""
    rates = []
    with database.connect(Role.OWNER) as connection:
        # The same filled index guards the peer's table: one table with a unique key.
        connection.execute("CREATE TABLE peer (LIKE silver.orders INCLUDING DEFAULTS)")
        connection.execute(
            "CREATE TEMP TABLE staging (event_id text, at timestamptz, country text, shop bigint,"
            " amount double precision, items bigint, note text)"
        )
        connection.commit()
        for round_ in range(ROUNDS + 1):
            events = EVENTS if round_ else EVENTS // 4
            rows = [event for body in source.bodies(events) for event in body]
            pieces = [_csv(rows[begin : begin + PEER_ROWS]) for begin in range(0, len(rows), PEER_ROWS)]
            began = time.perf_counter()
            for piece in pieces:
                with (
                    connection.cursor() as cursor,
                    cursor.copy("COPY staging FROM STDIN (FORMAT csv)") as copy,
                ):
                    copy.write(piece)
                connection.execute(
                    f"WITH fresh AS (INSERT INTO silver.{leaf} (workspace_id, pipeline_id, event_id, seen_at)"
                    " SELECT DISTINCT ON (event_id) 1, 1, event_id, now() FROM staging"
                    " ON CONFLICT DO NOTHING RETURNING event_id)"
                    " INSERT INTO peer (workspace_id, seq, event_id, event_time, received_at, batch_id,"
                    " position, country, shop, amount, items, note)"
                    " SELECT DISTINCT ON (s.event_id) 1, 0, s.event_id, at, now(), 0, '', country, shop,"
                    " amount, items, note FROM staging s JOIN fresh USING (event_id)"
                )
                connection.execute("TRUNCATE staging")
                connection.commit()
            rates.append(events / (time.perf_counter() - began))
    return rates[1:]


def _csv(rows: list[dict[str, Any]]) -> str:
    target = io.StringIO()
    for row in rows:
        target.write(",".join(str(value) for value in row.values()) + "\n")
    return target.getvalue()


def measure(kind: str, total: int) -> dict[str, float]:
    """Median rates of ours and the peer, the ids' size on disk in GB, and our WAL in bytes an event."""
    folder = Path(tempfile.mkdtemp(prefix="sluiceway-bench-"))
    server = EmbeddedPostgres(folder / "pg")
    try:
        server.start()
        key = SecretKey(b"a key for benchmarks only, long enough")
        database = Database(server.url, key)
        migrate(database, key)
        apply_pipeline(database, 1, PIPELINE)
        now = datetime.now(UTC)
        ensure_partitions(database, EVENT_KEYS, [now], "week")
        leaf = partition_of(EVENT_KEYS, now, "week").name
        with database.connect(Role.OWNER, autocommit=True) as connection:
            if total:
                fill(connection, leaf, total, kind)
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT pg_total_relation_size(%s)", (f"silver.{leaf}",)).fetchone()
        source = Source(kind)
        before = _wal_bytes(database)
        ours = load_ours(database, folder / "spool", source)
        wal = (_wal_bytes(database) - before) / (EVENTS * ROUNDS + EVENTS // 4)
        with database.connect(Role.OWNER) as connection:
            expected = connection.execute(
                "SELECT count(*), count(DISTINCT event_id) FROM silver.orders"
            ).fetchone()
        assert expected is not None and expected[0] == expected[1] == len(source._given), expected
        peer = load_peer(database, leaf, source)
        database.dispose()
        size = (row[0] if row else 0) / 1e9
        return {"ours": median(ours), "peer": median(peer), "gb": size, "wal": wal}
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _wal_bytes(database: Database) -> int:
    with database.connect(Role.OWNER) as connection:
        row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0]) if row else 0


def run() -> dict[str, Any]:
    """The figures of this benchmark, in events a second; `ours` is random ids at the largest fill."""
    found = {(kind, total): measure(kind, total) for kind in KINDS for total in FILLS}
    kind, most = KINDS[0], max(FILLS)
    empty = min(FILLS)
    parts = []
    for (name, total), rates in found.items():
        of = rates["ours"] / found[name, empty]["ours"]
        parts.append(
            f"{name}, {total:,} ids ({rates['gb']:.1f} GB): {rates['ours']:,.0f} ({of:.2f} of {empty:,};"
            f" {rates['wal']:,.0f} B of WAL an event), peer {rates['peer']:,.0f}"
        )
    return {
        "ours": round(found[kind, most]["ours"]),
        "limit": round(found[kind, empty]["ours"]),
        "peer": round(found[kind, most]["peer"]),
        "unit": "events/s",
        "detail": f"{kind} ids, {most:,} of them known; limit: the same load with {empty:,} known ids; peer:"
        " staging and ON CONFLICT on one unique key of the same fill (no samples, no dirty buckets, no gate);"
        f" median of {ROUNDS} rounds of {EVENTS:,} events. " + "; ".join(parts),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
