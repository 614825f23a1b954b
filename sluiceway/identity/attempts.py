"""Slowing guessing down, over all processes, without letting a guesser lock anybody out.

An attempt counts before its hash is computed. From a browser that the person has signed in with before, it
counts by that browser alone: what others do elsewhere cannot hold it up. From any other it counts by account
and address together, by address, and by account.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from sluiceway.identity.errors import SignInThrottled

FREE_ATTEMPTS = 5
"""Of one account from one address, or from one known browser, before the first wait."""
FREE_SHARED = 20
"""Of one address to any account, and to one account from any address."""
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 300.0
FORGET_AFTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt is counted under. `own` is cleared when it succeeds, one is taken off `shared`."""

    own: tuple[bytes, ...]
    shared: tuple[bytes, ...]


def begin(
    conn: sa.Connection, what: str, *, account: str, source: str, device: bytes | None, now: datetime
) -> Attempt:
    """Count an attempt at `what` (`password`, `code`, …), or raise `SignInThrottled`.

    `account`: whose, `source`: from where, `device`: hash of a browser that this person is known to use.
    To be committed before the attempt is judged.
    """
    name = account.strip().lower()
    if device is not None:
        attempt = Attempt((_bucket("device", what, name, device.hex()),), ())
    else:
        attempt = Attempt(
            (_bucket("pair", what, name, source),),
            (_bucket("source", what, source), _bucket("account", what, name)),
        )
    _count(conn, attempt, now)
    return attempt


def begin_by(conn: sa.Connection, what: str, key: str, *, now: datetime) -> Attempt:
    """Count an attempt by `key` alone (an address, a person), or raise `SignInThrottled`."""
    attempt = Attempt((_bucket("by", what, key),), ())
    _count(conn, attempt, now)
    return attempt


def succeeded(conn: sa.Connection, attempt: Attempt) -> None:
    """The attempt was right: its own count goes."""
    conn.execute(
        sa.text("SELECT app.attempt_succeeded(CAST(:own AS bytea[]), CAST(:shared AS bytea[]))"),
        {"own": list(attempt.own), "shared": list(attempt.shared)},
    )


def _count(conn: sa.Connection, attempt: Attempt, now: datetime) -> None:
    buckets = [*attempt.own, *attempt.shared]
    wait_s: float = conn.execute(
        sa.text("SELECT app.begin_attempt(:keys, :free, :now, :first, :longest, :forget)"),
        {
            "keys": buckets,
            "free": [FREE_ATTEMPTS] * len(attempt.own) + [FREE_SHARED] * len(attempt.shared),
            "now": now,
            "first": FIRST_WAIT_S,
            "longest": LONGEST_WAIT_S,
            "forget": FORGET_AFTER,
        },
    ).scalar_one()
    if wait_s > 0:
        raise SignInThrottled(f"Too many attempts. Try again in {_spoken(wait_s)}.", retry_after_s=wait_s)


def _bucket(*parts: str) -> bytes:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "replace")).digest()


def _spoken(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 60:
        return "a second" if whole == 1 else f"{whole} seconds"
    minutes = round(whole / 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"
