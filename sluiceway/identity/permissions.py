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
    """Change the workspace's settings and hand its ownership over."""
    EVENT_WRITE = "event:write"
    """Send events; an ingest key may be limited to named pipelines."""
    DATA_EXPORT = "data:export"
    """Take data out as a file."""
    DASHBOARD_SHARE = "dashboard:share"
    """Make and revoke links that show a dashboard to whoever has them."""
    VIEW_AS = "data:view_as"
    """Look at data with the eyes of another role, to see what its rules let through."""
    MEMBER_READ = "member:read"
    """See the members, their roles and their teams."""
    MEMBER_MANAGE = "member:manage"
    """Invite, change and remove members and teams; never above one's own rights."""
    ROLE_MANAGE = "role:manage"
    """Make and change custom roles; never with a right that one does not hold."""
    SESSION_MANAGE = "session:manage"
    """See and end other members' sessions."""
    SERVICE_ACCOUNT_MANAGE = "service_account:manage"
    RULE_READ = "rule:read"
    """See row rules and column masks."""
    RULE_MANAGE = "rule:manage"
    AUDIT_READ = "audit:read"
    """Search and export the audit log."""
    SIGN_IN_MANAGE = "sign_in:manage"
    """Set up single sign-on, provisioning and what a second factor is required for."""
    USAGE_READ = "usage:read"
    QUOTA_MANAGE = "quota:manage"
    WORKSPACE_DELETE = "workspace:delete"
    """Delete the workspace with all that is in it: its owners' alone."""
    ORGANIZATION_MANAGE = "organization:manage"
    """Name the organization and make workspaces in it: its owners' alone, whatever their roles."""
    PROVISION = "member:provision"
    """Create, change and deactivate people and groups over SCIM."""


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
    PROVISION = "provision"
    ACCOUNT = "account"
    """Of a service account's key: all that the account's roles allow and a program may do."""


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
    Permission.DATA_EXPORT,
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
    Permission.DASHBOARD_SHARE,
    Permission.VIEW_AS,
    Permission.RULE_READ,
    Permission.MEMBER_READ,
    Permission.USAGE_READ,
}
_ADMIN = _EDITOR | {
    Permission.KEY_READ,
    Permission.KEY_MANAGE,
    Permission.MEMBER_MANAGE,
    Permission.ROLE_MANAGE,
    Permission.SESSION_MANAGE,
    Permission.SERVICE_ACCOUNT_MANAGE,
    Permission.RULE_MANAGE,
    Permission.AUDIT_READ,
    Permission.PROVISION,
}
_OWNER = _ADMIN | {
    Permission.WORKSPACE_MANAGE,
    Permission.WORKSPACE_DELETE,
    Permission.SIGN_IN_MANAGE,
    Permission.QUOTA_MANAGE,
    Permission.ORGANIZATION_MANAGE,
}

ROLE_PERMISSIONS: dict[MemberRole, frozenset[Permission]] = {
    MemberRole.OWNER: _OWNER,
    MemberRole.ADMIN: _ADMIN,
    MemberRole.EDITOR: _EDITOR,
    MemberRole.ANALYST: _ANALYST,
    MemberRole.VIEWER: _VIEWER,
}

NEVER_BY_KEY = frozenset(
    {
        Permission.KEY_MANAGE,
        Permission.SERVICE_ACCOUNT_MANAGE,
        Permission.MEMBER_MANAGE,
        Permission.ROLE_MANAGE,
        Permission.SESSION_MANAGE,
        Permission.SIGN_IN_MANAGE,
        Permission.WORKSPACE_MANAGE,
        Permission.WORKSPACE_DELETE,
        Permission.ORGANIZATION_MANAGE,
        Permission.QUOTA_MANAGE,
        Permission.VIEW_AS,
    }
)
"""What a program never does, whatever its account's roles: a stolen key could otherwise outlive its own
revocation, in another key or in a person let in."""

SCOPE_PERMISSIONS: dict[Scope, frozenset[Permission]] = {
    Scope.INGEST: frozenset({Permission.EVENT_WRITE}),
    Scope.READ: _ANALYST - {Permission.DASHBOARD_WRITE},
    # A program never makes keys: a stolen one could otherwise outlive its own revocation.
    Scope.MANAGE: _EDITOR - {Permission.EVENT_WRITE, Permission.VIEW_AS, Permission.MEMBER_READ},
    Scope.PROVISION: frozenset({Permission.PROVISION}),
    Scope.ACCOUNT: frozenset(Permission) - NEVER_BY_KEY,
}


GRANTABLE: frozenset[Permission] = frozenset(Permission) - {
    Permission.ORGANIZATION_MANAGE,
    Permission.WORKSPACE_DELETE,
    Permission.PROVISION,
}
"""What a custom role can be made of. An organization is owned, not administered; only who owns a workspace
ends it; provisioning is a key's."""


def permissions_of_role(role: MemberRole) -> frozenset[Permission]:
    return ROLE_PERMISSIONS[role]


def permissions_of_member(
    roles: Iterable[str], granted: Iterable[str] = (), *, owns_organization: bool = False
) -> frozenset[Permission]:
    """All that a member may do: by each of `roles` that is built in, and what custom roles grant.

    A name in `granted` that is no permission (any more) allows nothing.
    """
    builtin = (ROLE_PERMISSIONS[MemberRole(role)] for role in roles if role in ROLE_PERMISSIONS)
    custom = GRANTABLE.intersection(Permission(name) for name in granted if name in GRANTABLE)
    found = custom.union(*builtin) - {Permission.ORGANIZATION_MANAGE}
    return found | {Permission.ORGANIZATION_MANAGE} if owns_organization else found


def permissions_of_scopes(scopes: Iterable[Scope]) -> frozenset[Permission]:
    """All that any of `scopes` allows."""
    return frozenset().union(*(SCOPE_PERMISSIONS[scope] for scope in scopes))
