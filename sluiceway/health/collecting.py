"""Measuring: reports of processes, this node's disk, the database. One sample at a time."""

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psycopg
import sqlalchemy as sa

from sluiceway.health.facts import DatabaseFacts, Held, NodeFacts, Sample
from sluiceway.health.spools import OtherSpools, SpoolMeter
from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.reporting import FORGOTTEN_S, Report, find_reports, read_reports
from sluiceway.infra.settings import Settings
from sluiceway.infra.trouble import describe, without_credentials
from sluiceway.ingestion.contracts import START, Position
from sluiceway.ingestion.spool import segments
from sluiceway.ingestion.spool.belonging import node_of

_MOST_HELD = 5

_POSITIONS = sa.text('SELECT node, segment, "offset" FROM app.spool_positions WHERE node = ANY(:nodes)')
_HELD = sa.text("""
SELECT p.slug AS pipeline, d.events, d.since
FROM app.pipelines p CROSS JOIN LATERAL (
  SELECT count(*) AS events, min(created_at) AS since
  FROM quality.dead_letters WHERE pipeline_id = p.id AND state = 'held'
) d
WHERE p.workspace_id = :workspace AND d.events > 0 ORDER BY d.events DESC LIMIT :most
""")


class Collector:
    """Measures this node and, through the database, the others. One thread at a time."""

    def __init__(
        self, settings: Settings, database: Database, own: Callable[[], Report], clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._database = database
        self._own = own
        self._clock = clock or SystemClock()
        self._meter = SpoolMeter(settings.spool_dir)
        self._others = OtherSpools(settings)
        self._positions: dict[str, Position] = {}

    def sample(self) -> Sample:
        """Everything, now. What cannot be had is None; raises nothing for it."""
        now = self._clock.now()
        own = self._own()
        reports = {(r.node, r.process): r for r in read_reports(self._settings.home, self._settings.node)}
        own_spool, seen = node_of(self._settings.spool_dir), self._others.nodes()
        facts: DatabaseFacts | None = None
        error: str | None = None
        try:
            began = time.perf_counter()
            with self._database.transaction(Role.APP) as connection:
                row = connection.execute(sa.text("SELECT * FROM app.health_figures()")).mappings().one()
                facts = DatabaseFacts(answer_s=time.perf_counter() - began, **row)
                self._positions = _find_positions(connection, [own_spool, *seen])
                for report in find_reports(connection, now):
                    reports.setdefault((report.node, report.process), report)
        except (sa.exc.SQLAlchemyError, psycopg.Error, OSError) as failure:
            error = describe(failure)
        reports[own.node, own.process] = own
        kept = [r for _, r in sorted(reports.items()) if r.age_s(now) < FORGOTTEN_S]
        return Sample(
            at=now,
            node=self._settings.node,
            reports=kept,
            disk=self._measure_disk(self._positions.get(own_spool), now),
            database=facts,
            database_error=error,
            flush_s=float(self._settings.bronze_flush_s),
            lake=without_credentials(self._settings.lake_url),
            others=self._others.measure(seen, self._positions, kept, now),
        )

    def _measure_disk(self, position: Position | None, now: datetime) -> NodeFacts:
        settings = self._settings
        folder = settings.spool_dir
        usage = shutil.disk_usage(settings.home if settings.home.exists() else Path("/"))
        return NodeFacts(
            spool_bytes=segments.used_bytes(folder),
            spool_max_bytes=settings.spool_max_bytes,
            segments=len(segments.numbers(folder)),
            disk_free_bytes=usage.free,
            disk_total_bytes=usage.total,
            disk_reserve_bytes=settings.disk_reserve_bytes,
            silver=self._meter.silver(position, now),
            bronze=self._meter.bronze(),
        )


def _find_positions(connection: sa.Connection, nodes: list[str]) -> dict[str, Position]:
    """How far each node's spool is loaded; one that has not begun is at the start."""
    rows = connection.execute(_POSITIONS, {"nodes": nodes})
    return dict.fromkeys(nodes, START) | {row.node: Position(row.segment, row.offset) for row in rows}


def find_held(connection: sa.Connection, workspace_id: int) -> list[Held]:
    """What the gates of a workspace hold, most first. Row security is the other lock on it."""
    rows = connection.execute(_HELD, {"workspace": workspace_id, "most": _MOST_HELD})
    return [Held(row.pipeline, row.events, row.since) for row in rows]
