"""A load generator cheap enough to leave the server the bottleneck: prebuilt requests, raw protocols.

`python -m benchmarks.loadgen HOST PORT CONNECTIONS SECONDS REQUESTS_FILE`: the file holds HTTP requests, each
preceded by its length (4 bytes, little-endian); the connections take the next one in turn, each after the
answer to the one before. Prints JSON: requests, seconds, statuses, latencies in milliseconds, and how much of
one core this took (near 1, it was the sender that was measured). A second of warming up is not counted.
"""

import asyncio
import json
import sys
import time
from array import array
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop

WARM_UP_S = 1.0


class Connection(asyncio.Protocol):
    """One client that always has one request under way."""

    def __init__(self, run: "Run", requests: Any) -> None:
        self.run = run
        self.requests = requests
        self.buffer = b""
        self.sent = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.buffer = data
            return
        at = data.find(b"content-length: ")
        length = int(data[at + 16 : data.index(b"\r", at)])
        if len(data) < end + 4 + length:
            self.buffer = data
            return
        self.buffer = b""
        now = time.perf_counter()
        run = self.run
        run.answered += 1
        if now >= run.counted_from:
            run.statuses[data[9:12]] += 1
            run.latencies.append(now - self.sent)
        if now < run.until:
            self.next()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.run.open -= 1
        if error is not None:
            self.run.statuses[b"lost"] += 1
        if self.run.open == 0:
            self.run.done.set()


class Run:
    def __init__(self, connections: int, seconds: float) -> None:
        self.counted_from = time.perf_counter() + WARM_UP_S
        self.until = self.counted_from + seconds
        self.open = connections
        self.answered = 0  # those of warming up, too
        self.statuses: Counter[bytes] = Counter()
        self.latencies = array("d")
        self.done = asyncio.Event()


def read_requests(path: Path) -> list[bytes]:
    data = path.read_bytes()
    found = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def write_requests(path: Path, requests: list[bytes]) -> None:
    path.write_bytes(b"".join(len(r).to_bytes(4, "little") + r for r in requests))


def request(path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> bytes:
    """A whole HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def load(host: str, port: int, connections: int, seconds: float, requests: list[bytes]) -> Run:
    run = Run(connections, seconds)
    loop = asyncio.get_running_loop()
    in_turn = cycle(requests)
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(run, in_turn), host, port)
    await run.done.wait()
    return run


def main(arguments: list[str]) -> None:
    host, port, connections, seconds, path = arguments
    requests = read_requests(Path(path))
    begun, spent = time.perf_counter(), time.process_time()
    run = uvloop.run(load(host, int(port), int(connections), float(seconds), requests))
    share = (time.process_time() - spent) / (time.perf_counter() - begun)
    times = sorted(run.latencies)
    at = {
        f"p{share}": round(times[int(len(times) * share / 100)] * 1000, 3) if times else None
        for share in (50, 95, 99)
    }
    print(
        json.dumps(
            {
                "requests": len(times),
                "answered": run.answered,
                "seconds": float(seconds),
                "statuses": {k.decode(): v for k, v in run.statuses.items()},
                "sender_share": round(share, 3),
                "max_ms": round(times[-1] * 1000, 3) if times else None,
                **at,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
