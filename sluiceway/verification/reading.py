"""Ledgers, consumers' lists and bronze into the session's temporary tables, a piece at a time.

Bronze goes through the transform that the loader and the replay use: an event's id is what they would make of
its bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, TypeVar

import polars as pl

from sluiceway.catalog.contracts import Pipeline
from sluiceway.kit.errors import FieldError
from sluiceway.loading.preparing import map_arrivals
from sluiceway.loading.replay import arrivals_of_bronze
from sluiceway.transforms.contracts import Arrivals, Mapped
from sluiceway.transforms.service import Transform
from sluiceway.verification.contracts import Bronze, Progress
from sluiceway.verification.errors import InvalidLedger
from sluiceway.verification.ledger import Entry, Receipt
from sluiceway.verification.repository.session import Scope, Session

T = TypeVar("T")

_PIECE = 50_000  # lines
_TIME = pl.Datetime("us", "UTC")
_BRONZE = {"position": pl.String, "event_id": pl.String, "event_time": _TIME, "received_at": _TIME}


def copy_ledger(
    session: Session,
    entries: Iterable[Entry],
    pipelines: Mapping[str, Pipeline],
    scope: tuple[datetime | None, datetime | None],
    progress: Progress,
) -> set[str]:
    """Copy the entries of `pipelines` whose time, if they have one, lies in `scope`; returns the slugs met.

    Raises `InvalidLedger` for a pipeline that the workspace does not have.
    """
    begin, end = scope
    schema: dict[str, Any] = {
        "pipeline_id": pl.Int32, "event_id": pl.String, "position": pl.String, "at": _TIME,
    }  # fmt: skip
    met: set[str] = set()

    def wanted(entry: Entry) -> bool:
        if entry.at is None:
            return True
        return (begin is None or entry.at >= begin) and (end is None or entry.at < end)

    for read, piece in _pieces(entries, "ledger", progress):
        rows = []
        for entry in piece:
            met.add(entry.pipeline)
            if wanted(entry):
                at = None if entry.at is None else entry.at.astimezone(UTC)
                known = _pipeline(pipelines, entry.pipeline, entry.line)
                if entry.position is not None and known.spec.source.split is not None:
                    raise _split(entry)
                rows.append((known.id, entry.event_id or None, entry.position, at))
        session.copy("verify_ledger", pl.DataFrame(rows, schema=schema, orient="row"))
        progress("ledger", read, None)
    session.analyze("verify_ledger")
    return met


def copy_consumer(
    session: Session, receipts: Iterable[Receipt], pipelines: Mapping[str, Pipeline], progress: Progress
) -> set[str]:
    """Copy what a consumer received; returns the slugs met. Raises `InvalidLedger`."""
    schema = {"pipeline_id": pl.Int32, "event_id": pl.String, "seq": pl.Int64}
    met: set[str] = set()
    for _, piece in _pieces(receipts, "consumer", progress):
        met.update(receipt.pipeline for receipt in piece)
        rows = [(_pipeline(pipelines, r.pipeline, r.line).id, r.event_id, r.seq) for r in piece]
        session.copy("verify_consumer", pl.DataFrame(rows, schema=schema, orient="row"))
    session.analyze("verify_consumer")
    return met


def copy_bronze(
    session: Session, lake: Bronze, scope: Scope, now: datetime, max_event_bytes: int, progress: Progress
) -> None:
    """The id, position and times of every event of bronze in the scope."""
    session.empty("verify_bronze")
    transform = Transform(scope.pipeline.spec, max_event_bytes=max_event_bytes)
    read = 0
    for day in lake.days(scope.pipeline):
        if not _in_range(day, scope):
            continue
        for records in lake.read_bronze(scope.pipeline, day):
            arrivals, mapped = map_arrivals(transform, arrivals_of_bronze(records), now)
            session.copy("verify_bronze", _frame(arrivals, mapped, scope))
            read += records.num_rows
            progress(f"{scope.pipeline.slug}: bronze of {day}", read, None)
    session.analyze("verify_bronze")


def _frame(arrivals: Arrivals, mapped: Mapped, scope: Scope) -> pl.DataFrame:
    rejected = [
        (arrivals.positions[r.index], r.event_id, r.event_us, arrivals.received_us[r.index])
        for r in mapped.rejected
    ]
    schema = {"position": pl.String, "event_id": pl.String, "event_time": pl.Int64, "received_at": pl.Int64}
    others = pl.DataFrame(rejected, schema=schema, orient="row").cast(
        {"event_time": _TIME, "received_at": _TIME}
    )
    found = pl.concat([mapped.rows.select(list(_BRONZE)), others])
    if scope.begin is not None:
        found = found.filter(pl.col("received_at") >= scope.begin)
    return found if scope.end is None else found.filter(pl.col("received_at") < scope.end)


def _in_range(day: date, scope: Scope) -> bool:
    after = scope.begin is None or day >= scope.begin.astimezone(UTC).date()
    return after and (scope.end is None or day <= scope.end.astimezone(UTC).date())


def _pieces(lines: Iterable[T], what: str, progress: Progress) -> Iterator[tuple[int, list[T]]]:
    source = iter(lines)
    read = 0
    while piece := list(islice(source, _PIECE)):
        read += len(piece)
        yield read, piece
        progress(what, read, None)


def _pipeline(pipelines: Mapping[str, Pipeline], slug: str, line: int) -> Pipeline:
    found = pipelines.get(slug)
    if found is None:
        where = f"line {line}: " if line else ""
        raise InvalidLedger(
            f"{where}there is no pipeline {slug!r} in this workspace.",
            errors=[FieldError("pipeline", "should name a pipeline of the workspace", line or None)],
        )
    return found


def _split(entry: Entry) -> InvalidLedger:
    message = "cannot stand for an id: this pipeline takes several events from one (source.split)"
    return InvalidLedger(
        f"line {entry.line}: position {message}.",
        errors=[FieldError("position", message, entry.line or None)],
    )
