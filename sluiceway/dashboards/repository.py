"""SQL of dashboards. Private to the slice: others ask `service`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sluiceway.dashboards.models import dashboards
from sluiceway.infra.announcing import announce

_MAX_PAYLOAD_BYTES = 7_000

Row = sa.RowMapping


def find(connection: sa.Connection, workspace_id: int, slug: str, *, lock: bool = False) -> Row | None:
    query = sa.select(dashboards).where(dashboards.c.workspace_id == workspace_id, dashboards.c.slug == slug)
    return connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()


def find_all(connection: sa.Connection, workspace_id: int) -> Sequence[Row]:
    query = (
        sa.select(
            dashboards.c.slug, dashboards.c.title, dashboards.c.description, dashboards.c.version,
            dashboards.c.layout_version, dashboards.c.created_at, dashboards.c.updated_at,
            sa.func.jsonb_array_length(
                sa.func.coalesce(dashboards.c.spec["widgets"], sa.text("'[]'::jsonb"))
            ).label("widgets"),
        )
        .where(dashboards.c.workspace_id == workspace_id)
        .order_by(sa.func.lower(dashboards.c.title), dashboards.c.slug)
    )  # fmt: skip
    return connection.execute(query).mappings().all()


def insert_new(connection: sa.Connection, values: dict[str, Any]) -> bool:
    """Whether the name was free."""
    statement = insert(dashboards).values(**values).on_conflict_do_nothing()
    return connection.execute(statement.returning(dashboards.c.id)).first() is not None


def update(connection: sa.Connection, workspace_id: int, slug: str, values: dict[str, Any]) -> None:
    connection.execute(
        sa.update(dashboards)
        .where(dashboards.c.workspace_id == workspace_id, dashboards.c.slug == slug)
        .values(**values, updated_at=sa.func.now())
    )


def delete(connection: sa.Connection, workspace_id: int, slug: str) -> None:
    connection.execute(
        sa.delete(dashboards).where(dashboards.c.workspace_id == workspace_id, dashboards.c.slug == slug)
    )


def hand_over(connection: sa.Connection, workspace_id: int, from_: UUID, to: UUID) -> int:
    done = connection.execute(
        sa.update(dashboards)
        .where(dashboards.c.workspace_id == workspace_id, dashboards.c.created_by == from_)
        .values(created_by=to)
    )
    return done.rowcount


def notify_layout(
    connection: sa.Connection,
    workspace_id: int,
    slug: str,
    version: int,
    client_id: str,
    layout: dict[str, Any],
) -> None:
    """Tell every browser at commit. A layout too large for a notification is left out: they fetch it."""
    payload: dict[str, Any] = {"t": "layout", "w": workspace_id, "d": slug, "v": version, "c": client_id}
    whole = orjson.dumps({**payload, "layout": layout})
    announce(connection, whole if len(whole) <= _MAX_PAYLOAD_BYTES else orjson.dumps(payload))


def notify_changed(connection: sa.Connection, workspace_id: int, slug: str, version: int | None) -> None:
    announce(connection, orjson.dumps({"t": "dashboard", "w": workspace_id, "d": slug, "v": version}))


def created_by(by: UUID | None) -> dict[str, Any]:
    return {"created_by": by, "updated_by": by}
