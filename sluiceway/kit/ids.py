"""Identifiers: time-ordered UUIDs (RFC 9562, version 7) and random tokens."""

import secrets
import time
import uuid


def uuid7(unix_ms: int | None = None) -> uuid.UUID:
    """A UUID of version 7: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    random_bits = secrets.randbits(74)
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76
    value |= (random_bits >> 62) << 64
    value |= 0b10 << 62
    value |= random_bits & (1 << 62) - 1
    return uuid.UUID(int=value)


def token(size_bytes: int = 32) -> str:
    """A URL-safe random token with `size_bytes` of entropy."""
    return secrets.token_urlsafe(size_bytes)
