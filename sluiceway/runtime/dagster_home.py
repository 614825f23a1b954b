"""Dagster's own folder and commands: storage in our PostgreSQL, no telemetry, bounded concurrency.

Dagster shows what is in `dagster.yaml` to whoever opens its pages: the storage's address, which holds the
orchestrator role's password, comes to its processes through their environment instead.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import yaml

from sluiceway.infra.connect import open_database
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings

LOCATION = "sluiceway"
REPOSITORY_ROOT = Path(__file__).parents[2]
MAX_RUNS = 2
STORAGE_VARIABLE = "DAGSTER_STORAGE_URL"
_RELOAD = """
mutation Reload($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } }
    ... on PythonError { message }
  }
}
"""


def write_dagster_home(settings: Settings) -> Path:
    """Write `dagster.yaml` under the data folder; returns the folder, which is DAGSTER_HOME."""
    home = settings.home / "dagster"
    (home / "artifacts").mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "storage": {"postgres": {"postgres_url": {"env": STORAGE_VARIABLE}}},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "concurrency": {
            "runs": {"max_concurrent_runs": MAX_RUNS},
            "pools": {"default_limit": 1, "granularity": "op"},
        },
        "run_monitoring": {"enabled": True},
        "freshness": {"enabled": True},
        "retention": {
            "schedule": {"purge_after_days": 30},
            "sensor": {"purge_after_days": {"skipped": 1, "failure": 30, "success": 7}},
        },
        "local_artifact_storage": {
            "module": "dagster.core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(home / "artifacts")},
        },
        "compute_logs": _compute_logs(settings, home),
    }
    target = home / "dagster.yaml"
    fresh = home / f"dagster.yaml.{os.getpid()}"
    descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(document, file, sort_keys=False)
    fresh.replace(target)
    return home


def storage_environment(settings: Settings) -> dict[str, str]:
    """What Dagster's processes need besides the environment of every child process. It holds a password."""
    return {STORAGE_VARIABLE: storage_url(open_database(settings))}


def storage_url(database: Database) -> str:
    """The orchestrator role's address for SQLAlchemy. Dagster's storage speaks psycopg2's dialect."""
    parameters = database.parameters(Role.ORCHESTRATOR)
    user, password = quote(parameters.pop("user")), quote(parameters.pop("password"))
    name, host = quote(parameters.pop("dbname")), parameters.pop("host", "localhost")
    port = parameters.pop("port", None)
    if host.startswith("/"):
        place, parameters["host"] = "", host
        if port:
            parameters["port"] = port
    else:
        place = f"{host}:{port or 5432}"
    return f"postgresql+psycopg2://{user}:{password}@{place}/{name}?{urlencode(parameters, quote_via=quote)}"


def _compute_logs(settings: Settings, home: Path) -> dict[str, Any]:
    if not settings.lake_url.startswith("s3://"):
        return {
            "module": "dagster.core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(home / "compute_logs")},
        }
    bucket, _, prefix = settings.lake_url.removeprefix("s3://").partition("/")
    config = {
        "bucket": bucket,
        "prefix": "/".join(filter(None, [prefix.strip("/"), "dagster-logs"])),
        "region": settings.s3_region,
        "endpoint_url": settings.s3_endpoint,
        "upload_interval": 60,
    }
    return {
        "module": "dagster_aws.s3.compute_log_manager",
        "class": "S3ComputeLogManager",
        "config": {name: value for name, value in config.items() if value is not None},
    }


def commands(settings: Settings, code_port: int) -> dict[str, list[str]]:
    """The three long-lived processes: code server, webserver, daemon."""
    workspace = str(settings.home / "dagster" / "workspace.yaml")
    module = [sys.executable, "-m"]
    return {
        "dagster-code": [
            *module, "dagster", "code-server", "start", "-m", "orchestration.definitions",
            "-h", settings.dagster_code_host, "-p", str(code_port), "--location-name", LOCATION,
        ],
        "dagster-web": [
            *module, "dagster_webserver", "-h", settings.host, "-p", str(settings.dagster_port),
            "-w", workspace, "--log-level", "warning",
        ],
        "dagster-daemon": [*module, "dagster._daemon", "run", "-w", workspace],
    }  # fmt: skip


def write_workspace(settings: Settings, code_port: int, code_host: str = "127.0.0.1") -> Path:
    """The workspace file that points webserver and daemon at the code server."""
    target = settings.home / "dagster" / "workspace.yaml"
    server = {"host": code_host, "port": code_port, "location_name": LOCATION}
    target.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    return target


def reload_if_running(dagster_url: str) -> None:
    """`reload_code_location`, unless nothing listens there: Dagster loads the catalog when it starts."""
    import httpx

    with contextlib.suppress(httpx.ConnectError):
        reload_code_location(dagster_url)


def reload_code_location(dagster_url: str, timeout_s: float = 60.0) -> None:
    """Ask the running webserver to load the definitions anew, so that a new pipeline appears.

    Raises `httpx.HTTPError` if it does not answer, `RuntimeError` with Dagster's message if loading failed.
    """
    import httpx

    response = httpx.post(
        f"{dagster_url}/graphql",
        json={"query": _RELOAD, "variables": {"name": LOCATION}},
        timeout=timeout_s,
    )
    response.raise_for_status()
    answer = response.json()
    found = (answer.get("data") or {}).get("reloadRepositoryLocation") or {}
    inner = found.get("locationOrLoadError") or found
    if answer.get("errors") or inner.get("__typename") != "RepositoryLocation":
        raise RuntimeError(str(inner.get("message") or answer.get("errors") or inner)[:500])
