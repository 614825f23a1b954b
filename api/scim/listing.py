"""Lists of resources: filtered, sorted and paged as they were asked for, with the attributes asked for."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from scim2_models import Context, ListResponse, Resource, ResponseParameters, SearchRequest

from api.scim.kinds import Found, Kind
from api.scim.mapping import FORMS
from api.scim.models import MOST_RESULTS, POLICY, Group, User

Item = TypeVar("Item")
# What providers ask before nearly every change: answered without making every resource.
_BY_NAME = re.compile(r'\s*(userName|displayName|externalId|id)\s+eq\s+"([^"\\]*)"\s*', re.IGNORECASE)
_ASKED = (
    "attributes",
    "excludedAttributes",
    "filter",
    "sortBy",
    "sortOrder",
    "startIndex",
    "count",
    "schemas",
)


def resources(kind: Kind[Found], found: Sequence[Found], asked: Any, base_url: str) -> dict[str, Any]:
    """Of one kind. Raises `ValidationError` or `SCIMException` for what cannot be asked."""
    form = FORMS[kind.path]
    request: SearchRequest[Any] = _made_of(SearchRequest, form.model).model_validate(
        _plain(asked), scim_policy=POLICY
    )
    chosen = _chosen(found, request, kind.names)
    return _page(chosen, lambda item: form.of(item, base_url), request, _made_of(ListResponse, form.model))


def everything(found: Mapping[str, Sequence[Any]], asked: Any, base_url: str) -> dict[str, Any]:
    """All kinds in one list; `found`: by the first part of their addresses."""
    request: SearchRequest[Any] = SearchRequest[User | Group].model_validate(
        _plain(asked), scim_policy=POLICY
    )
    made = [FORMS[path].of(item, base_url) for path, items in found.items() for item in items]
    return _page(made, lambda resource: resource, request, ListResponse[User | Group])


def one(resource: Resource[Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A resource with the attributes that were asked for."""
    wanted = {key: asked[key] for key in ("attributes", "excludedAttributes") if key in asked}
    parameters = _made_of(ResponseParameters, type(resource)).model_validate(wanted)
    found: dict[str, Any] = resource.model_dump(
        scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=parameters
    )
    return found


def _made_of(generic: Any, model: type[Resource[Any]]) -> Any:
    """The library's class for resources of this model, which is known only now."""
    return generic[model]


def _plain(asked: Any) -> Any:
    """Only what a list can be asked; addresses may hold anything else, too."""
    if not isinstance(asked, Mapping):
        return asked
    return {key: value for key, value in asked.items() if key in _ASKED}


def _chosen(
    found: Sequence[Found],
    request: "SearchRequest[Any]",
    names: Mapping[str, Callable[[Found], str | None]],
) -> Sequence[Found]:
    match = _BY_NAME.fullmatch(str(request.filter)) if request.filter is not None else None
    of = names.get(match[1].lower()) if match is not None else None
    if match is None or of is None:
        return found
    wanted = match[2].lower()
    return [item for item in found if (of(item) or "").lower() == wanted]


def _page(
    found: Sequence[Item],
    make: Callable[[Item], Resource[Any]],
    request: "SearchRequest[Any]",
    response: Any,
) -> dict[str, Any]:
    start = request.start_index_0 or 0
    count = MOST_RESULTS if request.count is None else min(request.count, MOST_RESULTS)
    if request.filter is None and request.sort_by is None:
        total, made = len(found), [make(item) for item in found[start : start + count]]
    else:
        everyone = [make(item) for item in found]
        if request.filter is not None:
            everyone = [item for item in everyone if request.filter.match(item)]
        total, made = len(everyone), request.sort(everyone)[start : start + count]
    answer = response(total_results=total, start_index=start + 1, items_per_page=len(made), resources=made)
    document: dict[str, Any] = answer.model_dump(
        scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=request
    )
    return document
