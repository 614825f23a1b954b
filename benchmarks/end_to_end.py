"""`end_to_end`: sustained HTTP to committed silver on this machine, with de-duplication and a gate.

A sender posts NDJSON bodies at a fixed rate to an ingest process, and a loader process loads them. Ids are
random, every fiftieth body is sent twice, five expectations judge every batch. Watched from beside: how old
the newest committed event is (the lag). Two minutes at the target, then rates that grow until the lag leaves
two seconds: the knee. At the end every acknowledged event must be one row.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg

from benchmarks.ingest_stand import SECRET, Stand, stand
from benchmarks.load import copy_seconds
from sluiceway.identity.keys import create_key
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.quality.service import apply_suite
from sluiceway.warehouse.schema import apply_pipeline

TARGET = 40_000
SECONDS = 120.0
STEPS = (50_000, 60_000, 70_000, 80_000, 90_000, 100_000, 120_000)
STEP_SECONDS = 20.0
MOST_LAG_S = 2.0
BODY_EVENTS = 500
TWICE_EVERY = 50
CONNECTIONS = 8
PIPELINE = """\
name: orders
event: {id: id, time: at}
quality: {suite: orders}
fields:
  - {name: country, type: string, role: dimension, required: true}
  - {name: product, type: string, role: dimension, required: true}
  - {name: amount, type: number, role: measure, required: true}
  - {name: items, type: integer, role: measure}
"""
SUITE = """\
kind: Suite
name: orders
title: Orders
expectations:
  - {name: country-is-known, type: expect_column_values_to_be_in_set, on_failure: quarantine,
     kwargs: {column: country, value_set: [DE, FR, US, GB, JP, BR, IN, ZA]}}
  - {name: product-is-a-code, type: expect_column_values_to_match_regex, on_failure: quarantine,
     kwargs: {column: product, regex: "^p[0-9]{2}$"}}
  - {name: amount-is-plausible, type: expect_column_values_to_be_between, on_failure: quarantine,
     kwargs: {column: amount, min_value: 0, max_value: 100000}}
  - {name: items-are-few, type: expect_column_values_to_be_between, on_failure: quarantine,
     kwargs: {column: items, min_value: 1, max_value: 99}}
  - {name: amount-is-there, type: expect_column_values_to_not_be_null, on_failure: quarantine,
     kwargs: {column: amount}}
"""
_COUNTRIES = np.array([list(c.encode()) for c in ("DE", "FR", "US", "GB", "JP", "BR", "IN", "ZA")], np.uint8)
_LINE = b'{"id":"%s","at":"%s","country":"%s","product":"p%s","amount":%s.5,"items":%s}\n'
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Bodies:
    """Bodies of `BODY_EVENTS` events with random ids, made a column at a time so that making costs little."""

    def __init__(self) -> None:
        line = _LINE % (b"i" * 32, b"t" * 24, b"cc", b"qq", b"aaaa", b"nn")
        self._lines = np.tile(np.frombuffer(line, np.uint8), (BODY_EVENTS, 1))
        self._at = {mark: line.index(mark) for mark in (b"iiii", b"tttt", b"cc", b"qq", b"aaaa", b"nn")}
        self._random = np.random.default_rng()

    def make(self) -> bytes:
        """A body; its events are of now."""
        chance, lines = self._random, self._lines
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
        self._set(b"iiii", _HEX[chance.integers(0, 16, (BODY_EVENTS, 32))])
        self._set(b"tttt", np.frombuffer(now, np.uint8))
        self._set(b"cc", _COUNTRIES[chance.integers(0, len(_COUNTRIES), BODY_EVENTS)])
        self._set(b"qq", 48 + chance.integers(0, 10, (BODY_EVENTS, 2)))
        self._set(b"aaaa", 49 + chance.integers(0, 9, (BODY_EVENTS, 4)))
        self._set(b"nn", 49 + chance.integers(0, 9, (BODY_EVENTS, 2)))
        return lines.tobytes()

    def _set(self, mark: bytes, values: Any) -> None:
        begin = self._at[mark]
        self._lines[:, begin : begin + values.shape[-1]] = values


@dataclass
class Sent:
    """What a sender did: bodies acknowledged (each counted once) or not, and how late it was at most."""

    bodies: int = 0
    refused: int = 0
    late_s: float = 0.0


async def send(port: int, key: str, rate: float, seconds: float) -> Sent:
    """Post `rate` events a second; a body whose turn has passed is sent at once, none is left out."""
    head = (
        f"POST /v1/pipelines/orders/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        "content-type: application/x-ndjson\r\n"
    ).encode()
    made, done, bodies = Sent(), asyncio.Event(), Bodies()
    begun, total = time.perf_counter(), int(rate * seconds / BODY_EVENTS)
    numbers = iter(range(total))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            due = begun + number * BODY_EVENTS / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            made.late_s = max(made.late_s, -wait)
            body = bodies.make()
            request = b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)
            times = 2 if number % TWICE_EVERY == 0 else 1
            accepted = False
            for _ in range(times):
                writer.write(request)
                answer = await reader.readuntil(b"\r\n\r\n")
                at = answer.lower().index(b"content-length: ") + 16
                await reader.readexactly(int(answer[at : answer.index(b"\r", at)]))
                accepted |= answer.startswith(b"HTTP/1.1 202")
            made.bodies += accepted
            made.refused += not accepted
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    done.set()
    return made


@dataclass
class Watch:
    """The lag, looked at five times a second."""

    lags: list[float] = field(default_factory=list)

    async def run(self, database: Database, stop: asyncio.Event) -> None:
        with database.connect(Role.OWNER, autocommit=True) as connection:
            while not stop.is_set():
                self.lags.append(await asyncio.to_thread(_lag, connection))
                await asyncio.sleep(0.2)


def _lag(connection: psycopg.Connection[Any]) -> float:
    """Seconds since the newest committed event was received: at least as old as what waits longest."""
    row = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - max(last_received_at)) FROM app.pipeline_state"
    ).fetchone()
    return float(row[0]) if row and row[0] is not None else 0.0


def at_rate(database: Database, port: int, key: str, rate: float, seconds: float) -> tuple[Sent, list[float]]:
    """Send at `rate` and give the lags seen, but for the first two seconds of sending.

    While nobody sends the newest event grows old, and nothing lags: the sender tells when it begins.
    """

    async def run() -> tuple[Sent, list[float]]:
        command = [sys.executable, "-m", "benchmarks.end_to_end", str(port), key, str(rate), str(seconds)]
        sender = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert sender.stdout is not None
        await sender.stdout.readline()
        stop, watch = asyncio.Event(), Watch()
        task = asyncio.create_task(watch.run(database, stop))
        told = await sender.stdout.read()
        stop.set()
        await task
        if await sender.wait() != 0:
            raise RuntimeError("The sender failed.")
        return Sent(**json.loads(told)), watch.lags[10:]

    return asyncio.run(run())


def settle(database: Database, expected: int) -> tuple[int, int]:
    """Wait until nothing waits; rows, and duplicates dropped. Raises if rows are missing or extra."""
    with database.connect(Role.OWNER, autocommit=True) as connection:
        before = -1
        while True:
            row = connection.execute(
                "SELECT events, duplicates FROM app.pipeline_state ORDER BY events DESC LIMIT 1"
            ).fetchone()
            assert row is not None
            if row[0] == before:
                break
            before = row[0]
            time.sleep(2.0)
        found = connection.execute(
            "SELECT count(*), count(DISTINCT event_id), (SELECT count(*) FROM silver.samples)"
            " FROM silver.orders"
        ).fetchone()
    assert found is not None
    if found != (expected, expected, 2 * expected):
        raise RuntimeError(f"{expected} events were acknowledged; rows, ids, samples: {found}")
    return int(found[0]), int(row[1])


def with_orders(found: Stand) -> tuple[Database, str]:
    """The stand's database with the pipeline and its suite applied, and a key to send with."""
    database = Database(found.environment["SLUICEWAY_DATABASE_URL"], SecretKey(SECRET.encode()))
    with database.transaction(Role.APP, workspace_id=1) as connection:
        apply_suite(connection, 1, SUITE)
        key = create_key(connection, 1, "orders", ["ingest"])
    apply_pipeline(database, 1, PIPELINE)
    return database, key


