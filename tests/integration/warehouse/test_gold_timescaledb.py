"""What dbt made on TimescaleDB: its own hierarchical continuous aggregates, with policies, tenants apart."""

from datetime import timedelta
from pathlib import Path

import pytest

from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.gold import refresh_dirty, set_floor
from sluiceway.warehouse.schema import SAMPLES, drop_partitions_before
from tests.integration.warehouse.conftest import beginning, run_dbt
from tests.support.gold_model import Model, add

pytestmark = pytest.mark.slow


def test_aggregates_are_real_hierarchical_and_have_policies(timescale: Database) -> None:
    with timescale.connect(Role.OWNER) as connection:
        found = connection.execute(
            "SELECT view_name::text, materialized_only FROM timescaledb_information.continuous_aggregates"
            " WHERE view_schema = 'gold' ORDER BY view_name"
        ).fetchall()
        policies = connection.execute(
            "SELECT proc_name::text, count(*) FROM timescaledb_information.jobs"
            " WHERE hypertable_name IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert found == [(f"samples_{level}_materialized", True) for level in ("1d", "1h", "1m")]
    assert ("policy_refresh_continuous_aggregate", 3) in policies
    assert any("compression" in name or "columnstore" in name for name, _ in policies)


def test_a_late_event_shows_at_once_and_only_to_its_workspace(timescale: Database) -> None:
    model = Model(900_001)
    at = beginning(timescale)
    for value in (1.0, 2.0):  # the second is late: its bucket is refreshed already
        owner = timescale.connect(Role.OWNER, autocommit=True)
        add(owner, model, [(at, 1, value)])
        owner.close()
        reader = timescale.connect(Role.READER, autocommit=True)
        reader.execute("SELECT set_config('sluiceway.workspace_id', '1', false)")
        model.check(reader)
        reader.execute("SELECT set_config('sluiceway.workspace_id', '2', false)")
        assert reader.execute("SELECT count(*) FROM gold.samples_1d").fetchone() == (0,)
        reader.close()
        refresh_dirty(timescale)


def test_dropped_chunks_leave_gold_as_it_was(timescale: Database) -> None:
    model = Model(900_002)
    at = beginning(timescale)
    before = at.replace(hour=0) + timedelta(days=90)
    owner = timescale.connect(Role.OWNER, autocommit=True)
    add(owner, model, [(at + timedelta(days=60), 1, 3.0), (at + timedelta(days=120), 1, 4.0)])
    owner.close()
    set_floor(timescale, "silver.samples", before)
    model.raise_floor(before)
    assert drop_partitions_before(timescale, SAMPLES, before)
    owner = timescale.connect(Role.OWNER, autocommit=True)
    add(owner, model, [(at + timedelta(days=120), 1, 5.0)])
    owner.close()
    refresh_dirty(timescale)
    reader = timescale.connect(Role.READER, autocommit=True)
    reader.execute("SELECT set_config('sluiceway.workspace_id', '1', false)")
    model.check(reader)
    reader.close()


def test_dbt_filled_gold_with_what_was_there_and_running_again_changes_nothing(
    timescale: Database, tmp_path: Path
) -> None:
    def totals() -> list[tuple[object, ...]]:
        connection = timescale.connect(Role.MODELER, autocommit=True)
        found = connection.execute(
            "SELECT sum(m.count), (SELECT sum(d.count) FROM gold.samples_1d d WHERE d.pipeline_id = 900000)"
            " FROM gold.samples_1m m WHERE m.pipeline_id = 900000"
        ).fetchall()
        connection.close()
        return found

    assert totals() == [(500, 500)]
    run_dbt(timescale, tmp_path, "run", "--select", "gold")
    assert totals() == [(500, 500)]
