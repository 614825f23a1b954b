"""The face of the slice: `verify` compares a ledger with every layer, and the layers with one another.

Read-only but for temporary tables. Each pipeline is read in one snapshot of the database, taken after its
bronze was read; memory does not grow with the number of ids.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Position
from sluiceway.kit.errors import InvalidInput
from sluiceway.transforms.service import DEFAULT_MAX_EVENT_BYTES
from sluiceway.verification import reading
from sluiceway.verification.contracts import (
    NOTHING,
    Balance,
    Bronze,
    LayerName,
    LayerReport,
    PipelineReport,
    Progress,
    Report,
)
from sluiceway.verification.errors import InvalidLedger
from sluiceway.verification.ledger import Entry, Receipt
from sluiceway.verification.repository import events, measures
from sluiceway.verification.repository.measures import Measure
from sluiceway.verification.repository.session import Connection, Scope, Session

__all__ = ["verify"]

FIRST = 20


def _silent(what: str, done: int, total: int | None) -> None:
    return None


@dataclass(frozen=True, slots=True)
class _Task:
    """What is common to the pipelines of one verification."""

    database: Database
    session: Session
    lake: Bronze | None
    against_ledger: bool
    consumed: frozenset[str]
    first: int
    now: datetime
    max_event_bytes: int
    progress: Progress


def verify(
    database: Database,
    lake: Bronze | None,
    ledger: Iterable[Entry] | None = None,
    *,
    pipelines: Sequence[str] | None = None,
    consumer: Iterable[Receipt] | None = None,
    workspace_id: int = 1,
    received_from: datetime | None = None,
    received_to: datetime | None = None,
    bronze_read_to: Mapping[str, Position] | None = None,
    first: int = FIRST,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    clock: Clock | None = None,
    progress: Progress = _silent,
) -> Report:
    """Compare a sender's ledger (`ledger.Ledger`, or any entries) with bronze, silver, samples and gold.

    Without a ledger the layers are compared with one another. `pipelines`: slugs; default: those that the
    ledger and the consumer name, else every one of the workspace. `consumer`: what a consumer received
    (`ledger.ConsumerList`). Only events received in [`received_from`, `received_to`) are looked at (aware;
    None: open); lines of the ledger that say another time are left out. `lake`: None leaves bronze out.
    `bronze_read_to`: by node, how far its spool was in the lake before this call; what lies beyond waits.
    Without it everything is expected in bronze. `first`: how many ids are named.

    Raises `InvalidLedger`, `InvalidInput`, `PipelineNotFound`, the lake's errors and psycopg's.
    """
    begin, end = _aware(received_from), _aware(received_to)
    if begin is not None and end is not None and end <= begin:
        raise InvalidInput(f"The end of the range ({end}) should lie after its beginning ({begin}).")
    now = (clock or SystemClock()).now()
    with database.transaction(Role.WRITER, workspace_id=workspace_id) as connection:
        known = {p.slug: p for p in Catalog().list(connection, workspace_id)}
    _check_known(known, pipelines or ())
    session = Session(database, workspace_id)
    try:
        session.set_read_to(bronze_read_to or {})
        named: set[str] = set()
        consumed: set[str] = set()
        if ledger is not None:
            named |= reading.copy_ledger(session, ledger, known, (begin, end), progress)
            _check_named(named, pipelines)
        if consumer is not None:
            consumed = reading.copy_consumer(session, consumer, known, progress)
        chosen = _chosen(known, pipelines, named | consumed, ledger is not None or consumer is not None)
        task = _Task(
            database, session, lake, ledger is not None, frozenset(consumed), first, now, max_event_bytes,
            progress,
        )  # fmt: skip
        found = [_verify_pipeline(task, _scope(p, begin, end, now)) for p in chosen]
        return Report(now, found, sorted(named - {p.slug for p in chosen}))
    finally:
        session.close()


def _check_named(named: set[str], wanted: Sequence[str] | None) -> None:
    """A list from which nothing follows is a mistake: its verdict would be that all is well."""
    if not named and not wanted:
        raise InvalidLedger("The ledger names no event: there is nothing to prove.")
    if wanted and named and named.isdisjoint(wanted):
        asked, others = " or ".join(sorted(set(wanted))), ", ".join(sorted(named))
        raise InvalidLedger(f"The ledger names no event of {asked}, only of {others}.")


def _chosen(
    known: Mapping[str, Pipeline], wanted: Sequence[str] | None, named: set[str], listed: bool
) -> list[Pipeline]:
    slugs = sorted(set(wanted)) if wanted else sorted(named) if listed else sorted(known)
    _check_known(known, slugs)
    return [known[slug] for slug in slugs]


def _check_known(known: Mapping[str, Pipeline], slugs: Iterable[str]) -> None:
    for slug in slugs:
        if slug not in known:
            raise PipelineNotFound(f"There is no pipeline {slug!r} in this workspace.")


def _scope(pipeline: Pipeline, begin: datetime | None, end: datetime | None, now: datetime) -> Scope:
    kept = pipeline.spec.retention
    # Bronze goes by whole days of receipt, as `Lake.apply_retention` has it.
    oldest = None if kept.bronze is None else (now - kept.bronze).astimezone(UTC).date()
    return Scope(
        pipeline,
        begin,
        end,
        None if oldest is None else datetime(oldest.year, oldest.month, oldest.day, tzinfo=UTC),
        None if kept.silver is None else now - kept.silver,
    )


def _verify_pipeline(task: _Task, scope: Scope) -> PipelineReport:
    session, slug, first = task.session, scope.pipeline.slug, task.first
    if task.lake is None:
        session.empty("verify_bronze")
    else:
        reading.copy_bronze(session, task.lake, scope, task.now, task.max_event_bytes, task.progress)
    layers: dict[LayerName, LayerReport] = {}
    with session.snapshot() as connection:
        task.progress(f"{slug}: ids", 0, None)
        events.gather(connection, scope)
        layers["bronze"] = _bronze(task, connection, scope)
        layers["silver"] = _silver(task, connection, scope)
        layers["seq"] = measures.check_seqs(connection, scope, first)
        made = _measures(task.database, scope.pipeline)
        layers["samples"], layers["gold"] = _samples_and_gold(task, connection, scope, made)
        if slug in task.consumed:
            layers["consumer"] = measures.check_consumer(connection, scope, first)
        acknowledged, repeated = events.acknowledged(connection) if task.against_ledger else (None, 0)
        letters = events.find_letters(connection, scope)
        balance: Balance | None = None if task.lake is None else events.find_balance(connection)
    return PipelineReport(slug, layers, acknowledged, repeated, letters, balance)


def _bronze(task: _Task, connection: Connection, scope: Scope) -> LayerReport:
    if task.lake is None:
        return LayerReport("bronze", note="left out")
    return _layer(task, "bronze", events.BronzeFindings(connection, scope, task.first))


def _silver(task: _Task, connection: Connection, scope: Scope) -> LayerReport:
    return _layer(task, "silver", events.SilverFindings(connection, scope, task.first))


def _layer(task: _Task, name: LayerName, found: events.BronzeFindings | events.SilverFindings) -> LayerReport:
    return LayerReport(
        name,
        found.checked,
        missing=found.missing,
        doubled=found.doubled,
        extra=found.extra if task.against_ledger else NOTHING,
        waiting=found.count("waiting"),
        out_of_reach=found.count("old"),
    )


def _samples_and_gold(
    task: _Task, connection: Connection, scope: Scope, made: Sequence[Measure]
) -> tuple[LayerReport, LayerReport]:
    slug = scope.pipeline.slug
    with task.session.modeler() as modeler:
        aggregates, floor = measures.find_gold(modeler)
        stretches = measures.find_stretches(modeler, scope, aggregates.get("1d"))
        samples = measures.SampleFindings(connection, scope, made, task.first)
        within = list(measures.above(stretches, _next_day(scope.silver_kept)))
        for number, stretch in enumerate(within):
            task.progress(f"{slug}: samples", number, len(within))
            samples.check(stretch)
        gold = measures.GoldFindings(modeler, scope, aggregates, task.first)
        within = list(measures.above(stretches, floor)) if aggregates else []
        for number, stretch in enumerate(within):
            task.progress(f"{slug}: gold", number, len(within))
            gold.check(stretch)
    notes = []
    if len(aggregates) < len(measures.LEVELS):
        notes.append("not built: " + ", ".join(level for level in measures.LEVELS if level not in aggregates))
    if floor is not None:
        notes.append(f"history before {floor:%Y-%m-%d} is not recomputed")
    return samples.report(), gold.report("; ".join(notes) or None)


def _next_day(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    day = moment.astimezone(UTC)
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _measures(database: Database, pipeline: Pipeline) -> list[Measure]:
    """Every field that makes samples in some version, and in which."""
    catalog = Catalog()
    with database.transaction(Role.WRITER, workspace_id=pipeline.workspace_id) as connection:
        numbers = [v.version for v in catalog.versions(connection, pipeline.workspace_id, pipeline.slug)]
        specs = {n: catalog.get(connection, pipeline.workspace_id, pipeline.slug, n).spec for n in numbers}
    names = {field.name for spec in specs.values() for field in spec.measures}
    found = []
    for name in sorted(names):
        versions = tuple(n for n, spec in specs.items() if any(f.name == name for f in spec.measures))
        found.append(Measure(name, None if len(versions) == len(specs) else versions))
    return found


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
