"""Who is asking, as the rest of the platform sees them. No password, token or hash is in these."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sluiceway.identity.errors import MissingScope, NotPermitted, SecondFactorMissing
from sluiceway.identity.permissions import (
    Permission,
    Scope,
    permissions_of_member,
    permissions_of_scopes,
)


@dataclass(frozen=True, slots=True)
class User:
    """A person who can sign in."""

    id: uuid.UUID
    email: str
    name: str
    created_at: datetime
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """A workspace that a person belongs to."""

    workspace_id: int
    workspace_slug: str
    workspace_name: str
    organization_slug: str
    role: str
    """Slug of the person's own role, built in or the workspace's."""
    organization_name: str = ""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """An API key without its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    pipeline_ids: tuple[int, ...] | None
    created_by: uuid.UUID | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    rate_per_s: float | None = None
    burst: int | None = None
    account_id: uuid.UUID | None = None
    rotated_at: datetime | None = None
    previous_expires_at: datetime | None = None
    previous_used_at: datetime | None = None
    last_used_address: str | None = None


@dataclass(frozen=True, slots=True)
class KeyAccount:
    """The service account that owns a key. `permissions`: what its roles allow, once they were looked up."""

    id: uuid.UUID
    name: str
    roles: tuple[str, ...]
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    permissions: frozenset[Permission] = frozenset()


@dataclass(frozen=True, slots=True)
class KeyCaller:
    """A program that has shown a valid key. `pipeline_ids` limits what it may send to; None: every one.

    `rate_per_s`, `burst`: how many events it may send a second and at once; None: no limit of its own.
    `by_previous`: it showed the secret before the last rotation. `account`: the service account it acts as;
    then both the scopes and the account's roles have to allow what it does.
    """

    key_id: str
    workspace_id: int
    name: str
    scopes: frozenset[Scope]
    pipeline_ids: frozenset[int] | None
    expires_at: datetime | None
    rate_per_s: float | None = None
    burst: int | None = None
    by_previous: bool = False
    account: KeyAccount | None = None

    @property
    def permissions(self) -> frozenset[Permission]:
        allowed = permissions_of_scopes(self.scopes)
        return allowed if self.account is None else allowed & self.account.permissions

    @property
    def may_send(self) -> bool:
        """Whether this key may send events at all."""
        return Permission.EVENT_WRITE in self.permissions

    def may_send_to(self, pipeline_id: int) -> bool:
        """Whether this key may send events to the pipeline (of its own workspace)."""
        return self.may_send and (self.pipeline_ids is None or pipeline_id in self.pipeline_ids)


