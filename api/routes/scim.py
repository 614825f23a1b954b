"""SCIM 2.0 below `/scim/v2`: users are members, groups are teams.

It describes itself (`/Schemas`, `/ResourceTypes`, `/ServiceProviderConfig`): no OpenAPI document has it.
Not here: the resources (`api.scim`), what is done with them (`sluiceway.identity.provisioning`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.routes.members import handovers
from api.scim.errors import MEDIA_TYPE, ScimError
from api.security import forget_people
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import provisioned_groups, provisioning
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.identity.provisioned_groups import ProvisionedGroup
from sluiceway.identity.provisioning import ProvisionedUser
from sluiceway.kit.errors import NotFound

if TYPE_CHECKING:
    from scim2_models import ScimProvider

router = APIRouter(prefix="/scim/v2", include_in_schema=False)

MayProvision = Annotated[Caller, Depends(require(Permission.PROVISION))]


async def _body(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise ScimError("The body is not JSON.", scim_type="invalidSyntax") from None


Body = Annotated[Any, Depends(_body)]


@router.get("/Users")
def list_users(request: Request, services: Services, caller: MayProvision) -> Response:
    from api.scim.listing import users

    with _protocol(), catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.PROVISIONING_READ, target="user")
        found = provisioning.list_users(conn, caller.workspace_id)
        return _answer(users(found, dict(request.query_params), _base(services)))


@router.post("/Users", status_code=201)
def create_user(request: Request, services: Services, caller: MayProvision, payload: Body) -> Response:
    from scim2_models import Context

    from api.scim.mapping import completed, person_of, user_of
    from api.scim.models import POLICY, User

    with _protocol():
        wanted = User.model_validate(
            completed(payload, active=True), scim_ctx=Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY
        )
        person = person_of(wanted)
    with _changing(services, caller) as conn:
        made = provisioning.create_user(conn, caller.workspace_id, person, now=services.clock.now())
        note(
            request, conn, caller, Action.PROVISIONING_USER_CREATED, target="person", target_id=made.id,
            after=_told_user(made),
        )  # fmt: skip
    document = user_of(made, _base(services)).model_dump(scim_ctx=Context.RESOURCE_CREATION_RESPONSE)
    return _answer(document, 201)


@router.get("/Users/{user_id}")
def get_user(request: Request, services: Services, caller: MayProvision, user_id: str) -> Response:
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.PROVISIONING_READ, target="user", target_id=user_id)
        found = provisioning.get_user(conn, caller.workspace_id, _id(user_id))
    return _user(request, services, caller, found)


@router.put("/Users/{user_id}")
def replace_user(
    request: Request, services: Services, caller: MayProvision, user_id: str, payload: Body
) -> Response:
    from scim2_models import Context

    from api.scim.mapping import completed, user_of
    from api.scim.models import POLICY, User

    with _protocol(), _changing(services, caller) as conn:
        before = provisioning.get_user(conn, caller.workspace_id, _id(user_id))
        wanted = User.model_validate(
            completed(payload, active=before.active),
            scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST,
            scim_policy=POLICY,
        )
        wanted.replace(user_of(before, _base(services)))
        found = _keep_user(request, services, caller, conn, before, wanted)
    return _user(request, services, caller, found)


@router.patch("/Users/{user_id}")
def patch_user(
    request: Request, services: Services, caller: MayProvision, user_id: str, payload: Body
) -> Response:
    from scim2_models import Context, PatchOp

    from api.scim.mapping import user_of
    from api.scim.models import POLICY, User

    with _protocol(), POLICY, _changing(services, caller) as conn:
        before = provisioning.get_user(conn, caller.workspace_id, _id(user_id))
        wanted = user_of(before, _base(services))
        patch = PatchOp[User].model_validate(payload, scim_ctx=Context.RESOURCE_PATCH_REQUEST)
        patch.patch(wanted)
        found = _keep_user(request, services, caller, conn, before, wanted)
    return _user(request, services, caller, found)


@router.delete("/Users/{user_id}", status_code=204)
def delete_user(request: Request, services: Services, caller: MayProvision, user_id: str) -> Response:
    with _changing(services, caller) as conn:
        found = provisioning.get_user(conn, caller.workspace_id, _id(user_id))
        provisioning.remove_user(
            conn, caller.workspace_id, found.id, giver=_giver(caller), now=services.clock.now(),
            handovers=handovers("hand_over"),
        )  # fmt: skip
        note(
            request, conn, caller, Action.PROVISIONING_USER_REMOVED, target="person", target_id=found.id,
            before=_told_user(found),
        )  # fmt: skip
    forget_people(services, caller.workspace_id, found.id)
    return Response(status_code=204)


@router.get("/Groups")
def list_groups(request: Request, services: Services, caller: MayProvision) -> Response:
    from api.scim.listing import groups

    with _protocol(), catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.PROVISIONING_READ, target="group")
        found = provisioned_groups.list_groups(conn, caller.workspace_id)
        return _answer(groups(found, dict(request.query_params), _base(services)))


@router.post("/Groups", status_code=201)
def create_group(request: Request, services: Services, caller: MayProvision, payload: Body) -> Response:
    from scim2_models import Context

    from api.scim.mapping import group_of, input_of
    from api.scim.models import POLICY, Group

    with _protocol():
        wanted = Group.model_validate(payload, scim_ctx=Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY)
        group = input_of(wanted)
    with _changing(services, caller) as conn:
        made = provisioned_groups.create_group(
            conn, caller.workspace_id, group, giver=_giver(caller), now=services.clock.now()
        )
        note(
            request, conn, caller, Action.PROVISIONING_GROUP_CREATED, target="team", target_id=made.id,
            after=_told_group(made),
        )  # fmt: skip
    forget_people(services, caller.workspace_id)
    document = group_of(made, _base(services)).model_dump(scim_ctx=Context.RESOURCE_CREATION_RESPONSE)
    return _answer(document, 201)


@router.get("/Groups/{group_id}")
def get_group(request: Request, services: Services, caller: MayProvision, group_id: str) -> Response:
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.PROVISIONING_READ, target="group", target_id=group_id)
        found = provisioned_groups.get_group(conn, caller.workspace_id, _id(group_id))
    return _group(request, services, caller, found)


@router.put("/Groups/{group_id}")
def replace_group(
    request: Request, services: Services, caller: MayProvision, group_id: str, payload: Body
) -> Response:
    from scim2_models import Context

    from api.scim.mapping import group_of
    from api.scim.models import POLICY, Group

    with _protocol(), _changing(services, caller) as conn:
        before = provisioned_groups.get_group(conn, caller.workspace_id, _id(group_id))
        wanted = Group.model_validate(
            payload, scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST, scim_policy=POLICY
        )
        wanted.replace(group_of(before, _base(services)))
        found = _keep_group(request, services, caller, conn, before, wanted)
    return _group(request, services, caller, found)


@router.patch("/Groups/{group_id}")
def patch_group(
    request: Request, services: Services, caller: MayProvision, group_id: str, payload: Body
) -> Response:
    from scim2_models import Context, PatchOp

    from api.scim.mapping import group_of
    from api.scim.models import POLICY, Group

    with _protocol(), POLICY, _changing(services, caller) as conn:
        before = provisioned_groups.get_group(conn, caller.workspace_id, _id(group_id))
        wanted = group_of(before, _base(services))
        patch = PatchOp[Group].model_validate(payload, scim_ctx=Context.RESOURCE_PATCH_REQUEST)
        patch.patch(wanted)
        found = _keep_group(request, services, caller, conn, before, wanted)
    return _group(request, services, caller, found)


@router.delete("/Groups/{group_id}", status_code=204)
def delete_group(request: Request, services: Services, caller: MayProvision, group_id: str) -> Response:
    with _changing(services, caller) as conn:
        gone = provisioned_groups.remove_group(conn, caller.workspace_id, _id(group_id), giver=_giver(caller))
        note(
            request, conn, caller, Action.PROVISIONING_GROUP_REMOVED, target="team", target_id=gone.id,
            before=_told_group(gone),
        )  # fmt: skip
    forget_people(services, caller.workspace_id)
    return Response(status_code=204)


@router.post("/Users/.search")
@router.post("/Groups/.search")
@router.post("/.search")
def search(request: Request, services: Services, caller: MayProvision, payload: Body) -> Response:
    """The lists' questions as a body, for those who want no personal data in addresses."""
    from api.scim.listing import everything, groups, users

    base = _base(services)
    with _protocol(), catalog(services, caller) as conn:
        people = provisioning.list_users(conn, caller.workspace_id)
        teams = provisioned_groups.list_groups(conn, caller.workspace_id)
        if request.url.path.endswith("/Users/.search"):
            return _answer(users(people, payload, base))
        if request.url.path.endswith("/Groups/.search"):
            return _answer(groups(teams, payload, base))
        return _answer(everything(people, teams, payload, base))


