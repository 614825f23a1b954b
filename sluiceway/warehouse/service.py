"""The face of the warehouse: one batch, one transaction, exactly once.

Under the pipeline's lock it drops what silver has had already, asks the gate, and writes rows, samples,
series, event ids, dead letters, dirty buckets, quality results, the pipeline's state, the spool's cursor and
the notification; all or nothing. `docs/adr/0003-loader.md` says why this is exactly once.
"""

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import psycopg

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.clock import Clock
from sluiceway.infra.database import Database
from sluiceway.ingestion.contracts import Position
from sluiceway.kit.errors import SluicewayError
from sluiceway.kit.faults import reach
from sluiceway.quality.contracts import Gate, GateVerdict
from sluiceway.transforms.contracts import Rejected
from sluiceway.warehouse import letters, replacing, repository, tracing
from sluiceway.warehouse.contracts import EPOCH, CommittedBatch, PreparedBatch, Progress, Replaced, Span
from sluiceway.warehouse.errors import CursorMoved, PipelineBusy, PipelineGone
from sluiceway.warehouse.figures import announcement, batch_values
from sluiceway.warehouse.judgement import dead_letters, quarantine
from sluiceway.warehouse.judging import Judge, Judged
from sluiceway.warehouse.known import KnownBook
from sluiceway.warehouse.leaves import Leaves
from sluiceway.warehouse.refusing import find_refused
from sluiceway.warehouse.samples import Series, SeriesBook, make_samples
from sluiceway.warehouse.writing import Writer

Connection = psycopg.Connection[Any]

LEVELS = {"1m": 60, "1h": 3600, "1d": 86400}
_US = 1_000_000
_DAY_US = 86_400 * _US


