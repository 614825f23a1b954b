"""SCIM 2.0 below `/scim/v2`: users are members, groups are teams.

It describes itself (`/Schemas`, `/ResourceTypes`, `/ServiceProviderConfig`): no OpenAPI document has it.
Not here: the resources (`api.scim`), what is done with them (`sluiceway.identity.provisioning`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.scim.errors import MEDIA_TYPE, ScimError, protocol
from api.scim.kinds import KINDS, Kind
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import provisioning
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import NotFound

if TYPE_CHECKING:
    from api.scim.mapping import Form

AT = "/scim/v2"
router = APIRouter(prefix=AT, include_in_schema=False)

MayProvision = Annotated[Caller, Depends(require(Permission.PROVISION))]


async def _body(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise ScimError("The body is not JSON.", scim_type="invalidSyntax") from None


Body = Annotated[Any, Depends(_body)]


@dataclass(frozen=True)
class Asking:
    """A request about resources, and what its address says of them."""

    request: Request
    services: ApiServices
    caller: Caller

    @property
    def first(self) -> str:
        """The first part of the address below the service's."""
        return self.request.url.path.partition(f"{AT}/")[2].partition("/")[0]

    @property
    def kind(self) -> Kind[Any]:
        return KINDS[self.first]

    @property
    def form(self) -> "Form":
        from api.scim.mapping import FORMS

        return FORMS[self.first]

    @property
    def base_url(self) -> str:
        return _base(self.services)

    @property
    def workspace_id(self) -> int:
        return self.caller.workspace_id

    @property
    def change(self) -> dict[str, Any]:
        """Who changes something, and when.

        An identity provider's key may put anybody anywhere; a person gives what they have, here too.
        """
        free = self.caller.key is not None and self.caller.key.account is None
        return {"giver": None if free else self.caller, "now": self.services.clock.now()}

    def resource(self, found: Any) -> Any:
        return self.form.of(found, self.base_url)


def _asking(request: Request, services: Services, caller: MayProvision) -> Asking:
    return Asking(request, services, caller)


Asked = Annotated[Asking, Depends(_asking)]


@router.get("/Users")
@router.get("/Groups")
def list_resources(asked: Asked) -> Response:
    from api.scim.listing import resources

    kind = asked.kind
    with protocol(), catalog(asked.services, asked.caller) as conn:
        note_read(asked.request, conn, asked.caller, Action.PROVISIONING_READ, target=kind.read)
        found = kind.list(conn, asked.workspace_id)
        return _answer(resources(kind, found, dict(asked.request.query_params), asked.base_url))


@router.post("/Users", status_code=201)
@router.post("/Groups", status_code=201)
def create_resource(asked: Asked, payload: Body) -> Response:
    from scim2_models import Context

    kind = asked.kind
    with protocol():
        wanted = asked.form.said(_read(asked, payload, None, Context.RESOURCE_CREATION_REQUEST))
    with _changing(asked) as conn:
        made = kind.create(conn, asked.workspace_id, wanted, **asked.change)
        note(
            asked.request, conn, asked.caller, kind.created, target=kind.target, target_id=made.id,
            after=kind.told(made),
        )  # fmt: skip
    return _answer(asked.resource(made).model_dump(scim_ctx=Context.RESOURCE_CREATION_RESPONSE), 201)


@router.get("/Users/{key}")
@router.get("/Groups/{key}")
def get_resource(asked: Asked, key: str) -> Response:
    kind = asked.kind
    with catalog(asked.services, asked.caller) as conn:
        note_read(
            asked.request, conn, asked.caller, Action.PROVISIONING_READ, target=kind.read, target_id=key
        )
        found = kind.get(conn, asked.workspace_id, _id(key))
    return _one(asked, found)


@router.put("/Users/{key}")
@router.put("/Groups/{key}")
def replace_resource(asked: Asked, key: str, payload: Body) -> Response:
    from scim2_models import Context

    with protocol(), _changing(asked) as conn:
        before = asked.kind.get(conn, asked.workspace_id, _id(key))
        wanted = _read(asked, payload, before, Context.RESOURCE_REPLACEMENT_REQUEST)
        wanted.replace(asked.resource(before))
        found = _keep(asked, conn, before, wanted)
    return _one(asked, found)


