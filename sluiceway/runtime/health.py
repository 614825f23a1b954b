"""The platform's own measurements, as events of the pipeline `platform-health`.

Belongs here: measuring processes, spool and flow. Not here: when it is done and how it is sent (`worker`).
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from sluiceway.health.collecting import Collector
from sluiceway.health.facts import Sample, Window
from sluiceway.infra.database import Database, Role
from sluiceway.infra.reporting import Report
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool.belonging import node_of
from sluiceway.ingestion.spool.reader import SpoolReader
from sluiceway.ingestion.spool.segments import used_bytes
from sluiceway.runtime.supervisor import SUPERVISOR, processes_file

_MEGABYTE = 1024 * 1024
_FLOW = sa.text("""
SELECT coalesce(sum(s.events), 0)::bigint AS events, coalesce(sum(s.dead_letters), 0)::bigint AS dead_letters,
       (SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend') AS connections
FROM app.pipeline_state s
""")


@dataclass(slots=True)
class _Usage:
    """What was measured of a group of processes: seconds of processor by process id, and memory."""

    cpu_s: dict[int, float] = field(default_factory=dict)
    memory_mb: float = 0.0


class HealthMeter:
    """Measures this machine's part of the platform; rates are since the previous call."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._before: dict[str, _Usage] = {}
        self._flow: tuple[int, int] | None = None
        self._at: datetime | None = None
        self._reader: SpoolReader | None = None
        self._collector = Collector(settings, database, self._own)
        self._sample: Sample | None = None

    def events(self, now: datetime) -> list[dict[str, Any]]:
        """One event a process and one about the whole; none of a process on the first call (no rate yet)."""
        elapsed_s = (now - self._at).total_seconds() if self._at else 0.0
        self._at = now
        stamp = {"node": self._settings.node, "time": now.isoformat(timespec="milliseconds")}
        found: list[dict[str, Any]] = []
        total = {"cpu_pct": 0.0, "memory_mb": 0.0}
        for name, pid in process_ids(self._settings.home).items():
            usage = _measure(pid, alone=name == SUPERVISOR)
            before = self._before.get(name)
            self._before[name] = usage
            if before is None or elapsed_s <= 0:
                continue
            spent = sum(max(0.0, s - before.cpu_s.get(pid, 0.0)) for pid, s in usage.cpu_s.items())
            figures = {
                "cpu_pct": round(100 * spent / elapsed_s, 2),
                "memory_mb": round(usage.memory_mb, 1),
            }
            for key, value in figures.items():
                total[key] += value
            found.append({"process": name, **stamp, **figures})
        whole = {"process": "platform", **stamp, **self._whole(now, elapsed_s)}
        if found:
            whole |= {key: round(value, 2) for key, value in total.items()}
        return [*found, whole]

    def _whole(self, now: datetime, elapsed_s: float) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "disk_free_mb": round(shutil.disk_usage(self._settings.home).free / _MEGABYTE, 1)
        }
        with self._database.transaction(Role.WRITER) as connection:
            row = connection.execute(_FLOW).one()
            position = connection.execute(
                sa.text('SELECT segment, "offset" FROM app.spool_positions WHERE node = :node'),
                {"node": node_of(self._settings.spool_dir)},
            ).first()
        figures["connections"] = row.connections
        if self._flow is not None and elapsed_s > 0:
            figures["events_per_s"] = round(max(0, row.events - self._flow[0]) / elapsed_s, 2)
            figures["dead_letters"] = max(0, row.dead_letters - self._flow[1])
        self._flow = (row.events, row.dead_letters)
        spool = self._settings.spool_dir
        if spool.is_dir():
            figures["spool_bytes"] = used_bytes(spool)
            start = Position(0, 0) if position is None else Position(position.segment, position.offset)
            figures["lag_s"] = round(self._lag_s(spool, start, now), 3)
        return figures | self._stages()

    def _stages(self) -> dict[str, Any]:
        """What other processes report of their stages; means are since the previous call."""
        before, sample = self._sample, self._collector.sample()
        self._sample = sample
        figures: dict[str, Any] = {}
        if sample.disk.bronze is not None:
            figures["bronze_lag_s"] = round(sample.disk.bronze.lag_s(sample.at.timestamp()), 3)
        if (found := sample.database) is not None:
            oldest = found.dirty_oldest
            figures["gold_lag_s"] = (
                round(max(0.0, (sample.at - oldest).total_seconds()), 3) if oldest else 0.0
            )
            figures["outbox_waiting"] = found.outbox_waiting
        if before is not None:
            window = Window(before, sample)
            means = {
                "batch_s": window.mean("sluiceway_batch_seconds"),
                "sync_s": window.mean("sluiceway_spool_sync_seconds"),
            }
            figures |= {name: round(mean, 6) for name, mean in means.items() if mean is not None}
        return figures

    def _own(self) -> Report:
        """The worker's figures are in its own report; here it only asks."""
        now = datetime.now(UTC)
        return Report(self._settings.node, "meter", now, now, False, {}, [])

    def _lag_s(self, spool: Path, start: Position, now: datetime) -> float:
        """Age of the first record that is not loaded yet, in seconds."""
        if self._reader is None:
            self._reader = SpoolReader(spool)
        waiting = self._reader.read(start, 1)
        return max(0.0, now.timestamp() - waiting[0].received_us / 1e6) if waiting else 0.0


def process_ids(home: Path) -> dict[str, int]:
    """The processes that run on this data folder, by name, as their supervisor wrote them; else only this."""
    try:
        known: dict[str, int] = json.loads(processes_file(home).read_text())
    except (OSError, ValueError):
        return {"worker": os.getpid()}
    return known


def _measure(pid: int, *, alone: bool = False) -> _Usage:
    """A process and what it started (not with `alone`). Memory: private pages of each, shared ones once."""
    usage = _Usage()
    private = shared = 0
    for process in _family(pid, alone):
        try:
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_info()
        except psutil.Error:
            continue
        usage.cpu_s[process.pid] = times.user + times.system
        common = getattr(memory, "shared", 0)
        private += memory.rss - common
        shared = max(shared, common)
    usage.memory_mb = (private + shared) / _MEGABYTE
    return usage


def _family(pid: int, alone: bool) -> Iterable[psutil.Process]:
    try:
        leader = psutil.Process(pid)
        return [leader] if alone else [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return []
