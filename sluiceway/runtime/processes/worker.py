"""`python -m sluiceway.runtime.processes.worker`: what has to happen beside the data path.

The outbox; gold's refresh, on either kind of server; partitions for the time to come; Dagster's reload when
the catalog changed; the platform's own measurements, sent through the event route like anybody else's. Each
job has its thread and its pace; a failure is logged and tried again.
"""

import http.client
import json
import logging
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sluiceway.audit.keeping import drop_old, note_heads
from sluiceway.catalog.service import Catalog
from sluiceway.identity import closing
from sluiceway.infra import mail
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.connect import open_database
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbox import Handler, OutboxMessage, OutboxWorker, sweep
from sluiceway.infra.reporting import sweep_reports
from sluiceway.infra.settings import Settings
from sluiceway.infra.trouble import Trouble
from sluiceway.loading.jobs import TOPIC, run_replay
from sluiceway.runtime.accounts import ensure_key
from sluiceway.runtime.auditing import PLATFORM
from sluiceway.runtime.closing import eraser
from sluiceway.runtime.dagster_home import reload_if_running
from sluiceway.runtime.gold import build_gold
from sluiceway.runtime.health import HealthMeter
from sluiceway.runtime.housekeeping import UsageMeter, forget
from sluiceway.runtime.processes.entry import run, stop_event
from sluiceway.runtime.processes.observing import observed
from sluiceway.warehouse.gold import refresh_dirty
from sluiceway.warehouse.schema import ensure_partitions

log = logging.getLogger(__name__)

HEALTH = "platform-health"
OUTBOX_EVERY_S = 1.0
REPLAYS_EVERY_S = 2.0
HEALTH_EVERY_S = 5.0
GOLD_EVERY_S = 60.0
PARTITIONS_EVERY_S = 3600.0
USAGE_EVERY_S = 3600.0
LIMITS_EVERY_S = 60.0
AUDIT_EVERY_S = 3600.0
_WAITING_REPORTS = 120  # batches of measurements kept while the web process is away: ten minutes


@dataclass(frozen=True, slots=True)
class Job:
    """Something done again and again, `every_s` after the start of the time before."""

    name: str
    every_s: float
    work: Callable[[], None]


class Jobs:
    """Runs each job in a thread of its own until told to stop."""

    def __init__(self, jobs: list[Job], stop: threading.Event) -> None:
        self._stop = stop
        self.troubles = {job.name: Trouble() for job in jobs}
        self._threads = [
            threading.Thread(target=self._repeat, args=(job,), name=job.name, daemon=True) for job in jobs
        ]

    def state(self) -> dict[str, Any]:
        """Which jobs fail, since when and why; None for those that go well."""
        return {"jobs": {name: trouble.as_dict() for name, trouble in self.troubles.items()}}

    def run(self, patience_s: float = 4.0) -> None:
        """Returns when asked to stop, after at most `patience_s` for what is being done."""
        for thread in self._threads:
            thread.start()
        self._stop.wait()
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _repeat(self, job: Job) -> None:
        trouble = self.troubles[job.name]
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                job.work()
                trouble.went_well()
            except Exception as error:
                trouble.failed(error, datetime.now(UTC))
                failures = trouble.failures
                if failures in (1, 10) or failures % 100 == 0:
                    log.warning(
                        "%s failed (%d times): %s: %s", job.name, failures, type(error).__name__, error
                    )
            pause = job.every_s * min(8, 2 ** min(trouble.failures, 3))
            self._stop.wait(max(0.05, pause - (time.monotonic() - begun)))


def main(settings: Settings) -> int:
    stop = stop_event()
    database = open_database(settings, pool_size=4)
    outbox = OutboxWorker(database, f"{settings.node}-worker", handlers(settings, database))
    # Apart from the others: a replay may take hours.
    replays = OutboxWorker(database, f"{settings.node}-replays", {TOPIC: replay_handler(settings, database)})
    health = HealthReporter(settings, database)
    usage = UsageMeter(settings, database)
    # Apart, too, and one at a time: a mail server may be slow.
    mails = OutboxWorker(database, f"{settings.node}-mail", mail_handlers(settings, database))
    # And this: a large workspace takes long to erase.
    closings = OutboxWorker(database, f"{settings.node}-closing", {closing.TOPIC: eraser(settings, database)})
    jobs = [
        Job("outbox", OUTBOX_EVERY_S, lambda: _drain(outbox, stop)),
        Job("replays", REPLAYS_EVERY_S, lambda: _one_by_one(replays, stop)),
        Job("mail", OUTBOX_EVERY_S, lambda: _one_by_one(mails, stop)),
        Job("closing", REPLAYS_EVERY_S, lambda: _one_by_one(closings, stop)),
        Job("health", HEALTH_EVERY_S, health.report),
        Job("partitions", PARTITIONS_EVERY_S, lambda: _keep_house(database)),
        Job("usage", USAGE_EVERY_S, usage.measure),
        Job("limits", LIMITS_EVERY_S, usage.tell),
        Job("forget", PARTITIONS_EVERY_S, lambda: forget(settings, database)),
        Job("audit", AUDIT_EVERY_S, lambda: _keep_audit(settings, database)),
        Job("gold", GOLD_EVERY_S, lambda: _refresh_gold(database)),
    ]
    running = Jobs(jobs, stop)
    log.info("worker started: %s", ", ".join(job.name for job in jobs))
    with observed(settings, "worker", database, running.state):
        running.run()
    database.dispose()
    return 0


