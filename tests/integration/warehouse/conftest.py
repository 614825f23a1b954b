"""Gold on both backends: built once by dbt itself, copied for each test where the server can."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.migrations import migrate
from sluiceway.runtime.gold import dbt_command, dbt_environment
from sluiceway.runtime.profiles import DBT_PROJECT, profile
from sluiceway.warehouse.gold import refresh_dirty
from tests.support.timescale_server import OneSessionDatabase, timescale_url


def settings_for(home: Path, url: str) -> Settings:
    return load_settings(
        {"SLUICEWAY_HOME": str(home), "SLUICEWAY_DATABASE_URL": url, "SLUICEWAY_NODE": "test"}
    )


@pytest.fixture(scope="session")
def timescale_built(secret_key: SecretKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """TimescaleDB, migrated, gold built and tested by dbt over samples that were there before it."""
    with timescale_url() as url:
        database = OneSessionDatabase(url, secret_key)
        migrate(database, secret_key)
        database.dispose()
        assert database.server.timescaledb  # asked now: later it would be a second connection
        connection = database.connect(Role.OWNER, autocommit=True)
        connection.execute(
            "INSERT INTO silver.samples SELECT 1, 900000, n % 3, timestamptz '2020-05-04 10:00:00+00'"
            " + n * interval '7 minutes', n, n FROM generate_series(1, 500) n"
        )
        connection.close()
        run_dbt(database, tmp_path_factory.mktemp("timescale-dbt"), "build")
        refresh_dirty(database)
        yield database
        database.dispose()


@pytest.fixture
def timescale(timescale_built: Database) -> Iterator[Database]:
    """The one database of all tests: each takes pipelines of its own and times after `beginning`."""
    yield timescale_built
    timescale_built.dispose()


def beginning(database: Database) -> datetime:
    """Where nothing was dropped yet by any test of a shared database."""
    connection = database.connect(Role.OWNER, autocommit=True)
    row = connection.execute("SELECT max(floor) FROM gold.floors").fetchone()
    connection.close()
    return (row[0] if row and row[0] else datetime(2025, 1, 1, tzinfo=UTC)) + timedelta(days=10)


def run_dbt(database: Database, folder: Path, *arguments: str) -> str:
    """Plain dbt as the modelers' role, one connection at a time; returns what it said."""
    target = profile(database)["sluiceway"]["outputs"]["main"]
    one = {**target, "role": Role.MODELER.login, "threads": 1}
    document = {"sluiceway": {"target": "main", "outputs": {"main": one}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        dbt_command(DBT_PROJECT, folder, *arguments),
        env=dbt_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
