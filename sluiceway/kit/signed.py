"""Signed texts: a payload and its HMAC-SHA-256, both base64url, behind a prefix that says what it is. Pure.

Nothing is hidden: who has the text can read the payload, and nobody without the key can make or change one.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson


class NotSigned(Exception):
    """The text is none of ours: another shape, damaged, or signed with another key."""


def sign(key: bytes, prefix: str, payload: Mapping[str, Any]) -> str:
    """`<prefix><payload>.<signature>`."""
    body = orjson.dumps(dict(payload))
    return f"{prefix}{_text(body)}.{_text(_signature(key, prefix, body))}"


def verify(key: bytes, prefix: str, text: str) -> dict[str, Any]:
    """The payload. Raises `NotSigned`."""
    body_text, dot, signature_text = text.removeprefix(prefix).partition(".")
    if not text.startswith(prefix) or not dot:
        raise NotSigned
    try:
        body, signature = _bytes(body_text), _bytes(signature_text)
    except (binascii.Error, ValueError):
        raise NotSigned from None
    if not hmac.compare_digest(signature, _signature(key, prefix, body)):
        raise NotSigned
    found: dict[str, Any] = orjson.loads(body)
    return found


def _signature(key: bytes, prefix: str, body: bytes) -> bytes:
    return hmac.new(key, prefix.encode() + body, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(found) != text:  # the last character has bits that decoding drops: one text for one payload
        raise ValueError
    return found
