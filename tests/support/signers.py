"""Senders as their documentation describes them, written apart from the code that checks them."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import TypeAdapter
from standardwebhooks import Webhook

from sluiceway.catalog.senders import AnyVerify, VerifySpec
from sluiceway.ingestion.senders.contracts import Delivery

Headers = dict[str, str]
SPEC: TypeAdapter[AnyVerify] = TypeAdapter(VerifySpec)
NOW = 1_763_700_000.0
URL = "https://hooks.example.com/v1/pipelines/p/events"
ED25519 = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a sender of tests").digest())
WHPK = "whpk_" + base64.b64encode(
    ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
).decode()  # fmt: skip


def spec(scheme: str, **more: Any) -> AnyVerify:
    return SPEC.validate_python({"scheme": scheme, **more})


def delivery(body: bytes, headers: Headers | None = None, **more: Any) -> Delivery:
    found = [(k.lower().encode(), v.encode("latin-1")) for k, v in (headers or {}).items()]
    values = {
        "method": "POST", "path": "/v1/pipelines/p/events", "query": b"", "headers": found, "body": body,
        "now": NOW, "url": URL,
    }  # fmt: skip
    return Delivery(**(values | more))


def _hex(secret: str, message: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), message, algorithm).hexdigest()


def _base64(secret: str, message: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.new(secret.encode(), message, algorithm).digest()).decode()


def github(secret: str, body: bytes) -> Headers:
    return {"X-Hub-Signature-256": f"sha256={_hex(secret, body)}"}


def stripe(secret: str, body: bytes, at: float = NOW) -> Headers:
    return {"Stripe-Signature": f"t={int(at)},v1={_hex(secret, b'%d.' % at + body)}"}


def shopify(secret: str, body: bytes) -> Headers:
    return {"X-Shopify-Hmac-Sha256": _base64(secret, body)}


def slack(secret: str, body: bytes, at: float = NOW) -> Headers:
    signature = _hex(secret, b"v0:%d:" % at + body)
    return {"X-Slack-Request-Timestamp": str(int(at)), "X-Slack-Signature": f"v0={signature}"}


def standard(secret: str, body: bytes, at: float = NOW, own_id: str = "msg_1") -> Headers:
    """By the reference implementation."""
    from datetime import UTC, datetime

    signature = Webhook(secret).sign(own_id, datetime.fromtimestamp(int(at), UTC), body.decode())
    return {"webhook-id": own_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def standard_ed25519(body: bytes, at: float = NOW, own_id: str = "msg_1") -> Headers:
    signature = ED25519.sign(f"{own_id}.{int(at)}.".encode() + body)
    text = f"v1a,{base64.b64encode(signature).decode()}"
    return {"webhook-id": own_id, "webhook-timestamp": str(int(at)), "webhook-signature": text}


def twilio_form(secret: str, fields: dict[str, str], url: str = URL) -> Headers:
    message = url + "".join(k + fields[k] for k in sorted(fields))
    return {
        "X-Twilio-Signature": _base64(secret, message.encode(), "sha1"),
        "Content-Type": "application/x-www-form-urlencoded",
    }


def twilio_json(secret: str, body: bytes, url: str = URL) -> tuple[Headers, str]:
    """The headers and the query."""
    query = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = _base64(secret, f"{url}?{query}".encode(), "sha1")
    return {"X-Twilio-Signature": signature, "Content-Type": "application/json"}, query


def now_headers(sign: Any, secret: str, body: bytes) -> Headers:
    """What a sender sends at this moment."""
    found: Headers = sign(secret, body, time.time())
    return found


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
