"""What a workspace asks of those who sign in, and an organization's identity providers."""

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note, note_read
from api.confirming import confirmed
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.idempotency import IdempotentRoute
from api.provider_sign_in import client, private_hosts, redirect_uri
from sluiceway.audit.actions import Action
from sluiceway.audit.service import changes
from sluiceway.identity import policy, providers
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.identity.policy import SignInPolicy

router = APIRouter(prefix="/v1/sign-in", tags=["sign-in"], route_class=IdempotentRoute)

MaySetPolicy = Annotated[Caller, Depends(require(Permission.SIGN_IN_MANAGE))]
MaySetProviders = Annotated[Caller, Depends(require(Permission.ORGANIZATION_MANAGE))]
Fresh = Depends(confirmed)


class Policy(BaseModel):
    """What the workspace asks."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"second_factor_for": ["owner", "admin"]}}
    )

    second_factor_for: list[str] = Field(
        default_factory=list, max_length=100, description="Slugs of roles; `*` is everyone."
    )
    remember_me: bool = Field(default=True, description="Whether a session may outlive the browser.")
    idle_minutes: int | None = Field(
        default=None,
        ge=policy.IDLE_MINUTES[0],
        le=policy.IDLE_MINUTES[1],
        description="After how long without a request any session ends; null: those that are not remembered,"
        " as the installation says.",
    )


class GroupRole(BaseModel):
    """Members of this group of the provider's are this role in that workspace."""

    model_config = ConfigDict(extra="forbid")

    group: str = Field(min_length=1, max_length=300)
    workspace_id: int = Field(ge=1, le=2**31 - 1)
    role: str = Field(max_length=63, description="Slug, built in or the workspace's own.")


class ProviderSpec(BaseModel):
    """An OpenID Connect provider as it is set up."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=providers.NAME_LENGTH, description="Stands on its button.")
    issuer: str = Field(max_length=500, description="`/.well-known/openid-configuration` is found below it.")
    client_id: str = Field(min_length=1, max_length=300)
    client_secret: str | None = Field(
        default=None,
        max_length=1000,
        description="Null when adding: a public client (PKCE alone); when changing: the one that is kept.",
    )
    scopes: list[str] = Field(default=["openid", "email", "profile"], max_length=20)
    groups_claim: str = Field(
        default="groups", max_length=200, description="Claim that names groups; dots go deeper."
    )
    group_roles: list[GroupRole] = Field(default_factory=list, max_length=500)
    domains: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Domains of the addresses it may speak for; none: any that it has verified.",
    )
    default_workspace_id: int | None = Field(default=None, ge=1, le=2**31 - 1)
    default_role: str | None = Field(
        default=None,
        max_length=63,
        description="In that workspace, of those whom no group places; null: they are not let in.",
    )
    covers_second_factor: bool = Field(
        default=False, description="Signing in there counts as a second factor even if it does not say so."
    )
    enabled: bool = True


class Provider(BaseModel):
    """An identity provider without its secret."""

    id: UUID
    name: str
    issuer: str
    client_id: str
    has_secret: bool
    scopes: list[str]
    groups_claim: str
    group_roles: list[GroupRole]
    domains: list[str]
    default_workspace_id: int | None
    default_role: str | None
    covers_second_factor: bool
    enabled: bool
    managed_by: str = Field(description="`api`, or `settings`: SLUICEWAY_OIDC_…")
    redirect_uri: str = Field(description="To be registered at the provider.")


class ProviderList(BaseModel):
    items: list[Provider]


class Endpoints(BaseModel):
    """What a provider says of itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None


