"""Measuring spools: one folder; those that are seen beside this node's own; those that other nodes tell of.

Not here: the rest of a sample (`collecting`), what is made of it (`flowing`, `arriving`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sluiceway.health.facts import OtherSpool
from sluiceway.infra.reporting import Report
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import START, Position
from sluiceway.ingestion.spool.backlog import Backlog, BacklogMeter
from sluiceway.ingestion.spool.belonging import is_drained, node_of, spool_folders
from sluiceway.ingestion.spool.progress import load_progress

FRESH_S = 5.0
_ATTENDED_S = 10.0


class SpoolMeter:
    """What waits in one spool's folder, for loading and for the lake. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._silver = BacklogMeter(folder)
        self._bronze = BacklogMeter(folder)

    def silver(self, position: Position | None, now: datetime) -> Backlog | None:
        """As its loader tells it; from the folder if it has not for a while. `position`: the database's."""
        told = load_progress(self.folder)
        if told is not None and now.timestamp() - told.at < FRESH_S:
            return Backlog(told.waiting_bytes, told.oldest_received_us)
        known = [p for p in (position, None if told is None else told.read_to) if p is not None]
        return _quietly(lambda: self._silver.measure(max(known))) if known else None

    def bronze(self) -> Backlog | None:
        return _quietly(lambda: self._bronze.measure(_bronze_position(self.folder)))

    def is_attended(self, now: datetime) -> bool:
        """Whether a loader has told lately what waits."""
        told = load_progress(self.folder)
        return told is not None and now.timestamp() - told.at < _ATTENDED_S

    def close(self) -> None:
        self._silver.close()
        self._bronze.close()


class OtherSpools:
    """Those beside this node's own folder, those named by SLUICEWAY_SPOOLS, and other machines'."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._meters: dict[Path, SpoolMeter] = {}

    def nodes(self) -> dict[str, Path]:
        """The nodes whose folders are seen, but this node's own. What is drained is of no interest."""
        own = self._settings.spool_dir
        try:
            folders = [f for f in spool_folders(self._settings) if f != own and not is_drained(f)]
        except OSError:  # a disk that is away
            return {}
        for gone in self._meters.keys() - set(folders):
            self._meters.pop(gone).close()
        return {node_of(folder): folder for folder in folders}

    def measure(
        self,
        seen: Mapping[str, Path],
        positions: Mapping[str, Position],
        reports: Sequence[Report],
        now: datetime,
    ) -> tuple[OtherSpool, ...]:
        """What waits in each of `seen`, whose positions the database knows, and what other nodes' loaders
        say of theirs."""
        found = []
        for node, folder in seen.items():
            meter = self._meters.setdefault(folder, SpoolMeter(folder))
            silver = meter.silver(positions.get(node), now)
            found.append(OtherSpool(node, True, meter.is_attended(now), silver, meter.bronze()))
        elsewhere = (r for r in reports if r.process == "loader" and r.node != self._settings.node)
        found += [_as_told(report, now) for report in elsewhere if report.node not in seen]
        return tuple(found)


def _as_told(report: Report, now: datetime) -> OtherSpool:
    told = {stage: _waiting(report, stage) for stage in ("silver", "bronze")}
    return OtherSpool(report.node, False, not report.is_silent(now), **told)


def _waiting(report: Report, stage: str) -> Backlog | None:
    size_bytes = report.value("sluiceway_waiting_bytes", stage=stage)
    lag_s = report.value("sluiceway_lag_seconds", stage=stage)
    if size_bytes is None or lag_s is None:
        return None
    if size_bytes <= 0:
        return Backlog(0, None)
    return Backlog(int(size_bytes), int((report.at.timestamp() - lag_s) * 1e6))


def _bronze_position(folder: Path) -> Position:
    """Where the lake's writer is, by its cursor file."""
    try:
        return Position(*json.loads((folder / "bronze.cursor").read_text())["position"])
    except (OSError, ValueError, KeyError, TypeError):
        return START


def _quietly(measure: Callable[[], Backlog]) -> Backlog | None:
    try:
        return measure()
    except OSError:
        return None
