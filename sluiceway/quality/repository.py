"""SQL of the quality slice. Private to it: others ask `service`. Every query takes its workspace."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from sluiceway.infra.announcing import announce
from sluiceway.quality.models import dead_letters, pipelines, results, suites

Row = sa.RowMapping

_RESULTS = sa.select(results, pipelines.c.slug.label("pipeline")).join(
    pipelines, pipelines.c.id == results.c.pipeline_id
)
_DEAD_LETTERS = sa.select(dead_letters, pipelines.c.slug.label("pipeline")).join(
    pipelines, pipelines.c.id == dead_letters.c.pipeline_id
)


def lock_suite(connection: sa.Connection, workspace_id: int, name: str) -> None:
    """Let one transaction at a time apply this suite."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 17))"),
        {"name": f"{workspace_id}/{name}"},
    )


def find_suite(connection: sa.Connection, workspace_id: int, name: str, version: int | None) -> Row | None:
    query = sa.select(suites).where(suites.c.workspace_id == workspace_id, suites.c.name == name)
    if version is not None:
        query = query.where(suites.c.version == version)
    query = query.order_by(suites.c.version.desc()).limit(1)
    return connection.execute(query).mappings().one_or_none()


def find_suites(connection: sa.Connection, workspace_id: int) -> Sequence[Row]:
    query = (
        sa.select(suites)
        .where(suites.c.workspace_id == workspace_id)
        .ext(distinct_on(suites.c.name))
        .order_by(suites.c.name, suites.c.version.desc())
    )
    return connection.execute(query).mappings().all()


def insert_suite(
    connection: sa.Connection, workspace_id: int, name: str, version: int, spec: dict[str, Any], source: str
) -> None:
    connection.execute(
        sa.insert(suites).values(
            workspace_id=workspace_id, name=name, version=version, spec=spec, source=source
        )
    )


def notify_suite(connection: sa.Connection, workspace_id: int, name: str) -> None:
    """Tell every process, at commit, that this suite is another one now."""
    announce(connection, {"t": "suite", "w": workspace_id, "name": name})
    connection.execute(
        sa.text(
            "INSERT INTO app.outbox (workspace_id, topic, payload)"
            " VALUES (:w, 'suite.changed', json_build_object('suite', CAST(:name AS text)))"
        ),
        {"w": workspace_id, "name": name},
    )


