"""Everything the event route asks before it takes a request, made from the settings.

Belongs here: putting the parts together, starting and stopping them. Not here: deciding anything.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.access import Admission
from sluiceway.ingestion.limits.buckets import DatabaseBuckets
from sluiceway.ingestion.limits.high_water import HighWater, Marks, Watched
from sluiceway.ingestion.limits.limiter import RateLimiter
from sluiceway.ingestion.limits.refusals import DatabaseRefusals, RefusalBook, RefusalKeeper
from sluiceway.kit.errors import SluicewayError
from sluiceway.usage.intake import DatabaseUsage, QuotaGate


@dataclass(frozen=True)
class IntakeLimits:
    """`high_water` is asked before a request's body is read, `rates` when its events are counted, and `quota`
    both times."""

    rates: RateLimiter
    high_water: HighWater
    book: RefusalBook
    keeper: RefusalKeeper
    quota: QuotaGate

    def refusal(self, admission: Admission) -> SluicewayError | None:
        """Why nothing is taken for the pipeline just now; counted."""
        error = self.high_water.refusal(admission.pipeline_id)
        if error is not None:
            return error
        over = self.quota.look(admission.workspace_id, admission.slug)
        if over is not None:
            self.book.note(admission.pipeline_id, over.code)
        return over

    def look(self, admission: Admission) -> SluicewayError | None:
        """The same for a look ahead, not counted."""
        return self.high_water.look(admission.pipeline_id) or self.quota.look(
            admission.workspace_id, admission.slug
        )

    def take(self, admission: Admission, events: int, size_bytes: int) -> Awaitable[None] | None:
        """Count a request against its limits and its workspace's quota; as `RateLimiter.take`.

        `settle` follows once it is known whether the request got to the disk. Raises `QuotaExceeded`, too.
        """
        over = self.quota.take(admission.workspace_id, admission.slug, events, size_bytes)
        if over is not None:
            self.book.note(admission.pipeline_id, over.code)
            raise over
        try:
            waiting = self.rates.take(admission, events, size_bytes)
        except SluicewayError:
            self.settle(admission, events, size_bytes, accepted=False)
            raise
        return None if waiting is None else self._waited(waiting, admission, events, size_bytes)

    async def _waited(
        self, waiting: Awaitable[None], admission: Admission, events: int, size_bytes: int
    ) -> None:
        try:
            await waiting
        except BaseException:
            self.settle(admission, events, size_bytes, accepted=False)
            raise

    def take_now(self, admission: Admission, events: int, size_bytes: int) -> bool:
        """The same for a caller that cannot wait. False: nothing was counted; `take` says more."""
        if self.quota.take(admission.workspace_id, admission.slug, events, size_bytes) is not None:
            return False
        if self.rates.take_now(admission, events, size_bytes):
            return True
        self.settle(admission, events, size_bytes, accepted=False)
        return False

    def settle(self, admission: Admission, events: int, size_bytes: int, *, accepted: bool) -> None:
        """What became of a request that was taken: its events are on disk, or they are not."""
        if accepted:
            self.quota.count(admission.workspace_id, admission.pipeline_id, events, size_bytes)
        else:
            self.quota.give_back(admission.workspace_id, events, size_bytes)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Keep what was refused while inside; give back at the end what is held ahead."""
        self.keeper.start()
        self.quota.start()
        try:
            yield
        finally:
            await self.rates.close()
            await asyncio.to_thread(self.keeper.stop)
            await asyncio.to_thread(self.quota.stop)


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
        quota=QuotaGate(DatabaseUsage(database)),
    )
