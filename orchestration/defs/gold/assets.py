"""Gold through dagster-dbt: every model an asset, every dbt test a check, lineage from silver's tables.

The manifest is the one that building gold left under the data folder; without it there are no gold assets
yet, and the log says so.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)

from orchestration.failing import without_secrets
from orchestration.resources import DBT_PROJECT, Platform


class Translator(DagsterDbtTranslator):
    """dbt's schemas are our layers."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return str(dbt_resource_props.get("schema") or "gold")


def gold_assets(platform: Platform) -> list[dg.AssetsDefinition]:
    manifest = platform.dbt_home / "target" / "manifest.json"
    if not manifest.exists():
        dg.get_dagster_logger().warning("gold is not built yet: %s is missing", manifest)
        return []

    @dbt_assets(
        manifest=manifest,
        dagster_dbt_translator=Translator(DagsterDbtTranslatorSettings(enable_asset_checks=True)),
        pool="dbt",
        retry_policy=dg.RetryPolicy(max_retries=1, delay=10),
    )
    def gold(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        with without_secrets():
            yield from dbt.cli(["build"], context=context).stream()

    return [gold]


def dbt_resources(platform: Platform) -> dict[str, DbtCliResource]:
    """dbt's command line on the project, with this installation's profile, manifest and logs."""
    home = platform.dbt_home
    project = DbtProject(project_dir=DBT_PROJECT, target_path=home / "target", profiles_dir=home)
    executable = str(Path(sys.executable).with_name("dbt"))
    return {"dbt": DbtCliResource(project_dir=project, profiles_dir=str(home), dbt_executable=executable)}
