"""One count of a caller's requests over all web processes, told now and then and never waited for.

A process counts by itself, says what was used when it is an eighth of what a minute allows, and hears what is
left to all of them together. So a caller costs one question in hundreds of requests, and no request waits for
it: n processes together let through what the limit allows and at most n eighths of it more, which is made up
for afterwards. Not here: the counting (`rate_limits`).
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import psycopg
import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from sluiceway.infra.database import Database, Role

log = logging.getLogger("sluiceway.api")

Told = Callable[[float, float | None], None]

_TAKE = sa.text(
    "SELECT granted, left_over[1] AS left_over FROM app.take_tokens(:workspace, ARRAY[CAST(:thing AS text)],"
    " ARRAY[CAST(:rate AS float8)], ARRAY[CAST(:burst AS float8)], ARRAY[CAST(:used AS float8)],"
    " ARRAY[CAST(0 AS float8)], ARRAY[CAST(0 AS float8)], false, 'requests', 1)"
)


class SharedLimits:
    """Of one web process: one thread tells the database. `tell` is called anywhere, and does not wait."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="request-limits")

    def tell(
        self,
        workspace_id: int,
        subject: str,
        *,
        rate_per_s: float,
        most: float,
        used: float,
        told: Told,
    ) -> None:
        """`told` hears how much of `used` could be counted, and what is left to all (None: unknown)."""
        values = {
            "workspace": workspace_id,
            "thing": f"requests:{hashlib.sha256(subject.encode()).hexdigest()[:32]}",
            "rate": rate_per_s,
            "burst": most,
        }
        try:
            self._thread.submit(self._tell, values, used, told)
        except RuntimeError:  # the process is stopping
            told(0.0, None)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """At the end no thread is left."""
        try:
            yield
        finally:
            await run_in_threadpool(self.close)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _tell(self, values: dict[str, object], used: float, told: Told) -> None:
        counted, left = 0.0, None
        try:
            counted, left = self._take(values, used)
        except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
            log.debug("requests are counted by this process alone: %s", type(error).__name__)
        finally:
            told(counted, left)

    def _take(self, values: dict[str, object], used: float) -> tuple[float, float]:
        with self._database.transaction(Role.APP) as connection:
            found = connection.execute(_TAKE, {**values, "used": used}).one()
            if found.granted:
                return used, float(found.left_over)
            # Others were faster: take what there is. The rest is owed by this process, which let it through.
            there = max(0.0, float(found.left_over))
            connection.execute(_TAKE, {**values, "used": there})
            return there, 0.0
