"""How many requests a person, a key and an address may make, and the fields that say so.

Belongs here: counting requests to everything but the event route. Not here: how many events a pipeline or a
key may send (`sluiceway.ingestion.limits`), guessing passwords (`api.sign_in`).

A request that shows a good session or key counts against the person or the key, any other against its
address. What a request shows is known only when it is looked up, so one whose session or key was not good
lately pays with its address first and gets that back. So strangers behind one address can neither wear out
the database nor keep their neighbours out, who are known.

The buckets are this process's own, so that nobody waits for a count; what people and keys use is told to the
others now and then (`shared_limits`). What addresses use is not: strangers should not have us write. The
fields are those of draft-ietf-httpapi-ratelimit-headers: `q` requests in `w` seconds, `r` left, `t` seconds
until one passes.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from api.addresses import client_address, source_of
from api.page_gate import OPEN_PATHS, OPEN_PREFIXES
from api.security import session_token
from api.shared_limits import SharedLimits
from sluiceway.identity.contracts import Caller
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import TooManyRequests

WINDOW_S = 60.0
MOST_BUCKETS = 20_000
MOST_KNOWN = 20_000
KNOWN_S = 3600.0
TOLD_PART = 8
"""Others are told when this part of a minute's worth was used."""
_METRICS = "/metrics"
# What machines look at all the time, and files that are the same for everyone.
_FREE_PATHS = frozenset({"/healthz", "/readyz", _METRICS}) | OPEN_PATHS
_FREE_PREFIXES = ("/assets/", *OPEN_PREFIXES)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    used: float = 0.0  # that others were not told of
    telling: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking one: whether it was there, how many are left, and how long to wait."""

    granted: bool
    left: int
    wait_s: float


class Buckets:
    """Token buckets of one policy, by name; those not used the longest are forgotten first (and are full)."""

    def __init__(self, most: int, monotonic: Callable[[], float], size: int = MOST_BUCKETS) -> None:
        self._most = float(most)
        self._rate = most / WINDOW_S
        self._monotonic = monotonic
        self._size = size
        self._lock = Lock()
        self._held: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> Taken:
        now = self._monotonic()
        with self._lock:
            bucket = self._held.get(name)
            if bucket is None:
                bucket = self._held[name] = _Bucket(self._most, now)
                if len(self._held) > self._size:
                    self._held.popitem(last=False)
            else:
                self._held.move_to_end(name)
                bucket.tokens = min(self._most, bucket.tokens + self._rate * (now - bucket.at))
                bucket.at = now
            if bucket.tokens < 1:
                return Taken(False, 0, (1 - bucket.tokens) / self._rate)
            bucket.tokens -= 1
            bucket.used += 1
            return Taken(True, int(bucket.tokens), 0.0)

    def to_tell(self, name: str) -> float:
        """How much others are to be told of now, 0: nothing yet; `told` follows."""
        with self._lock:
            bucket = self._held.get(name)
            if bucket is None or bucket.telling or bucket.used < max(1.0, self._most // TOLD_PART):
                return 0.0
            bucket.telling = True
            return min(bucket.used, self._most)

    def told(self, name: str, counted: float, left: float | None) -> None:
        """Of what was used so much is counted for all, and `left` is there for all; None: it is not known.

        What is not counted, because others had taken what there was, stays owed: it is told again.
        """
        with self._lock:
            bucket = self._held.get(name)
            if bucket is None:
                return
            bucket.telling = False
            if left is not None:
                bucket.used -= counted
                bucket.tokens = min(bucket.tokens, left - bucket.used)

    def give_back(self, name: str) -> None:
        with self._lock:
            bucket = self._held.get(name)
            if bucket is not None:
                bucket.tokens = min(self._most, bucket.tokens + 1)

    def __len__(self) -> int:
        return len(self._held)


class RateLimits:
    """The limits of one web process. `enter` is asked on the event loop, `recognise` in any thread."""

    def __init__(
        self,
        settings: Settings,
        shared: SharedLimits | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._monotonic = monotonic
        self._quotas = {
            "user": settings.user_requests_per_minute,
            "key": settings.key_requests_per_minute,
            "address": settings.address_requests_per_minute,
        }
        self._buckets = {name: Buckets(most, monotonic) for name, most in self._quotas.items() if most > 0}
        self._lock = Lock()
        # Sessions and keys (as SHA-256) that were good lately: how long they count as such.
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def enter(self, scope: Scope) -> None:
        """Count a request that shows nothing known. Raises `TooManyRequests`."""
        path: str = scope["path"]
        connection = HTTPConnection(scope)
        if path == _METRICS and "authorization" in connection.headers:
            pass  # the key is looked up
        elif path in _FREE_PATHS or path.startswith(_FREE_PREFIXES):
            return
        shown = self._shown(connection)
        if shown is not None and self._is_known(shown):
            return
        source = source_of(client_address(scope))
        self._take(scope["state"], "address", source)
        if shown is not None:
            scope["state"]["rate_paid_by"] = source

    def recognise(self, connection: HTTPConnection, caller: Caller) -> None:
        """Count a request whose caller is known now. Raises `TooManyRequests`."""
        state = connection.scope["state"]
        paid_by = state.pop("rate_paid_by", None)
        if paid_by is not None and "address" in self._buckets:
            self._buckets["address"].give_back(paid_by)
        if (shown := self._shown(connection)) is not None:
            self._remember(shown)
        policy = "user" if caller.key is None else "key"
        self._take(state, policy, caller.subject)
        self._tell(policy, caller)

    def _take(self, state: dict[str, Any], policy: str, name: str) -> None:
        buckets = self._buckets.get(policy)
        if buckets is None:
            state.pop("rate_limit", None)
            return
        taken = buckets.take(name)
        quota = self._quotas[policy]
        fields = {
            "RateLimit-Policy": f'"{policy}";q={quota};w={WINDOW_S:.0f}',
            "RateLimit": f'"{policy}";r={taken.left};t={math.ceil(taken.wait_s)}',
        }
        state["rate_limit"] = fields
        if not taken.granted:
            raise TooManyRequests(
                f"More than {quota} requests a minute came from this {policy}.",
                retry_after_s=taken.wait_s,
                headers=fields,
            )

    def _tell(self, policy: str, caller: Caller) -> None:
        buckets, name = self._buckets.get(policy), caller.subject
        if self._shared is None or buckets is None or (used := buckets.to_tell(name)) == 0:
            return
        most = self._quotas[policy]
        self._shared.tell(
            caller.workspace_id, name, rate_per_s=most / WINDOW_S, most=most, used=used,
            told=partial(buckets.told, name),
        )  # fmt: skip

    def _shown(self, connection: HTTPConnection) -> bytes | None:
        """What the request wants to be recognised by, as a hash."""
        text = connection.headers.get("authorization") or session_token(connection, self._settings)
        return hashlib.sha256(text.encode()).digest() if text else None

    def _is_known(self, shown: bytes) -> bool:
        with self._lock:
            until = self._known.get(shown)
        return until is not None and until > self._monotonic()

    def _remember(self, shown: bytes) -> None:
        with self._lock:
            self._known.pop(shown, None)
            self._known[shown] = self._monotonic() + KNOWN_S
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
