"""The face of the catalog: parse, keep, find and export pipelines.

Services take an open connection and do not commit. Making the silver table is the warehouse's work
(`sluiceway.warehouse.schema.apply_pipeline` does both).
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from sluiceway.catalog import repository
from sluiceway.catalog.contracts import Applied, Pipeline, PipelineSpec
from sluiceway.catalog.errors import InvalidPipeline, PipelineNotFound, StoredVersionUnreadable
from sluiceway.catalog.stored import read_spec
from sluiceway.kit.yaml_source import read_model

State = Literal["active", "paused", "archived"]


@dataclass(frozen=True, slots=True)
class Version:
    """One applied version. `checksum` is SHA-256 over the source as applied, in hex."""

    version: int
    checksum: str
    created_by: UUID | None
    created_at: datetime


_LIKE_A_LEAF = re.compile(r"_p\d{4}[_w]\d\d$")  # a month's or week's partition of another pipeline
_LIKE_ANOTHERS = re.compile(r"w\d+_")


def parse(source: str) -> PipelineSpec:
    """The pipeline in a YAML document. Raises `InvalidPipeline` with field and line of each error."""
    return read_model(source, PipelineSpec, InvalidPipeline)


def silver_table_name(workspace_id: int, slug: str) -> str:
    """The silver table of a pipeline, within schema `silver`; at most 63 bytes with a partition's suffix."""
    name = slug.replace("-", "_")[:46]
    if len(slug) > 46 or _LIKE_A_LEAF.search(name):
        name = f"{name[:37]}_{hashlib.sha256(slug.encode()).hexdigest()[:8]}"
    return name if workspace_id == 1 and not _reserved(name) else f"w{workspace_id}_{name}"


def _reserved(name: str) -> bool:
    """Names of our own tables, of their leaves, and of what other workspaces' pipelines may be called."""
    return (
        name in ("batches", "series", "samples", "event_keys")
        or name.startswith(("samples_p", "event_keys_p"))
        or _LIKE_ANOTHERS.match(name) is not None
    )


class Catalog:
    """Reads and writes pipelines of one workspace on a connection that acts for it."""

    def get(
        self, connection: sa.Connection, workspace_id: int, slug: str, version: int | None = None
    ) -> Pipeline:
        """The newest (or the named) version. Raises `PipelineNotFound`."""
        row = repository.find(connection, workspace_id, slug, version)
        if row is None:
            raise _not_found(slug, version)
        return _pipeline(row)

    def by_id(self, connection: sa.Connection, pipeline_id: int, version: int | None = None) -> Pipeline:
        row = repository.find_by_id(connection, pipeline_id, version)
        if row is None:
            raise PipelineNotFound(f"There is no pipeline with id {pipeline_id}.")
        return _pipeline(row)

    def list(self, connection: sa.Connection, workspace_id: int) -> list[Pipeline]:
        """Every pipeline of the workspace, by slug, archived ones included."""
        return _readable(repository.find_all(connection, workspace_id))

    def all(self, connection: sa.Connection) -> Sequence[Pipeline]:
        """Every workspace's pipelines (the writer's role may see them; another role sees its own)."""
        return _readable(repository.find_all(connection, None))

    def save(
        self, connection: sa.Connection, workspace_id: int, source: str, by: UUID | None = None
    ) -> Applied:
        """Keep the document as the pipeline's next version; the same text again changes nothing.

        Raises `InvalidPipeline`.
        """
        spec = parse(source)
        checksum = hashlib.sha256(source.encode()).hexdigest()
        repository.lock(connection, workspace_id, spec.name)
        known = repository.newest_version(connection, workspace_id, spec.name)
        if known is not None and known["checksum"] == checksum and known["state"] != "archived":
            return Applied("Pipeline", spec.name, known["version"], "unchanged")
        title = spec.title or spec.name
        if known is None:
            table = silver_table_name(workspace_id, spec.name)
            pipeline_id = repository.insert_pipeline(connection, workspace_id, spec.name, title, table)
            version = 1
        else:
            pipeline_id, version = known["id"], known["version"] + 1
            repository.set_version(connection, workspace_id, pipeline_id, title, version)
        document = spec.model_dump(mode="json", exclude_defaults=False)
        repository.insert_version(
            connection, workspace_id, pipeline_id, version, document, source, checksum, by
        )
        repository.notify_changed(connection, workspace_id, pipeline_id)
        return Applied("Pipeline", spec.name, version, "created" if known is None else "updated")

    def what_changed(
        self, connection: sa.Connection, workspace_id: int, applied: Applied
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Before and after, for the audit log."""
        found = repository.find(connection, workspace_id, applied.name, applied.version)
        known = repository.find(connection, workspace_id, applied.name, applied.version - 1)
        after = {} if found is None else found["spec"]
        if known is None:
            return None, {"version": applied.version, "spec": after}
        before = {"version": applied.version - 1, "spec": known["spec"]}
        return before, {"version": applied.version, "spec": after}

    def export(
        self, connection: sa.Connection, workspace_id: int, slug: str, version: int | None = None
    ) -> str:
        """The YAML exactly as it was applied. Raises `PipelineNotFound`."""
        source = repository.find_source(connection, workspace_id, slug, version)
        if source is None:
            raise _not_found(slug, version)
        return source

    def versions(self, connection: sa.Connection, workspace_id: int, slug: str) -> Sequence[Version]:
        """All versions, newest first. Raises `PipelineNotFound`."""
        rows = repository.find_versions(connection, workspace_id, slug)
        if not rows:
            raise _not_found(slug, None)
        return [Version(**row) for row in rows]

    def set_state(self, connection: sa.Connection, workspace_id: int, slug: str, state: State) -> Pipeline:
        """Pause, resume or archive. Raises `PipelineNotFound`."""
        pipeline_id = repository.set_state(connection, workspace_id, slug, state)
        if pipeline_id is None:
            raise _not_found(slug, None)
        repository.notify_changed(connection, workspace_id, pipeline_id)
        return self.get(connection, workspace_id, slug)


def _not_found(slug: str, version: int | None) -> PipelineNotFound:
    named = f"pipeline {slug!r}" if version is None else f"version {version} of pipeline {slug!r}"
    return PipelineNotFound(f"There is no {named} in this workspace.")


def _readable(rows: Sequence[Any]) -> list[Pipeline]:
    """One pipeline that cannot be read (the log has it) must not stop all others."""
    found = []
    for row in rows:
        with suppress(StoredVersionUnreadable):
            found.append(_pipeline(row))
    return found


def _pipeline(row: Any) -> Pipeline:
    return Pipeline(
        id=row["id"],
        workspace_id=row["workspace_id"],
        slug=row["slug"],
        name=row["name"],
        version=row["spec_version"],
        state=row["state"],
        silver_table=row["silver_table"],
        spec=read_spec(row["spec"], f"Version {row['spec_version']} of pipeline {row['slug']!r}"),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
