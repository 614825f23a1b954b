"""dbt's connection profile of this installation, so that plain `dbt run` works for a modeler.

Written under the data folder and, in a checkout, beside the project as well (dbt looks there first). It
holds the modelers' role's password: mode 0600, never committed.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings

DBT_PROJECT = Path(__file__).parents[2] / "dbt_project"


def write_profiles(settings: Settings, database: Database, checkout: Path | None = None) -> Path:
    """Write `profiles.yml`; returns the folder it is in under the data folder (dbt's `--profiles-dir`).

    With `checkout` (a dbt project's folder) also there, if it can be written and is no installed copy.
    """
    folder = settings.home / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    document = yaml.safe_dump(profile(database), sort_keys=False)
    _write(folder / "profiles.yml", document)
    if checkout is not None and os.access(checkout, os.W_OK) and (checkout.parent / ".git").exists():
        _write(checkout / "profiles.yml", document)
    return folder


def profile(database: Database) -> dict[str, Any]:
    """The profile `sluiceway`: the modelers' role on this database, one thread for each connection."""
    parameters = database.parameters(Role.MODELER)
    target = {
        "type": "postgres",
        "host": parameters.get("host", "localhost"),
        "port": int(parameters.get("port") or 5432),
        "user": parameters["user"],
        "password": parameters.get("password", ""),
        "dbname": parameters["dbname"],
        "schema": "marts",
        "threads": 2,
        "connect_timeout": int(parameters["connect_timeout"]),
        "application_name": "sluiceway-dbt",
    }
    for name in ("sslmode", "sslcert", "sslkey", "sslrootcert"):
        if parameters.get(name):
            target[name] = parameters[name]
    return {"sluiceway": {"target": "main", "outputs": {"main": target}}}


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o077 == 0:
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
