"""What becomes of rows that do not pass: quarantined, held, refused, written as dead letters."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from sluiceway.quality.contracts import GateVerdict, Verdict
from sluiceway.transforms.contracts import INDEX, Rejected
from sluiceway.warehouse.contracts import EPOCH, PreparedBatch


def quarantine(rows: pl.DataFrame, verdict: GateVerdict) -> tuple[pl.DataFrame, list[Rejected]]:
    """The rows that pass, and those that the verdict keeps back."""
    holding = verdict.holding
    if verdict.verdict == "hold":
        name = holding.expectation if holding else "hold"
        found = rows.select(INDEX, "event_id", pl.col("event_time").to_physical())
        reason = f"The batch is held: expectation {name!r} failed."
        held = [Rejected(i, "gate", "held", reason, id_, us, name) for i, id_, us in found.iter_rows()]
        return rows.clear(), held
    if not verdict.failing:
        return rows, []
    numbers = sorted(verdict.failing)
    found = rows[numbers].select(INDEX, "event_id", pl.col("event_time").to_physical())
    failed = []
    for number, (index, event_id, event_us) in zip(numbers, found.iter_rows(), strict=True):
        name = verdict.failing[number]
        reason = f"The row fails expectation {name!r}."
        failed.append(Rejected(index, "gate", "quarantined", reason, event_id, event_us, name))
    keep = np.ones(len(rows), dtype=bool)
    keep[numbers] = False
    return rows.filter(pl.Series(keep)), failed


def released(verdict: GateVerdict) -> GateVerdict:
    """The verdict on rows that a person lets go on: they are not held again, but each must pass by itself."""
    if verdict.verdict != "hold":
        return verdict
    return replace(verdict, verdict="quarantine" if verdict.failing else "warn")


def dead_letters(
    batch: PreparedBatch, rejected: Sequence[Rejected], verdict: Verdict
) -> list[dict[str, Any]]:
    arrivals = batch.arrivals
    return [
        {
            "workspace_id": batch.pipeline.workspace_id,
            "pipeline_id": batch.pipeline.id,
            "batch_name": batch.name,
            "position": arrivals.positions[r.index],
            "event_id": r.event_id,
            "event_time": None if r.event_us is None else EPOCH + timedelta(microseconds=r.event_us),
            "step": r.step,
            "code": r.code,
            "reason": r.reason,
            "expectation": r.expectation,
            "payload": arrivals.payloads[r.index],
            "headers": arrivals.headers[r.index],
            "received_at": EPOCH + timedelta(microseconds=arrivals.received_us[r.index]),
            "state": "held" if verdict == "hold" and r.step == "gate" else "open",
        }
        for r in rejected
    ]


def reject(batch: PreparedBatch, reasons: dict[int, str], code: str) -> PreparedBatch:
    """The batch with some of its rows turned into dead letters of step map."""
    rows = batch.mapped.rows
    gone = rows.filter(pl.col(INDEX).is_in(list(reasons)))
    found = gone.select(INDEX, "event_id", pl.col("event_time").to_physical())
    more = [Rejected(i, "map", code, reasons[i][:500], id_, us) for i, id_, us in found.iter_rows()]
    kept = rows.filter(~pl.col(INDEX).is_in(list(reasons)))
    return replace(
        batch, mapped=replace(batch.mapped, rows=kept, rejected=[*batch.mapped.rejected, *more]), verdict=None
    )


def bare(batch: PreparedBatch) -> PreparedBatch:
    """The batch with its dead letters stripped of all that a database could refuse.

    The last way out when the letters themselves cannot be written: ids, headers and reasons are lost to
    them, the bytes are not.
    """
    reason = "The event could not be loaded, and what is known of it could not be written down."
    rejected = [Rejected(r.index, r.step, r.code, reason) for r in batch.mapped.rejected]
    arrivals = replace(batch.arrivals, headers=[{}] * len(batch.arrivals))
    return replace(batch, arrivals=arrivals, mapped=replace(batch.mapped, rejected=rejected))
