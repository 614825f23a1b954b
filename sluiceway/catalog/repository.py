"""SQL of the catalog. Private to the slice: others ask `service.Catalog`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sluiceway.catalog.models import pipeline_versions, pipelines
from sluiceway.infra.announcing import announce

_JOINED = sa.select(
    pipelines, pipeline_versions.c.spec, pipeline_versions.c.version.label("spec_version")
).join(pipeline_versions, pipeline_versions.c.pipeline_id == pipelines.c.id)
_NEWEST = pipeline_versions.c.version == pipelines.c.version

Row = sa.RowMapping


def find(connection: sa.Connection, workspace_id: int, slug: str, version: int | None) -> Row | None:
    wanted = _NEWEST if version is None else pipeline_versions.c.version == version
    query = _JOINED.where(pipelines.c.workspace_id == workspace_id, pipelines.c.slug == slug, wanted)
    return connection.execute(query).mappings().one_or_none()


def find_by_id(connection: sa.Connection, pipeline_id: int, version: int | None) -> Row | None:
    wanted = _NEWEST if version is None else pipeline_versions.c.version == version
    return connection.execute(_JOINED.where(pipelines.c.id == pipeline_id, wanted)).mappings().one_or_none()


def find_all(connection: sa.Connection, workspace_id: int | None) -> Sequence[Row]:
    query = _JOINED.where(_NEWEST).order_by(pipelines.c.workspace_id, pipelines.c.slug)
    if workspace_id is not None:
        query = query.where(pipelines.c.workspace_id == workspace_id)
    return connection.execute(query).mappings().all()


def lock(connection: sa.Connection, workspace_id: int, slug: str) -> None:
    """Let one transaction at a time apply this pipeline."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7))"),
        {"name": f"{workspace_id}/{slug}"},
    )


def newest_version(connection: sa.Connection, workspace_id: int, slug: str) -> Row | None:
    query = (
        sa.select(
            pipelines.c.id, pipelines.c.version, pipelines.c.state,
            pipeline_versions.c.checksum, pipeline_versions.c.spec,
        )
        .join(pipeline_versions, (pipeline_versions.c.pipeline_id == pipelines.c.id) & _NEWEST)
        .where(pipelines.c.workspace_id == workspace_id, pipelines.c.slug == slug)
    )  # fmt: skip
    return connection.execute(query).mappings().one_or_none()


def insert_pipeline(connection: sa.Connection, workspace_id: int, slug: str, name: str, table: str) -> int:
    found: int = connection.execute(
        insert(pipelines)
        .values(workspace_id=workspace_id, slug=slug, name=name, version=1, silver_table=table)
        .returning(pipelines.c.id)
    ).scalar_one()
    connection.execute(
        sa.text("INSERT INTO app.pipeline_state (pipeline_id, workspace_id) VALUES (:id, :workspace)"),
        {"id": found, "workspace": workspace_id},
    )
    return found


def set_version(
    connection: sa.Connection, workspace_id: int, pipeline_id: int, name: str, version: int
) -> None:
    connection.execute(
        sa.update(pipelines)
        .where(pipelines.c.id == pipeline_id, pipelines.c.workspace_id == workspace_id)
        .values(name=name, version=version, updated_at=sa.func.now(), state="active")
    )


def insert_version(
    connection: sa.Connection,
    workspace_id: int,
    pipeline_id: int,
    version: int,
    spec: dict[str, Any],
    source: str,
    checksum: str,
    by: UUID | None,
) -> None:
    connection.execute(
        insert(pipeline_versions).values(
            pipeline_id=pipeline_id, workspace_id=workspace_id, version=version,
            spec=spec, source=source, checksum=checksum, created_by=by,
        )
    )  # fmt: skip


def find_source(connection: sa.Connection, workspace_id: int, slug: str, version: int | None) -> str | None:
    wanted = _NEWEST if version is None else pipeline_versions.c.version == version
    query = (
        sa.select(pipeline_versions.c.source)
        .join(pipelines, pipeline_versions.c.pipeline_id == pipelines.c.id)
        .where(pipelines.c.workspace_id == workspace_id, pipelines.c.slug == slug, wanted)
    )
    return connection.execute(query).scalar_one_or_none()


def find_versions(connection: sa.Connection, workspace_id: int, slug: str) -> Sequence[Row]:
    query = (
        sa.select(
            pipeline_versions.c.version, pipeline_versions.c.checksum,
            pipeline_versions.c.created_by, pipeline_versions.c.created_at,
        )
        .join(pipelines, pipeline_versions.c.pipeline_id == pipelines.c.id)
        .where(pipelines.c.workspace_id == workspace_id, pipelines.c.slug == slug)
        .order_by(pipeline_versions.c.version.desc())
    )  # fmt: skip
    return connection.execute(query).mappings().all()


def set_state(connection: sa.Connection, workspace_id: int, slug: str, state: str) -> int | None:
    return connection.execute(
        sa.update(pipelines)
        .where(pipelines.c.workspace_id == workspace_id, pipelines.c.slug == slug)
        .values(state=state, updated_at=sa.func.now())
        .returning(pipelines.c.id)
    ).scalar_one_or_none()


def notify_changed(connection: sa.Connection, workspace_id: int, pipeline_id: int) -> None:
    """Tell every process, at commit, that this pipeline is another one now."""
    announce(connection, {"t": "catalog", "w": workspace_id, "p": pipeline_id})
    connection.execute(
        sa.text(
            "INSERT INTO app.outbox (workspace_id, topic, payload) VALUES (:w, 'catalog.changed',"
            " json_build_object('pipeline_id', CAST(:p AS int)))"
        ),
        {"w": workspace_id, "p": pipeline_id},
    )
