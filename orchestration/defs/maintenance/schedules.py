"""Schedules: compaction and deep checks of yesterday, retention, gold. All times are UTC."""

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta

import dagster as dg

from orchestration.defs.gold.sensors import GOLD_GROUPS
from orchestration.naming import bronze_key, silver_key
from orchestration.resources import Platform
from sluiceway.catalog.contracts import Pipeline
from sluiceway.warehouse.records import sweep_records
from sluiceway.warehouse.retention import apply_retention

RUNNING = dg.DefaultScheduleStatus.RUNNING


@dg.op(required_resource_keys={"platform"}, pool="silver")
def drop_what_is_past_retention(context: dg.OpExecutionContext) -> None:
    """Silver's partitions and bronze's days that retention lets go; old rows about batches and gates."""
    platform: Platform = context.resources.platform
    pipelines = platform.pipelines()
    dropped = apply_retention(platform.database, pipelines)
    removed = sum(platform.lake.apply_retention(pipeline) for pipeline in pipelines)
    swept = sweep_records(platform.database, pipelines)
    context.log.info("dropped %d partitions (%s) and %d bronze objects", len(dropped), dropped, removed)
    context.log.info("deleted %d old batch rows and %d results of gates", swept.batches, swept.results)


@dg.job(description="Drop what is older than the pipelines keep.")
def retention() -> None:
    drop_what_is_past_retention()


def compaction_schedule(pipelines: Sequence[Pipeline]) -> dg.ScheduleDefinition:
    """Yesterday's small files of every pipeline become few, at 02:10."""

    @dg.schedule(
        name="compact_yesterday",
        cron_schedule="10 2 * * *",
        target=dg.AssetSelection.assets(*(bronze_key(p) for p in pipelines)),
        default_status=RUNNING,
        execution_timezone="UTC",
    )
    def compact_yesterday(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        yesterday = context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)
        for pipeline in pipelines:
            if pipeline.created_at.astimezone(UTC).date() <= yesterday.date():
                yield dg.RunRequest(
                    run_key=f"compact-{pipeline.id}-{yesterday:%Y-%m-%d}",
                    asset_selection=[bronze_key(pipeline)],
                    partition_key=f"{yesterday:%Y-%m-%d}",
                )

    return compact_yesterday


def fixed_schedules(pipelines: Sequence[Pipeline], *, gold: bool) -> list[dg.ScheduleDefinition]:
    """Retention at 03:00, deep checks at 04:00, gold every hour at five past (where gold is built)."""
    found = [
        dg.ScheduleDefinition(
            job=retention, cron_schedule="0 3 * * *", default_status=RUNNING, execution_timezone="UTC"
        ),
        dg.ScheduleDefinition(
            name="deep_quality",
            target=dg.AssetSelection.checks_for_assets(*(silver_key(p) for p in pipelines if p.spec.quality)),
            cron_schedule="0 4 * * *",
            default_status=RUNNING,
            execution_timezone="UTC",
        ),
    ]
    if gold:
        found.append(
            dg.ScheduleDefinition(
                name="gold_every_hour",
                target=dg.AssetSelection.groups(*GOLD_GROUPS),
                cron_schedule="5 * * * *",
                default_status=RUNNING,
                execution_timezone="UTC",
            )
        )
    return found
