"""OpenID Connect providers of an organization: adding, changing, removing, finding them.

An organization's owner sets them up: a provider can speak for every member whom no other organization has.
Not here: asking a provider (`oidc`), letting people in (`federation`).
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import sqlalchemy as sa

from sluiceway.identity.errors import InvalidProvider, ProviderExists, ProviderFixed
from sluiceway.infra.envelope import Envelope
from sluiceway.infra.outbound import ForbiddenAddress, PrivateHosts
from sluiceway.kit.errors import FieldError, NotFound
from sluiceway.kit.ids import uuid7

NAME_LENGTH = 60
MOST = 50
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,100}")
_BUILT_IN = ("owner", "admin", "editor", "analyst", "viewer")


@dataclass(frozen=True, slots=True)
class GroupRole:
    """Members of the provider's `group` are `role` in that workspace."""

    group: str
    workspace_id: int
    role: str


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider as it is asked for.

    `default_role`: of those whom no group places, in `default_workspace_id`; None: they are not let in.
    `domains`: of the addresses it may speak for; none: any verified one.
    """

    name: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    groups_claim: str = "groups"
    group_roles: tuple[GroupRole, ...] = ()
    domains: tuple[str, ...] = ()
    default_workspace_id: int | None = None
    default_role: str | None = None
    covers_second_factor: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as kept. `sealed`: the client's secret, or None for a public client."""

    id: uuid.UUID
    organization_id: int
    spec: ProviderSpec
    managed_by: Literal["api", "settings"]
    sealed: bytes | None = field(repr=False)

    def secret(self, envelope: Envelope) -> str | None:
        """The client's secret. Raises `CannotOpen`."""
        return None if self.sealed is None else envelope.open(self.sealed, _context(self.id)).decode()


def described(spec: ProviderSpec) -> dict[str, object]:
    """As the API shows it and the audit log has it, without the secret."""
    return {
        "name": spec.name,
        "issuer": spec.issuer,
        "client_id": spec.client_id,
        "scopes": list(spec.scopes),
        "groups_claim": spec.groups_claim,
        "group_roles": [
            {"group": g.group, "workspace_id": g.workspace_id, "role": g.role} for g in spec.group_roles
        ],
        "domains": list(spec.domains),
        "default_workspace_id": spec.default_workspace_id,
        "default_role": spec.default_role,
        "covers_second_factor": spec.covers_second_factor,
        "enabled": spec.enabled,
    }


def add(
    conn: sa.Connection,
    envelope: Envelope,
    spec: ProviderSpec,
    secret: str | None,
    private: PrivateHosts,
    *,
    managed_by: Literal["api", "settings"] = "api",
) -> Provider:
    """Add one to the organization that is acted for. Raises `InvalidProvider` or `ProviderExists`."""
    wanted = _checked(conn, spec, private)
    if len(list_providers(conn)) >= MOST:
        raise InvalidProvider(f"There are {MOST} identity providers already.")
    provider_id = uuid7()
    _check_name(conn, wanted.name, provider_id)
    conn.execute(
        sa.text(
            "INSERT INTO app.identity_providers"
            " (id, organization_id, name, issuer, client_id, sealed, scopes, groups_claim, group_roles,"
            " domains, default_workspace_id, default_role, covers_second_factor, enabled, managed_by)"
            " VALUES (:id, app.current_organization(), :name, :issuer, :client_id, :sealed, :scopes,"
            " :groups_claim, CAST(:group_roles AS jsonb), :domains, :default_workspace_id, :default_role,"
            " :covers_second_factor, :enabled, :managed_by)"
        ),
        {
            "id": provider_id,
            "sealed": _seal(envelope, provider_id, secret),
            "managed_by": managed_by,
            **_columns(wanted),
        },
    )
    return get(conn, provider_id)


