"""What becomes of a batch's rows: which of them silver has had already, and what the gate says of the rest.

Belongs here: asking. Not here: what a verdict does to rows (`judgement`), knowing ids without looking them
up (`known`).
"""

from dataclasses import dataclass, replace
from datetime import timedelta

import polars as pl

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.clock import Clock
from sluiceway.quality.contracts import Gate, GateVerdict, Verdict
from sluiceway.transforms.contracts import Rejected
from sluiceway.warehouse import repository
from sluiceway.warehouse.contracts import EPOCH, PreparedBatch
from sluiceway.warehouse.judgement import quarantine, released
from sluiceway.warehouse.known import KnownBook
from sluiceway.warehouse.repository import Connection
from sluiceway.warehouse.retention import LATE, SLACK
from sluiceway.warehouse.schema import EVENT_KEYS, partition_of

_FEW = 100  # ids that are looked up in less time than it takes to ask for the newest


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch after de-duplication and gate: what becomes rows, and what does not."""

    rows: pl.DataFrame
    verdict: GateVerdict
    rejected: list[Rejected]
    duplicates: int

    @property
    def outcome(self) -> Verdict:
        return self.verdict.verdict


class Judge:
    """Decides about batches, in the transaction that commits them but for `ahead`. One thread at a time."""

    def __init__(self, gate: Gate, known: KnownBook, clock: Clock) -> None:
        self._gate = gate
        self._known = known
        self._clock = clock

    def decide(self, connection: Connection, batch: PreparedBatch, last_seq: int) -> Judged:
        """Drop duplicates (in the batch, then of silver), and let the gate decide about the rest."""
        rows = batch.mapped.rows
        rejected = list(batch.mapped.rejected)
        mapped = len(rows)
        if mapped > 1 and rows["event_id"].n_unique() < mapped:
            rows = rows.unique(subset="event_id", keep="first", maintain_order=True)
        if len(rows):
            known = self._known_ids(connection, batch, rows["event_id"], last_seq)
            if known:
                rows = rows.filter(~pl.col("event_id").is_in(list(known)))
        duplicates = mapped - len(rows)
        ahead = batch.verdict if duplicates == 0 else None
        if ahead is None and batch.pipeline.spec.quality is not None:
            batch.timeline.enter("gate")
        verdict = ahead or self.ask(batch.pipeline, rows)
        if batch.origin == "retry":
            verdict = released(verdict)
        kept, failed = quarantine(rows, verdict)
        return Judged(kept, verdict, [*rejected, *failed], duplicates)

    def _known_ids(
        self, connection: Connection, batch: PreparedBatch, ids: pl.Series, last_seq: int
    ) -> set[str]:
        """Which of `ids` silver has had. Ids that grow with time are beyond all known ones: not looked up,
        nor are those that the filter of known ids, where there is one, has never seen. Silver itself is
        asked where retention may have dropped keys of the window: for retries, and events loaded too late."""
        pipeline, window = batch.pipeline, batch.pipeline.spec.dedupe.window
        since = EPOCH + timedelta(microseconds=min(batch.arrivals.received_us)) - window
        until = EPOCH + timedelta(microseconds=max(batch.arrivals.received_us)) + window
        self._known.check(pipeline.id, last_seq)
        # The same line as retention's: a key is dropped with its week, when that is out of the window.
        line = self._clock.now() - window - SLACK - LATE
        kept = partition_of(EVENT_KEYS, since, "week").end > line
        if batch.origin == "retry" or not kept:
            wanted, table = ids.to_list(), pipeline.silver_table
            found = repository.find_silver_ids(connection, table, wanted, since, until)
            return found | repository.find_known_ids(connection, pipeline.id, wanted, since, until)
        if len(ids) > _FEW:
            days = repository.days_between(since, until)
            suspects = self._known.suspects(connection, pipeline, ids, days, last_seq)
            if suspects is not None:
                asked = (
                    repository.find_known_ids_on(connection, pipeline.id, some.to_list(), [day])
                    for day, some in suspects
                )
                return set().union(*asked)
            newest = repository.find_newest_id(connection, pipeline.id, str(ids.min()), since, until)
            ids = ids.clear() if newest is None else ids.filter(ids <= newest)
            self._known.looked_up(pipeline, len(ids), days[0])
        if ids.is_empty():
            return set()
        return repository.find_known_ids(connection, pipeline.id, ids.to_list(), since, until)

    def ahead(self, batch: PreparedBatch) -> PreparedBatch:
        """The batch with the gate's verdict on all of its rows, asked while there is time."""
        if batch.pipeline.spec.quality is None:
            return batch
        with batch.timeline.stage("gate"):
            verdict = self.ask(batch.pipeline, batch.mapped.rows)
        return replace(batch, verdict=verdict)

    def ask(self, pipeline: Pipeline, rows: pl.DataFrame) -> GateVerdict:
        """The gate's verdict on typed rows."""
        if rows.is_empty() or pipeline.spec.quality is None:
            return GateVerdict("pass")
        frame = rows.select([field.name for field in pipeline.spec.fields]).to_pandas()
        return self._gate.check(pipeline, frame)
