"""What one process holds of a limited thing, and what it knows of the rest. Pure: every time is passed in.

Times are seconds of the process's own clock. Not here: asking the database (`buckets`), requests (`limiter`).
"""

from dataclasses import dataclass

from sluiceway.ingestion.limits.buckets import Thing

AHEAD_S = 0.25  # a slice holds what the process uses in so long: a busy process asks a few times a second
LEAST_INTERVAL_S = 0.05
MOST_OF_BURST = 0.25  # what one process holds at most: the rest of the burst stays for the others
SCARCE_S = 0.1  # how long nobody asks again after a bucket gave less than was wanted, at most
TOLERANCE = 1e-6
_NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Slice:
    """One limited thing as this process sees it.

    `tokens` may be used until `until`; `lease` is what the bucket takes for held until `lease_until` at
    most. `left` is what the bucket had at `left_at`, when last asked (infinite before that). Until
    `left_until` it is taken to hold at most that and what has flowed in since; then somebody asks again,
    for others may have given back what they held.
    """

    thing: Thing
    counts_bytes: bool
    title: str
    tokens: float = 0.0
    lease: float = 0.0
    lease_until: float = _NEVER
    until: float = _NEVER
    leased_at: float = _NEVER
    left: float = float("inf")
    left_at: float = _NEVER
    left_until: float = _NEVER
    quiet_until: float = _NEVER
    low: float = 0.0
    topping: bool = False
    used: float = 0.0
    asked_at: float = _NEVER
    pace: float = 0.0
    local: float | None = None
    local_at: float = _NEVER

    def has(self, need: float, now: float) -> bool:
        return need <= self.tokens and now < self.until

    def use(self, need: float) -> None:
        self.tokens -= need
        self.used += need

    def rest(self, now: float) -> float:
        """What is still held; an expired lease is let go of."""
        if now >= self.until:
            self.tokens = 0.0
        return self.tokens

    def runs_low(self, now: float) -> bool:
        return self.tokens < self.low and not self.topping and now >= self.quiet_until

    def holds_too_much(self, need: float, now: float) -> bool:
        """Whether the bucket cannot fill up to the need while it takes so much for held: it must be told."""
        return now < self.lease_until and need > self.thing.burst - self.lease

    def ends_within(self, wait_s: float, now: float) -> bool:
        """Whether what is held will be lost to somebody who waits so long, if it does not go back."""
        return self.tokens > 0 and now + wait_s >= self.until

    def hopeless_s(self, need: float, now: float) -> float:
        """How long a need is not to be met by what is known, 0 if asking may help."""
        if self.left == float("inf") or now >= self.left_until:
            return 0.0
        most = self.left + self.thing.rate * max(0.0, now - self.left_at) + self.rest(now)
        missing = need - min(most, self.thing.burst)
        wait = missing / self.thing.rate if missing > TOLERANCE else 0.0
        return max(wait, self.quiet_until - now, 0.0)

    def ahead(self, need: float, now: float) -> float:
        """How much to hold besides `need`: what recent use makes likely in the next `AHEAD_S`.

        0 where that would be less than one more request: then each asks for itself.
        """
        recent = (self.used + need) / max(now - self.asked_at, LEAST_INTERVAL_S)
        self.pace = (self.pace + recent) / 2
        self.used = 0.0
        self.asked_at = now
        wanted = min(self.pace * AHEAD_S, self.thing.burst * MOST_OF_BURST)
        return wanted if wanted >= max(1.0, need) else 0.0

    def learn(
        self,
        *,
        wanted: float,
        kept: float,
        leased: float,
        left: float,
        sent_at: float,
        now: float,
        until: float,
    ) -> None:
        """Take in what the bucket answered to an ask that was sent at `sent_at` and kept so much."""
        self.rest(now)
        self.tokens += leased
        self.lease = kept + leased
        if self.lease > 0:
            self.until, self.leased_at = until, sent_at
            self.lease_until = now + until - sent_at  # the bucket's clock began to run after the question
        self.low = leased / 2
        self.left, self.left_at, self.left_until = left, sent_at, until
        if wanted > 0 and leased < wanted - TOLERANCE:
            self.quiet_until = now + min(SCARCE_S, MOST_OF_BURST * self.thing.burst / self.thing.rate)
        self.local = None

    def local_wait_s(self, need: float, now: float) -> float:
        """While the database is away: seconds until a bucket of the process's own has `need`; 0: it has.

        It begins with what the shared one had when it was last seen.
        """
        burst, rate = self.thing.burst, self.thing.rate
        if self.local is None:
            self.local = min(burst, self.left + self.rest(now))
        else:
            self.local = min(burst, self.local + rate * max(0.0, now - self.local_at))
        self.local_at = now
        self.tokens = 0.0  # what was held is in the bucket of the process's own now
        missing = need - self.local
        return missing / rate if missing > TOLERANCE else 0.0

    def use_local(self, need: float) -> None:
        assert self.local is not None
        self.local -= need
        self.used += need
