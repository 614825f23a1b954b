"""The face of the slice: a watch that measures every few seconds, and what it makes of it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sluiceway.health.collecting import Collector
from sluiceway.health.contracts import Health, Process, Stage, State, worst
from sluiceway.health.facts import Held, Past, Sample
from sluiceway.health.judgement import stages, trends
from sluiceway.infra.clock import Clock
from sluiceway.infra.database import Database
from sluiceway.infra.reporting import Report
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import Unavailable

EVERY_S = 5.0
_FIRST_S = 5.0
_FIRST_RETRY_S = 2.0
_OLD_S = 15.0

log = logging.getLogger(__name__)


class HealthWatch:
    """Samples of the last half hour. `start` measures in a thread; without it each `assess` measures itself.

    `own` gives this process's report as it is now.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        own: Callable[[], Report],
        *,
        clock: Clock | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._collector = Collector(settings, database, own, clock)
        self._every_s = every_s
        self._past = Past(trends)
        self._lock = threading.Lock()
        self._measuring = threading.Lock()
        self._stop = threading.Event()
        self._measured = threading.Event()
        self._at = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Does not wait: a measurement may hang with the database."""
        self._stop.set()

    def measure(self) -> None:
        """One sample, now."""
        with self._measuring:
            sample = self._collector.sample()
        with self._lock:
            self._past.add(sample)
            self._at = time.monotonic()
        self._measured.set()

    def assess(self, held: Sequence[Held] = ()) -> Health:
        """How the platform is by the newest sample. `held`: what gates hold in the asking workspace.

        Raises `Unavailable` while there is no sample yet.
        """
        if self._thread is None:
            self.measure()
        self._measured.wait(_FIRST_S)
        stuck_s = time.monotonic() - self._at
        with self._lock:
            if not self._past.samples:
                raise Unavailable(
                    "The platform's health has not been measured yet.", retry_after_s=_FIRST_RETRY_S
                )
            return assess(self._past, held, self._every_s, stuck_s if stuck_s > _OLD_S else None)

    def _run(self) -> None:
        while True:
            try:
                self.measure()
            except Exception:
                log.exception("the platform's health could not be measured")
            if self._stop.wait(self._every_s):
                return


def assess(past: Past, held: Sequence[Held], step_s: float, stuck_s: float | None = None) -> Health:
    """The judgement on some samples, at least one. `stuck_s`: since when there is no newer one, if long."""
    newest = past.newest
    found = stages(past, held, stuck_s)
    bad = [stage for stage in found if stage.state in ("warning", "critical")]
    processes = [_process(past, newest, report) for report in newest.reports]
    unknown = any(stage.state == "unknown" for stage in found)
    return Health(
        at=newest.at,
        state=worst([stage.state for stage in found]),
        words=_headline(bad, unknown),
        stages=found,
        processes=processes,
        history_step_s=step_s,
    )


def _headline(bad: list[Stage], unknown: bool) -> str:
    if not bad:
        return "Nothing is known to be wrong, but not all is known." if unknown else "Everything flows."
    broken = [stage.title for stage in bad if stage.state == "critical"]
    names = broken or [stage.title for stage in bad]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    if broken:
        return f"{listed} {'needs' if len(names) == 1 else 'need'} help."
    return f"{listed} {'wants' if len(names) == 1 else 'want'} a look."


def _process(past: Past, newest: Sample, report: Report) -> Process:
    state: State = "ok"
    if report.is_silent(newest.at):
        state = "warning" if report.ended else "critical"
    window = past.window()
    return Process(
        node=report.node,
        name=report.process,
        state=state,
        heard_at=report.at,
        started_at=report.started_at,
        memory_bytes=report.value("process_resident_memory_bytes") if state == "ok" else None,
        cpu_ratio=None if window is None or state != "ok" else window.cpu(report.node, report.process),
    )
