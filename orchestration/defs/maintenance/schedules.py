"""Schedules: compaction, deep checks of yesterday, retention, gold. All times are UTC."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from orchestration.defs.bronze.assets import damage
from orchestration.defs.gold.sensors import GOLD_GROUPS
from orchestration.failing import without_secrets
from orchestration.naming import bronze_key, silver_key
from orchestration.resources import Platform
from sluiceway.catalog.contracts import Pipeline
from sluiceway.lake.contracts import Compaction
from sluiceway.warehouse.records import sweep_records
from sluiceway.warehouse.retention import apply_retention

RUNNING = dg.DefaultScheduleStatus.RUNNING
SMALL_FILES = 32
"""The hourly job merges neighbours where at least so many become one object."""


@dg.op(required_resource_keys={"platform"}, pool="silver")
@without_secrets()
def drop_what_is_past_retention(context: dg.OpExecutionContext) -> None:
    """Silver's partitions and bronze's days that retention lets go; old rows about batches and gates."""
    platform: Platform = context.resources.platform
    pipelines = platform.pipelines()
    dropped = apply_retention(platform.database, pipelines)
    removed = sum(platform.lake.apply_retention(pipeline) for pipeline in pipelines)
    swept = sweep_records(platform.database, pipelines)
    context.log.info("dropped %d partitions (%s) and %d bronze objects", len(dropped), dropped, removed)
    context.log.info("deleted %d old batch rows and %d results of gates", swept.batches, swept.results)


@dg.op(required_resource_keys={"platform"}, pool="lake", retry_policy=dg.RetryPolicy(max_retries=2, delay=30))
@without_secrets()
def compact_small_files_of_every_pipeline(context: dg.OpExecutionContext) -> None:
    """Today's and yesterday's bronze: a reader of today should not meet one object for every ten seconds."""
    platform: Platform = context.resources.platform
    today = datetime.now(UTC).date()
    before = after = 0
    damaged: list[str] = []
    merged: list[dg.TableRecord] = []
    for pipeline in platform.pipelines():
        for day in (today - timedelta(days=1), today):
            found = platform.lake.compact_day(pipeline, day, fewest=SMALL_FILES)
            before, after = before + found.objects_before, after + found.objects_after
            damaged += found.damaged
            if found.objects_after < found.objects_before:
                merged.append(_merged(pipeline, day, found))
    context.log.info("%d bronze objects of yesterday and today are %d now", before, after)
    context.add_output_metadata(
        {
            "objects before": before,
            "objects after": after,
            **({"merged": dg.MetadataValue.table(merged)} if merged else {}),
        }
    )
    if damaged:
        raise damage(damaged)


def _merged(pipeline: Pipeline, day: date, found: Compaction) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "workspace": pipeline.workspace_id,
            "pipeline": pipeline.slug,
            "day": day.isoformat(),
            "objects before": found.objects_before,
            "objects after": found.objects_after,
            "events": found.events,
            "bytes": found.size_bytes,
        }
    )


@dg.job(description="Make few bronze objects of many while the day goes on.")
def compact_small_files() -> None:
    compact_small_files_of_every_pipeline()


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
    """Retention at 03:00, deep checks at 04:00; every hour small files at 35 past, gold at five past."""
    found = [
        dg.ScheduleDefinition(
            job=compact_small_files,
            cron_schedule="35 * * * *",
            default_status=RUNNING,
            execution_timezone="UTC",
        ),
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
