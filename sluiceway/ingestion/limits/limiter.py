"""Whether a request may pass the rates of its pipeline and its key: nearly always without a query.

A process holds small slices of the shared buckets ahead, sized by its recent use. Requests that find them
empty wait for one question to the database at a time. While the database is away each process goes on with
buckets of its own at the same rates. Not here: the buckets (`buckets`), a slice (`slices`).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import psycopg

from sluiceway.catalog.limits import NO_LIMITS, KeyLimits, LimitsSpec
from sluiceway.infra.database_errors import is_away
from sluiceway.infra.trouble import describe
from sluiceway.ingestion.access import Admission
from sluiceway.ingestion.errors import BatchExceedsBurst, RateLimited
from sluiceway.ingestion.limits.answers import batch_exceeds_burst, rate_limited
from sluiceway.ingestion.limits.buckets import Ask, Buckets, Taken, Thing
from sluiceway.ingestion.limits.refusals import RefusalBook
from sluiceway.ingestion.limits.slices import Slice
from sluiceway.kit.errors import Unavailable
from sluiceway.kit.ids import token

log = logging.getLogger("sluiceway.ingestion")

LEASE_S = 2.0
ASK_S = 1.0  # longest wait of a request for the database
AWAY_S = 1.0  # for so long nobody asks a database that did not answer
MOST_PLANS = 20_000
_NEVER = float("-inf")


@dataclass(slots=True)
class LimiterFigures:
    """Counts since the start, for metrics. `granted` and `refused` are requests of limited pipelines or keys;
    `on_own`: granted while the database was away; `leased`: tokens taken ahead."""

    granted: int = 0
    refused: int = 0
    too_large: int = 0
    on_own: int = 0
    asks: int = 0
    failed_asks: int = 0
    leased: float = 0.0


@dataclass(slots=True, eq=False)
class _Plan:
    """The slices that requests of one pipeline and key need, sorted by their bucket's name."""

    limits: LimitsSpec
    key_limits: KeyLimits | None
    parts: tuple[Slice, ...]


@dataclass(slots=True, eq=False)
class _Job:
    """Something the database is to be asked for. Without a `future`: more to hold, or to give back."""

    parts: tuple[Slice, ...]
    needs: tuple[float, ...]
    future: "asyncio.Future[None] | None" = None
    pipeline_id: int = 0
    give_back: bool = False


