"""One trace an event batch, and its figures: what a commit tells of itself, whatever came of it.

The trace goes on from the batch's first traced request, or begins here; further requests are linked. Spans
are made after the fact from the batch's timeline. Not here: the web process's spans (`ingestion.tracing`).
"""

from collections.abc import Iterable

from sluiceway.infra import metrics, telemetry
from sluiceway.infra.database_errors import is_away, is_refused
from sluiceway.infra.telemetry import MAX_LINKS, Value
from sluiceway.ingestion.tracing import TRACE_HEADER
from sluiceway.transforms.contracts import Rejected
from sluiceway.warehouse.contracts import CommittedBatch, PreparedBatch, Replaced

_US = 1_000
for _cause_of_failure in ("database", "data", "fault"):  # from 0 on: what first appears at 1 has no rate yet
    metrics.BATCH_FAILURES.labels(_cause_of_failure)


def begin(batch: PreparedBatch) -> None:
    """A try to commit begins; before the first one the trace gets a root that others may continue."""
    tracing = telemetry.active()
    line = batch.timeline
    line.try_again()
    if tracing is None or line.span is not None:
        return
    contexts = _contexts(batch)
    live = batch.origin == "live"
    line.span = tracing.start(
        f"batch {batch.pipeline.slug}" if live else f"{batch.origin} {batch.pipeline.slug}",
        _begin_ns(batch),
        kind="consumer" if live else "internal",
        parent=contexts[0] if contexts and live else None,
        links=contexts[1:] if live else contexts,
        attributes=_attributes(batch),
    )


def traceparent(batch: PreparedBatch) -> str | None:
    """The batch's root for those who hear of the commit, or None."""
    return None if batch.timeline.span is None else batch.timeline.span.traceparent


def failed(batch: PreparedBatch, error: BaseException) -> None:
    """A try that came to nothing; the trace says of which kind, never with what values."""
    metrics.BATCH_FAILURES.labels(_cause(error)).inc()
    if batch.timeline.span is not None:
        batch.timeline.span.note("try failed", {"error.type": _kind(error)})


def finished(batch: PreparedBatch, done: CommittedBatch | Replaced, rejected: Iterable[Rejected]) -> None:
    """The batch is in silver, or held: its figures are counted and its trace is sent."""
    origin, line = batch.origin, batch.timeline
    line.leave()
    size_bytes = batch.size_bytes
    metrics.BATCHES.labels(origin, done.verdict).inc()
    metrics.BATCH_EVENTS.labels(origin).observe(len(batch.arrivals))
    metrics.BATCH_BYTES.labels(origin).observe(size_bytes)
    metrics.ROWS.labels(origin).inc(done.rows)
    metrics.DUPLICATES.labels(origin).inc(done.duplicates)
    for step, count in _by_step(rejected).items():
        metrics.DEAD_LETTERS.labels(step).inc(count)
    for stage in line.stages:
        metrics.STAGE_SECONDS.labels(stage.name, origin).observe(max(0.0, stage.seconds))
    end_ns = max((stage.end_ns for stage in line.stages), default=_begin_ns(batch))
    if origin == "live":
        metrics.BATCH_SECONDS.labels(origin).observe(max(0.0, (end_ns - _begin_ns(batch)) / 1e9))
    span, line.span = line.span, None
    if span is not None:
        for stage in sorted(line.stages, key=lambda s: s.begin_ns):
            span.child(stage.name, stage.begin_ns, stage.end_ns)
        span.end(end_ns, _outcome(done))


def _attributes(batch: PreparedBatch) -> dict[str, Value]:
    found: dict[str, Value] = {
        "sluiceway.pipeline": batch.pipeline.slug,
        "sluiceway.pipeline.version": batch.pipeline.version,
        "sluiceway.workspace.id": batch.pipeline.workspace_id,
        "sluiceway.batch": batch.name,
        "sluiceway.origin": batch.origin,
        "sluiceway.events": len(batch.arrivals),
        "sluiceway.bytes": batch.size_bytes,
    }
    if batch.cursor is not None:
        found["sluiceway.node"] = batch.cursor.node
    return found


def _outcome(done: CommittedBatch | Replaced) -> dict[str, Value]:
    found: dict[str, Value] = {
        "sluiceway.verdict": done.verdict,
        "sluiceway.rows": done.rows,
        "sluiceway.duplicates": done.duplicates,
        "sluiceway.dead_letters": done.dead_letters,
    }
    if done.batch_id is not None:
        found["sluiceway.batch.id"] = done.batch_id
    return found


def _begin_ns(batch: PreparedBatch) -> int:
    """Receipt of the first event for a live batch; for others, when work on it began."""
    if batch.origin == "live" and len(batch.arrivals):
        return min(batch.arrivals.received_us) * _US
    return batch.timeline.begin_ns


def _contexts(batch: PreparedBatch) -> list[str]:
    """The traced requests among a batch's events, in order."""
    found: dict[str, None] = {}
    before: object = None
    for headers in batch.arrivals.headers:
        if headers is before:  # events of one request share its headers
            continue
        before = headers
        if (context := headers.get(TRACE_HEADER)) is not None:
            found[context] = None
            if len(found) > MAX_LINKS:
                break
    return list(found)


def _by_step(rejected: Iterable[Rejected]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in rejected:
        found[one.step] = found.get(one.step, 0) + 1
    return found


def _cause(error: BaseException) -> str:
    if is_away(error):
        return "database"
    return "data" if is_refused(error) else "fault"


def _kind(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {state}" if state else type(error).__name__