@router.patch("/Users/{key}")
@router.patch("/Groups/{key}")
def patch_resource(asked: Asked, key: str, payload: Body) -> Response:
    from scim2_models import Context, PatchOp

    from api.scim.models import POLICY

    with protocol(), POLICY, _changing(asked) as conn:
        before = asked.kind.get(conn, asked.workspace_id, _id(key))
        wanted = asked.resource(before)
        operations: Any = PatchOp
        patch = operations[asked.form.model].model_validate(payload, scim_ctx=Context.RESOURCE_PATCH_REQUEST)
        patch.patch(wanted)
        found = _keep(asked, conn, before, wanted)
    return _one(asked, found)


@router.delete("/Users/{key}", status_code=204)
@router.delete("/Groups/{key}", status_code=204)
def delete_resource(asked: Asked, key: str) -> Response:
    kind = asked.kind
    with _changing(asked) as conn:
        gone = kind.get(conn, asked.workspace_id, _id(key))
        kind.remove(conn, asked.workspace_id, gone.id, **asked.change)
        note(
            asked.request, conn, asked.caller, kind.removed, target=kind.target, target_id=gone.id,
            before=kind.told(gone),
        )  # fmt: skip
    return Response(status_code=204)


@router.post("/Users/.search")
@router.post("/Groups/.search")
@router.post("/.search")
def search(asked: Asked, payload: Body) -> Response:
    """The lists' questions as a body, for those who want no personal data in addresses."""
    from api.scim.listing import everything, resources

    with protocol(), catalog(asked.services, asked.caller) as conn:
        if asked.first in KINDS:
            found = asked.kind.list(conn, asked.workspace_id)
            return _answer(resources(asked.kind, found, payload, asked.base_url))
        every = {path: kind.list(conn, asked.workspace_id) for path, kind in KINDS.items()}
        return _answer(everything(every, payload, asked.base_url))


@router.get("/ServiceProviderConfig")
def service_provider_config(services: Services, caller: MayProvision) -> Response:
    from api.scim import description

    return _answer(description.config(_base(services)))


@router.get("/Schemas")
def list_schemas(services: Services, caller: MayProvision) -> Response:
    from api.scim import description

    return _answer(description.listed(description.schemas(_base(services))))


@router.get("/Schemas/{schema_id}")
def get_schema(services: Services, caller: MayProvision, schema_id: str) -> Response:
    from api.scim import description

    return _answer(description.one(description.schemas(_base(services)), schema_id))


@router.get("/ResourceTypes")
def list_resource_types(services: Services, caller: MayProvision) -> Response:
    from api.scim import description

    return _answer(description.listed(description.resource_types(_base(services))))


@router.get("/ResourceTypes/{name}")
def get_resource_type(services: Services, caller: MayProvision, name: str) -> Response:
    from api.scim import description

    return _answer(description.one(description.resource_types(_base(services)), name))


def _read(asked: Asking, payload: Any, before: Any, context: Any) -> Any:
    """The resource that was sent; `before`: what it replaces. Raises the library's errors."""
    from api.scim.models import POLICY

    whole = asked.form.completed(payload, before)
    return asked.form.model.model_validate(whole, scim_ctx=context, scim_policy=POLICY)


def _keep(asked: Asking, conn: sa.Connection, before: Any, wanted: Any) -> Any:
    kind = asked.kind
    said = asked.form.said(wanted)
    was, found = kind.replace(conn, asked.workspace_id, before.id, said, **asked.change)
    note(
        asked.request, conn, asked.caller, kind.changed, target=kind.target, target_id=found.id,
        before=kind.told(was), after=kind.told(found),
    )  # fmt: skip
    return found


def _one(asked: Asking, found: Any) -> Response:
    from api.scim.listing import one

    with protocol():
        return _answer(one(asked.resource(found), dict(asked.request.query_params)))


@contextmanager
def _changing(asked: Asking) -> Iterator[sa.Connection]:
    """One transaction, and no other change by provisioning meanwhile."""
    with catalog(asked.services, asked.caller) as conn:
        provisioning.lock(conn, asked.workspace_id)
        yield conn


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such resource.") from None


def _base(services: ApiServices) -> str:
    return f"{services.settings.public_url.rstrip('/')}{AT}"


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    location = document.get("meta", {}).get("location")
    if status == 201 and location:
        headers["Location"] = location
    return Response(orjson.dumps(document, default=str), status, headers, MEDIA_TYPE)
