"""What a sender that went past a limit is told: which one, what is there, and when to come back.

The fields `RateLimit` and `RateLimit-Policy` are those of IETF's draft "RateLimit header fields for HTTP"
(draft-ietf-httpapi-ratelimit-headers): `q` and `w` a bucket's burst and the seconds in which it fills up, `r`
what is there, `t` the seconds until the request would pass.
"""

import math
from collections.abc import Sequence

from sluiceway.ingestion.errors import BatchExceedsBurst, RateLimited
from sluiceway.ingestion.limits.slices import Slice

LONGEST_S = 1e9
"""Longer than anybody waits: keys kept before there was a least rate may be told no more than this."""


def rate_limited(
    parts: Sequence[Slice], needs: Sequence[float], waits_s: Sequence[float], now: float
) -> RateLimited:
    """The refusal of a request with these needs, each of which has to wait so long."""
    waits_s = [min(wait_s, LONGEST_S) for wait_s in waits_s]
    wait = max(waits_s)
    at = waits_s.index(wait)
    part, need = parts[at], needs[at]
    return RateLimited(
        f"The request counts {need:.0f} {_unit(part)} against {part.title}: they will be there in"
        f" {wait:.1f} seconds.",
        retry_after_s=wait,
        extra={"limit": part.title, "needed": int(need), "retry_after_s": math.ceil(wait * 1000) / 1000},
        headers={
            "RateLimit-Policy": ", ".join(_policy(each) for each in parts),
            "RateLimit": ", ".join(
                f'"{_name(each)}";r={_available(each, now, wanted, wait_s)};t={math.ceil(wait_s)}'
                for each, wanted, wait_s in zip(parts, needs, waits_s, strict=True)
            ),
        },
    )


def batch_exceeds_burst(part: Slice, need: float) -> BatchExceedsBurst:
    return BatchExceedsBurst(
        f"The request counts {need:.0f} {_unit(part)} against {part.title}, which never lets more than"
        f" {part.thing.burst:.0f} through at once; split it.",
        extra={"limit": part.title, "needed": int(need), "burst": int(part.thing.burst)},
        headers={"RateLimit-Policy": _policy(part)},
    )


def _available(part: Slice, now: float, need: float, wait_s: float) -> int:
    """Tokens that are there: fewer than the need, where it has to wait."""
    most = max(0.0, need - 1) if wait_s > 0 else part.thing.burst
    known = part.local if part.local is not None else part.left + part.tokens
    since = part.local_at if part.local is not None else part.left_at
    return int(max(0.0, min(most, known + part.thing.rate * max(0.0, now - since))))


def _policy(part: Slice) -> str:
    burst, window = int(part.thing.burst), math.ceil(min(part.thing.burst / part.thing.rate, LONGEST_S))
    return f'"{_name(part)}";q={burst};w={window};qu="{"content-bytes" if part.counts_bytes else "events"}"'


def _name(part: Slice) -> str:
    return part.title.removeprefix("the ").replace("'s ", "-")


def _unit(part: Slice) -> str:
    return "bytes" if part.counts_bytes else "events"
