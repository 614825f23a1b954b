"""Runs dbt once when what it would build has changed: the first start, a new model, a new pipeline."""

import hashlib
import json
from pathlib import Path

import dagster as dg

from orchestration.resources import Platform

GOLD_GROUPS = ("gold", "staging", "marts")


def gold_sensor(platform: Platform) -> dg.SensorDefinition:
    """The manifest that a gold build left behind names what there is; another manifest asks for one run."""
    manifest = platform.dbt_home / "target" / "manifest.json"

    @dg.sensor(
        name="gold_changed",
        target=dg.AssetSelection.groups(*GOLD_GROUPS),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Builds and tests gold through Dagster when the dbt project has changed.",
    )
    def gold_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = models(manifest)
        if seen == context.cursor:
            return dg.SkipReason("The models are those of the last run.")
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"gold-{seen}")], cursor=seen)

    return gold_changed


def models(manifest: Path) -> str:
    """A digest over the checksums of every model and test in the manifest, in hex."""
    nodes = json.loads(manifest.read_text())["nodes"]
    lines = sorted(f"{name} {node['checksum']['checksum']}" for name, node in nodes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
