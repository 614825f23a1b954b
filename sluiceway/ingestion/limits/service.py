"""Everything the event route asks before it takes a request, made from the settings.

Belongs here: putting the parts together, starting and stopping them. Not here: deciding anything.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.limits.buckets import DatabaseBuckets
from sluiceway.ingestion.limits.high_water import HighWater, Marks, Watched
from sluiceway.ingestion.limits.limiter import RateLimiter
from sluiceway.ingestion.limits.refusals import DatabaseRefusals, RefusalBook, RefusalKeeper


@dataclass(frozen=True)
class IntakeLimits:
    """`rates` is asked when a request's events are counted, `high_water` before its body is read."""

    rates: RateLimiter
    high_water: HighWater
    book: RefusalBook
    keeper: RefusalKeeper

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Keep what was refused while inside; give back at the end what is held ahead."""
        self.keeper.start()
        try:
            yield
        finally:
            await self.rates.close()
            await asyncio.to_thread(self.keeper.stop)


def open_limits(settings: Settings, database: Database, spool: Watched) -> IntakeLimits:
    """The limits of one process that writes `spool`."""
    book = RefusalBook()
    marks = Marks(
        pipeline_bytes=settings.spool_max_bytes * settings.pipeline_backlog_percent // 100,
        lag_s=settings.max_lag_s,
    )
    return IntakeLimits(
        rates=RateLimiter(DatabaseBuckets(database), book),
        high_water=HighWater(spool, marks, book),
        book=book,
        keeper=RefusalKeeper(book, DatabaseRefusals(database)),
    )
