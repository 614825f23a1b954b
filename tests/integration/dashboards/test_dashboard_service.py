"""Dashboards in the database: versions, layouts, conflicts, notifications, tenancy."""

import orjson
import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.dashboards import repository, service
from sluiceway.dashboards.contracts import Position
from sluiceway.dashboards.errors import (
    DashboardChangedMeanwhile,
    DashboardExists,
    DashboardNotFound,
    InvalidLayout,
)
from sluiceway.infra.database import Database, Role
from sluiceway.kit.errors import FieldError

SOURCE = """\
kind: Dashboard
name: sales
title: Sales
widgets:
  - id: total
    type: stat
    query: {pipeline: sales, measures: [{field: amount, agg: sum}]}
    layout: {x: 0, y: 0, w: 3, h: 2}
  - {id: words, type: text, text: hello}
"""
PLACE = Position(x=6, y=3, w=4, h=2)


def apply(database: Database, source: str = SOURCE, **options: object) -> service.AppliedDashboard:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        return service.apply_dashboard(connection, 1, source, **options)  # type: ignore[arg-type]


def move(database: Database, version: int, **layout: Position) -> int:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        return service.save_layout(
            connection, 1, "sales", layout, expected_version=version, client_id="tab-1"
        )


def get(database: Database) -> service.Dashboard:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        return service.get_dashboard(connection, 1, "sales")


def test_the_same_text_again_changes_nothing(database: Database) -> None:
    assert (apply(database).outcome, apply(database).outcome) == ("created", "unchanged")
    done = apply(database, SOURCE.replace("title: Sales", "title: All sales"))
    assert (done.outcome, done.version) == ("updated", 2)
    assert get(database).title == "All sales"


def test_a_move_is_kept_and_told(database: Database) -> None:
    apply(database)
    with database.connect(Role.APP, autocommit=True) as listener:
        listener.execute("LISTEN sluiceway_live")
        assert move(database, 1, total=PLACE) == 2
        assert move(database, 2, total=PLACE) == 2  # nothing moved: nothing to tell
        (told,) = list(listener.notifies(timeout=30, stop_after=1))
    assert orjson.loads(told.payload) == {
        "t": "layout", "w": 1, "d": "sales", "v": 2, "c": "tab-1",
        "layout": {"total": PLACE.model_dump(), "words": get(database).layout["words"].model_dump()},
    }  # fmt: skip
    found = get(database)
    assert found.layout["total"] == PLACE and found.version == 1
    apply(database, SOURCE.replace("hello", "good day"))
    assert get(database).layout["total"] == PLACE
    with database.transaction(Role.APP, workspace_id=1) as connection:
        exported = service.export_dashboard(connection, 1, "sales")
    assert "layout: {x: 6, y: 3, w: 4, h: 2}" in exported and "good day" in exported


def test_a_conflict_says_what_is_there_now(database: Database) -> None:
    apply(database)
    move(database, 1, total=PLACE)
    with pytest.raises(DashboardChangedMeanwhile) as found:
        move(database, 1, total=Position(x=0, y=0, w=1, h=1))
    assert found.value.extra["layout_version"] == 2
    assert found.value.extra["layout"]["total"] == PLACE.model_dump()
    with pytest.raises(DashboardChangedMeanwhile) as other:
        apply(database, SOURCE.replace("Sales", "X"), expected_version=7)
    assert other.value.extra == {"version": 1}
    with pytest.raises(InvalidLayout) as unknown:
        move(database, 2, nobody=PLACE)
    assert unknown.value.errors[0].field == "layout.nobody"


def test_a_large_layout_is_told_without_itself(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_MAX_PAYLOAD_BYTES", 80)
    apply(database)
    with database.connect(Role.APP, autocommit=True) as listener:
        listener.execute("LISTEN sluiceway_live")
        move(database, 1, total=PLACE)
        (told,) = list(listener.notifies(timeout=30, stop_after=1))
    assert orjson.loads(told.payload) == {"t": "layout", "w": 1, "d": "sales", "v": 2, "c": "tab-1"}


def test_specs_are_created_replaced_and_deleted(database: Database) -> None:
    spec = service.parse(SOURCE)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        assert service.create_dashboard(connection, 1, spec).version == 1
    with pytest.raises(DashboardExists), database.transaction(Role.APP, workspace_id=1) as connection:
        service.create_dashboard(connection, 1, spec)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        assert service.replace_dashboard(connection, 1, spec, 1).version == 2
        assert [d.widgets for d in service.list_dashboards(connection, 1)] == [2]
        exported = service.export_dashboard(connection, 1, "sales")
        assert service.parse(exported).widgets[0].query == spec.widgets[0].query
        with pytest.raises(DashboardChangedMeanwhile):
            service.delete_dashboard(connection, 1, "sales", expected_version=1)
        service.delete_dashboard(connection, 1, "sales", expected_version=2)
        with pytest.raises(DashboardNotFound):
            service.get_dashboard(connection, 1, "sales")


def test_queries_that_name_what_is_not_there_are_warnings(database: Database) -> None:
    done = apply(database, check=lambda query: [FieldError("measures.0.field", "is not a field")])
    assert done.outcome == "created"
    assert done.warnings == (FieldError("widgets.0.query.measures.0.field", "is not a field"),)


def test_another_workspace_has_its_own(database: Database) -> None:
    apply(database)
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
        )
    with database.transaction(Role.APP, workspace_id=2) as connection:
        assert service.list_dashboards(connection, 2) == []
        with pytest.raises(DashboardNotFound):
            service.get_dashboard(connection, 2, "sales")
        # The code's own filter is the second lock: the database is the first.
        assert service.list_dashboards(connection, 1) == []
    with (
        pytest.raises(sa.exc.ProgrammingError) as refused,
        database.transaction(Role.APP, workspace_id=2) as connection,
    ):
        service.apply_dashboard(connection, 1, SOURCE)
    assert isinstance(refused.value.orig, psycopg.errors.InsufficientPrivilege)
