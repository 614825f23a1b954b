"""How much a pipeline or a key may send: the shape and its checks.

Belongs here: what is written in a pipeline's `limits:` and kept with a key. Not here: counting what was
sent (`sluiceway.ingestion.limits`), the limits of the whole platform (`sluiceway.infra.settings`).
"""

import math
from dataclasses import dataclass

from pydantic import Field, field_validator, model_validator

from sluiceway.catalog.base import Strict
from sluiceway.identity.errors import InvalidKeyRequest
from sluiceway.kit.errors import FieldError

LEAST_RATE = 1 / 86_400
"""One event a day: less is as good as none, and waiting times would grow past what can be told."""
MAX_RATE = 10_000_000
MAX_BURST = 100_000_000
BURST_S = 2.0
"""A burst that is not given: what the rate brings in so many seconds."""
LEAST_BURST_S = 0.1
"""A burst is at least what the rate brings in so many seconds: less could not be shared by processes."""
LEAST_BYTES_BURST = 1024 * 1024


def default_burst(events_per_s: float) -> int:
    """What a rate without a burst allows at once, in events."""
    return max(1, math.ceil(events_per_s * BURST_S))


def least_burst(events_per_s: float) -> int:
    """The smallest burst that a rate may have, in events."""
    return max(1, math.ceil(events_per_s * LEAST_BURST_S))


class LimitsSpec(Strict):
    """The most a pipeline takes in; what is absent is limited by the platform's settings alone.

    The rates are token buckets over all web processes: in any t seconds at most rate * t + burst.
    """

    events_per_s: float | None = Field(
        default=None,
        gt=0,
        le=MAX_RATE,
        description="Events a second, averaged; fractions are allowed, down to one event a day (1/86400).",
        json_schema_extra={"minimum": LEAST_RATE},
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        le=MAX_BURST,
        description="Events that may come at once; default: what events_per_s brings in 2 seconds.",
    )
    bytes_per_s: int | None = Field(
        default=None,
        ge=1,
        le=1 << 40,
        description="Bytes of decompressed bodies a second; at once: 2 seconds' worth, at least 1 MiB.",
    )
    body_bytes: int | None = Field(
        default=None, ge=1, le=1 << 30, description="Largest body of one request, decompressed."
    )
    event_bytes: int | None = Field(default=None, ge=1, le=64 << 20, description="Largest single event.")
    events_per_request: int | None = Field(
        default=None, ge=1, le=MAX_BURST, description="Most events in one request."
    )

    @field_validator("events_per_s")
    @classmethod
    def _not_too_slow(cls, rate: float | None) -> float | None:
        if rate is not None and rate < LEAST_RATE:
            raise ValueError("should be at least one event a day, 1/86400 (0.0000116) a second")
        return rate

    @model_validator(mode="after")
    def _burst_fits_rate(self) -> "LimitsSpec":
        if self.burst is None:
            return self
        if self.events_per_s is None:
            raise ValueError("burst needs events_per_s beside it")
        if self.burst < least_burst(self.events_per_s):
            raise ValueError(
                f"burst {self.burst} should be at least {least_burst(self.events_per_s)}:"
                " what events_per_s brings in a tenth of a second"
            )
        return self

    @property
    def events_burst(self) -> int:
        """Events that may come at once. Only where there is an `events_per_s`."""
        assert self.events_per_s is not None
        return default_burst(self.events_per_s) if self.burst is None else self.burst

    @property
    def bytes_burst(self) -> int:
        """Bytes that may come at once. Only where there is a `bytes_per_s`."""
        assert self.bytes_per_s is not None
        return max(LEAST_BYTES_BURST, self.event_bytes or 0, math.ceil(self.bytes_per_s * BURST_S))


NO_LIMITS = LimitsSpec()


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key may send, to all its pipelines together. `burst`: events that may come at once."""

    events_per_s: float
    burst: int


def key_limits(rate: float | None, burst: int | None) -> KeyLimits | None:
    """A key's limit as it was asked for, its burst filled in; None: it has none.

    Raises `InvalidKeyRequest` naming `rate` (events a second) or `burst`.
    """
    if rate is None:
        if burst is not None:
            raise InvalidKeyRequest(
                "A burst needs a rate beside it.", errors=[FieldError("burst", "needs a rate beside it")]
            )
        return None
    if not LEAST_RATE <= rate <= MAX_RATE:
        problem = FieldError(
            "rate", f"should be from one event a day, 1/86400 (0.0000116), to {MAX_RATE} events a second"
        )
        raise InvalidKeyRequest("The key's rate cannot be.", errors=[problem])
    found = default_burst(rate) if burst is None else burst
    if not least_burst(rate) <= found <= MAX_BURST:
        problem = FieldError(
            "burst",
            f"should be at least {least_burst(rate)}, what the rate brings in a tenth of a second,"
            f" and at most {MAX_BURST}",
        )
        raise InvalidKeyRequest("The key's burst cannot be.", errors=[problem])
    return KeyLimits(rate, found)
