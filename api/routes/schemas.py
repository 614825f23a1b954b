"""JSON Schemas of the files people write. Open to everyone: editors fetch them, and no data is in them."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse

from sluiceway.catalog.contracts import json_schema as pipeline_schema
from sluiceway.dashboards.contracts import json_schema as dashboard_schema
from sluiceway.quality.contracts import json_schema as suite_schema
from sluiceway.rules.contracts import json_schema as rule_schema

router = APIRouter(prefix="/v1/schemas", tags=["schemas"])

_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "pipeline": pipeline_schema,
    "suite": suite_schema,
    "dashboard": dashboard_schema,
    "rule": rule_schema,
}


@router.get(
    "/{kind}",
    summary="The JSON Schema of a kind of file",
    response_class=JSONResponse,
    responses={200: {"content": {"application/schema+json": {"schema": {"type": "object"}}}}},
)
def get_schema(
    kind: Annotated[
        Literal["pipeline", "suite", "dashboard", "rule"], Path(description="Of which kind of file.")
    ],
) -> JSONResponse:
    """Draft 2020-12. In an editor: `# yaml-language-server: $schema=…/v1/schemas/dashboard`."""
    return JSONResponse(
        _SCHEMAS[kind](), media_type="application/schema+json", headers={"Cache-Control": "max-age=300"}
    )
