"""Where a query says for which workspace it is: of relations that several share, and of no other."""

from datetime import UTC, datetime

from sluiceway.catalog.contracts import Pipeline, PipelineSpec
from sluiceway.queries.contracts import QueryRequest
from sluiceway.queries.relations import Relation, of_model, of_pipeline
from sluiceway.queries.resolve import resolve_query
from sluiceway.queries.statements import table_statement

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)


def _statement(relation: Relation, **request: object) -> str:
    asked = QueryRequest.model_validate({**request, "time": {"last": "7d"}})
    query = resolve_query(asked, relation, extent=None, now=NOW)
    return table_statement(query, 7, NOW).text.as_string(None)


def test_a_models_rows_are_everybodys_and_a_silver_table_is_one_pipelines() -> None:
    columns = [("workspace_id", "integer", None), ("day", "date", None), ("amount", "numeric", None)]
    model = _statement(of_model("marts", "sales", columns), model="marts.sales", rows=["amount"])
    assert "WHERE workspace_id = %(v0)s" in model
    spec = PipelineSpec.model_validate(
        {
            "name": "sales",
            "event": {"id": "id", "time": "at"},
            "fields": [{"name": "amount", "type": "number"}],
        }
    )
    pipeline = Pipeline(
        id=1, workspace_id=7, slug="sales", name="sales", version=1, state="active", silver_table="w7_sales",
        spec=spec, created_at=NOW, updated_at=NOW,
    )  # fmt: skip
    silver = _statement(of_pipeline(pipeline, [spec]), pipeline="sales", rows=["amount"])
    assert 'FROM "silver"."w7_sales"' in silver and "workspace_id" not in silver
