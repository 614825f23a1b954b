"""One bronze asset a pipeline. Materialising a day compacts its small files; the bytes stay the same."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from orchestration.failing import without_secrets
from orchestration.naming import bronze_key, day_of, days
from orchestration.resources import Platform
from sluiceway.catalog.contracts import Pipeline


def damage(paths: Sequence[str]) -> dg.Failure:
    """What a run ends with that met objects it cannot read; everything else was compacted."""
    return dg.Failure(
        f"{len(paths)} objects of the lake cannot be read and were left as they are: {', '.join(paths)}."
        " docs/lake.md says what to do.",
        metadata={"damaged": list(paths)},
        allow_retries=False,
    )


def bronze_asset(pipeline: Pipeline) -> dg.AssetsDefinition:
    @dg.asset(
        key=bronze_key(pipeline),
        partitions_def=days(pipeline),
        group_name="bronze",
        kinds={"parquet"},
        pool="lake",
        description=f"Every byte received for {pipeline.name}, as received: Parquet in the lake.",
        metadata={"pipeline": pipeline.slug, "workspace_id": pipeline.workspace_id},
        required_resource_keys={"platform"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=pipeline.spec.freshness.warn_after),
        retry_policy=dg.RetryPolicy(max_retries=2, delay=5),
    )
    @without_secrets()
    def bronze(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        platform: Platform = context.resources.platform
        found = platform.lake.compact_day(platform.pipeline(pipeline.id), day_of(context.partition_key))
        if found.damaged:
            raise damage(found.damaged)
        return dg.MaterializeResult(
            metadata={
                "objects before": found.objects_before,
                "objects after": found.objects_after,
                "dagster/row_count": found.events,
                "bytes": found.size_bytes,
            }
        )

    return bronze