@dataclass(frozen=True, slots=True)
class DataAccess:
    """With whose eyes data is read: what row rules and column masks are decided by.

    `roles`: slugs of every role held (a member's own and their teams'; `key:<scope>` for a key; `link` for
    the holder of a dashboard's link). `attributes`: name → values, sorted, from the membership and its teams;
    a person's `email` and `id` are always among them. `behind`: who really looks, where somebody looks with
    another role's eyes (view as): what either of them may not see is not seen.
    """

    workspace_id: int
    roles: tuple[str, ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    user_id: uuid.UUID | None = None
    behind: "DataAccess | None" = None

    @property
    def eyes(self) -> tuple["DataAccess", ...]:
        """All of those whose rules hold for what is read: one, or two where somebody views as another."""
        return (self,) if self.behind is None else (self, self.behind)

    def told(self) -> str:
        """What the policies of the database are told: roles and attributes of each of the eyes, as JSON."""
        return json.dumps(
            [{"roles": list(e.roles), "attributes": {n: list(v) for n, v in e.attributes}} for e in self.eyes]
        )

    @classmethod
    def of(
        cls,
        workspace_id: int,
        roles: Iterable[str],
        attributes: Mapping[str, Iterable[str]] | None = None,
        user_id: uuid.UUID | None = None,
    ) -> "DataAccess":
        found = tuple(
            (name, tuple(sorted(set(values)))) for name, values in sorted((attributes or {}).items())
        )
        return cls(workspace_id, tuple(sorted(set(roles))), found, user_id)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a request: a person with a session, or a program with a key.

    `subject` is stable and unique (`user:<uuid>` or `key:<id>`). `user_id` is None for a key.
    """

    subject: str
    workspace_id: int
    name: str
    permissions: frozenset[Permission]
    user_id: uuid.UUID | None = None
    email: str | None = None
    role: str | None = None
    """A member's own role, built in or the workspace's; `roles` also has those of their teams."""
    key: KeyCaller | None = None
    expires_at: datetime | None = None
    roles: tuple[str, ...] = ()
    """Slugs of all the roles held."""
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    second_factor_missing: bool = False
    """Their workspace asks for a second factor and this session has shown none: nothing is allowed but
    setting one up."""
    viewing: DataAccess | None = None
    """Set while a person looks at data as another role (`api.viewing`)."""

    @property
    def access(self) -> DataAccess:
        """With whose eyes this caller reads data."""
        if self.viewing is not None:
            return self.viewing
        known = dict(self.attributes)
        if self.user_id is not None:
            known["id"] = (str(self.user_id),)
        if self.email is not None:
            known["email"] = (self.email,)
        return DataAccess.of(self.workspace_id, self.roles, known, self.user_id)

    @classmethod
    def from_key(cls, key: KeyCaller) -> "Caller":
        """A key of a service account reads with the eyes of the account's roles, another with its scopes'."""
        account = key.account
        roles = account.roles if account is not None else tuple(f"key:{scope}" for scope in key.scopes)
        return cls(
            subject=f"key:{key.key_id}",
            workspace_id=key.workspace_id,
            name=key.name,
            permissions=key.permissions,
            key=key,
            expires_at=key.expires_at,
            roles=tuple(sorted(roles)),
            attributes=() if account is None else account.attributes,
        )

    @classmethod
    def from_member(
        cls,
        *,
        user_id: uuid.UUID,
        workspace_id: int,
        role: str,
        email: str,
        name: str,
        expires_at: datetime | None,
        roles: Iterable[str] = (),
        granted: Iterable[str] = (),
        attributes: Mapping[str, Iterable[str]] | None = None,
        owns_organization: bool = False,
    ) -> "Caller":
        """`roles`: of their teams; `granted`: permissions of the custom ones among all these roles."""
        held = tuple(sorted({role, *roles}))
        return cls(
            subject=f"user:{user_id}",
            workspace_id=workspace_id,
            name=name,
            permissions=permissions_of_member(held, granted, owns_organization=owns_organization),
            user_id=user_id,
            email=email,
            role=str(role),
            expires_at=expires_at,
            roles=tuple(str(slug) for slug in held),
            attributes=tuple(
                (key, tuple(sorted(set(values)))) for key, values in sorted((attributes or {}).items())
            ),
        )

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions and not self.second_factor_missing

    def check(self, permission: Permission) -> None:
        """Raise `MissingScope` (a key) or `NotPermitted` (a person) unless this is allowed."""
        if self.may(permission):
            return
        self.check_second_factor()
        if self.key is not None:
            held = ", ".join(sorted(self.key.scopes)) or "none"
            raise MissingScope(f"This needs the permission {permission}; the key's scopes are: {held}.")
        raise NotPermitted(f"This needs the permission {permission}; your role here is {self.role}.")

    def check_second_factor(self) -> None:
        """Raise `SecondFactorMissing` if the workspace asks for one that this session has not shown."""
        if self.second_factor_missing:
            raise SecondFactorMissing("Set up an authenticator app or a passkey first, on /account.")

    def check_gives(self, permissions: Iterable[Permission]) -> None:
        """Raise `NotPermitted` unless all of `permissions` are held: nobody gives a right they lack."""
        missing = sorted(set(permissions) - self.permissions)
        if missing:
            raise NotPermitted(f"Only who holds a right may give it; you lack: {', '.join(missing)}.")
