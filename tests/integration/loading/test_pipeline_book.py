"""The loader's book of pipelines: what it does not know yet is not what is not there."""

from sluiceway.infra.database import Database
from sluiceway.loading.book import PipelineBook
from sluiceway.quality.contracts import NoGate
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import ORDERS, query


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
