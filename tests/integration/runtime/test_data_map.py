"""docs/data-processing.md says what the migrated schema says, of every table."""

from sluiceway.infra.database import Database, Role
from sluiceway.runtime.data_map import PAGE, page, tables


def test_every_table_says_whose_data_it_holds_and_for_how_long(database: Database) -> None:
    with database.transaction(Role.OWNER) as connection:
        found = tables(connection)
    assert len(found) > 50
    silent = [f"{t.schema}.{t.name}" for t in found if not (t.what and t.personal and t.kept)]
    assert silent == [], "COMMENT ON TABLE ... IS '<what>. Personal: <whose data>. Kept: <how long>.'"


def test_the_page_is_what_the_schema_says(database: Database) -> None:
    with database.transaction(Role.OWNER) as connection:
        wanted = page(tables(connection), PAGE.read_text())
    assert PAGE.read_text() == wanted, "python -m sluiceway.runtime.data_map"