class Warehouse:
    """Commits batches. One thread at a time; keeps what it knows of leaves and series between batches."""

    def __init__(self, database: Database, gate: Gate, clock: Clock) -> None:
        self._clock = clock
        self.leaves = Leaves(database)
        self._writer = Writer(self.leaves)
        self._series = SeriesBook()
        self.known = KnownBook(database)
        self.judge = Judge(gate, self.known, clock)

    def close(self) -> None:
        """End what is done behind the commits."""
        self.known.close()

    def forget(self) -> None:
        """Drop what is kept between batches: the database may not be what it was."""
        self.leaves.forget()
        self._series.known.clear()
        self.known.forget()

    def commit(
        self,
        connection: Connection,
        batch: PreparedBatch,
        also: Callable[[Connection, Judged], None] | None = None,
    ) -> CommittedBatch | None:
        """The whole batch in one transaction; None if the cursor says that it has been committed before.

        `also` is done in the same transaction. Raises `CursorMoved`, `PipelineBusy` (only live
        batches; others wait), `PipelineGone`, and psycopg's errors; then nothing has happened.
        """
        tracing.begin(batch)
        try:
            done = self._commit(connection, batch, also)
        except Exception as error:
            if not isinstance(error, SluicewayError):
                tracing.failed(batch, error)
            raise
        if done is None:
            return None
        committed, judged = done
        tracing.finished(batch, committed, judged.rejected)
        return committed

    def _commit(
        self,
        connection: Connection,
        batch: PreparedBatch,
        also: Callable[[Connection, Judged], None] | None,
    ) -> tuple[CommittedBatch, Judged] | None:
        self.ensure_leaves(batch)
        reach("load.leaves_ready")
        batch.timeline.enter("dedupe")
        with connection.transaction():
            self._lock(connection, batch)
            reach("load.locked")
            state = self._state(connection, batch)
            if state is None:
                return None
            judged = self.judge.decide(connection, batch, state.last_seq)
            batch.timeline.enter("commit")
            reach("load.judged")
            committed, series = self._write(connection, batch, judged, state.last_seq)
            if also is not None:
                also(connection, judged)
            reach("load.before_commit")
        reach("load.after_commit")
        self._series.remember(series)
        if committed.first_seq is not None and committed.last_seq is not None:
            self.known.committed(batch.pipeline.id, judged.rows, committed.first_seq, committed.last_seq)
        return committed, judged

    def find_progress(self, connection: Connection, node: str) -> Progress:
        """How far a node's spool has been loaded."""
        with connection.transaction():
            cursors = repository.find_cursors(connection, node)
            read_to, told_at = repository.find_node_position(connection, node) or (None, None)
            return Progress(read_to, cursors, told_at)

    def pass_over(self, connection: Connection, node: str, read_to: Position) -> None:
        """Nothing before `read_to` is to be loaded (events of no active pipeline)."""
        with connection.transaction():
            repository.advance_node(connection, node, read_to)

    def ensure_leaves(self, batch: PreparedBatch) -> None:
        """Partitions for whatever the batch may hold: DDL, so before the transaction, and seldom."""
        times = batch.mapped.rows.select(pl.col("event_time").dt.truncate("1mo").unique())
        # 1970 began on a Thursday: three days later weeks begin on Monday.
        received = np.asarray(batch.arrivals.received_us, dtype=np.int64)
        weeks = np.unique((received + 3 * _DAY_US) // (7 * _DAY_US)) * (7 * _DAY_US) - 3 * _DAY_US
        mondays = [EPOCH + timedelta(microseconds=int(at)) for at in weeks]
        self.leaves.ensure(batch.pipeline.silver_table, times["event_time"].to_list(), mondays)

    def _lock(self, connection: Connection, batch: PreparedBatch) -> None:
        pipeline, waits = batch.pipeline, batch.origin != "live"
        if not repository.begin(connection, pipeline.workspace_id, pipeline.id, by_index=True, wait=waits):
            raise PipelineBusy(f"Another transaction is loading {pipeline.slug!r}.")

    def _state(self, connection: Connection, batch: PreparedBatch) -> repository.LoadState | None:
        move = batch.cursor
        state = repository.find_state(connection, batch.pipeline.id, None if move is None else move.node)
        if state is None:
            raise PipelineGone(f"Pipeline {batch.pipeline.slug!r} is not there any more.")
        if move is not None and state.cursor is not None and state.cursor > move.begin:
            if state.cursor >= move.end:
                return None
            raise CursorMoved(f"The cursor of {move.node} is inside the batch {batch.name}.")
        return state

    def replace_rows(self, connection: Connection, batch: PreparedBatch, span: Span) -> Replaced:
        """Put the batch's rows in the place of those received in `span`, in one transaction.

        `replacing` says which rows stay. Raises `PipelineGone` and psycopg's errors; then nothing happened.
        """
        tracing.begin(batch)
        try:
            replaced, rejected = self._replace(connection, batch, span)
        except Exception as error:
            if not isinstance(error, SluicewayError):
                tracing.failed(batch, error)
            raise
        tracing.finished(batch, replaced, rejected)
        return replaced

    def _replace(
        self, connection: Connection, batch: PreparedBatch, span: Span
    ) -> tuple[Replaced, list[Rejected]]:
        pipeline = batch.pipeline
        self.ensure_leaves(batch)
        batch.timeline.enter("dedupe")
        with connection.transaction():
            repository.begin(connection, pipeline.workspace_id, pipeline.id, long=True)
            state = self._state(connection, batch)
            assert state is not None
            plan = replacing.plan(connection, batch, span)
            batch.timeline.enter("gate")
            verdict = self.judge.ask(pipeline, plan.rows)
            batch.timeline.enter("commit")
            self._record(connection, batch, verdict)
            if verdict.verdict == "hold":
                return Replaced(None, "hold", 0, 0, 0, plan.duplicates, 0), []
            rows, failed = quarantine(plan.rows, verdict)
            judged = Judged(rows, verdict, [*plan.rejected, *failed], plan.duplicates)
            replaced, series = self._swap(connection, batch, judged, plan, span, state.last_seq)
        self._series.remember(series)
        return replaced, judged.rejected

    def _swap(
        self,
        connection: Connection,
        batch: PreparedBatch,
        judged: Judged,
        plan: replacing.Plan,
        span: Span,
        last_seq: int,
    ) -> tuple[Replaced, list[Series]]:
        pipeline, rows, old = batch.pipeline, judged.rows, plan.old
        seqs, fresh = replacing.keep_seqs(rows, old, last_seq)
        values = batch_values(batch, judged, seqs)
        values["batch_id"] = repository.insert_batch(connection, values)
        keyed = replacing.remove(connection, pipeline, span, plan, rows)
        series = self._insert(connection, pipeline, rows, seqs, values["batch_id"], keyed)
        times = pl.concat([old["event_time"], rows["event_time"]])
        if len(times):
            self.mark_dirty(connection, pipeline, times)
        if judged.rejected:
            repository.insert_dead_letters(connection, dead_letters(batch, judged.rejected, judged.outcome))
        letters.mark_retried(connection, pipeline.id, rows["position"].to_list())
        state = {**values, "rows": len(rows) - len(old), "duplicates": 0, "dead_letters": 0}
        repository.update_state(connection, {**state, "last_seq": last_seq + fresh})
        if len(times):
            moved = {**values, "min_event_time": times.min(), "max_event_time": times.max()}
            new = (last_seq + 1, last_seq + fresh) if fresh else None
            trace = tracing.traceparent(batch)
            text = announcement(pipeline, moved, self._clock.now(), new, trace)
            repository.notify(connection, text)
        done = Replaced(
            values["batch_id"], judged.outcome, len(old), len(rows), values["samples"],
            judged.duplicates, len(judged.rejected),
        )  # fmt: skip
        return done, series

    def _write(
        self, connection: Connection, batch: PreparedBatch, judged: Judged, last_seq: int
    ) -> tuple[CommittedBatch, list[Series]]:
        pipeline = batch.pipeline
        rows = judged.rows
        seqs = np.arange(last_seq + 1, last_seq + 1 + len(rows), dtype=np.int64)
        values = batch_values(batch, judged, seqs)
        batch_id = repository.insert_batch(connection, values)
        reach("load.batch_row")
        series = self._insert(connection, pipeline, rows, seqs, batch_id)
        if len(rows):
            self.mark_dirty(connection, pipeline, rows["event_time"])
            reach("load.dirty_marked")
        self._bookkeep(connection, batch, judged, {**values, "batch_id": batch_id}, last_seq)
        names = CommittedBatch.__dataclass_fields__
        return CommittedBatch(**{name: ({**values, "batch_id": batch_id})[name] for name in names}), series

    def _insert(
        self,
        connection: Connection,
        pipeline: Pipeline,
        rows: pl.DataFrame,
        seqs: npt.NDArray[np.int64],
        batch_id: int,
        keyed: Collection[str] = (),
    ) -> list[Series]:
        """Event ids (but those in `keyed`, which have their key), rows and samples; returns their series."""
        if rows.is_empty():
            return []
        writer, size = self._writer, len(rows)
        fresh_keys = rows.filter(~pl.col("event_id").is_in(list(keyed))) if keyed else rows
        parts = [*writer.key_parts(pipeline, fresh_keys), *writer.row_parts(pipeline, rows, seqs, batch_id)]
        begun = [writer.begin(part.encode, size) for part in parts]
        made = writer.begin(lambda: make_samples(pipeline, rows, seqs), size)
        writer.copy(connection, parts, begun)
        reach("load.rows_copied")
        samples, series = made()
        fresh = self._series.fresh(series)
        if fresh:
            repository.insert_series(connection, pipeline.workspace_id, pipeline.id, fresh)
        if samples is not None:
            writer.write(connection, writer.sample_parts(pipeline, samples), size)
            reach("load.samples_copied")
        return series

    def _record(self, connection: Connection, batch: PreparedBatch, verdict: GateVerdict) -> None:
        pipeline = batch.pipeline
        if verdict.outcomes:
            repository.add_results(
                connection,
                workspace_id=pipeline.workspace_id,
                pipeline_id=pipeline.id,
                suite=pipeline.spec.quality.suite if pipeline.spec.quality else "",
                origin="replay" if batch.origin == "replay" else "live",
                at=self._clock.now(),
                outcomes=verdict.outcomes,
            )

    def _bookkeep(
        self,
        connection: Connection,
        batch: PreparedBatch,
        judged: Judged,
        values: dict[str, Any],
        last_seq: int,
    ) -> None:
        """What is small: sent without waiting for each answer."""
        pipeline = batch.pipeline
        now = self._clock.now()
        with connection.pipeline():
            if judged.rejected:
                letters = dead_letters(batch, judged.rejected, judged.outcome)
                repository.insert_dead_letters(connection, letters)
            self._record(connection, batch, judged.verdict)
            state = {**values, "last_seq": values["last_seq"] or last_seq}
            if batch.origin == "retry":
                state["dead_letters"] = 0  # they have been counted when they came in
            repository.update_state(connection, state)
            if batch.cursor is not None:
                repository.advance(connection, pipeline.workspace_id, pipeline.id, batch.cursor)
            trace = tracing.traceparent(batch)
            if judged.outcome == "hold":
                payload = {"pipeline_id": pipeline.id, "batch_id": values["batch_id"]}
                repository.add_outbox(connection, pipeline.workspace_id, "gate.held", payload, trace)
            if values["rows"]:
                new = (values["first_seq"], values["last_seq"])
                repository.notify(connection, announcement(pipeline, values, now, new, trace))

    def mark_dirty(self, connection: Connection, pipeline: Pipeline, times: pl.Series) -> None:
        """Every gold bucket that `times` lie in is to be computed again."""
        seconds = times.to_physical() // _US
        buckets = {
            level: ((seconds // width).unique(maintain_order=False) * width).to_list()
            for level, width in LEVELS.items()
        }
        repository.insert_dirty(connection, pipeline.workspace_id, pipeline.id, buckets)

    def find_unloadable(self, connection: Connection, batch: PreparedBatch) -> dict[int, str]:
        """Rows that the database refuses for their values, by arrival index with what it says."""

        def insert(rows: pl.DataFrame) -> None:
            seqs = np.zeros(len(rows), dtype=np.int64)
            self._insert(connection, batch.pipeline, rows, seqs, batch_id=0)

        return find_refused(connection, batch, insert)
