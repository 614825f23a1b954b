"""A batch in figures: the row that is kept of it, and what those hear who wait for new rows."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sluiceway.catalog.contracts import Pipeline
from sluiceway.warehouse.contracts import EPOCH, PreparedBatch
from sluiceway.warehouse.judging import Judged


def batch_values(batch: PreparedBatch, judged: Judged, seqs: npt.NDArray[np.int64]) -> dict[str, Any]:
    """What `silver.batches` keeps of a batch but its id; `seqs`: of its rows."""
    measures = [measure.name for measure in batch.pipeline.spec.measures]
    times = judged.rows["event_time"]
    received = batch.arrivals.received_us
    return {
        "workspace_id": batch.pipeline.workspace_id,
        "pipeline_id": batch.pipeline.id,
        "name": batch.name,
        "origin": batch.origin,
        "pipeline_version": batch.pipeline.version,
        "verdict": judged.outcome,
        "events": len(batch.arrivals),
        "rows": len(seqs),
        "samples": sum(len(judged.rows) - judged.rows[name].null_count() for name in measures),
        "duplicates": judged.duplicates,
        "dead_letters": len(judged.rejected),
        "size_bytes": batch.size_bytes,
        "first_seq": int(seqs.min()) if len(seqs) else None,
        "last_seq": int(seqs.max()) if len(seqs) else None,
        "min_event_time": times.min(),
        "max_event_time": times.max(),
        "min_received_at": EPOCH + timedelta(microseconds=min(received)),
        "max_received_at": EPOCH + timedelta(microseconds=max(received)),
    }


def announcement(
    pipeline: Pipeline,
    values: dict[str, Any],
    now: datetime,
    seqs: tuple[int, int] | None,
    trace: str | None = None,
) -> str:
    """The notification of new rows, as JSON of less than 7 kB. `seqs`: first and last new one, if any is.

    `trace`: the batch's `traceparent`, if it is traced.
    """
    told = {
        "t": "batch",
        "w": pipeline.workspace_id,
        "p": pipeline.id,
        "s": pipeline.slug,
        "seq": seqs,
        "n": values["rows"],
        "min": values["min_event_time"],
        "max": values["max_event_time"],
        "at": now,
    }
    if trace is not None:
        told["tp"] = trace
    return orjson.dumps(told, option=orjson.OPT_UTC_Z).decode()