def handlers(settings: Settings, database: Database) -> dict[str, Handler]:
    """What is done with each topic of the outbox."""

    def rebuild(message: OutboxMessage) -> None:
        """A pipeline or suite is new or changed: gold's staging views and Dagster's assets follow."""
        if message.topic == "catalog.changed" and build_gold(settings, database).ran:
            log.info("gold was built anew for %s", message.payload)
        reload_if_running(settings.dagster_url)

    def note(message: OutboxMessage) -> None:
        log.warning("%s in workspace %d: %s", message.topic, message.workspace_id, message.payload)

    return {"catalog.changed": rebuild, "suite.changed": rebuild, "gate.held": note}


def mail_handlers(settings: Settings, database: Database) -> dict[str, Handler]:
    """Delivers mail, where a mail server is set."""
    return {mail.TOPIC: mail.deliverer(settings, database)} if mail.mail_configured(settings) else {}


def _one_by_one(outbox: OutboxWorker, stop: threading.Event) -> None:
    while not stop.is_set() and outbox.work(limit=1):
        pass


def replay_handler(settings: Settings, database: Database) -> Handler:
    """Runs a replay that the API was asked for. The lake and the gate are opened when the first one comes."""

    def handle(message: OutboxMessage) -> None:
        from functools import partial

        from sluiceway.lake.service import Lake
        from sluiceway.loading.replay import replay_day
        from sluiceway.runtime.container import make_gate

        bound = partial(
            replay_day,
            database,
            Lake(settings),
            make_gate(database),
            max_event_bytes=settings.max_event_bytes,
        )
        replay_id = UUID(message.payload["replay_id"])
        after = message.payload.get("after")
        if after is not None:
            from sluiceway.loading.catching_up import is_ready

            moment = datetime.fromisoformat(after)
            if not is_ready(database, message.workspace_id, replay_id, moment, SystemClock()):
                return
        done = run_replay(database, message.workspace_id, replay_id, bound, SystemClock())
        log.info("replay of %s: %s, %d days, %d rows", done.pipeline, done.state, done.days_done, done.rows)

    return handle


def _drain(outbox: OutboxWorker, stop: threading.Event) -> None:
    while not stop.is_set() and outbox.work():
        pass


def _refresh_gold(database: Database) -> None:
    begun = time.monotonic()
    count = refresh_dirty(database)
    if count:
        log.info("gold: %d dirty buckets refreshed in %.2f s", count, time.monotonic() - begun)


def _keep_house(database: Database) -> None:
    """Partitions for this month and the next, and an outbox without what was done long ago."""
    now = datetime.now(UTC)
    ahead = [now, now + timedelta(days=31)]
    with database.transaction(Role.WRITER) as connection:
        tables = [p.silver_table for p in Catalog().all(connection) if p.state != "archived"]
        sweep(connection)
        sweep_reports(connection, now)
        mail.sweep_mails(connection, now)
    for parent in [*tables, "samples"]:
        ensure_partitions(database, parent, ahead)
    ensure_partitions(database, "event_keys", [now, now + timedelta(days=7)], "week")


def _keep_audit(settings: Settings, database: Database) -> None:
    """Drop what is old of the audit log, and say in this process's log where each chain is."""
    drop_old(database, timedelta(days=settings.audit_days), PLATFORM)
    note_heads(database)


class HealthReporter:
    """Sends measurements through the event route; keeps them for ten minutes while it does not answer."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._meter = HealthMeter(settings, database)
        self._waiting: deque[bytes] = deque(maxlen=_WAITING_REPORTS)
        self._connection: http.client.HTTPConnection | None = None
        self._key: str | None = None

    def report(self) -> None:
        """Measure, then send what waits. Raises `OSError` if the event route does not answer."""
        events = self._meter.events(datetime.now(UTC))
        self._waiting.append(b"".join(json.dumps(event).encode() + b"\n" for event in events))
        while self._waiting:
            self._send(self._waiting[0])
            self._waiting.popleft()

    def _send(self, body: bytes) -> None:
        if self._key is None:
            path = self._settings.home / "keys" / HEALTH
            self._key = ensure_key(self._database, path, "the platform's own measurements", [HEALTH])
        connection = self._connect()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/x-ndjson"}
        try:
            connection.request("POST", f"/v1/pipelines/{HEALTH}/events", body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._disconnect()
            raise
        if response.status == 401:
            self._key = None
        if response.status != 202:
            raise OSError(
                f"the event route answered {response.status}: {answer[:200].decode(errors='replace')}"
            )

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urllib.parse.urlsplit(self._settings.internal_url)
            secure = parts.scheme == "https"
            maker = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = maker(parts.hostname or "localhost", parts.port, timeout=10)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


if __name__ == "__main__":
    raise SystemExit(run(main))
