"""`ingest_batch`: NDJSON bodies of 1 MB until 202, in events a second, with the server held to one core.

The limit is what the route's own parser does with the same bodies and nothing else.
"""

import random
import time
from typing import Any

from benchmarks.ingest_stand import PATH, stand
from benchmarks.loadgen import request
from sluiceway.ingestion.bodies import inspect

BODY_BYTES = 1_000_000
CONNECTIONS = 4
SECONDS = 4.0


def run() -> dict[str, Any]:
    """Events a second."""
    bodies = [_body(seed) for seed in range(4)]
    events = [body.count(b"\n") for body in bodies]
    with stand() as found:
        headers = {"authorization": f"Bearer {found.key}", "content-type": "application/x-ndjson"}
        requests = [request(PATH, body, headers) for body in bodies]
        with found.server("events", cores={0}) as server:
            ours = found.load(server, CONNECTIONS, SECONDS, requests)
    if set(ours["statuses"]) != {"202"}:
        raise RuntimeError(f"{ours['statuses']} answered")
    average = sum(events) / len(events)
    rate = ours["requests"] / ours["seconds"]
    return {
        "ours": round(rate * average),
        "limit": round(_parse_only(bodies, events)),
        "peer": None,
        "unit": "events/s",
        "detail": f"{average:.0f} events of {BODY_BYTES / average:.0f} bytes a body,"
        f" {rate * BODY_BYTES / 1e6:.0f} MB/s, server on one core, {CONNECTIONS} connections,"
        f" p99 {ours['p99']} ms; limit: the route's own parser (msgspec) on the same bodies, nothing else;"
        " no peer: there is no other receiver in the set of packages",
    }


def _parse_only(bodies: list[bytes], events: list[int]) -> float:
    began = time.perf_counter()
    parsed = 0
    while time.perf_counter() - began < 1.0:
        for body, count in zip(bodies, events, strict=True):
            assert inspect(body, ndjson=True, max_event_bytes=1 << 20, max_events=count)[1] == count
            parsed += count
    return parsed / (time.perf_counter() - began)


def _body(seed: int) -> bytes:
    """Lines like the demo's flights."""
    chance = random.Random(seed)
    lines = []
    size = 0
    while size < BODY_BYTES:
        number = chance.randrange(10_000_000)
        line = (
            f'{{"id":"{number}","at":"2026-11-{number % 28 + 1:02d}T{number % 24:02d}:05:00Z",'
            f'"carrier":"{chance.choice(["B6", "UA", "AA", "DL"])}","flight":"{number % 9000}",'
            f'"tailnum":"N{number % 100_000}","origin":"{chance.choice(["JFK", "LGA", "EWR"])}","dest":"BOS",'
            f'"dep_delay":{chance.gauss(12, 40):.1f},"arr_delay":{chance.gauss(7, 44):.1f},'
            f'"air_time":{number % 600}.0,"distance":{number % 5000}.0,"cancelled":false}}\n'
        ).encode()
        lines.append(line)
        size += len(line)
    return b"".join(lines)