INGESTING: tuple[tuple[str, list[str]], ...] = (("web", ["--ingest-only"]), ("loader", []))


@contextmanager
def processes(found: Stand, wanted: Sequence[tuple[str, list[str]]] = INGESTING) -> Iterator[int]:
    """The processes (name, arguments), an ingest process and a loader unless told; the port of the first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**found.environment, "SLUICEWAY_PORT": str(port), "SLUICEWAY_LOG_LEVEL": "warning"}
    base = [sys.executable, "-m"]
    started = [
        subprocess.Popen([*base, f"sluiceway.runtime.processes.{name}", *more], env=environment)
        for name, more in wanted
    ]
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def run() -> dict[str, Any]:
    """Events a second that go all the way, the lag at the target, and the knee."""
    with stand() as found:
        database, key = with_orders(found)
        bodies = 0
        with processes(found) as port:
            warm, _ = at_rate(database, port, key, 2_000, 10)
            sent, lags = at_rate(database, port, key, TARGET, SECONDS)
            bodies += warm.bodies + sent.bodies
            lags.sort()
            worst, p95 = lags[-1], lags[int(len(lags) * 0.95)]
            knee, told = TARGET if worst <= MOST_LAG_S else 0, ""
            for rate in STEPS if knee else ():
                time.sleep(3)
                step, own = at_rate(database, port, key, rate, STEP_SECONDS)
                bodies += step.bodies
                told += f" {rate}: {max(own):.1f} s,"
                if max(own) > MOST_LAG_S or step.refused:
                    break
                knee = rate
            rows, duplicates = settle(database, bodies * BODY_EVENTS)
        staged_s, _ = copy_seconds(database, "orders")
        database.dispose()
    return {
        "ours": knee,
        "limit": round(rows / staged_s),
        "peer": None,
        "unit": "events/s",
        "detail": f"at {TARGET}/s for {SECONDS:.0f} s: lag p95 {p95:.2f} s, longest {worst:.2f} s,"
        f" {sent.refused} refused, sender at most {sent.late_s:.2f} s behind its plan; ours: the highest"
        f" rate held for {STEP_SECONDS:.0f} s with a lag under {MOST_LAG_S:.0f} s (longest"
        f" lag:{told.rstrip(',')}); all processes and the sender on {os.cpu_count()}"
        f" cores; {rows} acknowledged events, each one row,"
        f" {duplicates} sent twice and dropped; limit: staged COPY of the same rows under the"
        " same unique key, and of their samples, by itself; no peer among the packages takes HTTP"
        " and loads with a gate",
    }


if __name__ == "__main__":
    port, key, rate, seconds = sys.argv[1:]
    print("begun", flush=True)
    print(json.dumps(asyncio.run(send(int(port), key, float(rate), float(seconds))).__dict__))
