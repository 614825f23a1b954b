"""Service accounts: members that are programs, with roles and keys of their own."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.routes.keys import CreatedKey, Key, check_end, describe_key, pipeline_names, shown_once
from sluiceway.audit.actions import Action
from sluiceway.identity import keys
from sluiceway.identity import service_accounts as accounts
from sluiceway.identity.contracts import Caller
from sluiceway.identity.giving import MOST_ATTRIBUTES, check_gives_roles
from sluiceway.identity.permissions import Permission, Scope
from sluiceway.identity.service_accounts import ServiceAccount

router = APIRouter(prefix="/v1/service-accounts", tags=["service accounts"], route_class=IdempotentRoute)

MayManage = Annotated[Caller, Depends(require(Permission.SERVICE_ACCOUNT_MANAGE))]
Name = Annotated[str, Field(min_length=1, max_length=keys.NAME_LENGTH)]
Description = Annotated[str, Field(max_length=accounts.DESCRIPTION_LENGTH)]
Roles = Annotated[list[str], Field(min_length=1, max_length=accounts.MOST_ROLES, examples=[["editor"]])]
Attributes = Annotated[
    dict[str, list[str]],
    Field(
        max_length=MOST_ATTRIBUTES,
        description="What row rules compare with.",
        examples=[{"region": ["emea"]}],
    ),
]


class NewAccount(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "deployments", "roles": ["editor"]}}
    )

    name: Name
    description: Description = ""
    roles: Roles
    attributes: Attributes = {}


class AccountChange(BaseModel):
    """What is not given stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"disabled": True}})

    name: Name | None = None
    description: Description | None = None
    roles: Roles | None = None
    attributes: Attributes | None = None
    disabled: bool | None = Field(default=None, description="True: its keys are refused until this is false.")


class Account(BaseModel):
    """A service account. Its keys do what both their scopes and its roles allow."""

    id: UUID
    name: str
    description: str
    roles: list[str]
    attributes: dict[str, list[str]]
    state: str = Field(description="`active` or `disabled`.")
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None


class AccountList(BaseModel):
    items: list[Account]


class NewAccountKey(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "build server"}})

    name: Name
    scopes: list[Scope] = Field(
        default=[Scope.ACCOUNT],
        min_length=1,
        max_length=len(Scope),
        description="`account`: all that the account's roles allow; the others narrow it.",
    )
    expires_at: AwareDatetime | None = Field(default=None, description="Null: it does not expire.")


class AccountKeys(BaseModel):
    items: list[Key]


