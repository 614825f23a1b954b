"""Who is asking, as the rest of the platform sees them. No password, token or hash is in these."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sluiceway.identity.errors import MissingScope, NotPermitted
from sluiceway.identity.permissions import (
    MemberRole,
    Permission,
    Scope,
    permissions_of_role,
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
    role: MemberRole


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


@dataclass(frozen=True, slots=True)
class KeyCaller:
    """A program that has shown a valid key. `pipeline_ids` limits what it may send to; None: every one.

    `rate_per_s`, `burst`: how many events it may send a second and at once; None: no limit of its own.
    """

    key_id: str
    workspace_id: int
    name: str
    scopes: frozenset[Scope]
    pipeline_ids: frozenset[int] | None
    expires_at: datetime | None
    rate_per_s: float | None = None
    burst: int | None = None

    @property
    def permissions(self) -> frozenset[Permission]:
        return permissions_of_scopes(self.scopes)

    def may_send_to(self, pipeline_id: int) -> bool:
        """Whether this key may send events to the pipeline (of its own workspace)."""
        return Scope.INGEST in self.scopes and (self.pipeline_ids is None or pipeline_id in self.pipeline_ids)


@dataclass(frozen=True, slots=True)
class DataAccess:
    """With whose eyes data is read: what row rules and column masks are decided by.

    `roles`: slugs of every role held (a member's own and their teams'; `key:<scope>` for a key; `link` for
    the holder of a dashboard's link). `attributes`: name → values, sorted, from the membership and its teams.
    """

    workspace_id: int
    roles: tuple[str, ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    user_id: uuid.UUID | None = None

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
    role: MemberRole | None = None
    key: KeyCaller | None = None
    expires_at: datetime | None = None
    roles: tuple[str, ...] = ()
    """Slugs of all the roles held."""
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def access(self) -> DataAccess:
        return DataAccess(self.workspace_id, self.roles, self.attributes, self.user_id)

    @classmethod
    def from_key(cls, key: KeyCaller) -> "Caller":
        return cls(
            subject=f"key:{key.key_id}",
            workspace_id=key.workspace_id,
            name=key.name,
            permissions=key.permissions,
            key=key,
            expires_at=key.expires_at,
            roles=tuple(sorted(f"key:{scope}" for scope in key.scopes)),
        )

    @classmethod
    def from_member(
        cls,
        *,
        user_id: uuid.UUID,
        workspace_id: int,
        role: MemberRole,
        email: str,
        name: str,
        expires_at: datetime | None,
    ) -> "Caller":
        return cls(
            subject=f"user:{user_id}",
            workspace_id=workspace_id,
            name=name,
            permissions=permissions_of_role(role),
            user_id=user_id,
            email=email,
            role=role,
            expires_at=expires_at,
            roles=(role.value,),
        )

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def check(self, permission: Permission) -> None:
        """Raise `MissingScope` (a key) or `NotPermitted` (a person) unless this is allowed."""
        if self.may(permission):
            return
        if self.key is not None:
            held = ", ".join(sorted(self.key.scopes)) or "none"
            raise MissingScope(f"This needs the permission {permission}; the key's scopes are: {held}.")
        raise NotPermitted(f"This needs the permission {permission}; your role here is {self.role}.")
