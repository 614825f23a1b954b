"""The platform's own measurements, and the worker that sends them."""

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.runtime.accounts import ensure_first_user, ensure_key
from sluiceway.runtime.applying import EXAMPLES, apply_source
from sluiceway.runtime.health import HealthMeter
from sluiceway.runtime.liveness import problem_of
from sluiceway.runtime.processes.worker import HEALTH, Job, Jobs
from sluiceway.runtime.supervisor import processes_file

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_processes_and_the_whole_are_measured(settings: Settings, database: Database) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    path = processes_file(settings.home)
    path.parent.mkdir(parents=True)
    path.write_bytes(orjson.dumps({"web": os.getpid(), "gone": 2**22 - 1}))
    meter = HealthMeter(settings, database)
    first = meter.events(NOW)
    assert [event["process"] for event in first] == ["platform"]  # a rate needs two looks
    sum(i * i for i in range(400_000))
    web, gone, whole = meter.events(NOW + timedelta(seconds=5))
    assert web["process"] == "web" and 0 < web["cpu_pct"] <= 200 and web["memory_mb"] > 20
    assert gone["memory_mb"] == 0
    assert whole["connections"] >= 1 and whole["events_per_s"] == 0 and whole["disk_free_mb"] > 0
    assert web["time"] == "2026-11-21T12:00:05.000+00:00" and web["node"] == "test"


def test_events_fit_the_pipeline(settings: Settings, database: Database) -> None:
    from sluiceway.catalog.service import parse

    settings.home.mkdir(parents=True, exist_ok=True)
    settings.spool_dir.mkdir(parents=True)
    spec = parse((EXAMPLES / "pipelines" / f"{HEALTH}.yml").read_text())
    meter = HealthMeter(settings, database)
    meter.events(NOW)
    (*_, whole) = meter.events(NOW + timedelta(seconds=5))
    assert set(whole) - {"time"} <= {field.name for field in spec.fields}
    assert whole["lag_s"] == 0 and whole["spool_bytes"] == 0
    assert whole["bronze_lag_s"] == whole["gold_lag_s"] == whole["outbox_waiting"] == 0


def test_the_key_is_made_once_and_anew_when_revoked(database: Database, tmp_path: Path) -> None:
    apply_source(database, 1, (EXAMPLES / "pipelines" / f"{HEALTH}.yml").read_text())
    path = tmp_path / "keys" / HEALTH
    text = ensure_key(database, path, "own", [HEALTH])
    assert ensure_key(database, path, "own", [HEALTH]) == text
    assert path.stat().st_mode & 0o077 == 0
    with database.transaction(Role.APP, workspace_id=1) as connection:
        from sluiceway.identity.keys import revoke_key

        revoke_key(connection, 1, text.split("_")[1], at=SystemClock().now())
    assert ensure_key(database, path, "own", [HEALTH]) != text


def test_the_first_person_is_made_once_with_a_password_of_this_installation(
    database: Database, tmp_path: Path
) -> None:
    made = ensure_first_user(database, tmp_path, demo=True)
    assert made is not None and made[0] == "demo@sluiceway.local" and len(made[1]) >= 17
    assert ensure_first_user(database, tmp_path, demo=True) == made
    assert (tmp_path / "sign-in.json").stat().st_mode & 0o077 == 0
    (tmp_path / "sign-in.json").unlink()
    assert ensure_first_user(database, tmp_path, demo=True) is None


def test_a_job_that_fails_is_tried_again_and_all_stop_in_time(caplog: pytest.LogCaptureFixture) -> None:
    stop, calls = threading.Event(), []

    def fail() -> None:
        calls.append(time.monotonic())
        if len(calls) >= 3:
            stop.set()
        raise RuntimeError("no luck")

    Jobs([Job("failing", 0.01, fail), Job("idle", 60.0, lambda: None)], stop).run()
    assert len(calls) >= 3
    assert "failing failed (1 times): RuntimeError: no luck" in caplog.text


def test_liveness_of_loader_and_worker(settings: Settings, database: Database) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    assert problem_of("loader", settings) is None
    assert problem_of("worker", settings) is None
    with database.transaction(Role.OWNER) as connection:
        connection.exec_driver_sql(
            "INSERT INTO app.outbox (workspace_id, topic, payload, available_at)"
            " VALUES (1, 't', '{}', now() - interval '1 hour')"
        )
    assert problem_of("worker", settings) == "1 messages of the outbox wait unseen"
    assert problem_of("web", settings) == "it does not answer /readyz"


def test_processes_without_the_engine_do_not_import_it() -> None:
    for module in ("web", "worker"):
        code = f"import sys, sluiceway.runtime.processes.{module}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        loaded = set(done.stdout.split())
        assert loaded & {"great_expectations", "dagster", "dbt", "polars", "sklearn"} == set(), module
