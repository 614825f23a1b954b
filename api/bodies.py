"""Bodies that are files people write: YAML as it stands, or as `source` in JSON."""

from typing import Any

import orjson
from starlette.requests import Request

from sluiceway.kit.errors import BadRequest, FieldError, InvalidInput, UnsupportedMedia

_YAML = frozenset({"text/yaml", "application/yaml", "application/x-yaml", "text/x-yaml", "text/plain"})

YAML_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/yaml": {"schema": {"type": "string"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"source": {"type": "string", "description": "The YAML."}},
                    "required": ["source"],
                    "additionalProperties": False,
                }
            },
        },
    }
}
"""What a route that depends on `yaml_source` declares with `openapi_extra`."""


async def yaml_source(request: Request) -> str:
    """The YAML in the body. Raises `UnsupportedMedia`, `BadRequest` or `InvalidInput`."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = await request.body()
    if media == "application/json":
        return _from_json(body)
    if media not in _YAML:
        raise UnsupportedMedia("Send text/yaml, or application/json with the field 'source'.")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.") from None


def _from_json(body: bytes) -> str:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, str):
        raise InvalidInput("The YAML is missing.", errors=[FieldError("source", "should be text")])
    return source
