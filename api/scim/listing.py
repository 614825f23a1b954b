"""Lists of resources: filtered, sorted and paged as they were asked for, with the attributes asked for."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from scim2_models import Context, ListResponse, Resource, ResponseParameters, SearchRequest

from api.scim.mapping import group_of, user_of
from api.scim.models import MOST_RESULTS, POLICY, Group, User
from sluiceway.identity.provisioned_groups import ProvisionedGroup
from sluiceway.identity.provisioning import ProvisionedUser

Found = TypeVar("Found")
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


def users(found: Sequence[ProvisionedUser], asked: Any, base_url: str) -> dict[str, Any]:
    """Raises `ValidationError` or `SCIMException` for what cannot be asked."""
    request = SearchRequest[User].model_validate(_plain(asked), scim_policy=POLICY)
    names: dict[str, Callable[[ProvisionedUser], str | None]] = {
        "username": lambda u: u.user_name,
        "externalid": lambda u: u.external_id,
        "id": lambda u: str(u.id),
    }
    chosen = _chosen(found, request, names)
    return _page(chosen, lambda user: user_of(user, base_url), request, ListResponse[User])


def groups(found: Sequence[ProvisionedGroup], asked: Any, base_url: str) -> dict[str, Any]:
    """The same for groups."""
    request = SearchRequest[Group].model_validate(_plain(asked), scim_policy=POLICY)
    names: dict[str, Callable[[ProvisionedGroup], str | None]] = {
        "displayname": lambda g: g.name,
        "externalid": lambda g: g.external_id,
        "id": lambda g: str(g.id),
    }
    chosen = _chosen(found, request, names)
    return _page(chosen, lambda group: group_of(group, base_url), request, ListResponse[Group])


def everything(
    people: Sequence[ProvisionedUser], teams: Sequence[ProvisionedGroup], asked: Any, base_url: str
) -> dict[str, Any]:
    """Users and groups in one list."""
    request: SearchRequest[Any] = SearchRequest[User | Group].model_validate(
        _plain(asked), scim_policy=POLICY
    )
    made: list[Resource[Any]] = [user_of(user, base_url) for user in people]
    made += [group_of(team, base_url) for team in teams]
    return _page(made, lambda resource: resource, request, ListResponse[User | Group])


def one(resource: Resource[Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A resource with the attributes that were asked for."""
    wanted = {key: asked[key] for key in ("attributes", "excludedAttributes") if key in asked}
    parameters = ResponseParameters[type(resource)].model_validate(wanted)  # type: ignore[misc]  # made at run time
    found: dict[str, Any] = resource.model_dump(
        scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=parameters
    )
    return found


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
    found: Sequence[Found],
    make: Callable[[Found], Resource[Any]],
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
