"""What can go wrong with the audit log."""

from sluiceway.kit.errors import InvalidInput


class InvalidAuditSearch(InvalidInput):
    code = "invalid_audit_search"
