"""The table of who may do what: roles and key scopes on one side, permissions on the other.

Only data and one lookup belong here. Asking is done in one place of the API (`api.deps.require`).
"""

from collections.abc import Iterable
from enum import StrEnum


class Permission(StrEnum):
    """One thing that can be allowed. A route names exactly one."""

    DATA_READ = "data:read"
    """Query silver, gold and marts; follow streams."""
    PIPELINE_READ = "pipeline:read"
    """See pipelines, their versions, state and batches."""
    PIPELINE_WRITE = "pipeline:write"
    """Apply, pause, resume and archive pipelines."""
    DEAD_LETTER_READ = "dead_letter:read"
    """See dead letters with their payloads."""
    DEAD_LETTER_RESOLVE = "dead_letter:resolve"
    """Retry, correct and discard dead letters."""
    QUALITY_READ = "quality:read"
    QUALITY_WRITE = "quality:write"
    REPLAY_READ = "replay:read"
    REPLAY_RUN = "replay:run"
    DASHBOARD_READ = "dashboard:read"
    DASHBOARD_WRITE = "dashboard:write"
    KEY_READ = "key:read"
    KEY_MANAGE = "key:manage"
    WORKSPACE_READ = "workspace:read"
    WORKSPACE_MANAGE = "workspace:manage"
    EVENT_WRITE = "event:write"
    """Send events; an ingest key may be limited to named pipelines."""


class MemberRole(StrEnum):
    """What a person is in a workspace, from the most to the least."""

    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    ANALYST = "analyst"
    VIEWER = "viewer"


class Scope(StrEnum):
    """What an API key is for."""

    INGEST = "ingest"
    READ = "read"
    MANAGE = "manage"


_VIEWER = frozenset(
    {
        Permission.DATA_READ,
        Permission.PIPELINE_READ,
        Permission.QUALITY_READ,
        Permission.DASHBOARD_READ,
        Permission.WORKSPACE_READ,
    }
)
_ANALYST = _VIEWER | {
    Permission.DASHBOARD_WRITE,
    Permission.DEAD_LETTER_READ,
    Permission.REPLAY_READ,
}
_EDITOR = _ANALYST | {
    Permission.PIPELINE_WRITE,
    Permission.DEAD_LETTER_RESOLVE,
    Permission.QUALITY_WRITE,
    Permission.REPLAY_RUN,
    Permission.EVENT_WRITE,
}
_ADMIN = _EDITOR | {Permission.KEY_READ, Permission.KEY_MANAGE}
_OWNER = _ADMIN | {Permission.WORKSPACE_MANAGE}

ROLE_PERMISSIONS: dict[MemberRole, frozenset[Permission]] = {
    MemberRole.OWNER: _OWNER,
    MemberRole.ADMIN: _ADMIN,
    MemberRole.EDITOR: _EDITOR,
    MemberRole.ANALYST: _ANALYST,
    MemberRole.VIEWER: _VIEWER,
}

SCOPE_PERMISSIONS: dict[Scope, frozenset[Permission]] = {
    Scope.INGEST: frozenset({Permission.EVENT_WRITE}),
    Scope.READ: _ANALYST - {Permission.DASHBOARD_WRITE},
    # A program never makes keys: a stolen one could otherwise outlive its own revocation.
    Scope.MANAGE: _EDITOR - {Permission.EVENT_WRITE},
}


def permissions_of_role(role: MemberRole) -> frozenset[Permission]:
    return ROLE_PERMISSIONS[role]


def permissions_of_scopes(scopes: Iterable[Scope]) -> frozenset[Permission]:
    """All that any of `scopes` allows."""
    return frozenset().union(*(SCOPE_PERMISSIONS[scope] for scope in scopes))