@router.get("/ServiceProviderConfig")
def service_provider_config(services: Services, caller: MayProvision) -> Response:
    provider, base = _service(_base(services)), _base(services)
    assert provider.config is not None
    document = {
        **provider.config.model_dump(),
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }
    return _answer(document)


@router.get("/Schemas")
def list_schemas(services: Services, caller: MayProvision) -> Response:
    return _answer(_listed(_schemas(_base(services))))


@router.get("/Schemas/{schema_id}")
def get_schema(services: Services, caller: MayProvision, schema_id: str) -> Response:
    return _answer(_one(_schemas(_base(services)), schema_id))


@router.get("/ResourceTypes")
def list_resource_types(services: Services, caller: MayProvision) -> Response:
    return _answer(_listed(_resource_types(_base(services))))


@router.get("/ResourceTypes/{name}")
def get_resource_type(services: Services, caller: MayProvision, name: str) -> Response:
    return _answer(_one(_resource_types(_base(services)), name))


def _keep_user(
    request: Request,
    services: ApiServices,
    caller: Caller,
    conn: sa.Connection,
    before: ProvisionedUser,
    wanted: Any,
) -> ProvisionedUser:
    from api.scim.mapping import person_of

    was, found = provisioning.replace_user(
        conn, caller.workspace_id, before.id, person_of(wanted), giver=_giver(caller),
        now=services.clock.now(),
    )  # fmt: skip
    note(
        request, conn, caller, Action.PROVISIONING_USER_CHANGED, target="person", target_id=found.id,
        before=_told_user(was), after=_told_user(found),
    )  # fmt: skip
    return found


