"""What Dagster shows of its own configuration holds no secret, and is enough for it to work."""

import dagster as dg
import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.runtime.dagster_home import STORAGE_VARIABLE, storage_environment, write_dagster_home


def test_the_storages_address_is_not_in_what_is_shown(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write_dagster_home(settings)
    given = storage_environment(settings)
    password = database.parameters(Role.ORCHESTRATOR)["password"]
    assert password in given[STORAGE_VARIABLE]
    written = (home / "dagster.yaml").read_text()
    assert STORAGE_VARIABLE in written and password not in written
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        shown = instance.info_str()
        assert "compute_logs" in shown and password not in shown
        assert instance.get_runs_count() == 0
    with database.connect(Role.OWNER) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'dagster'").fetchone()
    assert tables is not None and tables[0] > 5, "it works with its own role, in its own schema"
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("DROP SCHEMA dagster CASCADE"))
