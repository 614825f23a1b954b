"""What each process tells of itself every few seconds, so that any other can show the whole platform.

A report goes to a file under `SLUICEWAY_HOME/run/reports/<node>/` (the same machine reads it, also while the
database is away) and into `app.process_reports` (other machines read it). Belongs here: writing and reading
reports. Not here: what the figures are (`infra.metrics`), what they mean (`health`).
"""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.metrics import REGISTRY
from sluiceway.infra.settings import Settings

EVERY_S = 5.0
STALE_S = 20.0
"""A process that has not reported for so long is silent: its figures are not shown any more."""
FORGOTTEN_S = 86_400.0
_PATIENCE_S = 2.0

log = logging.getLogger(__name__)

State = Callable[[], dict[str, Any]]
"""What a process says of itself beside its figures: plain JSON, no secret, nobody's data."""


@dataclass(frozen=True)
class Report:
    """One process's last word. `ended`: it stopped in order. `state` is what it said of itself."""

    node: str
    process: str
    at: datetime
    started_at: datetime
    ended: bool
    state: dict[str, Any]
    families: list[Metric]

    def age_s(self, now: datetime) -> float:
        return max(0.0, (now - self.at).total_seconds())

    def is_silent(self, now: datetime) -> bool:
        return self.ended or self.age_s(now) > STALE_S

    def value(self, name: str, **labels: str) -> float | None:
        """A sample by its name (`…_total`, `…_sum`), summed over what `labels` leaves open, or None."""
        found = [value for own, value in self.samples.get(name, ()) if labels.items() <= own.items()]
        return sum(found) if found else None

    @cached_property
    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Labels and values by the sample's name."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in self.families:
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found


def gather(registries: Iterable[CollectorRegistry]) -> list[Metric]:
    """The families of some registries, as they are now."""
    return [family for registry in registries for family in registry.collect()]


class Reporter:
    """Reports one process. `start` in a thread of its own, or `report` by hand; `stop` says good-bye.

    `state` is called for each report. A database that is away costs only the row: the file is written first.
    """

    def __init__(
        self,
        settings: Settings,
        process: str,
        database: Database | None,
        *,
        role: Role = Role.WRITER,
        state: State = dict,
        registries: Sequence[CollectorRegistry] = (REGISTRY,),
        clock: Clock | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._settings = settings
        self._process = process
        self._database = database
        self._role = role
        self._state = state
        self._registries = registries
        self._clock = clock or SystemClock()
        self._every_s = every_s
        self._started_at = self._clock.now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell that the process ends; waits at most a moment for a report that is on its way, and one for
        the database."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_S)
        document = self._document(ended=True)
        try:
            self._write(document)
        except OSError as error:
            log.debug("the last report was not written: %s", error)
        # In a thread: a database that hangs must not keep the process from ending.
        last = threading.Thread(target=self._keep_last, args=(document,), name="last-report", daemon=True)
        last.start()
        last.join(_PATIENCE_S)

    def _keep_last(self, document: dict[str, Any]) -> None:
        try:
            self._keep(document)
        except Exception as error:  # the file has it; other nodes see a silence until the row is swept
            log.debug("the last report was not kept: %s", type(error).__name__)

    def report(self) -> None:
        """One report now. Raises OSError and database errors."""
        document = self._document()
        self._write(document)
        self._keep(document)

    def _keep(self, document: dict[str, Any]) -> None:
        """The row, for other nodes."""
        if self._database is not None:
            with self._database.transaction(self._role) as connection:
                connection.execute(
                    _UPSERT,
                    {
                        "node": self._settings.node,
                        "process": self._process,
                        "at": self._clock.now(),
                        "report": json.dumps(document),
                    },
                )

    def _run(self) -> None:
        failing = False
        while True:
            try:
                self.report()
                failing = False
            except Exception as error:
                if not failing:
                    log.warning("this process's report cannot be kept: %s", type(error).__name__)
                failing = True
            if self._stop.wait(self._every_s):
                return

    def _document(self, *, ended: bool = False) -> dict[str, Any]:
        try:
            state = self._state()
        except Exception as error:  # what is told must not end the telling
            log.debug("the state of %s cannot be told: %s", self._process, error)
            state = {}
        return {
            "node": self._settings.node,
            "process": self._process,
            "at": self._clock.now().isoformat(),
            "started_at": self._started_at.isoformat(),
            "ended": ended,
            "state": state,
            "families": [_as_json(family) for family in gather(self._registries)],
        }

    def _write(self, document: dict[str, Any]) -> None:
        """The file, replaced whole."""
        path = folder(self._settings.home, self._settings.node) / f"{self._process}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(document))
        fresh.replace(path)


_UPSERT = sa.text("""
INSERT INTO app.process_reports AS known (node, process, at, report)
VALUES (:node, :process, :at, CAST(:report AS jsonb))
ON CONFLICT (node, process) DO UPDATE SET at = excluded.at, report = excluded.report
""")


def folder(home: Path, node: str) -> Path:
    """Where the processes of a node leave their reports."""
    return home / "run" / "reports" / node


def read_reports(home: Path, node: str) -> list[Report]:
    """The last words of this node's processes, silent ones too; what cannot be read is left out."""
    found = []
    for path in sorted(folder(home, node).glob("*.json")):
        try:
            found.append(_report(json.loads(path.read_text())))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.debug("the report %s cannot be read: %s", path, error)
    return found


def find_reports(connection: sa.Connection, now: datetime) -> list[Report]:
    """The reports of every node's processes of the last day; what cannot be read is left out."""
    rows = connection.execute(
        sa.text("SELECT report FROM app.process_reports WHERE at > :since ORDER BY node, process"),
        {"since": datetime.fromtimestamp(now.timestamp() - FORGOTTEN_S, UTC)},
    )
    found = []
    for row in rows:
        try:
            found.append(_report(row.report))
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # another version's, or damaged
            log.debug("a report of the database cannot be read: %s", type(error).__name__)
    return found


def sweep_reports(connection: sa.Connection, now: datetime) -> int:
    """Delete what is older than a day; returns how many rows."""
    return connection.execute(
        sa.text("DELETE FROM app.process_reports WHERE at < :before"),
        {"before": datetime.fromtimestamp(now.timestamp() - FORGOTTEN_S, UTC)},
    ).rowcount


def _as_json(family: Metric) -> dict[str, Any]:
    return {
        "name": family.name,
        "kind": family.type,
        "help": family.documentation,
        "samples": [[s.name, s.labels, s.value] for s in family.samples],
    }


def _report(document: dict[str, Any]) -> Report:
    """Raises ValueError, KeyError, TypeError or AttributeError where it is not a report."""
    families = []
    for found in document["families"]:
        family = Metric(found["name"], found["help"], found["kind"])
        for name, labels, value in found["samples"]:
            family.add_sample(name, labels, value)
        families.append(family)
    at, started_at = (datetime.fromisoformat(document[key]) for key in ("at", "started_at"))
    if at.tzinfo is None or started_at.tzinfo is None:
        raise ValueError("times need a zone")
    return Report(
        node=str(document["node"]),
        process=str(document["process"]),
        at=at,
        started_at=started_at,
        ended=bool(document["ended"]),
        state=dict(document["state"]),
        families=families,
    )
