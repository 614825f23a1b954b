"""Every action that the audit log knows: a noun and a verb in the past. `docs/audit.md` says what each means.

Add here what you record. A name that was used stays: old entries have it.
"""

from enum import StrEnum


class Action(StrEnum):
    """What was done. The part before the dot is the kind of thing it was done to."""

    SESSION_STARTED = "session.started"
    SESSION_REFUSED = "session.refused"
    SESSION_ENDED = "session.ended"

    PERSON_CREATED = "person.created"
    PERSON_PASSWORD_SET = "person.password_set"  # noqa: S105  # a name, not a password
    PERSON_DISABLED = "person.disabled"
    PERSON_ENABLED = "person.enabled"
    PERSON_ERASED = "person.erased"
    PERSON_RENAMED = "person.renamed"
    PERSON_PREFERENCES_CHANGED = "person.preferences_changed"
    MEMBER_LISTED = "member.listed"
    MEMBER_INVITED = "member.invited"
    MEMBER_JOINED = "member.joined"
    MEMBER_CHANGED = "member.changed"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    MEMBER_DISABLED = "member.disabled"
    MEMBER_ENABLED = "member.enabled"
    MEMBER_REMOVED = "member.removed"
    MEMBER_LEFT = "member.left"
    INVITATION_SENT_AGAIN = "invitation.sent_again"
    INVITATION_REVOKED = "invitation.revoked"
    INVITATION_LISTED = "invitation.listed"
    ROLE_CREATED = "role.created"
    ROLE_CHANGED = "role.changed"
    ROLE_DELETED = "role.deleted"
    TEAM_CREATED = "team.created"
    TEAM_CHANGED = "team.changed"
    TEAM_DELETED = "team.deleted"
    TEAM_MEMBER_ADDED = "team.member_added"
    TEAM_MEMBER_REMOVED = "team.member_removed"
    WORKSPACE_CREATED = "workspace.created"
    WORKSPACE_RENAMED = "workspace.renamed"
    WORKSPACE_HANDED_OVER = "workspace.handed_over"
    ORGANIZATION_CREATED = "organization.created"
    ORGANIZATION_RENAMED = "organization.renamed"
    ORGANIZATION_OWNER_ADDED = "organization.owner_added"
    ORGANIZATION_OWNER_REMOVED = "organization.owner_removed"
    SESSION_MOVED = "session.moved"

    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    KEY_USED = "key.used"
    KEY_LISTED = "key.listed"
    KEY_ROTATED = "key.rotated"
    KEY_OVERLAP_ENDED = "key.overlap_ended"
    SERVICE_ACCOUNT_CREATED = "service_account.created"
    SERVICE_ACCOUNT_CHANGED = "service_account.changed"
    SERVICE_ACCOUNT_DELETED = "service_account.deleted"
    LINK_CREATED = "link.created"
    LINK_REVOKED = "link.revoked"
    LINK_OPENED = "link.opened"
    LINK_REFUSED = "link.refused"
    PROVISIONING_USER_CREATED = "provisioning.user_created"
    PROVISIONING_USER_CHANGED = "provisioning.user_changed"
    PROVISIONING_USER_REMOVED = "provisioning.user_removed"
    PROVISIONING_GROUP_CREATED = "provisioning.group_created"
    PROVISIONING_GROUP_CHANGED = "provisioning.group_changed"
    PROVISIONING_GROUP_REMOVED = "provisioning.group_removed"
    SECRET_ADDED = "secret.added"  # noqa: S105  # a name, not a secret
    SECRET_REMOVED = "secret.removed"  # noqa: S105  # a name, not a secret
    SECRET_LISTED = "secret.listed"  # noqa: S105  # a name, not a secret
    STREAM_TOKEN_ISSUED = "stream_token.issued"  # noqa: S105  # a name, not a token

    PIPELINE_APPLIED = "pipeline.applied"
    PIPELINE_PAUSED = "pipeline.paused"
    PIPELINE_RESUMED = "pipeline.resumed"
    PIPELINE_ARCHIVED = "pipeline.archived"
    SUITE_APPLIED = "suite.applied"
    DASHBOARD_CREATED = "dashboard.created"
    DASHBOARD_UPDATED = "dashboard.updated"
    DASHBOARD_DELETED = "dashboard.deleted"
    DASHBOARD_MOVED = "dashboard.moved"
    DEAD_LETTER_RETRIED = "dead_letter.retried"
    DEAD_LETTER_DISCARDED = "dead_letter.discarded"
    REPLAY_REQUESTED = "replay.requested"
    SPOOL_DRAINED = "spool.drained"
    EXPORT_MADE = "export.made"

    USAGE_READ = "usage.read"
    QUOTA_CHANGED = "quota.changed"
    QUOTA_REACHED = "quota.reached"
    PERSON_EXPORTED = "person.exported"
    SECRETS_ROTATED = "secrets.rotated"

    AUDIT_READ = "audit.read"
    AUDIT_VERIFIED = "audit.verified"
    AUDIT_DROPPED = "audit.dropped"
