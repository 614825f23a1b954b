"""What assets, jobs and sensors work with, built from settings when first used.

Great Expectations is imported only by a run that gates (its import takes seconds), never to load definitions.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.connect import open_database
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.lake.service import Lake
from sluiceway.quality.contracts import SuiteSpec
from sluiceway.quality.service import load_suite

if TYPE_CHECKING:
    from expectations.runner import GreatExpectationsGate

DBT_PROJECT = Path(__file__).parents[1] / "dbt_project"


class Platform:
    """The library's services for one installation. Tests hand in their own settings and database."""

    def __init__(self, settings: Settings | None = None, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database

    @cached_property
    def settings(self) -> Settings:
        return self._settings or load_settings()

    @cached_property
    def database(self) -> Database:
        return self._database or open_database(self.settings, pool_size=2)

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.settings)

    @cached_property
    def gate(self) -> "GreatExpectationsGate":
        from expectations.runner import GreatExpectationsGate

        return GreatExpectationsGate(self.suite)

    @property
    def dbt_home(self) -> Path:
        """Where dbt's profiles, manifest and logs of this installation are."""
        return self.settings.home / "dbt"

    def pipelines(self) -> list[Pipeline]:
        """Every workspace's pipelines that are not archived."""
        with self.database.transaction(Role.WRITER) as connection:
            return [p for p in Catalog().all(connection) if p.state != "archived"]

    def pipeline(self, pipeline_id: int) -> Pipeline:
        with self.database.transaction(Role.WRITER) as connection:
            return Catalog().by_id(connection, pipeline_id)

    def suite(self, workspace_id: int, name: str) -> SuiteSpec | None:
        """The newest version of a suite, None if none was applied."""
        with self.database.transaction(Role.WRITER, workspace_id=workspace_id) as connection:
            return load_suite(connection, workspace_id, name)

    def suite_of(self, pipeline: Pipeline) -> SuiteSpec | None:
        return (
            self.suite(pipeline.workspace_id, pipeline.spec.quality.suite) if pipeline.spec.quality else None
        )


def s3_resources(settings: Settings) -> dict[str, Any]:
    """Dagster's own S3 client for the bucket the lake is in; none where the lake is a folder."""
    if not settings.lake_url.startswith("s3://"):
        return {}
    from dagster_aws.s3 import S3Resource

    return {
        "s3": S3Resource(
            endpoint_url=settings.s3_endpoint,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=settings.s3_secret_access_key,
        )
    }
