"""Sends events and writes down what was acknowledged: the ledger that `sluiceway verify` checks.

Standard library only: copy it. It sends again after 429, 503 and broken connections, always the same body, so an
event may arrive twice and must count once. An id is written to the ledger only after the 202.

    sluiceway apply examples/orders.yml
    export INGEST_KEY=$(sluiceway key create --scope ingest --pipeline orders)
    python examples/sender.py --events 20000 --ledger ledger.ndjson
    sluiceway verify --ledger ledger.ndjson --wait 60
"""

import argparse
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

TIMEOUT_S = 30.0
LONGEST_PAUSE_S = 30.0


def order() -> dict[str, object]:
    """An event in the shape of examples/orders.yml, with an id that nobody else makes."""
    return {
        "id": str(uuid.uuid4()),
        "created_at": datetime.now(UTC).isoformat(),
        "amount": round(random.uniform(5, 200), 2),
        "shipping": {"country": random.choice(["CH", "DE", "FR", "IT"])},
    }


def batches(events: int, size: int) -> Iterator[list[dict[str, object]]]:
    while events > 0:
        count = min(size, events)
        yield [order() for _ in range(count)]
        events -= count


def post(url: str, key: str, body: bytes) -> float | None:
    """None once it is acknowledged; else after how many seconds to send it again."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        if error.code in (429, 502, 503, 504):
            return float(error.headers.get("Retry-After") or 1)
        sys.exit(f"refused: {error.code} {error.read().decode(errors='replace')}")
    except OSError:
        return 0.5  # nobody knows whether it arrived: the same events again


def deliver(url: str, key: str, events: list[dict[str, object]]) -> int:
    """Send until it is acknowledged; returns how often it had to be sent again."""
    body = b"\n".join(json.dumps(event).encode() for event in events)
    again = 0
    while (pause := post(url, key, body)) is not None:
        again += 1
        time.sleep(min(LONGEST_PAUSE_S, pause * random.uniform(1, 1.5)))
    return again


def write_down(ledger: TextIO, pipeline: str, events: list[dict[str, object]]) -> None:
    at = datetime.now(UTC).isoformat()
    for event in events:
        ledger.write(json.dumps({"pipeline": pipeline, "event_id": event["id"], "at": at}) + "\n")
    ledger.flush()
    os.fsync(ledger.fileno())


def main() -> None:
    options = argparse.ArgumentParser(description="Send events and keep a ledger of what was acknowledged.")
    options.add_argument("--url", default="http://localhost:8000", help="where the platform answers")
    options.add_argument("--pipeline", default="orders")
    options.add_argument("--key", default=os.environ.get("INGEST_KEY"), help="default: $INGEST_KEY")
    options.add_argument("--events", type=int, default=10_000)
    options.add_argument("--batch", type=int, default=500, help="events in a request")
    options.add_argument("--ledger", default="ledger.ndjson", help="appended to")
    chosen = options.parse_args()
    if not chosen.key:
        options.error("a key is needed: --key or INGEST_KEY (sluiceway key create --scope ingest)")
    url = f"{chosen.url.rstrip('/')}/v1/pipelines/{chosen.pipeline}/events"
    sent = again = 0
    with open(chosen.ledger, "a", encoding="utf-8") as ledger:
        for events in batches(chosen.events, chosen.batch):
            again += deliver(url, chosen.key, events)
            write_down(ledger, chosen.pipeline, events)
            sent += len(events)
    print(f"{sent} events acknowledged, {again} requests sent again; ledger: {chosen.ledger}")


if __name__ == "__main__":
    main()
