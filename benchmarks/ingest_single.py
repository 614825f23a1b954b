"""`ingest_single`: durable single-event POSTs a second at 64 connections, against a bare ASGI echo.

Both run on the same uvicorn under the same load process, one after the other. Ours answers 202 after the
group's `fdatasync`; at the end every accepted event is read back from the spool.
"""

from typing import Any

from benchmarks.ingest_stand import PATH, stand
from benchmarks.loadgen import request
from sluiceway.ingestion.contracts import START
from sluiceway.ingestion.spool import SpoolReader

CONNECTIONS = 64
SECONDS = 4.0


def run() -> dict[str, Any]:
    """Requests a second."""
    with stand() as found:
        headers = {"authorization": f"Bearer {found.key}", "content-type": "application/json"}
        requests = [request(PATH, _event(n), headers) for n in range(256)]
        with found.server("echo") as port:
            limit = found.load(port, CONNECTIONS, SECONDS, requests)
        with found.server("events") as port:
            ours = found.load(port, CONNECTIONS, SECONDS, requests)
        kept = 0
        with SpoolReader(found.spool) as reader:
            at = START
            while records := reader.read(at, 8 << 20):
                kept += len(records)
                at = records[-1].end
    accepted = ours["statuses"].get("202", 0)
    if accepted != ours["requests"] or kept < accepted:
        raise RuntimeError(f"{ours['statuses']} answered, {kept} on disk")
    return {
        "ours": round(ours["requests"] / ours["seconds"]),
        "limit": round(limit["requests"] / limit["seconds"]),
        "peer": None,
        "unit": "requests/s",
        "detail": f"{CONNECTIONS} connections; p50 {ours['p50']} ms, p99 {ours['p99']} ms, longest"
        f" {ours['max_ms']} ms (echo p99 {limit['p99']} ms); limit: bare ASGI echo on the same uvicorn;"
        " no peer: there is no other receiver in the set of packages",
    }


def _event(number: int) -> bytes:
    return (
        b'{"id":"%d","at":"2026-11-20T14:05:00Z","carrier":"B6","origin":"JFK","dest":"BOS","dep_delay":%d.5}'
        % (number, number % 60)
    )
