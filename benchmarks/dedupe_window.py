"""`dedupe_window`: what de-duplication costs as its window fills: 0, 10 million and 100 million known ids.

Each fill is loaded with random ids (UUIDv4), whose places in the index are anywhere, and with ids that grow
with time (UUIDv7). The known ids are spread over the past week, which is the window; their index is built
with the share of free space that random inserts leave behind. Of the events that are loaded every tenth was
sent before. Measuring begins when the loader's filter of known ids is made; how long that took is told.
Limit: the same load into an empty window. Peer: the same events as COPY into a staging table and
INSERT … ON CONFLICT DO NOTHING into one table with a unique index and the same fill, and no more.

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
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import psutil
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
from sluiceway.warehouse.schema import EVENT_KEYS, apply_pipeline, ensure_partitions

FILLS = tuple(int(n) for n in os.environ.get("DEDUPE_FILLS", "0,10000000,100000000").split(","))
KINDS = tuple(os.environ.get("DEDUPE_KINDS", "random,ordered").split(","))
EVENTS = int(os.environ.get("DEDUPE_EVENTS", "200000"))  # a round
ROUNDS = int(os.environ.get("DEDUPE_ROUNDS", "3"))
WARM_UP = 250_000  # enough for the loader to want a filter of known ids
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
# Version 7 by hand: the milliseconds at which the id was seen, then random bits.
IDS = {
    "random": "gen_random_uuid()::text",
    "ordered": "encode(substring(int8send((extract(epoch FROM seen_at) * 1000)::bigint) FROM 3)"
    " || substring(uuid_send(gen_random_uuid()) FROM 7), 'hex')::uuid::text",
}
WINDOW = timedelta(days=7)


def fill(
    connection: "psycopg.Connection[Any]", leaves: list[str], total: int, kind: str, now: datetime
) -> None:
    """`total` ids, evenly over the week before now; the leaves' unique indexes are made anew behind them."""
    definitions = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indrelid::regclass::text"
        " FROM pg_index WHERE indrelid = ANY(%s::regclass[])",
        ([f"silver.{leaf}" for leaf in leaves],),
    ).fetchall()
    for index, _, _ in definitions:
        connection.execute(f"DROP INDEX {index}")
    for begin in range(0, total, FILL_PIECE):
        end = min(total, begin + FILL_PIECE)
        connection.execute(
            "INSERT INTO silver.event_keys (workspace_id, pipeline_id, event_id, seen_at)"
            f" SELECT 1, 1, {IDS[kind]}, seen_at FROM ("
            f"SELECT %s::timestamptz - interval '7 days' * (1 - n::float8 / {total}) AS seen_at"
            f" FROM generate_series({begin}::bigint, {end - 1}::bigint) n) s",
            (now,),
        )
    connection.execute("SET maintenance_work_mem = '1GB'")
    for _, definition, leaf in definitions:
        share = STEADY_FILL if kind == "random" else 90
        connection.execute(f"{definition} WITH (fillfactor = {share})")
        connection.execute(f"VACUUM ANALYZE {leaf}")


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


def load_ours(
    database: Database, spool: Path, source: Source, server: int | None
) -> tuple[list[float], float, float]:
    """Events a second of each round through spool reader, transform and warehouse; in how many seconds the
    filter of known ids was made; and the CPU time of loader and server together, in µs an event."""
    book = PipelineBook(database, NoGate())
    reader = SpoolReader(spool)
    loader = Loader(database, reader, NoGate(), "bench", book)
    rates: list[float] = []
    made_s = cpu_s = 0.0
    with SpoolWriter(spool) as writer:
        for round_ in range(ROUNDS + 1):
            events = EVENTS if round_ else WARM_UP
            for body in source.bodies(events):
                writer.append_now(
                    workspace_id=1, pipeline_id=1, form=Form.NDJSON, events=len(body), headers={},
                    received_us=time.time_ns() // 1000, body=b"\n".join(json.dumps(e).encode() for e in body),
                )  # fmt: skip
            worked, began = _cpu_s(server), time.perf_counter()
            while loader.step():
                pass
            rates.append(events / (time.perf_counter() - began))
            cpu_s += _cpu_s(server) - worked if round_ else 0.0
            if round_ == 0:
                began = time.perf_counter()
                loader._warehouse.known.wait()
                made_s = time.perf_counter() - began
    loader.close()
    reader.close()
    return rates[1:], made_s, cpu_s / (EVENTS * ROUNDS) * 1e6


def load_peer(database: Database, source: Source, total: int, kind: str) -> list[float]:
    """Events a second of each round: COPY to a staging table, then INSERT … ON CONFLICT DO NOTHING."""
    rates = []
    with database.connect(Role.OWNER) as connection:
        # One table for the ids, with one unique key; ours go first, to leave the disk to it.
        connection.execute('CREATE TABLE peer_keys (event_id text COLLATE "C")')
        connection.execute("INSERT INTO peer_keys SELECT event_id FROM silver.event_keys")
        connection.execute("TRUNCATE silver.event_keys")
        connection.commit()
        connection.execute("SET maintenance_work_mem = '1GB'")
        share = STEADY_FILL if kind == "random" and total else 90
        connection.execute(f"CREATE UNIQUE INDEX ON peer_keys (event_id) WITH (fillfactor = {share})")
        connection.execute("CREATE TABLE peer (LIKE silver.orders INCLUDING DEFAULTS)")
        connection.execute(
            "CREATE TEMP TABLE staging (event_id text, at timestamptz, country text, shop bigint,"
            " amount double precision, items bigint, note text)"
        )
        connection.commit()
        for round_ in range(ROUNDS + 1):
            events = EVENTS if round_ else WARM_UP
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
                    "WITH fresh AS (INSERT INTO peer_keys SELECT DISTINCT event_id FROM staging"
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
        leaves = sorted(ensure_partitions(database, EVENT_KEYS, [now, now - WINDOW], "week"))
        with database.connect(Role.OWNER, autocommit=True) as connection:
            if total:
                fill(connection, leaves, total, kind, now)
            connection.execute("CHECKPOINT")
            size = sum(_size(connection, leaf) for leaf in leaves)
        source = Source(kind)
        before = _wal_bytes(database)
        ours, made_s, cpu_us = load_ours(database, folder / "spool", source, server.pid)
        wal = (_wal_bytes(database) - before) / (EVENTS * ROUNDS + WARM_UP)
        with database.connect(Role.OWNER) as connection:
            expected = connection.execute(
                "SELECT count(*), count(DISTINCT event_id) FROM silver.orders"
            ).fetchone()
        assert expected is not None and expected[0] == expected[1] == len(source._given), expected
        peer = load_peer(database, source, total, kind)
        database.dispose()
        return {
            "ours": median(ours), "peer": median(peer), "gb": size / 1e9, "wal": wal, "filter_s": made_s,
            "cpu_us": cpu_us,
        }  # fmt: skip
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _size(connection: "psycopg.Connection[Any]", leaf: str) -> int:
    row = connection.execute("SELECT pg_total_relation_size(%s)", (f"silver.{leaf}",)).fetchone()
    return int(row[0]) if row else 0


def _cpu_s(server: int | None) -> float:
    """CPU time so far of this process and of the server's, in seconds."""
    found = time.process_time()
    for process in psutil.Process(server).children(recursive=True) if server else []:
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            found += used.user + used.system
    return found


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
            f" {rates['cpu_us']:.1f} µs of CPU and {rates['wal']:,.0f} B of WAL an event,"
            f" filter in {rates['filter_s']:.1f} s),"
            f" peer {rates['peer']:,.0f}"
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
