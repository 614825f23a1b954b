"""The platform as people meet it: the web process and the loader, started as processes on one database.

Belongs here: starting, seeding and stopping them. Not here: what a test looks at.
"""

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson

from sluiceway.identity.keys import create_key
from sluiceway.identity.service import create_user
from sluiceway.infra.database import Database, Role
from sluiceway.runtime.applying import apply_source, example_files

EMAIL = "ada@example.com"
PASSWORD = "correct horse battery staple"
ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 180.0
LOAD_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class RunningPlatform:
    """Where it answers, how to get in, and its processes by name."""

    url: str
    email: str
    password: str
    ingest_key: str
    database: Database
    home: Path
    environment: dict[str, str]
    processes: "dict[str, subprocess.Popen[bytes]]"

    def stop(self, name: str) -> None:
        """End a process in order."""
        _end([self.processes[name]])

    def start(self, name: str) -> None:
        """Start a process that was stopped."""
        self.processes[name] = _start(name, self.environment, self.home)

    def send(self, pipeline: str, events: Sequence[dict[str, Any]]) -> None:
        """Events through the real event route; accepted when this returns."""
        body = b"\n".join(orjson.dumps(event) for event in events)
        answer = httpx.post(
            f"{self.url}/v1/pipelines/{pipeline}/events",
            content=body,
            headers={"Authorization": f"Bearer {self.ingest_key}", "Content-Type": "application/x-ndjson"},
            timeout=20,
        )
        assert answer.status_code == 202, answer.text

    def rows(self, pipeline: str) -> int:
        """How many events the loader has taken in."""
        with self.database.transaction(Role.APP, workspace_id=1) as connection:
            found = connection.exec_driver_sql(
                "SELECT coalesce(sum(s.events), 0) FROM app.pipeline_state s"
                " JOIN app.pipelines p ON p.id = s.pipeline_id WHERE p.slug = %(slug)s",
                {"slug": pipeline},
            ).scalar_one()
        return int(found)

    def wait_for_rows(self, pipeline: str, count: int) -> None:
        """Until the loader has taken in at least `count` events."""
        end = time.monotonic() + LOAD_TIMEOUT_S
        while (found := self.rows(pipeline)) < count:
            assert time.monotonic() < end, f"{found} of {count} events of {pipeline} were loaded"
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_platform(
    database: Database, url: str, key: str, home: Path, extra: Mapping[str, str] | None = None
) -> Iterator[RunningPlatform]:
    """Web and loader on the migrated database at `url`, with the examples applied and someone to sign in.

    `extra`: further variables of their environments.
    """
    prepare(database)
    ingest_key = _people_and_keys(database)
    port = free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SLUICEWAY_", "OTEL_"))},
        "SLUICEWAY_HOME": str(home),
        "SLUICEWAY_DATABASE_URL": url,
        "SLUICEWAY_SECRET_KEY": key,
        "SLUICEWAY_NODE": "test",
        "SLUICEWAY_PORT": str(port),
        "SLUICEWAY_LOG_LEVEL": "warning",
        **(extra or {}),
    }
    home.mkdir(parents=True, exist_ok=True)
    children = {name: _start(name, environment, home) for name in ("web", "loader")}
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_ready(address, list(children.values()), home)
        yield RunningPlatform(address, EMAIL, PASSWORD, ingest_key, database, home, environment, children)
    finally:
        _end(list(children.values()))


def _end(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def prepare(database: Database) -> None:
    """The example suites, pipelines and dashboards."""
    for path in example_files():
        apply_source(database, 1, path.read_text())


def _people_and_keys(database: Database) -> str:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        create_user(connection, EMAIL, "Ada Lovelace", PASSWORD, "owner")
        return create_key(connection, 1, "tests", ["ingest"])


def _start(name: str, environment: dict[str, str], home: Path) -> "subprocess.Popen[bytes]":
    with (home / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"sluiceway.runtime.processes.{name}"],
            env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def _wait_until_ready(address: str, children: Sequence["subprocess.Popen[bytes]"], home: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        for child in children:
            if child.poll() is not None:
                logs = "\n".join(path.read_text()[-2000:] for path in home.glob("*.log"))
                raise AssertionError(f"a process ended with {child.returncode}:\n{logs}")
        try:
            if httpx.get(f"{address}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, "the web process does not answer"
        time.sleep(0.1)


def flights(days: int, now: datetime | None = None) -> list[dict[str, Any]]:
    """Real flights of the last `days`, moved to now, none of them later than now."""
    from sluiceway.runtime.demo.calendar import local_today
    from sluiceway.runtime.demo.flights import NewYork

    now = now or datetime.now(UTC)
    source, today = NewYork(), local_today(now)
    found = [event for back in range(days, -1, -1) for event in source.flights(today - timedelta(days=back))]
    return [event.document for event in found if event.at <= now]


def health(minutes: int, now: datetime | None = None) -> list[dict[str, Any]]:
    """Reports as the worker makes them about processes of this shape, one set every ten seconds."""
    now = now or datetime.now(UTC)
    memory = {"web": 310.0, "loader": 420.0, "worker": 120.0, "dagster": 690.0, "postgres": 150.0}
    found: list[dict[str, Any]] = []
    for step in range(minutes * 6, -1, -1):
        at = (now - timedelta(seconds=10 * step)).isoformat()
        wave = math.sin(step / 19) + 0.4 * math.sin(step / 5)
        for index, (process, size) in enumerate(memory.items()):
            cpu = max(0.4, 9 + 5 * index + 4 * math.sin(step / 11 + index))
            found.append(
                {"node": "test", "process": process, "time": at, "cpu_pct": round(cpu, 2),
                 "memory_mb": round(size + 6 * math.sin(step / 23 + index), 1)}
            )  # fmt: skip
        found.append(
            {"node": "test", "process": "platform", "time": at, "cpu_pct": round(60 + 9 * wave, 2),
             "memory_mb": round(sum(memory.values()) + 6 * wave, 1),
             "spool_bytes": int(90_000 + 40_000 * wave),
             "lag_s": round(max(0.0, 0.05 + 0.03 * wave), 3),
             "events_per_s": round(max(0.0, 42 + 14 * wave), 2),
             "bronze_lag_s": round(max(0.0, 4 + 3 * wave), 3), "gold_lag_s": (step % 6) * 10.0,
             "batch_s": round(0.12 + 0.05 * abs(wave), 4), "sync_s": 0.002, "outbox_waiting": 0,
             "dead_letters": 0, "connections": 18 + int(3 * wave), "disk_free_mb": 41_000.0}
        )  # fmt: skip
    return found
