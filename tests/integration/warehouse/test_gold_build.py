"""Building gold with dbt: when it runs, what it writes where, what changing a model does to history."""

import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.runtime.gold import GoldNotBuilt, build_gold, dbt_command
from sluiceway.runtime.profiles import DBT_PROJECT, write_profiles
from sluiceway.warehouse.gold import refresh_dirty, set_floor
from sluiceway.warehouse.schema import SAMPLES, apply_pipeline, ensure_partitions
from tests.integration.warehouse.conftest import settings_for
from tests.support.gold_model import Model, add

FLIGHTS = """
kind: Pipeline
name: nyc-flights
event: {time: at}
fields:
  - {name: carrier, type: string, role: dimension}
  - {name: origin, type: string, role: dimension}
  - {name: dep_delay, type: number, role: measure}
  - {name: arr_delay, type: number, role: measure}
"""
OWN = """
{{ config(bucket='15 minutes', time_column='bucket', keys=['pipeline_id', 'bucket', 'workspace_id']) }}
select workspace_id, pipeline_id, {{ time_bucket() }} as bucket, sum(count)::bigint as count EXTRA
from {{ aggregated(ref('samples_1m')) }}
group by 1, 2, 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's aggregates that a test may add to."""
    ignored = shutil.ignore_patterns(
        "target", "logs", "profiles.yml", ".user.yml", "staging", "marts", "tests"
    )
    copy = Path(shutil.copytree(DBT_PROJECT, tmp_path / "dbt_project", ignore=ignored))
    for name in ("exposures.yml", "gold/gold.yml"):
        (copy / "models" / name).unlink()
    return copy


@pytest.fixture
def home(gold_template: tuple[str, Path], tmp_path: Path) -> Path:
    """dbt's outputs of the template's build, so that parsing is partial as for a modeler."""
    return Path(shutil.copytree(gold_template[1], tmp_path / "home"))


@pytest.fixture
def gold_settings(cluster: Any, home: Path, gold_database: Database) -> Settings:
    return settings_for(home, cluster.server.url_of(gold_database.parameters(Role.OWNER)["dbname"]))


def test_gold_is_built_only_when_something_changed(gold_settings: Settings, gold_database: Database) -> None:
    assert not build_gold(gold_settings, gold_database).ran
    apply_pipeline(gold_database, 1, FLIGHTS)
    flights = [
        ("AA", "JFK", -3.0, 2.0), ("AA", "JFK", 30.0, 20.0),
        ("AA", "JFK", None, None), ("UA", "EWR", 0.0, None),
    ]  # fmt: skip
    at = datetime(2025, 3, 4, 12, tzinfo=UTC)
    ensure_partitions(gold_database, "nyc_flights", [at])
    with gold_database.connect(Role.OWNER) as connection:
        for seq, (carrier, origin, departure, arrival) in enumerate(flights, 1):
            connection.execute(
                "INSERT INTO silver.nyc_flights (workspace_id, seq, event_id, event_time, received_at,"
                " batch_id, position, carrier, origin, dep_delay, arr_delay)"
                " VALUES (1, %s, %s, %s, %s, 1, '', %s, %s, %s, %s)",
                (seq, str(seq), at, at, carrier, origin, departure, arrival),
            )
    assert build_gold(gold_settings, gold_database).ran
    assert not build_gold(gold_settings, gold_database).ran
    query = (
        "SELECT carrier, origin, flights, cancelled, arrived, on_time, on_time_ratio, avg_dep_delay"
        " FROM marts.flights_on_time ORDER BY carrier"
    )
    with gold_database.connect(Role.READER, autocommit=True) as reader:
        assert reader.execute(query).fetchall() == []
        assert reader.execute("SELECT count(*) FROM staging.stg_nyc_flights").fetchone() == (0,)
        reader.execute("SELECT set_config('sluiceway.workspace_id', '1', false)")
        assert reader.execute(query).fetchall() == [
            ("AA", "JFK", 3, 1, 2, 1, 0.5, 13.5),
            ("UA", "EWR", 1, 0, 0, 0, None, 0.0),
        ]
        assert reader.execute("SELECT count(*) FROM staging.stg_nyc_flights").fetchone() == (4,)


