"""A pipeline's table and its partitions."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from sluiceway.catalog.errors import IncompatibleChange, PipelineNotFound
from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.schema import (
    apply_pipeline,
    drop_partitions_before,
    ensure_partitions,
    list_partitions,
    partition_of,
)
from tests.support.eyes import owner_of

ORDERS = """\
# kept as written
name: orders
event: {id: id, time: at}
fields:
  - {name: amount, type: number, role: measure, unit: EUR}
  - {name: country, type: string, role: dimension}
"""


def test_applying_twice_changes_nothing_and_a_change_makes_a_version(database: Database) -> None:
    assert apply_pipeline(database, 1, ORDERS).outcome == "created"
    assert apply_pipeline(database, 1, ORDERS).outcome == "unchanged"
    changed = ORDERS + "  - {name: paid, type: boolean}\n"
    applied = apply_pipeline(database, 1, changed)
    assert (applied.outcome, applied.version) == ("updated", 2)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        catalog = Catalog()
        assert catalog.export(connection, 1, "orders") == changed
        assert catalog.export(connection, 1, "orders", version=1) == ORDERS
        assert [v.version for v in catalog.versions(connection, 1, "orders")] == [2, 1]
        assert catalog.get(connection, 1, "orders").spec.fields[-1].name == "paid"
    with database.transaction(Role.READER, access=owner_of()) as connection:
        columns = connection.execute(sa.text("SELECT * FROM silver.orders")).keys()
    assert list(columns)[-3:] == ["amount", "country", "paid"]


def test_another_workspace_does_not_see_the_pipeline(database: Database) -> None:
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
        )
    apply_pipeline(database, 1, ORDERS)
    apply_pipeline(database, 2, ORDERS)
    with database.transaction(Role.APP, workspace_id=2) as connection:
        found = Catalog().list(connection, 2)
        assert [(p.workspace_id, p.silver_table) for p in found] == [(2, "w2_orders")]
        with pytest.raises(PipelineNotFound):
            Catalog().get(connection, 1, "orders")
    with database.transaction(Role.WRITER) as connection:
        assert len(Catalog().all(connection)) == 2


def test_a_field_cannot_change_its_type(database: Database) -> None:
    apply_pipeline(database, 1, ORDERS)
    with pytest.raises(IncompatibleChange, match="'amount'"):
        apply_pipeline(database, 1, ORDERS.replace("type: number", "type: integer"))


def test_partitions_are_made_once_and_dropped_whole(database: Database) -> None:
    apply_pipeline(database, 1, ORDERS)
    times = [datetime(2026, 1, 31, 23, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)]
    for _ in range(2):
        assert list(ensure_partitions(database, "orders", times)) == ["orders_p2026_01", "orders_p2026_02"]
    assert ensure_partitions(database, "event_keys", times, "week").keys() == {"event_keys_p2026w05"}
    with (
        database.connect(Role.WRITER) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY silver.orders_p2026_01 FROM STDIN") as copy,
    ):
        copy.write_row([1, 1, "a", times[0], times[0], 1, "n/1/0/0", 5.0, "CH"])
    with database.transaction(Role.READER, workspace_id=1) as reader:
        assert reader.execute(sa.text("SELECT amount FROM silver.orders")).scalar() == 5.0
    with database.transaction(Role.READER, workspace_id=2) as reader:
        assert reader.execute(sa.text("SELECT amount FROM silver.orders")).scalar() is None
    assert drop_partitions_before(database, "orders", times[1]) == ["orders_p2026_01"]
    assert [p.name for p in list_partitions(database, "orders")] == ["orders_p2026_02"]


def test_the_reader_cannot_read_a_leaf(database: Database) -> None:
    apply_pipeline(database, 1, ORDERS)
    (leaf,) = ensure_partitions(database, "orders", [datetime(2026, 1, 1, tzinfo=UTC)])
    with database.connect(Role.READER) as connection, pytest.raises(Exception, match="permission denied"):
        connection.execute(f'SELECT * FROM silver."{leaf}"')


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "event_keys_p2026w01"),
        (datetime(2027, 1, 3, 23, 59, 59, tzinfo=UTC), "event_keys_p2026w53"),
    ],
)
def test_weeks_are_iso_weeks(at: datetime, name: str) -> None:
    partition = partition_of("event_keys", at, "week")
    assert partition.name == name
    assert partition.begin <= at < partition.end
