"""Erasing what a deleted workspace held, after nobody is in it any more: the worker's part of deleting one.

In rounds, each of which may be done again: the database and the lake at first; then, until every node's lake
has taken in what was received before, whatever was still on its way. At last the organization's log is told.
Not here: the end itself (`sluiceway.identity.closing`), how rows are found (`sluiceway.warehouse.erasing`).
"""

import logging
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Entry
from sluiceway.audit.service import record
from sluiceway.identity.closing import TOPIC
from sluiceway.infra import outbox
from sluiceway.infra.database import Database, Role, set_identity
from sluiceway.infra.outbox import Handler, OutboxMessage
from sluiceway.infra.settings import Settings
from sluiceway.loading.catching_up import EVERYWHERE_AFTER, nodes_behind
from sluiceway.runtime.auditing import FIRST_WORKSPACE, PLATFORM
from sluiceway.runtime.dagster_home import reload_if_running
from sluiceway.runtime.gold import GoldNotBuilt, build_gold
from sluiceway.warehouse.erasing import drop_tables, erase_rows

log = logging.getLogger(__name__)

LOOK_AGAIN = timedelta(seconds=30)
PATIENCE = timedelta(days=7)
"""So long nodes that are away are waited for; what they then still have is never loaded, and is nobody's."""
_LOCK = 0x51_01_CE_5E


def eraser(settings: Settings, database: Database) -> Handler:
    """What the worker does about a deleted workspace."""

    def handle(message: OutboxMessage) -> None:
        # One worker at a time, however long it takes.
        with database.connect(Role.WRITER, autocommit=True) as turn:
            turn.execute("SELECT pg_advisory_lock(%s, %s)", (_LOCK, message.workspace_id))
            row = turn.execute("SELECT done_at FROM app.outbox WHERE id = %s", (message.id,)).fetchone()
            if row is not None and row[0] is None:
                erase(settings, database, message, datetime.now(UTC))

    return handle


def erase(settings: Settings, database: Database, message: OutboxMessage, now: datetime) -> None:
    """One round; the next is put into the outbox if there has to be one."""
    workspace_id, payload = message.workspace_id, message.payload
    settled = datetime.fromisoformat(payload["deleted_at"]) + EVERYWHERE_AFTER
    if now < settled:  # loaders and keepers have to have heard: what they are at may refer to rows
        _again(database, message, settled, {})
        return
    from sluiceway.lake.service import Lake  # heavy, and seldom needed

    lake = Lake(settings)
    rows = int(payload.get("rows", 0)) + erase_rows(database, workspace_id, but_topic=TOPIC)
    objects = int(payload.get("objects", 0)) + lake.erase(workspace_id)
    left = drop_tables(database, workspace_id)
    if left:
        left = _drop_with_views(settings, database, workspace_id)
    with database.transaction(Role.WRITER) as connection:
        behind = nodes_behind(connection, settled)
    if (behind or left) and now < settled + PATIENCE:
        waits = ", ".join([*(f"the lake of {node}" for node in behind), *(f"silver.{name}" for name in left)])
        log.info("erasing workspace %d goes on: waits for %s", workspace_id, waits)
        _again(database, message, now + LOOK_AGAIN, {"rows": rows, "objects": objects})
        return
    _tell(database, workspace_id, payload.get("neighbour"), rows, objects, left)
    log.info("workspace %d is erased: %d rows, %d objects of the lake", workspace_id, rows, objects)


def _drop_with_views(settings: Settings, database: Database, workspace_id: int) -> list[str]:
    """Have dbt make its views without the workspace's tables, and Dagster its assets; then drop them."""
    try:
        build_gold(settings, database)
    except GoldNotBuilt as error:
        log.warning("the tables of workspace %d stay for now: %s", workspace_id, error.detail)
    reload_if_running(settings.dagster_url)
    return drop_tables(database, workspace_id)


def _again(database: Database, message: OutboxMessage, at: datetime, known: dict[str, int]) -> None:
    with database.transaction(Role.WRITER, workspace_id=message.workspace_id) as connection:
        outbox.put(connection, message.workspace_id, TOPIC, {**message.payload, **known}, available_at=at)


def _tell(
    database: Database, workspace_id: int, neighbour: int | None, rows: int, objects: int, left: list[str]
) -> None:
    detail = {"rows": rows, "objects": objects, "tables_left": left}
    entry = Entry(Action.WORKSPACE_ERASED, PLATFORM, "workspace", str(workspace_id), detail=detail)
    with database.transaction(Role.WRITER) as connection:
        for room in (workspace_id, _told(connection, workspace_id, neighbour)):
            set_identity(connection, workspace_id=room)
            record(connection, entry)


def _told(connection: sa.Connection, workspace_id: int, neighbour: int | None) -> int:
    """Who hears of it: the organization's oldest workspace now, else the installation's first one."""
    if neighbour is None:
        return FIRST_WORKSPACE
    found: int | None = connection.execute(
        sa.text("SELECT app.neighbour_of(:id)"), {"id": workspace_id}
    ).scalar()
    return found or FIRST_WORKSPACE
