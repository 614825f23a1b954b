"""Bodies that are files people write: YAML as it stands, or as `source` in JSON."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sluiceway.kit.errors import BadRequest, FieldError, InvalidInput, SluicewayError, UnsupportedMedia

_YAML = frozenset({"text/yaml", "application/yaml", "application/x-yaml", "text/x-yaml", "text/plain"})


def yaml_or_json(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a route declares with `openapi_extra` that takes YAML, or an object in JSON."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema |= {"required": list(required), "additionalProperties": False}
    content = {"text/yaml": {"schema": {"type": "string"}}, "application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


YAML_BODY = yaml_or_json({"source": {"type": "string", "description": "The YAML."}}, ("source",))
"""For a route that depends on `yaml_source`."""
YAML_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/yaml": {"schema": {"type": "string"}}}, "description": "The YAML"}
}
"""What an export declares with `responses`."""


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


def check_name(found: str, wanted: str, error: type[SluicewayError]) -> None:
    """What a file calls its thing is what the address calls it. Raises `error`."""
    if found != wanted:
        problem = FieldError("name", f"should be {wanted!r}, as in the address")
        raise error(f"The file is about {found!r}.", errors=[problem])


def tell_outcome(response: Response, outcome: str, address: str) -> None:
    """201 and where it is, if the file made something new."""
    if outcome == "created":
        response.status_code = 201
        response.headers["Location"] = address


def _from_json(body: bytes) -> str:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, str):
        raise InvalidInput("The YAML is missing.", errors=[FieldError("source", "should be text")])
    return source