def add_results(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add to each (pipeline, expectation, origin, minute); the newest detail that is not empty stays."""
    new = insert(results)
    upsert = new.on_conflict_do_update(
        index_elements=["pipeline_id", "expectation", "origin", "minute"],
        set_={
            "suite": new.excluded.suite,
            "action": new.excluded.action,
            "batches": results.c.batches + new.excluded.batches,
            "failed_batches": results.c.failed_batches + new.excluded.failed_batches,
            "evaluated": results.c.evaluated + new.excluded.evaluated,
            "unexpected": results.c.unexpected + new.excluded.unexpected,
            "detail": sa.case(
                (new.excluded.detail == sa.literal({}, results.c.detail.type), results.c.detail),
                else_=new.excluded.detail,
            ),
        },
    )
    if rows:
        connection.execute(upsert, list(rows))


def find_results(
    connection: sa.Connection,
    workspace_id: int,
    *,
    pipeline: str | None,
    expectation: str | None,
    origin: str | None,
    failed: bool | None,
    since: datetime | None,
    until: datetime | None,
    after: tuple[datetime, int, str, str] | None,
    limit: int,
) -> Sequence[Row]:
    order = (results.c.minute, results.c.pipeline_id, results.c.expectation, results.c.origin)
    query = _RESULTS.where(results.c.workspace_id == workspace_id)
    if pipeline is not None:
        query = query.where(pipelines.c.slug == pipeline)
    if expectation is not None:
        query = query.where(results.c.expectation == expectation)
    if origin is not None:
        query = query.where(results.c.origin == origin)
    if failed is not None:
        query = query.where((results.c.failed_batches > 0) == failed)
    if since is not None:
        query = query.where(results.c.minute >= since)
    if until is not None:
        query = query.where(results.c.minute < until)
    if after is not None:
        query = query.where(sa.tuple_(*order) < sa.tuple_(*map(sa.literal, after)))
    query = query.order_by(*(column.desc() for column in order)).limit(limit)
    return connection.execute(query).mappings().all()


_SUMMARY = sa.text("""
SELECT expectation,
       (array_agg(suite ORDER BY minute DESC))[1] AS suite,
       (array_agg(action ORDER BY minute DESC))[1] AS action,
       sum(batches)::bigint AS batches, sum(failed_batches)::bigint AS failed_batches,
       sum(evaluated)::bigint AS evaluated, sum(unexpected)::bigint AS unexpected,
       max(minute) AS last_at,
       max(minute) FILTER (WHERE failed_batches > 0) AS last_failed_at,
       coalesce((array_agg(detail ORDER BY minute DESC) FILTER (WHERE failed_batches > 0))[1], '{}')
         AS last_detail
FROM quality.results
WHERE workspace_id = :workspace AND pipeline_id = :pipeline AND minute >= :since AND minute < :until
  AND (CAST(:origin AS text) IS NULL OR origin = :origin)
GROUP BY expectation ORDER BY sum(failed_batches) DESC, expectation
""")


def summarise(
    connection: sa.Connection,
    workspace_id: int,
    pipeline_id: int,
    since: datetime,
    until: datetime,
    origin: str | None,
) -> Sequence[Row]:
    parameters = {
        "workspace": workspace_id, "pipeline": pipeline_id, "since": since, "until": until, "origin": origin,
    }  # fmt: skip
    return connection.execute(_SUMMARY, parameters).mappings().all()


def find_dead_letters(
    connection: sa.Connection,
    workspace_id: int,
    *,
    filters: Mapping[str, Any],
    since: datetime | None,
    until: datetime | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Row]:
    order = (dead_letters.c.created_at, dead_letters.c.id)
    query = _filtered(_DEAD_LETTERS, workspace_id, _resolved(connection, workspace_id, filters), since, until)
    if after is not None:
        query = query.where(sa.tuple_(*order) < sa.tuple_(*map(sa.literal, after)))
    query = query.order_by(*(column.desc() for column in order)).limit(limit)
    return connection.execute(query).mappings().all()


def count_dead_letters(
    connection: sa.Connection,
    workspace_id: int,
    *,
    filters: Mapping[str, Any],
    since: datetime | None,
    until: datetime | None,
) -> Sequence[Row]:
    group = (
        pipelines.c.slug.label("pipeline"), dead_letters.c.state, dead_letters.c.step,
        dead_letters.c.code, dead_letters.c.expectation,
    )  # fmt: skip
    base = sa.select(
        *group, sa.func.count().label("count"), sa.func.max(dead_letters.c.created_at).label("newest_at")
    ).join(pipelines, pipelines.c.id == dead_letters.c.pipeline_id)
    query = _filtered(base, workspace_id, _resolved(connection, workspace_id, filters), since, until)
    query = query.group_by(*group).order_by(sa.text("count DESC"), pipelines.c.slug)
    return connection.execute(query).mappings().all()


def _resolved(connection: sa.Connection, workspace_id: int, filters: Mapping[str, Any]) -> dict[str, Any]:
    """The filters with the pipeline's id for its name; 0 for one that is not there.

    Asked for by itself: a planner that sees the id knows whether many of the letters are this pipeline's.
    """
    found = dict(filters)
    if (slug := found.get("pipeline")) is not None:
        query = sa.select(pipelines.c.id).where(
            pipelines.c.workspace_id == workspace_id, pipelines.c.slug == slug
        )
        found["pipeline"] = connection.execute(query).scalar() or 0
    return found


def _filtered(
    query: sa.Select[Any],
    workspace_id: int,
    filters: Mapping[str, Any],
    since: datetime | None,
    until: datetime | None,
) -> sa.Select[Any]:
    query = query.where(dead_letters.c.workspace_id == workspace_id)
    for name, value in filters.items():
        if value is None:
            continue
        column = dead_letters.c.pipeline_id if name == "pipeline" else dead_letters.c[name]
        query = query.where(column == value)
    if since is not None:
        query = query.where(dead_letters.c.created_at >= since)
    if until is not None:
        query = query.where(dead_letters.c.created_at < until)
    return query


def find_dead_letter(connection: sa.Connection, workspace_id: int, id_: UUID) -> Row | None:
    query = _DEAD_LETTERS.where(dead_letters.c.workspace_id == workspace_id, dead_letters.c.id == id_)
    return connection.execute(query).mappings().one_or_none()


def set_states(
    connection: sa.Connection, workspace_id: int, ids: Sequence[UUID], state: str, from_states: Sequence[str]
) -> Sequence[UUID]:
    """Ids whose state changed."""
    resolved = sa.func.clock_timestamp() if state in ("discarded", "retried") else sa.null()
    query = (
        sa.update(dead_letters)
        .where(
            dead_letters.c.workspace_id == workspace_id,
            dead_letters.c.id.in_(ids),
            dead_letters.c.state.in_(from_states),
        )
        .values(state=state, resolved_at=resolved)
        .returning(dead_letters.c.id)
    )
    return list(connection.execute(query).scalars())


def find_states(connection: sa.Connection, workspace_id: int, ids: Sequence[UUID]) -> dict[UUID, str]:
    query = sa.select(dead_letters.c.id, dead_letters.c.state).where(
        dead_letters.c.workspace_id == workspace_id, dead_letters.c.id.in_(ids)
    )
    return {row.id: row.state for row in connection.execute(query)}