def change(
    conn: sa.Connection,
    envelope: Envelope,
    provider_id: uuid.UUID,
    spec: ProviderSpec,
    private: PrivateHosts,
    *,
    secret: str | None = None,
    managed_by: Literal["api", "settings"] = "api",
) -> tuple[Provider, Provider]:
    """Change it; returns what it was and what it is. `secret` None: the one that is kept stays; empty: none.

    Who came through another issuer is nobody of this one: the links to people are forgotten with it.
    Raises `NotFound`, `ProviderFixed`, `InvalidProvider` or `ProviderExists`.
    """
    before = _own(conn, provider_id, managed_by)
    wanted = _checked(conn, spec, private)
    _check_name(conn, wanted.name, provider_id)
    sealed = before.sealed if secret is None else _seal(envelope, provider_id, secret)
    conn.execute(
        sa.text(
            "UPDATE app.identity_providers SET name = :name, issuer = :issuer, client_id = :client_id,"
            " sealed = :sealed, scopes = :scopes, groups_claim = :groups_claim,"
            " group_roles = CAST(:group_roles AS jsonb), domains = :domains,"
            " default_workspace_id = :default_workspace_id, default_role = :default_role,"
            " covers_second_factor = :covers_second_factor, enabled = :enabled, updated_at = now()"
            " WHERE id = :id"
        ),
        {"id": provider_id, "sealed": sealed, **_columns(wanted)},
    )
    if wanted.issuer != before.spec.issuer:
        conn.execute(sa.text("SELECT app.forget_federated_identities(:id)"), {"id": provider_id})
    return before, get(conn, provider_id)


def remove(
    conn: sa.Connection, provider_id: uuid.UUID, *, managed_by: Literal["api", "settings"] = "api"
) -> Provider:
    """Remove it; sessions that came through it end. Raises `NotFound` or `ProviderFixed`."""
    before = _own(conn, provider_id, managed_by)
    conn.execute(sa.text("DELETE FROM app.identity_providers WHERE id = :id"), {"id": provider_id})
    return before


def get(conn: sa.Connection, provider_id: uuid.UUID) -> Provider:
    """One of the organization that is acted for. Raises `NotFound`."""
    row = conn.execute(
        sa.text("SELECT * FROM app.identity_providers WHERE id = :id"), {"id": provider_id}
    ).first()
    if row is None:
        raise NotFound("There is no such identity provider.")
    return _provider(row._mapping)


def list_providers(conn: sa.Connection) -> list[Provider]:
    """Those of the organization that is acted for, by name."""
    rows = conn.execute(sa.text("SELECT * FROM app.identity_providers ORDER BY lower(name), id"))
    return [_provider(row._mapping) for row in rows]


def offered(conn: sa.Connection) -> list[tuple[uuid.UUID, str]]:
    """Id and name of every provider that is on, of all organizations: what the sign-in page shows."""
    return [(row.id, row.name) for row in conn.execute(sa.text("SELECT * FROM app.sign_in_providers()"))]


def find(conn: sa.Connection, provider_id: uuid.UUID) -> Provider | None:
    """A provider that is on, whatever its organization: for somebody who is not known yet."""
    row = conn.execute(sa.text("SELECT * FROM app.find_identity_provider(:id)"), {"id": provider_id}).first()
    return None if row is None else _provider(row._mapping)


def _own(conn: sa.Connection, provider_id: uuid.UUID, managed_by: str) -> Provider:
    found = get(conn, provider_id)
    if found.managed_by != managed_by:
        raise ProviderFixed("It is set up by SLUICEWAY_OIDC_… in the settings; change it there.")
    return found