@router.get("", summary="List service accounts")
def list_accounts(request: Request, services: Services, caller: MayManage) -> AccountList:
    """By name, disabled ones included."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.SERVICE_ACCOUNT_LISTED, target="service_account")
        found = accounts.list_accounts(conn, caller.workspace_id)
    return AccountList(items=[_account(account) for account in found])


@router.post("", status_code=201, summary="Make a service account", responses=problem_responses((409,)))
def create_account(
    request: Request, services: Services, caller: MayManage, body: NewAccount, response: Response
) -> Account:
    """A member that is a program. Its roles may allow no more than whoever makes it may do."""
    with catalog(services, caller) as conn:
        made = accounts.create_account(
            conn,
            caller.workspace_id,
            body.name,
            body.roles,
            giver=caller,
            description=body.description,
            attributes=body.attributes,
        )
        note(
            request, conn, caller, Action.SERVICE_ACCOUNT_CREATED, target="service_account",
            target_id=made.id, after=_told(made),
        )  # fmt: skip
    response.headers["Location"] = f"/v1/service-accounts/{made.id}"
    return _account(made)


@router.get("/{account_id}", summary="One service account")
def get_account(request: Request, services: Services, caller: MayManage, account_id: UUID) -> Account:
    """Its roles, attributes and state."""
    with catalog(services, caller) as conn:
        note_read(
            request,
            conn,
            caller,
            Action.SERVICE_ACCOUNT_LISTED,
            target="service_account",
            target_id=account_id,
        )
        return _account(accounts.get_account(conn, caller.workspace_id, account_id))


@router.patch("/{account_id}", summary="Change a service account", responses=problem_responses((409,)))
def change_account(
    request: Request, services: Services, caller: MayManage, account_id: UUID, body: AccountChange
) -> Account:
    """Rename it, give it other roles, disable it or let it in again; its keys follow within seconds."""
    with catalog(services, caller) as conn:
        before, changed = accounts.change_account(
            conn,
            caller.workspace_id,
            account_id,
            giver=caller,
            now=services.clock.now(),
            name=body.name,
            description=body.description,
            roles=body.roles,
            attributes=body.attributes,
            disabled=body.disabled,
        )
        note(
            request, conn, caller, Action.SERVICE_ACCOUNT_CHANGED, target="service_account",
            target_id=account_id, before=_told(before), after=_told(changed),
        )  # fmt: skip
    return _account(changed)


@router.delete("/{account_id}", status_code=204, summary="Delete a service account")
def delete_account(request: Request, services: Services, caller: MayManage, account_id: UUID) -> Response:
    """It and all its keys. To keep it for later, disable it instead."""
    with catalog(services, caller) as conn:
        gone = accounts.delete_account(conn, caller.workspace_id, account_id)
        note(
            request, conn, caller, Action.SERVICE_ACCOUNT_DELETED, target="service_account",
            target_id=account_id, before=_told(gone),
        )  # fmt: skip
    return Response(status_code=204)


@router.get("/{account_id}/keys", summary="List a service account's keys")
def list_account_keys(
    request: Request, services: Services, caller: MayManage, account_id: UUID
) -> AccountKeys:
    """Newest first, without secrets. They are rotated and revoked as other keys are, under `/v1/keys`."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.KEY_LISTED, target="service_account", target_id=account_id)
        accounts.get_account(conn, caller.workspace_id, account_id)
        found = keys.list_keys(conn, caller.workspace_id, account_id=account_id)
        names = pipeline_names(conn, caller)
    now = services.clock.now()
    return AccountKeys(items=[describe_key(key, names, now) for key in found])


@router.post("/{account_id}/keys", status_code=201, summary="Make a key for a service account")
def create_account_key(
    request: Request,
    services: Services,
    caller: MayManage,
    account_id: UUID,
    body: NewAccountKey,
    response: Response,
) -> CreatedKey:
    """Its text is in this answer and nowhere else. Only who may give the account's roles may make it."""
    now = services.clock.now()
    check_end(body.expires_at, now)
    with catalog(services, caller) as conn:
        account = accounts.get_account(conn, caller.workspace_id, account_id)
        check_gives_roles(conn, caller.workspace_id, caller, account.roles)
        text = keys.create_key(
            conn,
            caller.workspace_id,
            body.name,
            body.scopes,
            created_by=caller.user_id,
            expires_at=body.expires_at,
            account_id=account_id,
        )
        info = keys.get_key(conn, caller.workspace_id, keys.parse_key(text)[0])
        note(
            request, conn, caller, Action.KEY_CREATED, target="key", target_id=info.id,
            after={
                "name": info.name, "scopes": list(info.scopes), "expires_at": info.expires_at,
                "service_account": str(account_id),
            },
        )  # fmt: skip
    return shown_once(response, text, describe_key(info, {}, now))


def _told(account: ServiceAccount) -> Mapping[str, Any]:
    return {
        "name": account.name,
        "roles": list(account.roles),
        "attributes": {name: list(values) for name, values in account.attributes.items()},
        "disabled": account.disabled_at is not None,
    }


def _account(found: ServiceAccount) -> Account:
    return Account(
        id=found.id,
        name=found.name,
        description=found.description,
        roles=list(found.roles),
        attributes={name: list(values) for name, values in found.attributes.items()},
        state="active" if found.disabled_at is None else "disabled",
        created_by=found.created_by,
        created_at=found.created_at,
        updated_at=found.updated_at,
        disabled_at=found.disabled_at,
    )
