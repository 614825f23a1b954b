"""The code location, built from a real catalog and run for real: assets, checks, sensor, schedules."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.sensor_definition import SensorExecutionData

from orchestration.build import build_definitions
from orchestration.defs.maintenance.schedules import SMALL_FILES
from orchestration.resources import Platform
from sluiceway.audit.reading import Search, search
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Form, Position, SpoolRecord
from sluiceway.lake.bronze import rows_of, to_parquet
from sluiceway.lake.contracts import BronzeName, bronze_prefix
from sluiceway.lake.service import Lake
from sluiceway.quality.service import apply_suite
from sluiceway.transforms.split import split
from sluiceway.warehouse.schema import apply_pipeline

PIPELINE = """\
name: orders
event: {id: id, time: at}
fields:
  - {name: amount, type: number, role: measure, unit: EUR}
  - {name: country, type: string, role: dimension}
quality: {suite: orders}
"""
SUITE = """\
kind: Suite
name: orders
expectations:
  - name: amount-is-positive
    type: expect_column_values_to_be_between
    kwargs: {column: amount, min_value: 0}
    on_failure: quarantine
"""
SAMPLES = dg.AssetKey(["silver", "samples"])
SILVER = dg.AssetKey(["silver", "orders"])
BRONZE = dg.AssetKey(["bronze", "orders"])


@pytest.fixture
def platform(database: Database, settings: Settings) -> Platform:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        apply_suite(connection, 1, SUITE)
    apply_pipeline(database, 1, PIPELINE)
    return Platform(settings, database)


def put_bronze(lake: Lake, amounts: list[float]) -> str:
    """One bronze object with these orders, received now; returns the day."""
    now = datetime.now(UTC)
    lines = [
        json.dumps({"id": f"o{n}", "at": now.isoformat(), "amount": amount, "country": "CH"})
        for n, amount in enumerate(amounts)
    ]
    body = "\n".join(lines).encode()
    record = SpoolRecord(
        Position(1, 0),
        Position(1, len(body)),
        1,
        1,
        int(now.timestamp() * 1e6),
        Form.NDJSON,
        {},
        len(lines),
        body,
    )
    name = BronzeName(bronze_prefix(1, "orders"), now.date(), "test", record.position, record.end)
    lake.put(name, to_parquet(rows_of("test", [record], split)))
    return f"{now:%Y-%m-%d}"


def test_every_pipeline_has_its_assets_and_checks(platform: Platform) -> None:
    graph = build_definitions(platform).resolve_asset_graph()
    assert {BRONZE, SILVER, SAMPLES} <= set(graph.get_all_asset_keys())
    assert graph.get(SILVER).parent_keys == {BRONZE}
    assert SILVER in graph.get(SAMPLES).parent_keys
    assert [check.name for check in graph.asset_check_keys] == ["amount_is_positive"]
    assert graph.get(SILVER).freshness_policy is not None


def test_a_new_pipeline_is_there_at_the_next_load(platform: Platform, database: Database) -> None:
    apply_pipeline(database, 1, PIPELINE.replace("name: orders", "name: returns", 1))
    keys = build_definitions(platform).resolve_asset_graph().get_all_asset_keys()
    assert dg.AssetKey(["silver", "returns"]) in keys


def test_materialising_a_silver_day_replays_it_from_bronze(platform: Platform, database: Database) -> None:
    day = put_bronze(platform.lake, [5.0, 7.5, -1.0])
    definitions = build_definitions(platform)
    for _ in range(2):
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[SILVER], partition_key=day
        )
        assert result.success
    (event,) = result.asset_materializations_for_node("silver__orders")
    assert event.metadata["dagster/row_count"].value == 2
    assert event.metadata["dead letters"].value == 1
    with database.transaction(Role.READER, workspace_id=1) as connection:
        assert connection.execute(
            sa.text("SELECT array_agg(amount ORDER BY amount) FROM silver.orders")
        ).scalar() == [
            5.0,
            7.5,
        ]
    with database.transaction(Role.APP, workspace_id=1) as connection:
        told = search(connection, 1, Search(action="replay.requested"))
    assert [(e.actor.kind, e.actor.id, e.target_id) for e in told] == [("system", "dagster", "orders")] * 2


def put_small(lake: Lake, count: int) -> tuple[date, list[bytes]]:
    """So many bronze objects of one event each, received now; the day, and the events in order."""
    day = datetime.now(UTC)
    events = [json.dumps({"id": f"s{n}", "at": day.isoformat(), "amount": n}).encode() for n in range(count)]
    for n, body in enumerate(events):
        begin, end = Position(7, n * 100), Position(7, n * 100 + 100)
        received = int(day.timestamp() * 1e6)
        record = SpoolRecord(begin, end, 1, 1, received, Form.OBJECT, {}, 1, body)
        name = BronzeName(bronze_prefix(1, "orders"), day.date(), "test", begin, end)
        lake.put(name, to_parquet(rows_of("test", [record], split)))
    return day.date(), events


def payloads(platform: Platform, day: date) -> list[bytes]:
    read = platform.lake.read_bronze(platform.pipelines()[0], day)
    return [payload for batch in read for payload in batch["payload"].to_pylist()]


def test_small_files_become_few_by_job_and_by_asset(platform: Platform) -> None:
    day, events = put_small(platform.lake, SMALL_FILES + 8)
    definitions = build_definitions(platform)
    small = definitions.resolve_job_def("compact_small_files")
    done = small.execute_in_process()
    assert done.success
    (said,) = [e.step_output_data.metadata for e in done.all_node_events if e.is_successful_output]
    (line,) = said["merged"].records  # of the pipeline and day that it merged
    assert (line.data["pipeline"], line.data["day"]) == ("orders", day.isoformat())
    assert (line.data["objects after"], line.data["events"]) == (1, len(events))
    assert len(platform.lake.objects(platform.pipelines()[0], day)) == 1
    assert payloads(platform, day) == events
    # A few more: not worth the hourly job's while, but the day's own run takes them.
    day, events = put_small(platform.lake, 3)
    assert small.execute_in_process().success
    assert (
        definitions.resolve_implicit_global_asset_job_def()
        .execute_in_process(asset_selection=[BRONZE], partition_key=day.isoformat())
        .success
    )
    assert len(platform.lake.objects(platform.pipelines()[0], day)) == 1
    schedules = {s.name: s for s in definitions.schedules or []}
    assert {"compact_yesterday", "compact_small_files_schedule"} <= set(schedules)


def test_a_damaged_object_is_named_by_every_run_that_meets_it(
    platform: Platform, settings: Settings, database: Database
) -> None:
    day, _ = put_small(platform.lake, SMALL_FILES + 8)
    pipeline = platform.pipelines()[0]
    bad = platform.lake.objects(pipeline, day)[5].name.path
    file = settings.home / "lake" / bad
    file.write_bytes(file.read_bytes()[:-100])
    definitions = build_definitions(platform)
    assets = definitions.resolve_implicit_global_asset_job_def()
    runs = [
        (definitions.resolve_job_def("compact_small_files"), {}),
        (assets, {"asset_selection": [BRONZE], "partition_key": day.isoformat()}),
        (assets, {"asset_selection": [SILVER], "partition_key": day.isoformat()}),
    ]
    for job, selection in runs:
        result = job.execute_in_process(raise_on_error=False, **selection)  # type: ignore[arg-type]
        assert not result.success
        failed = [e for e in result.all_events if e.is_step_failure or e.is_step_up_for_retry]
        assert bad in str(failed[0].event_specific_data)
    assert len(platform.lake.objects(pipeline, day)) == 3
    with database.transaction(Role.READER, workspace_id=1) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM silver.orders")).scalar() == 0


def test_materialising_a_bronze_day_compacts_it(platform: Platform) -> None:
    day = put_bronze(platform.lake, [1.0])
    result = (
        build_definitions(platform)
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(asset_selection=[BRONZE], partition_key=day)
    )
    (event,) = result.asset_materializations_for_node("bronze__orders")
    assert event.metadata["dagster/row_count"].value == 1


def test_the_checks_evaluate_the_suite(platform: Platform, database: Database) -> None:
    day = put_bronze(platform.lake, [5.0, 7.5])
    definitions = build_definitions(platform)
    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(asset_selection=[SILVER], partition_key=day).success
    checks = dg.define_asset_job("checks", selection=dg.AssetSelection.checks_for_assets(SILVER))
    result = dg.Definitions.merge(definitions, dg.Definitions(jobs=[checks])).resolve_job_def("checks")
    (found,) = result.execute_in_process().get_asset_check_evaluations()
    assert (found.check_name, found.passed) == ("amount_is_positive", True)
    with database.transaction(Role.READER, workspace_id=1) as connection:
        origins = connection.execute(
            sa.text("SELECT array_agg(DISTINCT origin) FROM quality.results")
        ).scalar()
    assert "deep" in origins


BATCH = sa.text(
    "INSERT INTO silver.batches (workspace_id, pipeline_id, name, origin, pipeline_version, verdict, events,"
    " rows, samples, duplicates, dead_letters, size_bytes, last_seq, min_received_at, max_received_at,"
    " loaded_at)"
    " VALUES (1, 1, :name, 'live', 1, 'pass', 3, 2, 2, 0, 1, 100, 2, :at, :at, :at)"
)


def test_the_sensor_reports_each_minute_once_and_again_when_it_grew(
    platform: Platform, database: Database
) -> None:
    sensor = build_definitions(platform).resolve_sensor_def("streaming_report")
    minute = datetime.now(UTC).replace(second=0, microsecond=0).timestamp() - 120

    def load(name: str) -> None:
        with database.transaction(Role.WRITER, workspace_id=1) as connection:
            connection.execute(BATCH, {"name": name, "at": datetime.fromtimestamp(minute + 5, UTC)})

    def evaluate(cursor: str | None) -> SensorExecutionData:
        with dg.build_sensor_context(cursor=cursor, resources={"platform": platform}) as context:
            return sensor.evaluate_tick(context)

    def silver_rows(tick: SensorExecutionData) -> list[object]:
        reported = [e for e in tick.asset_events if isinstance(e, dg.AssetMaterialization)]
        assert [e.asset_key for e in reported] == [BRONZE, SILVER]
        return [reported[1].metadata["dagster/row_count"].value]

    assert evaluate(None).skip_message
    load("a")
    first = evaluate(None)
    assert silver_rows(first) == [2]
    assert evaluate(first.cursor).skip_message
    load("b")
    assert silver_rows(evaluate(first.cursor)) == [4]


def test_loading_definitions_stays_light() -> None:
    probe = "import sys, orchestration.build; print('great_expectations' in sys.modules)"
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", probe], capture_output=True, text=True, cwd=root
    )
    assert found.stdout.strip() == "False", found.stderr[-500:]
