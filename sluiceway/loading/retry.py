"""Dead letters into silver, as they are (the pipeline or its suite was mended) or with corrected bytes.

A letter that is loaded, or whose event silver has had meanwhile, is done with; one that fails again stays
and says why. Held rows are let go by this: a person looked at them.
"""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.telemetry import Timeline
from sluiceway.kit.errors import Conflict
from sluiceway.kit.ids import uuid7
from sluiceway.loading.contracts import RetryResult
from sluiceway.loading.preparing import map_arrivals
from sluiceway.quality.contracts import Gate
from sluiceway.transforms.contracts import Arrivals
from sluiceway.transforms.service import DEFAULT_MAX_EVENT_BYTES, Transform
from sluiceway.warehouse import letters
from sluiceway.warehouse.contracts import EPOCH, PreparedBatch
from sluiceway.warehouse.judging import Judged
from sluiceway.warehouse.letters import Letter
from sluiceway.warehouse.service import Connection, Warehouse

_US_PER_S = 1_000_000
Then = Callable[[Connection, Pipeline, Mapping[UUID, bool]], None]
"""What else belongs into a pipeline's transaction: told which letters were tried, and which are done."""


class DeadLetterBusy(Conflict):
    code = "dead_letter_busy"
    title = "Someone else works on these dead letters"
    retryable = True


def retry_dead_letters(
    database: Database,
    gate: Gate,
    workspace_id: int,
    ids: Sequence[UUID],
    *,
    payloads: Mapping[UUID, bytes] | None = None,
    clock: Clock | None = None,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    then: Then | None = None,
) -> RetryResult:
    """Try the open and held letters among `ids` again, one transaction a pipeline.

    `payloads` gives corrected bytes for some of them; what was received stays with the letter. Ids that are
    not there, or done with, are left out of the counts.
    `then` is called in each pipeline's transaction. Raises `DeadLetterBusy` if another retry interferes.
    """
    warehouse = Warehouse(database, gate, clock or SystemClock())
    now = (clock or SystemClock()).now()
    results: list[RetryResult] = []
    with database.connect(Role.WRITER) as connection:
        with connection.transaction():
            connection.execute("SELECT set_config('sluiceway.workspace_id', %s, true)", (str(workspace_id),))
            found = letters.find_waiting(connection, workspace_id, ids)
        for pipeline_id in sorted({letter.pipeline_id for letter in found}):
            with database.transaction(Role.WRITER, workspace_id=workspace_id) as catalog:
                pipeline = Catalog().by_id(catalog, pipeline_id)
            transform = Transform(pipeline.spec, max_event_bytes=max_event_bytes)
            own = [letter for letter in found if letter.pipeline_id == pipeline_id]
            timeline = Timeline()
            with timeline.stage("transform"):
                given = _arrivals(own, payloads or {})
                arrivals, mapped = map_arrivals(transform, given, now, unsplit=_is_whole)
            batch = PreparedBatch(pipeline, f"retry/{uuid7()}", "retry", arrivals, mapped, timeline=timeline)
            results.append(_commit(warehouse, connection, batch, own, then))
    return RetryResult(
        tried=sum(r.tried for r in results),
        loaded=sum(r.loaded for r in results),
        duplicates=sum(r.duplicates for r in results),
        failed=sum(r.failed for r in results),
    )


def _is_whole(position: str) -> bool:
    """Whether the bytes at a position are a whole event, which `source.split` has not cut yet."""
    return "." not in position.rsplit("/", 1)[-1]


def _arrivals(own: Sequence[Letter], payloads: Mapping[UUID, bytes]) -> Arrivals:
    received = [letter.received_at - EPOCH for letter in own]
    return Arrivals(
        [payloads.get(letter.id, letter.payload) for letter in own],
        [letter.position for letter in own],
        [(at.days * 86400 + at.seconds) * _US_PER_S + at.microseconds for at in received],
        [letter.headers for letter in own],
    )


def _commit(
    warehouse: Warehouse,
    connection: Connection,
    batch: PreparedBatch,
    own: Sequence[Letter],
    then: Then | None,
) -> RetryResult:
    failed: set[str] = set()

    def finish(inner: Connection, judged: Judged) -> None:
        if len(letters.lock_waiting(inner, [letter.id for letter in own])) < len(own):
            raise DeadLetterBusy("Some of these dead letters were resolved by someone else just now.")
        failed.update(batch.arrivals.positions[r.index] for r in judged.rejected)
        letters.mark_retried(inner, batch.pipeline.id, [x.position for x in own if x.position not in failed])
        if then is not None:
            then(inner, batch.pipeline, {x.id: x.position not in failed for x in own})

    committed = warehouse.commit(connection, batch, finish)
    assert committed is not None
    again = sum(1 for letter in own if letter.position in failed)
    return RetryResult(len(own), len(own) - again, committed.duplicates, again)
