"""What a deleted workspace held goes, all of it and nothing of others': rows, tables, gold, the lake."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.identity import closing, service
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbox import OutboxMessage, OutboxWorker, lease
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Position
from sluiceway.lake.contracts import BronzeName, bronze_prefix
from sluiceway.lake.service import Lake
from sluiceway.rules import service as rules
from sluiceway.rules.contracts import RuleSpec
from sluiceway.runtime import closing as erasing
from sluiceway.warehouse.erasing import KEPT
from sluiceway.warehouse.gold import refresh_dirty
from tests.support.loaded import Loader
from tests.support.ruled import NOW, SALES, events

TABLES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped
WHERE n.nspname IN ('app', 'silver', 'gold', 'quality', 'marts') AND c.relkind IN ('r', 'p')
  AND NOT c.relispartition
"""


def _do(database: Database, text: str, **values: Any) -> list[Any]:
    """As the owner, whom no policy stops; the first column of what comes back."""
    with database.engine(Role.OWNER).begin() as conn:
        done = conn.execute(sa.text(text), values)
        return list(done.scalars()) if done.returns_rows else []


def _rows(database: Database, workspace_id: int) -> dict[str, int]:
    """How many rows each table has of the workspace; those with none are left out."""
    found = {
        name: _do(database, f"SELECT count(*) FROM {name} WHERE workspace_id = :w", w=workspace_id)[0]
        for name in _do(database, TABLES)
    }
    return {name: count for name, count in found.items() if count}


def _put(lake: Lake, workspace_id: int, slug: str, node: str = "n") -> None:
    prefix = bronze_prefix(workspace_id, slug)
    lake.put(BronzeName(prefix, date(2026, 3, 1), node, Position(1, 0), Position(1, 9)), b"bytes")


def _filled(database: Database, settings: Settings) -> int:
    """Two workspaces with the same pipeline, loaded; one with a rule, an owner, and more in the lake."""
    (room,) = _do(
        database,
        "INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'gone', 'Gone') RETURNING id",
    )
    loaders = [Loader(database, SALES, workspace_id) for workspace_id in (1, room)]
    for loader in loaders:
        loader.load(events(), received_at=NOW - timedelta(minutes=5))
    refresh_dirty(database)
    loaders[1].load([{"id": "late", "at": NOW.isoformat(), "region": "EU", "amount": 5}])
    spec = RuleSpec.model_validate({"name": "regions", "pipeline": "sales", "rows": "region in user.regions"})
    rules.save_rule(database, room, spec)
    with database.transaction(Role.APP, workspace_id=room) as conn:
        service.create_user(conn, "ann@example.com", "Ann", "violet otter climbs", "owner", room)
    lake = Lake(settings)
    for workspace_id in (1, room):
        for slug in ("sales", "_unknown-7"):
            _put(lake, workspace_id, slug)
    return int(room)


def _delete(database: Database, room: int) -> OutboxMessage:
    with database.transaction(Role.APP, workspace_id=room) as conn:
        closed = closing.delete_workspace(conn, room, "Gone")
    assert (closed.contents.events, closed.contents.members, closed.neighbour) == (13, 1, 1)
    return _waiting(database)[0]


def _waiting(database: Database) -> list[OutboxMessage]:
    _do(database, "UPDATE app.outbox SET available_at = now() - interval '1 s', leased_until = NULL")
    with database.transaction(Role.WRITER) as conn:
        return lease(conn, "test", [closing.TOPIC], 10)


def _told(database: Database, workspace_id: int = 1) -> list[dict[str, Any]]:
    return _do(
        database,
        "SELECT content::jsonb -> 'detail' FROM app.audit_entries WHERE action = :a AND workspace_id = :w",
        a=Action.WORKSPACE_ERASED,
        w=workspace_id,
    )


def test_all_of_it_goes_and_nothing_of_others(
    gold_database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = gold_database
    room = _filled(database, settings)
    others, before = _rows(database, 1), _rows(database, room)
    assert {"silver.samples", "silver.event_keys", "app.rules", "gold.dirty_buckets"} <= before.keys()
    assert any(name.startswith("gold.samples_1m") for name in before), before
    # A view that dbt made over the table goes when gold is built without it.
    _do(database, f"CREATE VIEW staging.over_it AS SELECT * FROM silver.w{room}_sales")
    monkeypatch.setattr(erasing, "build_gold", lambda *_: _do(database, "DROP VIEW staging.over_it"))
    monkeypatch.setattr(erasing, "reload_if_running", lambda url: None)
    message = _delete(database, room)
    erasing.erase(settings, database, message, datetime.now(UTC) + timedelta(minutes=1))

    left = _rows(database, room)
    assert left.keys() <= KEPT and "app.audit_entries" in left
    assert _do(database, "SELECT to_regclass(:t)", t=f"silver.w{room}_sales") == [None]
    assert {k: v for k, v in _rows(database, 1).items() if k not in KEPT} == {
        k: v for k, v in others.items() if k not in KEPT
    }
    lake = Lake(settings)
    assert [lake.stored_bytes(room, slug) for slug in ("sales", "_unknown-7")] == [0, 0]
    assert lake.stored_bytes(1, "sales") == 5
    assert len(_told(database)) == len(_told(database, room)) == 1


def test_what_is_still_on_its_way_is_waited_for(database: Database, settings: Settings) -> None:
    room = _filled(database, settings)
    _do(
        database,
        'INSERT INTO app.spool_positions (node, segment, "offset", kept_until)'
        " VALUES ('n1', 1, 0, now() - interval '1 h')",
    )
    message = _delete(database, room)
    erasing.erase(settings, database, message, datetime.now(UTC))
    # Loaders have not heard of it yet: nothing is touched.
    assert _do(database, "SELECT count(*) FROM app.pipelines WHERE workspace_id = :w", w=room) == [1]
    later = datetime.now(UTC) + timedelta(minutes=1)
    erasing.erase(settings, database, _waiting(database)[-1], later)
    assert _rows(database, room).keys() <= KEPT
    _put(Lake(settings), room, "_unknown-1", "n1")  # was in the node's spool
    assert _told(database) == []
    _do(database, "UPDATE app.spool_positions SET kept_until = :at", at=later)
    again = [m for m in _waiting(database) if "objects" in m.payload]
    assert again[-1].payload["objects"] == 2
    erasing.erase(settings, database, again[-1], later + timedelta(seconds=30))
    assert Lake(settings).stored_bytes(room, "_unknown-1") == 0
    (detail,) = _told(database)
    assert detail["objects"] == 3 and detail["tables_left"] == []


def test_the_worker_does_it_once(database: Database, settings: Settings) -> None:
    room = _filled(database, settings)
    _delete(database, room)
    _do(
        database,
        "UPDATE app.outbox SET leased_by = NULL, leased_until = NULL, payload ="
        " jsonb_set(payload, '{deleted_at}', to_jsonb(now() - interval '1 h')) WHERE topic = :t",
        t=closing.TOPIC,
    )
    worker = OutboxWorker(database, "w", {closing.TOPIC: erasing.eraser(settings, database)})
    assert (worker.work(), worker.work()) == (1, 0)
    assert _rows(database, room).keys() <= KEPT
    assert _do(database, "SELECT last_error FROM app.outbox WHERE topic = :t", t=closing.TOPIC) == [None]
    assert len(_told(database)) == 1
