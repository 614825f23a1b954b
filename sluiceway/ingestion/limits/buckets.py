"""The token buckets that all processes share: one row a limited thing in PostgreSQL.

Belongs here: asking the database. How a bucket is refilled and why what processes hold ahead counts against
its burst stands with `app.take_tokens` in the migration. Not here: slices and waiting (`limiter`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import psycopg

from sluiceway.infra.database import Database, Role

CONNECT_S = 2
STATEMENT_MS = 2000

_TAKE = (
    "SELECT granted, leased, left_over, waits_s FROM app.take_tokens("
    "%s, %s::text[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[],"
    " %s, %s, %s::float8)"
)


@dataclass(frozen=True, slots=True)
class Thing:
    """A limited thing: its bucket's name (sorted among others of one ask), rate a second, and burst."""

    workspace_id: int
    name: str
    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class Ask:
    """What a process wants of some things of one workspace, all or nothing; the lists go with `things`.

    `needs`: tokens to use now. `aheads`: tokens to hold besides, if they are there. `rests`: what is still
    held; it goes back into the bucket if something is needed or `give_back` is set, else it stays held.
    """

    things: tuple[Thing, ...]
    needs: tuple[float, ...]
    aheads: tuple[float, ...]
    rests: tuple[float, ...]
    give_back: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """`leased`: tokens now held besides what was kept; `left`: what the buckets still have.

    Not `granted`: nothing was taken; `waits_s` says for each thing when its need will be there.
    """

    granted: bool
    leased: Sequence[float]
    left: Sequence[float]
    waits_s: Sequence[float]


class Buckets(Protocol):
    """Where the buckets are. `take` blocks and is called by one thread at a time."""

    def take(self, ask: Ask, holder: str, lease_s: float) -> Taken:
        """Refill and take as one step. Raises `psycopg.Error` while the database is away."""
        ...

    def close(self) -> None: ...


@dataclass
class DatabaseBuckets:
    """The real ones: one connection of its own, one statement an ask, by the database's clock."""

    database: Database
    _connection: "psycopg.Connection[Any] | None" = field(default=None, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def take(self, ask: Ask, holder: str, lease_s: float) -> Taken:
        things = ask.things
        values = (
            things[0].workspace_id,
            [thing.name for thing in things],
            [float(thing.rate) for thing in things],
            [float(thing.burst) for thing in things],
            list(ask.needs),
            list(ask.aheads),
            list(ask.rests),
            ask.give_back,
            holder,
            lease_s,
        )
        with self._lock:
            try:
                row = self._connected().execute(_TAKE, values).fetchone()
            except psycopg.Error:
                self._drop()
                raise
        assert row is not None
        return Taken(*row)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _connected(self) -> "psycopg.Connection[Any]":
        if self._connection is None:
            parameters = self.database.parameters(Role.APP) | {
                "connect_timeout": str(CONNECT_S),
                "tcp_user_timeout": str(2 * STATEMENT_MS),
            }
            # What is counted need not survive the server's crash: after one a bucket may be a little fuller.
            parameters["options"] += f" -c synchronous_commit=off -c statement_timeout={STATEMENT_MS}"
            self._connection = psycopg.connect(**parameters, autocommit=True)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