@router.get("/policy", summary="What the workspace asks")
def get_policy(request: Request, services: Services, caller: MaySetPolicy) -> Policy:
    """For whom a second factor, whether browsers may be remembered, how long they may idle."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.SIGN_IN_POLICY_READ, target="sign_in_policy")
        return _policy(policy.get_policy(conn, caller.workspace_id))


@router.put("/policy", summary="Change what the workspace asks", dependencies=[Fresh])
def set_policy(request: Request, services: Services, caller: MaySetPolicy, body: Policy) -> Policy:
    """Holds for running sessions within seconds: who lacks a second factor can then only set one up."""
    wanted = SignInPolicy(tuple(body.second_factor_for), body.remember_me, body.idle_minutes)
    with catalog(services, caller) as conn:
        before, after = policy.set_policy(conn, caller.workspace_id, wanted, by=caller.user_id)
        was, now = changes(_policy(before).model_dump(), _policy(after).model_dump())
        note(
            request, conn, caller, Action.SIGN_IN_POLICY_CHANGED,
            target="sign_in_policy", target_id=caller.workspace_id, before=was, after=now,
        )  # fmt: skip
    return _policy(after)


@router.get("/providers", summary="List identity providers")
def list_providers(request: Request, services: Services, caller: MaySetProviders) -> ProviderList:
    """Those of the organization, by name; at most 50, so not paged."""
    with catalog(services, caller) as conn:
        found = providers.list_providers(conn)
        note_read(request, conn, caller, Action.PROVIDER_LISTED, target="identity_provider")
    return ProviderList(items=[_provider(services, p) for p in found])


@router.post(
    "/providers",
    status_code=201,
    summary="Add an identity provider",
    dependencies=[Fresh],
    responses=problem_responses((409,)),
)
def add_provider(
    request: Request, services: Services, caller: MaySetProviders, body: ProviderSpec
) -> Provider:
    """It is on the sign-in page at once. `POST …/check` asks it what it says of itself."""
    with catalog(services, caller) as conn:
        made = providers.add(
            conn, services.database.envelope, _spec(body), body.client_secret, private_hosts(services)
        )
        _note(request, conn, caller, Action.PROVIDER_ADDED, made, None, made)
    return _provider(services, made)


@router.put(
    "/providers/{provider_id}",
    summary="Change an identity provider",
    dependencies=[Fresh],
    responses=problem_responses((409,)),
)
def change_provider(
    request: Request, services: Services, caller: MaySetProviders, provider_id: UUID, body: ProviderSpec
) -> Provider:
    """With another issuer, who came through the old one is linked anew, and their sessions end."""
    with catalog(services, caller) as conn:
        before, after = providers.change(
            conn,
            services.database.envelope,
            provider_id,
            _spec(body),
            private_hosts(services),
            secret=body.client_secret,
        )
        _note(request, conn, caller, Action.PROVIDER_CHANGED, after, before, after)
    return _provider(services, after)


@router.delete(
    "/providers/{provider_id}",
    status_code=204,
    response_class=Response,
    summary="Remove an identity provider",
    dependencies=[Fresh],
    responses=problem_responses((409,)),
)
def remove_provider(request: Request, services: Services, caller: MaySetProviders, provider_id: UUID) -> None:
    """Sessions that came through it end; people stay, and need a password or a passkey."""
    with catalog(services, caller) as conn:
        before = providers.remove(conn, provider_id)
        _note(request, conn, caller, Action.PROVIDER_REMOVED, before, before, None)


@router.post(
    "/providers/{provider_id}/check",
    summary="Ask an identity provider what it says of itself",
    responses=problem_responses((503,)),
)
def check_provider(services: Services, caller: MaySetProviders, provider_id: UUID) -> Endpoints:
    """Reads its discovery document; what is wrong with it is the error's detail."""
    with catalog(services, caller) as conn:
        found = providers.get(conn, provider_id)
    said = client(services).discover(found.spec.issuer)
    return Endpoints(
        issuer=said.issuer,
        authorization_endpoint=said.authorization_endpoint,
        token_endpoint=said.token_endpoint,
        jwks_uri=said.jwks_uri,
        userinfo_endpoint=said.userinfo_endpoint,
    )


def _note(
    request: Request,
    conn: sa.Connection,
    caller: Caller,
    action: Action,
    about: providers.Provider,
    before: providers.Provider | None,
    after: providers.Provider | None,
) -> None:
    was, now = changes(*(({} if p is None else providers.described(p.spec)) for p in (before, after)))
    if before is not None and after is not None and before.sealed != after.sealed:
        now["client_secret_changed"] = True
    note(
        request, conn, caller, action,
        target="identity_provider", target_id=about.id, before=was or None, after=now or None,
    )  # fmt: skip


def _provider(services: Services, found: providers.Provider) -> Provider:
    return Provider(
        id=found.id,
        has_secret=found.sealed is not None,
        managed_by=found.managed_by,
        redirect_uri=redirect_uri(services),
        **providers.described(found.spec),  # type: ignore[arg-type]  # the same names
    )


def _spec(body: ProviderSpec) -> providers.ProviderSpec:
    return providers.ProviderSpec(
        name=body.name,
        issuer=body.issuer,
        client_id=body.client_id,
        scopes=tuple(body.scopes),
        groups_claim=body.groups_claim,
        group_roles=tuple(providers.GroupRole(g.group, g.workspace_id, g.role) for g in body.group_roles),
        domains=tuple(body.domains),
        default_workspace_id=body.default_workspace_id,
        default_role=body.default_role,
        covers_second_factor=body.covers_second_factor,
        enabled=body.enabled,
    )


def _policy(found: SignInPolicy) -> Policy:
    return Policy(
        second_factor_for=list(found.second_factor_for),
        remember_me=found.remember_me,
        idle_minutes=found.idle_minutes,
    )
