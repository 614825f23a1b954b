"""Whether a process does its work, asked from beside it: what a container's health check calls."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from sluiceway.infra.connect import open_database
from sluiceway.infra.database import Role
from sluiceway.infra.settings import Settings
from sluiceway.runtime.dagster_home import storage_environment
from sluiceway.runtime.environment import child_environment
from sluiceway.runtime.health import HealthMeter

MOST_LAG_S = 120.0
_DAGSTER_TIMEOUT_S = 30


def problem_of(name: str, settings: Settings) -> str | None:
    """What is wrong with the process `name` of this machine, None if nothing is."""
    return _PROBES[name](settings)


def _web(settings: Settings) -> str | None:
    from sluiceway.runtime.up import answers

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared only
    return None if answers(f"http://{host}:{settings.port}/readyz", 5.0) else "it does not answer /readyz"


def _loader(settings: Settings) -> str | None:
    database = open_database(settings, pool_size=1)
    meter = HealthMeter(settings, database)
    lag_s = next((e["lag_s"] for e in meter.events(datetime.now(UTC)) if "lag_s" in e), 0.0)
    database.dispose()
    return None if lag_s < MOST_LAG_S else f"an event has waited for {lag_s:.0f} s in the spool"


def _worker(settings: Settings) -> str | None:
    database = open_database(settings, pool_size=1)
    with database.transaction(Role.WRITER) as connection:
        waiting: int = connection.execute(
            sa.text(
                "SELECT count(*) FROM app.outbox WHERE done_at IS NULL AND attempts = 0"
                " AND available_at < now() - make_interval(secs => :lag)"
            ),
            {"lag": MOST_LAG_S},
        ).scalar_one()
    database.dispose()
    return None if waiting == 0 else f"{waiting} messages of the outbox wait unseen"


def _dagster_web(settings: Settings) -> str | None:
    from sluiceway.runtime.up import answers

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared only
    address = f"http://{host}:{settings.dagster_port}/server_info"
    return None if answers(address, 5.0) else "it does not answer /server_info"


def _dagster_code(settings: Settings) -> str | None:
    host, port = settings.dagster_code_host, str(settings.dagster_code_port)
    return _dagster(settings, "dagster", "api", "grpc-health-check", "-p", port, "-h", host)


def _dagster_daemon(settings: Settings) -> str | None:
    return _dagster(settings, "dagster._daemon", "liveness-check")


def _dagster(settings: Settings, *arguments: str) -> str | None:
    environment = child_environment(settings, storage_environment(settings))
    try:
        done = subprocess.run(
            [sys.executable, "-m", *arguments], capture_output=True, text=True,
            timeout=_DAGSTER_TIMEOUT_S, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"the check did not end within {_DAGSTER_TIMEOUT_S} s"
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()[-300:] or "unhealthy"


_PROBES: dict[str, Callable[[Settings], str | None]] = {
    "web": _web,
    "ingest": _web,
    "loader": _loader,
    "worker": _worker,
    "dagster-code": _dagster_code,
    "dagster-web": _dagster_web,
    "dagster-daemon": _dagster_daemon,
}
