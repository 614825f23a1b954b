"""`ingest_single`: durable single-event POSTs a second at 64 connections, against a bare ASGI echo.

Both run on uvicorn under the same load process, one after the other. Ours answers 202 after the group's
`fdatasync`; at the end every accepted event is read back from the spool. `detail` has the curve from 1 to
1,024 connections, and what it costs when every request's head is another (nothing is known of it then).
"""

from typing import Any

from benchmarks.ingest_stand import PATH, Stand, stand
from benchmarks.loadgen import request
from sluiceway.ingestion.contracts import START
from sluiceway.ingestion.spool import SpoolReader

CONNECTIONS = 64
CURVE = (1, 4, 16, 64, 256, 1024)
SECONDS = 4.0
CURVE_SECONDS = 2.0
HEADS = 20_000


def run() -> dict[str, Any]:
    """Requests a second."""
    with stand() as found:
        headers = {"authorization": f"Bearer {found.key}", "content-type": "application/json"}
        requests = [request(PATH, _event(n), headers) for n in range(256)]
        fresh = [request(PATH, _event(n), {**headers, "x-request-id": f"{n:032x}"}) for n in range(HEADS)]
        with found.server("echo") as server:
            limit = found.load(server, CONNECTIONS, SECONDS, requests)
        with found.server("events") as server:
            ours = found.load(server, CONNECTIONS, SECONDS, requests)
            other = found.load(server, CONNECTIONS, CURVE_SECONDS, fresh)
            curve = {n: found.load(server, n, CURVE_SECONDS, requests) for n in CURVE}
        _check(found, [ours, other, *curve.values()])
    points = ", ".join(
        f"{n}: {_rate(point):,.0f}/s p50 {point['p50']} p99 {point['p99']} ms" for n, point in curve.items()
    )
    return {
        "ours": round(_rate(ours)),
        "limit": round(_rate(limit)),
        "peer": None,
        "unit": "requests/s",
        "detail": f"{CONNECTIONS} connections; p50 {ours['p50']} ms, p99 {ours['p99']} ms, longest"
        f" {ours['max_ms']} ms (echo p99 {limit['p99']} ms); processor time of the server a request"
        f" {ours['cpu_us']} µs (echo {limit['cpu_us']}); with a head that is new each time"
        f" {_rate(other):,.0f}/s, {other['cpu_us']} µs; by connections: {points}; limit: bare ASGI echo on"
        " the same uvicorn; no peer: there is no other receiver in the set of packages",
    }


def _rate(measured: dict[str, Any]) -> float:
    return float(measured["requests"] / measured["seconds"])


def _check(found: Stand, measured: list[dict[str, Any]]) -> None:
    """Every answer was 202, and all that was accepted is on disk."""
    kept = 0
    with SpoolReader(found.spool) as reader:
        at = START
        while records := reader.read(at, 8 << 20):
            kept += len(records)
            at = records[-1].end
    accepted = sum(each["answered"] for each in measured)
    refused = [each["statuses"] for each in measured if each["statuses"].get("202", 0) != each["requests"]]
    if refused or kept < accepted:
        raise RuntimeError(f"{refused} answered; {accepted} accepted, {kept} on disk")


def _event(number: int) -> bytes:
    return (
        b'{"id":"%d","at":"2026-11-20T14:05:00Z","carrier":"B6","origin":"JFK","dest":"BOS","dep_delay":%d.5}'
        % (number, number % 60)
    )
