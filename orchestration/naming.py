"""Keys, partitions and groups, said once: every definition of a pipeline agrees on them."""

from datetime import UTC, date, datetime

import dagster as dg

from sluiceway.catalog.contracts import Pipeline


def bronze_key(pipeline: Pipeline) -> dg.AssetKey:
    return dg.AssetKey(["bronze", pipeline.silver_table])


def silver_key(pipeline: Pipeline) -> dg.AssetKey:
    """Equal to the key dagster-dbt gives dbt's source `silver.<table>`: lineage joins by itself."""
    return dg.AssetKey(["silver", pipeline.silver_table])


def days(pipeline: Pipeline) -> dg.DailyPartitionsDefinition:
    """Days of receipt in UTC, from the day the pipeline was made to today."""
    return dg.DailyPartitionsDefinition(
        start_date=pipeline.created_at.astimezone(UTC).strftime("%Y-%m-%d"), timezone="UTC", end_offset=1
    )


def day_of(partition_key: str) -> date:
    return datetime.strptime(partition_key, "%Y-%m-%d").replace(tzinfo=UTC).date()
