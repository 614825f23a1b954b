"""The service as it describes itself (RFC 7643, sections 5 to 7): its abilities, resources and schemas."""

from functools import cache
from typing import Any

from scim2_models import ResourceType, Schema, ScimProvider, ServiceProviderConfig

from api.scim.models import service
from sluiceway.kit.errors import NotFound

_described = cache(service)


def config(base_url: str) -> dict[str, Any]:
    found: ScimProvider = _described(base_url)
    assert found.config is not None
    return {**found.config.model_dump(), **_meta("ServiceProviderConfig", base_url)}


def schemas(base_url: str) -> list[dict[str, Any]]:
    core = [model.to_schema() for model in (Schema, ResourceType, ServiceProviderConfig)]
    found = [*_described(base_url).schemas, *core]
    return [{**s.model_dump(), **_meta("Schema", f"{base_url}/Schemas", s.id)} for s in found]


def resource_types(base_url: str) -> list[dict[str, Any]]:
    found = _described(base_url).resource_types
    return [{**t.model_dump(), **_meta("ResourceType", f"{base_url}/ResourceTypes", t.name)} for t in found]


def listed(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": len(resources),
        "startIndex": 1,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def one(resources: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """By its id, else by its name. Raises `NotFound`."""
    for resource in resources:
        if str(resource.get("id", resource.get("name"))).lower() == wanted.lower():
            return resource
    raise NotFound("There is no such resource.")


def _meta(kind: str, base_url: str, name: object = None) -> dict[str, Any]:
    return {"meta": {"resourceType": kind, "location": f"{base_url}/{name or kind}"}}