def _checked(conn: sa.Connection, spec: ProviderSpec, private: PrivateHosts) -> ProviderSpec:
    problems: list[FieldError] = []
    name = " ".join(spec.name.split())
    if not 1 <= len(name) <= NAME_LENGTH:
        problems.append(FieldError("name", f"should have 1 to {NAME_LENGTH} characters"))
    try:
        private.check_url(spec.issuer)
    except ForbiddenAddress as error:
        problems.append(FieldError("issuer", error.detail[:1].lower() + error.detail[1:].rstrip(".")))
    if len(spec.issuer) > 500 or "?" in spec.issuer or "#" in spec.issuer:
        problems.append(FieldError("issuer", "should be an address without ? and #"))
    if not spec.client_id.strip() or len(spec.client_id) > 300:
        problems.append(FieldError("client_id", "should have 1 to 300 characters"))
    if bad := [scope for scope in spec.scopes if not _SCOPE.fullmatch(scope)]:
        problems.append(FieldError("scopes", f"holds what is no scope: {bad[0]!r}"))
    domains = tuple(dict.fromkeys(domain.strip().lower().lstrip("@") for domain in spec.domains))
    if bad := [domain for domain in domains if not _DOMAIN.fullmatch(domain)]:
        problems.append(FieldError("domains", f"holds what is no domain: {bad[0][:80]!r}"))
    if not 1 <= len(spec.groups_claim) <= 200:
        problems.append(FieldError("groups_claim", "should have 1 to 200 characters"))
    problems += _role_problems(conn, spec)
    if problems:
        raise InvalidProvider("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)
    scopes = tuple(dict.fromkeys(("openid", *spec.scopes)))
    return ProviderSpec(
        name, spec.issuer.strip(), spec.client_id.strip(), scopes, spec.groups_claim, spec.group_roles,
        domains, spec.default_workspace_id, spec.default_role, spec.covers_second_factor, spec.enabled,
    )  # fmt: skip


def _role_problems(conn: sa.Connection, spec: ProviderSpec) -> list[FieldError]:
    problems = []
    rooms: set[int] = set(
        conn.execute(sa.text("SELECT id FROM app.workspaces_of(app.current_organization())")).scalars()
    )
    wanted = [(f"group_roles.{i}", g.workspace_id, g.role, g.group) for i, g in enumerate(spec.group_roles)]
    if (spec.default_role is None) != (spec.default_workspace_id is None):
        problems.append(FieldError("default_role", "goes with a default workspace: both or neither"))
    elif spec.default_role is not None and spec.default_workspace_id is not None:
        wanted.append(("default_role", spec.default_workspace_id, spec.default_role, "-"))
        if spec.default_role == "owner":
            problems.append(FieldError("default_role", "should not be owner: anybody there would own it"))
    for where, workspace_id, role, group in wanted:
        if not 1 <= len(group) <= 300:
            problems.append(FieldError(f"{where}.group", "should have 1 to 300 characters"))
        if workspace_id not in rooms:
            problems.append(FieldError(where, "names a workspace that the organization does not have"))
        elif role not in _BUILT_IN and not _is_custom_role(conn, workspace_id, role):
            problems.append(FieldError(where, f"names a role that is not there: {role[:80]!r}"))
    return problems


def _is_custom_role(conn: sa.Connection, workspace_id: int, role: str) -> bool:
    found: bool = conn.execute(
        sa.text("SELECT app.workspace_has_role(:workspace, :role)"),
        {"workspace": workspace_id, "role": role},
    ).scalar_one()
    return found


def _check_name(conn: sa.Connection, name: str, own: uuid.UUID) -> None:
    if any(p.spec.name.lower() == name.lower() and p.id != own for p in list_providers(conn)):
        raise ProviderExists(f"There is an identity provider of the name {name!r} already.")


def _columns(spec: ProviderSpec) -> dict[str, Any]:
    found = described(spec)
    return {**found, "group_roles": orjson.dumps(found["group_roles"]).decode()}


def _provider(row: Mapping[Any, Any]) -> Provider:
    spec = ProviderSpec(
        name=row["name"],
        issuer=row["issuer"],
        client_id=row["client_id"],
        scopes=tuple(row["scopes"]),
        groups_claim=row["groups_claim"],
        group_roles=tuple(GroupRole(g["group"], g["workspace_id"], g["role"]) for g in row["group_roles"]),
        domains=tuple(row["domains"]),
        default_workspace_id=row["default_workspace_id"],
        default_role=row["default_role"],
        covers_second_factor=row["covers_second_factor"],
        enabled=row["enabled"],
    )
    sealed = None if row["sealed"] is None else bytes(row["sealed"])
    return Provider(row["id"], row["organization_id"], spec, row["managed_by"], sealed)


def _seal(envelope: Envelope, provider_id: uuid.UUID, secret: str | None) -> bytes | None:
    return envelope.seal(secret.encode(), _context(provider_id)) if secret else None


def _context(provider_id: uuid.UUID) -> str:
    return f"identity-provider:{provider_id}"