class RateLimiter:
    """For one event loop. `close` gives back what is held."""

    def __init__(
        self,
        buckets: Buckets,
        book: RefusalBook | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        lease_s: float = LEASE_S,
        ask_s: float = ASK_S,
    ) -> None:
        self.figures = LimiterFigures()
        self.book = book or RefusalBook()
        self._buckets = buckets
        self._monotonic = monotonic
        self._lease_s = lease_s
        self._ask_s = ask_s
        self._holder = token(12)
        self._slices: dict[tuple[int, str], Slice] = {}
        self._plans: dict[tuple[int, str], _Plan] = {}
        self._jobs: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rate-limits")
        self._stuck: asyncio.Future[Taken] | None = None
        self._away_until = _NEVER
        self._closed = False

    def take(self, admission: Admission, events: int, size_bytes: int) -> Awaitable[None] | None:
        """Count one request of so many events and decompressed bytes against its limits.

        None: it may pass, at once. Otherwise await what is returned: it ends, or raises `RateLimited`. Raises
        `BatchExceedsBurst` where no waiting would help.
        """
        if self.take_now(admission, events, size_bytes):
            return None
        parts = self._plan(admission).parts
        needs = _needs(parts, events, size_bytes)
        for part, need in zip(parts, needs, strict=True):
            if need > part.thing.burst:
                raise self._too_large(admission.pipeline_id, part, need)
        return self._wait(admission, parts, needs)

    def take_now(self, admission: Admission, events: int, size_bytes: int) -> bool:
        """The same for a caller that cannot wait. False: nothing was counted; `take` says more."""
        if admission.limits is NO_LIMITS and admission.key_limits is None:
            return True
        parts = self._plan(admission).parts
        if not parts:
            return True
        now = self._monotonic()
        for part in parts:
            if not part.has(size_bytes if part.counts_bytes else events, now):
                return False
        for part in parts:
            part.use(size_bytes if part.counts_bytes else events)
            if part.tokens < part.low and part.runs_low(now):
                part.topping = True
                self._enqueue(_Job((part,), (0.0,)))
        self.figures.granted += 1
        return True

    @property
    def held(self) -> float:
        """Tokens held ahead just now, over all limited things."""
        now = self._monotonic()
        return sum(part.tokens for part in list(self._slices.values()) if now < part.until)

    @property
    def on_its_own(self) -> bool:
        """Whether the database is away, so that this process limits by itself."""
        return self._stuck is not None or self._monotonic() < self._away_until

    async def settled(self) -> None:
        """Wait until no question is on its way."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait({self._worker})

    async def close(self) -> None:
        """Give back what is held, then ask no more."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._return(self._slices.values())
        self._closed = True
        if self._worker is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._worker), 2 * self._ask_s)
            self._worker.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._stuck is None:
            await asyncio.to_thread(self._buckets.close)

    async def _wait(self, admission: Admission, parts: tuple[Slice, ...], needs: tuple[float, ...]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(_Job(parts, needs, future, admission.pipeline_id))
        await future

    def _enqueue(self, job: _Job) -> None:
        if self._closed:
            if job.future is not None:
                job.future.set_result(None)  # the process is stopping: the route refuses by itself
            return
        self._jobs.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """One question at a time: those who wait behind it often find what they need when it is answered."""
        while self._jobs:
            job = self._jobs.popleft()
            try:
                await self._carry_out(job)
            except Exception as error:  # that request's alone: those behind it go on
                self._fail(job, error)
            if job.future is None and not job.give_back:
                for part in job.parts:
                    part.topping = False

    async def _carry_out(self, job: _Job) -> None:
        if job.future is None:
            await self._fetch(job)
        elif not job.future.done() and not self._settle(job):
            taken = await self._fetch(job)
            if taken is None:
                self._settle_alone(job)
            elif taken.granted:
                self._grant(job)
            else:
                self._refuse(job, taken.waits_s)

    def _fail(self, job: _Job, error: Exception) -> None:
        if not isinstance(error, Unavailable):
            log.error("a question about rates failed", exc_info=error)
        if job.future is not None and not job.future.done():
            job.future.set_exception(error)

    def _settle(self, job: _Job) -> bool:
        """Decide by what is known here, if that is enough."""
        now = self._monotonic()
        if all(part.has(need, now) for part, need in zip(job.parts, job.needs, strict=True)):
            for part, need in zip(job.parts, job.needs, strict=True):
                part.use(need)
            self._grant(job)
            return True
        if self.on_its_own:
            self._settle_alone(job)
            return True
        wants = list(zip(job.parts, job.needs, strict=True))
        waits = [0.0 if part.has(need, now) else part.hopeless_s(need, now) for part, need in wants]
        wait = max(waits)
        told = any(part.holds_too_much(need, now) or part.ends_within(wait, now) for part, need in wants)
        if wait > 0 and not told:
            self._refuse(job, waits)
            return True
        return False

    def _settle_alone(self, job: _Job) -> None:
        now = self._monotonic()
        waits = [part.local_wait_s(need, now) for part, need in zip(job.parts, job.needs, strict=True)]
        if any(wait > 0 for wait in waits):
            self._refuse(job, waits)
            return
        for part, need in zip(job.parts, job.needs, strict=True):
            part.use_local(need)
        self.figures.on_own += 1
        self._grant(job)

    async def _fetch(self, job: _Job) -> Taken | None:
        """Ask for what the job needs and for something to hold besides. None: the database is away.

        Raises `Unavailable` when the database answers with an error.
        """
        if self.on_its_own:
            return None
        sent_at = self._monotonic()
        aheads = tuple(
            0.0 if job.give_back else part.ahead(need, sent_at)
            for part, need in zip(job.parts, job.needs, strict=True)
        )
        rests = tuple(part.rest(sent_at) for part in job.parts)
        ask = Ask(tuple(part.thing for part in job.parts), job.needs, aheads, rests, job.give_back)
        for part, need in zip(job.parts, job.needs, strict=True):
            if need > 0 or job.give_back:
                part.tokens = 0.0  # on its way back into the bucket: nobody may use it meanwhile
        taken = await self._ask(ask)
        if taken is None:
            return None
        now = self._monotonic()
        self.figures.leased += sum(taken.leased)
        for index, part in enumerate(job.parts):
            returned = job.give_back or job.needs[index] > 0
            part.learn(
                wanted=aheads[index],
                kept=0.0 if returned else rests[index],
                leased=taken.leased[index],
                left=taken.left[index],
                sent_at=sent_at,
                now=now,
                until=sent_at + self._lease_s,
            )
        if any(leased > 0 for leased in taken.leased):
            self._look_after()
        return taken

    async def _ask(self, ask: Ask) -> Taken | None:
        loop = asyncio.get_running_loop()
        self.figures.asks += 1
        future: asyncio.Future[Taken] = loop.run_in_executor(
            self._thread, self._buckets.take, ask, self._holder, self._lease_s
        )
        done, _ = await asyncio.wait({future}, timeout=self._ask_s)
        if not done:
            self._stuck = future
            future.add_done_callback(self._unstick)
            self._gone("it does not answer")
            return None
        try:
            taken = future.result()
        except psycopg.Error as error:
            if is_away(error):
                self._gone(type(error).__name__)
                return None
            # It is there and says no: others' questions may go well, so nobody is limited alone for it.
            self.figures.failed_asks += 1
            log.warning("the database refused a question about rates: %s", describe(error))
            raise Unavailable("The limits cannot be counted just now.", retry_after_s=AWAY_S) from error
        self._away_until = _NEVER
        return taken

    def _gone(self, why: str) -> None:
        self.figures.failed_asks += 1
        if self._away_until == _NEVER:
            log.warning("rates are limited by this process alone: the database is away (%s)", why)
        self._away_until = self._monotonic() + AWAY_S

    def _unstick(self, future: "asyncio.Future[Taken]") -> None:
        self._stuck = None
        if not future.cancelled():
            future.exception()  # seen: what it answers is too late, and its lease ends by itself

    def _look_after(self) -> None:
        """See to it that a slice nobody uses any more goes back before its lease ends."""
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._lease_s / 2, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._monotonic()
        held = [part for part in self._slices.values() if part.rest(now) > 0]
        self._return(part for part in held if now - part.leased_at >= self._lease_s / 2)
        if held:
            self._look_after()

    def _return(self, parts: Iterable[Slice]) -> None:
        for part in list(parts):
            if part.tokens > 0:
                self._enqueue(_Job((part,), (0.0,), give_back=True))

    def _grant(self, job: _Job) -> None:
        self.figures.granted += 1
        if job.future is not None and not job.future.done():
            job.future.set_result(None)

    def _refuse(self, job: _Job, waits_s: Sequence[float]) -> None:
        if job.future is None or job.future.done():
            return
        self.figures.refused += 1
        self.book.note(job.pipeline_id, RateLimited.code)
        job.future.set_exception(rate_limited(job.parts, job.needs, waits_s, self._monotonic()))

    def _too_large(self, pipeline_id: int, part: Slice, need: float) -> BatchExceedsBurst:
        self.figures.too_large += 1
        self.book.note(pipeline_id, BatchExceedsBurst.code)
        return batch_exceeds_burst(part, need)

    def _plan(self, admission: Admission) -> _Plan:
        limits, key_limits = admission.limits, admission.key_limits
        known = self._plans.get((admission.pipeline_id, admission.key_id))
        if known is not None and known.limits is limits and known.key_limits is key_limits:
            return known
        workspace, pipeline = admission.workspace_id, f"pipeline:{admission.pipeline_id}"
        parts = []
        if limits.events_per_s is not None:
            thing = Thing(workspace, f"{pipeline}:events", limits.events_per_s, limits.events_burst)
            parts.append(self._slice(thing, "the pipeline's events", counts_bytes=False))
        if limits.bytes_per_s is not None:
            thing = Thing(workspace, f"{pipeline}:bytes", limits.bytes_per_s, limits.bytes_burst)
            parts.append(self._slice(thing, "the pipeline's bytes", counts_bytes=True))
        if key_limits is not None:
            thing = Thing(workspace, f"key:{admission.key_id}", key_limits.events_per_s, key_limits.burst)
            parts.append(self._slice(thing, "the key's events", counts_bytes=False))
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
            self._slices = {name: part for name, part in self._slices.items() if part.tokens > 0}
        plan = _Plan(limits, key_limits, tuple(sorted(parts, key=lambda part: part.thing.name)))
        self._plans[admission.pipeline_id, admission.key_id] = plan
        return plan

    def _slice(self, thing: Thing, title: str, *, counts_bytes: bool) -> Slice:
        found = self._slices.get((thing.workspace_id, thing.name))
        if found is None:
            found = Slice(thing, counts_bytes, title)
            self._slices[thing.workspace_id, thing.name] = found
        elif found.thing != thing:
            # Another rate: what was known of the bucket may keep waiting those who need not any more.
            found.thing, found.left, found.quiet_until = thing, float("inf"), float("-inf")
        return found


def _needs(parts: Sequence[Slice], events: int, size_bytes: int) -> tuple[float, ...]:
    return tuple(float(size_bytes if part.counts_bytes else events) for part in parts)
