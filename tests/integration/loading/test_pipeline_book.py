"""The loader's book of pipelines: what it does not know yet is not what is not there."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from sluiceway.catalog.errors import InvalidPipeline, StoredVersionUnreadable
from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.loading.book import PipelineBook
from sluiceway.quality.contracts import NoGate
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import ORDERS, Bench, check_whole, order, query


def test_a_pipeline_made_a_moment_ago_is_found(database: Database) -> None:
    """Its first event may come before the notification of it: it must not count as nobody's."""
    book = PipelineBook(database, NoGate())
    apply_pipeline(database, 1, ORDERS)
    assert book.get(1) is not None
    apply_pipeline(database, 1, ORDERS.replace("name: orders", "name: returns"))
    ((fresh,),) = query(database, "SELECT id FROM app.pipelines WHERE slug = 'returns'")
    found = book.get(fresh)
    assert found is not None
    assert found.pipeline.slug == "returns"
    book.disconnect()


def test_a_pipeline_that_is_not_there_is_asked_for_once(database: Database) -> None:
    book = PipelineBook(database, NoGate())
    assert book.get(77) is None
    read_at = book._read_at
    assert book.get(77) is None
    assert book._read_at == read_at
    book.disconnect()


def test_a_version_from_before_a_rule_is_loaded_until_it_is_applied_anew(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make()
    apply_pipeline(database, 1, ORDERS.replace("name: orders", "name: returns"))
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE app.pipeline_versions SET spec = jsonb_set(spec, '{fields,3,description}',"
                " to_jsonb(repeat('x', 600))) WHERE pipeline_id = 1"
            )
        )
        connection.execute(sa.text("UPDATE app.pipeline_versions SET spec = '{}' WHERE pipeline_id = 2"))
    bench.restart()
    bench.send([order(n) for n in range(5)])
    bench.send([order(n) for n in range(5)], pipeline_id=2)
    bench.load()
    assert check_whole(database) == 5
    assert bench.loader.stats.unknown == 5, "what cannot be read at all is left to bronze"
    with database.transaction(Role.APP, workspace_id=1) as connection:
        assert [p.slug for p in Catalog().list(connection, 1)] == ["orders"]
        assert len(Catalog().get(connection, 1, "orders").spec.fields[3].description) == 600
        with pytest.raises(StoredVersionUnreadable):
            Catalog().get(connection, 1, "returns")
    too_long = ORDERS.replace("{name: note,", f"{{name: note, description: {'x' * 600},")
    with pytest.raises(InvalidPipeline) as refused:
        apply_pipeline(database, 1, too_long)
    assert [error.field for error in refused.value.errors] == ["fields.3.description"]
    apply_pipeline(database, 1, ORDERS.replace("name: orders", "name: returns") + "title: mended\n")
