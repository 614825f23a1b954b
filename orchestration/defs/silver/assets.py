"""One silver asset a pipeline. Materialising a day replays it from bronze through the live path."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from orchestration.failing import without_secrets
from orchestration.naming import bronze_key, day_of, days, silver_key
from orchestration.resources import Platform
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.service import record
from sluiceway.catalog.contracts import FieldSpec, Pipeline
from sluiceway.infra import telemetry
from sluiceway.infra.database import Role
from sluiceway.lake.errors import LakeDamaged
from sluiceway.loading.replay import replay_day
from sluiceway.warehouse.schema import COLUMN_TYPES

DAGSTER = Actor("system", "dagster", "Dagster")
"""Whoever is at the Dagster UI, or a schedule: Dagster does not tell."""


def silver_asset(pipeline: Pipeline) -> dg.AssetsDefinition:
    @dg.asset(
        key=silver_key(pipeline),
        deps=[bronze_key(pipeline)],
        partitions_def=days(pipeline),
        group_name="silver",
        kinds={"postgres"},
        pool="silver",
        description=pipeline.spec.description or f"Typed rows of {pipeline.name}.",
        metadata={
            "pipeline": pipeline.slug,
            "workspace_id": pipeline.workspace_id,
            "dagster/column_schema": dg.TableSchema([_column(f) for f in pipeline.spec.fields]),
            "dagster/table_name": f"silver.{pipeline.silver_table}",
        },
        required_resource_keys={"platform"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=pipeline.spec.freshness.warn_after),
        retry_policy=dg.RetryPolicy(max_retries=2, delay=5),
    )
    @without_secrets()
    def silver(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        platform: Platform = context.resources.platform
        day = day_of(context.partition_key)
        detail = {"pipeline": pipeline.slug, "from": day, "to": day, "run": context.run.run_id}
        with platform.database.transaction(Role.WRITER, workspace_id=pipeline.workspace_id) as conn:
            record(conn, Entry(Action.REPLAY_REQUESTED, DAGSTER, "pipeline", pipeline.slug, detail=detail))
        try:
            with telemetry.configured(platform.settings, "dagster"):
                found = replay_day(
                    platform.database,
                    platform.lake,
                    platform.gate,
                    platform.pipeline(pipeline.id),
                    day,
                    max_event_bytes=platform.settings.max_event_bytes,
                )
        except LakeDamaged as error:
            raise dg.Failure(f"{error.detail} Silver is as it was.", allow_retries=False) from error
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": found.rows,
                "events": found.events,
                "samples": found.samples,
                "duplicates": found.duplicates,
                "dead letters": found.dead_letters,
                "verdict": found.verdict,
            }
        )

    return silver


def shared_specs(pipelines: Sequence[Pipeline]) -> list[dg.AssetSpec]:
    """The tables all pipelines write in the transaction of silver's rows: shown so that lineage is whole."""
    every = [silver_key(p) for p in pipelines]
    measured = [silver_key(p) for p in pipelines if p.spec.measures]
    return [
        dg.AssetSpec(
            key=dg.AssetKey(["silver", name]),
            deps=deps,
            group_name="silver",
            kinds={"postgres"},
            description=description,
        )
        for name, deps, description in (
            ("samples", measured, "(series, time, value) of every measure."),
            ("series", measured, "What a series is: pipeline, metric and dimension values."),
            ("batches", every, "One row a loaded batch: counts, verdict, times."),
        )
    ]


def _column(field: FieldSpec) -> dg.TableColumn:
    text = " ".join(filter(None, [field.title, f"[{field.unit}]" if field.unit else "", field.description]))
    return dg.TableColumn(field.name, COLUMN_TYPES[field.type], description=text or None)