def test_columns_are_documented_in_the_database(gold_database: Database) -> None:
    with gold_database.connect(Role.OWNER) as connection:
        missing = connection.execute(
            "SELECT c.oid::regclass::text, a.attname FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE c.relnamespace IN ('gold'::regnamespace, 'marts'::regnamespace)"
            " AND c.relname = ANY(%s)"
            " AND c.relkind IN ('r', 'v') AND col_description(c.oid, a.attnum) IS NULL",
            (["samples_1m", "samples_1h", "samples_1d", "flights_on_time", "pipelines_daily"],),
        ).fetchall()
    assert missing == []


def test_every_mart_keeps_workspaces_apart(gold_database: Database) -> None:
    with gold_database.connect(Role.OWNER) as connection:
        open_ones = connection.execute(
            "SELECT c.relname FROM pg_class c"
            " WHERE c.relnamespace = 'marts'::regnamespace AND c.relkind = 'r'"
            " AND NOT (c.relrowsecurity AND EXISTS ("
            "  SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'workspace_isolation'))"
        ).fetchall()
    assert open_ones == []


def test_profile_is_for_the_modelers_role_and_nobody_elses_eyes(
    tmp_path: Path, settings: Settings, database: Database
) -> None:
    checkout = tmp_path / "checkout" / "dbt_project"
    checkout.mkdir(parents=True)
    (tmp_path / "checkout" / ".git").mkdir()
    folder = write_profiles(settings, database, checkout)
    for path in (folder / "profiles.yml", checkout / "profiles.yml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        output = yaml.safe_load(path.read_text())["sluiceway"]["outputs"]["main"]
        assert output["user"] == Role.MODELER.login
        assert output["dbname"] == database.parameters(Role.OWNER)["dbname"]


def test_dbt_is_kept_from_calling_home() -> None:
    flags = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text())["flags"]
    assert flags["send_anonymous_usage_stats"] is False


def test_a_failing_model_is_told_in_dbts_words(
    gold_settings: Settings, gold_database: Database, project: Path
) -> None:
    (project / "models" / "broken.sql").write_text("select nothing_like_it from app.pipelines")
    with pytest.raises(GoldNotBuilt, match="nothing_like_it"):
        build_gold(gold_settings, gold_database, project=project)
    assert not (project / "target").exists()
    assert not (project / "logs").exists()


def test_a_modelers_own_aggregate_follows_loads_and_keeps_its_history(
    gold_settings: Settings, gold_database: Database, project: Path
) -> None:
    at = datetime(2025, 3, 4, 12, 0, 30, tzinfo=UTC)
    ensure_partitions(gold_database, SAMPLES, [at])
    model = Model(1)
    own = project / "models" / "gold" / "quarters.sql"

    def write(extra: str) -> None:
        own.write_text(OWN.replace("EXTRA", extra))

    def rows(columns: str = "count") -> list[tuple[object, ...]]:
        with gold_database.connect(Role.MODELER) as connection:
            return connection.execute(f"SELECT {columns} FROM gold.quarters ORDER BY bucket").fetchall()

    def load(*times: datetime) -> None:
        with gold_database.connect(Role.OWNER, autocommit=True) as connection:
            add(connection, model, [(time, 1, 2.0) for time in times])

    load(at)
    write("")
    assert build_gold(gold_settings, gold_database, project=project).ran
    assert rows() == [(1,)]
    load(at, at + timedelta(minutes=20))
    assert rows() == [(2,), (1,)]
    refresh_dirty(gold_database)
    assert rows() == [(2,), (1,)]

    # Samples go; gold.samples_1m stays, and so does what is made from it. A new column is filled.
    set_floor(gold_database, "silver.samples", at + timedelta(days=1))
    with gold_database.connect(Role.OWNER, autocommit=True) as connection:
        connection.execute("DELETE FROM silver.samples")
    write(", max(max) as max")
    build_gold(gold_settings, gold_database, project=project)
    assert rows("count, max") == [(2, 2.0), (1, 2.0)]

    write("")
    own.write_text(own.read_text().replace("sum(count)::bigint as count", "sum(sum) as sum"))
    with pytest.raises(GoldNotBuilt, match="another name"):
        build_gold(gold_settings, gold_database, project=project)


def test_plain_dbt_finds_everything_under_the_data_folder(gold_settings: Settings) -> None:
    command = dbt_command(DBT_PROJECT, gold_settings.home / "dbt", "run")
    assert command[command.index("--target-path") + 1] == str(gold_settings.home / "dbt" / "target")
