"""Anything thrown at pipelines whose senders sign: never a 5xx, never a row. `FUZZ_CASES` says how much."""

import http.client
import json
import os
import random
from collections import Counter
from urllib.parse import quote_from_bytes

from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.senders import secrets
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import query
from tests.support.nodes import Node
from tests.support.signers import WHPK

CASES = int(os.environ.get("FUZZ_CASES", "300"))
SCHEMES = [
    {"scheme": "github", "challenge": {"type": "meta"}},
    {"scheme": "stripe", "challenge": {"type": "websub", "topic": "https://a.example"}},
    {"scheme": "shopify", "challenge": {"type": "dropbox"}},
    {"scheme": "slack"},
    {"scheme": "standard-webhooks"},
    {"scheme": "twilio"},
    {"scheme": "hmac", "header": "x-s", "payload": "{timestamp}.{body}{header:x-n}{query}",
     "timestamp_header": "x-t", "challenge": {"type": "zoom"}},
    {"scheme": "hmac", "header": "x-s", "encoding": "base64", "challenge": {"type": "x"}},
    {"scheme": "basic", "username": "u", "challenge": {"type": "cloudevents"}},
    {"scheme": "key", "query": "k", "challenge": {"type": "microsoft-graph"}},
]  # fmt: skip
HEADERS = [
    "x-hub-signature-256", "stripe-signature", "x-shopify-hmac-sha256", "x-slack-signature", "x-t", "x-n",
    "x-slack-request-timestamp", "webhook-id", "webhook-timestamp", "webhook-signature", "x-s",
    "x-twilio-signature", "authorization", "content-type", "content-encoding", "webhook-request-origin",
    "idempotency-key",
]  # fmt: skip
FIELDS = [
    "hub.mode", "hub.challenge", "hub.verify_token", "hub.topic", "challenge", "crc_token", "k", "workspace",
    "validationToken", "bodySHA256",
]  # fmt: skip
TEXTS = [
    b"", b"sha256=", b"v0=", b"v1,", b"v1a,", b"t=1,v1=", b"t=1763700000", b"1763700000", b"Basic dTp4",
    b"Basic ", b"subscribe", b"https://a.example", b"gzip", b"zstd", b"application/x-www-form-urlencoded",
    b"application/json", b"text/plain", b"0" * 64, b"A" * 44, b"=" * 9, b"\xff\xfe", b"\x00", b"main",
    b",,,", b" ",
]  # fmt: skip
BODIES = [
    b"", b"{}", b"[]", b"a=b", b"payload={}", b"\x1f\x8b", b"{", b"\xff", b"[" * 3000,
    b'{"type":"url_verification","challenge":"c"}',
    b'{"event":"endpoint.url_validation","payload":{"plainToken":"p"}}',
]  # fmt: skip


def some(chance: random.Random) -> bytes:
    text = b"".join(chance.choice(TEXTS) for _ in range(chance.choice([1, 1, 2, 3])))
    return text + chance.randbytes(chance.choice([0, 0, 0, 3, 40]))


def request(chance: random.Random, slug: str) -> tuple[str, str, bytes, dict[str, bytes]]:
    fields = "&".join(
        f"{chance.choice(FIELDS)}={quote_from_bytes(some(chance))}" for _ in range(chance.randrange(4))
    )
    headers = {
        chance.choice(HEADERS): bytes(c for c in some(chance) if c >= 32 and c != 127).strip()
        for _ in range(chance.randrange(5))
    }
    method = chance.choice(["POST", "POST", "POST", "GET", "OPTIONS", "PUT"])
    return method, f"/v1/pipelines/{slug}/events?{fields}", chance.choice(BODIES), headers


def test_no_request_gets_in_or_brings_anything_down(
    database: Database, settings: Settings, tmp_path: object
) -> None:
    slugs = [f"signed-{n}" for n in range(len(SCHEMES))]
    for slug, verify in zip(slugs, SCHEMES, strict=True):
        source = json.dumps({"verify": verify})
        apply_pipeline(database, 1, f"name: {slug}\nsource: {source}\nfields: [{{name: a, type: string}}]\n")
        value = WHPK if verify["scheme"] == "standard-webhooks" else "a secret that no case has"
        with database.transaction(Role.APP, workspace_id=1) as connection:
            pipeline = Catalog().get(connection, 1, slug)
            secrets.add_secret(connection, database.envelope, pipeline, value, now=SystemClock().now())
    node = Node(database, settings, tmp_path, pipeline=slugs[0])  # type: ignore[arg-type]
    chance = random.Random(20261121)
    seen: Counter[int] = Counter()
    client = http.client.HTTPConnection("127.0.0.1", node.server.port, timeout=60)
    try:
        for number in range(CASES):
            method, path, body, headers = request(chance, slugs[number % len(slugs)])
            client.request(method, path, body, headers)  # type: ignore[arg-type]  # bytes are fine
            answer = client.getresponse()
            text = answer.read()
            seen[answer.status] += 1
            assert answer.status < 500 and answer.status != 202, (number, method, path, headers, body, text)
            assert b"a secret that no case has" not in text
            if answer.status >= 400 and method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json", (number, text)
        node.load()
        assert query(database, "SELECT count(*) FROM silver.batches") == [(0,)]
    finally:
        client.close()
        node.close()
    print(f"{CASES} cases: {dict(sorted(seen.items()))}")
