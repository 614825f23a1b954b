"""Builds the code location from the catalog: one function, so that tests build the real graph."""

import dagster as dg

from orchestration.defs.bronze.assets import bronze_asset
from orchestration.defs.gold.assets import dbt_resources, gold_assets
from orchestration.defs.gold.sensors import gold_sensor
from orchestration.defs.maintenance.schedules import (
    compact_small_files,
    compaction_schedule,
    fixed_schedules,
    retention,
)
from orchestration.defs.silver.assets import shared_specs, silver_asset
from orchestration.defs.silver.checks import silver_checks
from orchestration.defs.streaming.sensors import streaming_sensor
from orchestration.resources import Platform, s3_resources


def build_definitions(platform: Platform | None = None) -> dg.Definitions:
    """Every asset, check, sensor and schedule of the installation as its catalog is now.

    `platform` overrides where settings, database and lake come from.
    """
    platform = platform or Platform()
    pipelines = platform.pipelines()
    suites = {p.id: suite for p in pipelines if (suite := platform.suite_of(p)) is not None}
    checks = [silver_checks(p, suites[p.id]) for p in pipelines if p.id in suites]
    names = {(p, e.name) for p, suite in suites.items() for e in suite.expectations}
    gold = gold_assets(platform)
    schedules = [] if not pipelines else [compaction_schedule(pipelines)]
    return dg.Definitions(
        assets=[
            *(bronze_asset(p) for p in pipelines),
            *(silver_asset(p) for p in pipelines),
            *shared_specs(pipelines),
            *gold,
        ],
        asset_checks=checks,
        jobs=[compact_small_files, retention],
        sensors=[streaming_sensor(pipelines, names), *([gold_sensor(platform)] if gold else [])],
        schedules=[*schedules, *(fixed_schedules(pipelines, gold=bool(gold)))],
        resources={
            "platform": platform,
            **(dbt_resources(platform) if gold else {}),
            **s3_resources(platform.settings),
        },
        executor=dg.in_process_executor,
    )