def _keep_group(
    request: Request,
    services: ApiServices,
    caller: Caller,
    conn: sa.Connection,
    before: ProvisionedGroup,
    wanted: Any,
) -> ProvisionedGroup:
    from api.scim.mapping import input_of

    was, found = provisioned_groups.replace_group(
        conn, caller.workspace_id, before.id, input_of(wanted), giver=_giver(caller),
        now=services.clock.now(),
    )  # fmt: skip
    note(
        request, conn, caller, Action.PROVISIONING_GROUP_CHANGED, target="team", target_id=found.id,
        before=_told_group(was), after=_told_group(found),
    )  # fmt: skip
    return found


def _user(request: Request, services: ApiServices, caller: Caller, found: ProvisionedUser) -> Response:
    """The answer, after the commit: what this process knows of the member is asked anew."""
    from api.scim.listing import one
    from api.scim.mapping import user_of

    forget_people(services, caller.workspace_id, found.id)
    with _protocol():
        return _answer(one(user_of(found, _base(services)), dict(request.query_params)))


def _group(request: Request, services: ApiServices, caller: Caller, found: ProvisionedGroup) -> Response:
    """The same for a group and all its members."""
    from api.scim.listing import one
    from api.scim.mapping import group_of

    forget_people(services, caller.workspace_id)
    with _protocol():
        return _answer(one(group_of(found, _base(services)), dict(request.query_params)))


@contextmanager
def _changing(services: ApiServices, caller: Caller) -> Iterator[sa.Connection]:
    """One transaction, and no other change by provisioning meanwhile."""
    with catalog(services, caller) as conn:
        provisioning.lock(conn, caller.workspace_id)
        yield conn


@contextmanager
def _protocol() -> Iterator[None]:
    """What the SCIM library finds wrong, as our error."""
    from pydantic import ValidationError
    from scim2_models import Error, SCIMException

    try:
        yield
    except ValidationError as error:
        first = Error.from_validation_error(error.errors()[0])
        raise ScimError(first.detail or "", status=first.status or 400, scim_type=first.scim_type) from None
    except SCIMException as error:
        raise ScimError(error.detail, status=error.status, scim_type=error.scim_type or None) from None


def _giver(caller: Caller) -> Caller | None:
    """An identity provider's key may put anybody anywhere; a person gives what they have, here too."""
    return None if caller.key is not None and caller.key.account is None else caller


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such resource.") from None


def _base(services: ApiServices) -> str:
    return f"{services.settings.public_url.rstrip('/')}/scim/v2"


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    location = document.get("meta", {}).get("location")
    if status == 201 and location:
        headers["Location"] = location
    return Response(orjson.dumps(document, default=str), status, headers, MEDIA_TYPE)


def _told_user(user: ProvisionedUser) -> dict[str, Any]:
    return {"user_name": user.user_name, "email": user.email, "name": user.name, "active": user.active}


def _told_group(group: ProvisionedGroup) -> dict[str, Any]:
    return {"name": group.name, "members": sorted(str(member) for member, _ in group.members)}


@cache
def _service(base_url: str) -> "ScimProvider":
    from api.scim.models import service

    return service(base_url)


def _schemas(base_url: str) -> list[dict[str, Any]]:
    from scim2_models import ResourceType, Schema, ServiceProviderConfig

    core = [model.to_schema() for model in (Schema, ResourceType, ServiceProviderConfig)]
    return [
        {
            **schema.model_dump(),
            "meta": {"resourceType": "Schema", "location": f"{base_url}/Schemas/{schema.id}"},
        }
        for schema in [*_service(base_url).schemas, *core]
    ]


def _resource_types(base_url: str) -> list[dict[str, Any]]:
    return [
        {
            **kind.model_dump(),
            "meta": {"resourceType": "ResourceType", "location": f"{base_url}/ResourceTypes/{kind.name}"},
        }
        for kind in _service(base_url).resource_types
    ]


def _listed(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": len(resources),
        "startIndex": 1,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def _one(resources: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    for resource in resources:
        if str(resource.get("id", resource.get("name"))).lower() == wanted.lower():
            return resource
    raise NotFound("There is no such resource.")
