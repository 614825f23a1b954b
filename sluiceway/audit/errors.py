"""What can go wrong with the audit log."""

from sluiceway.kit.errors import InvalidInput, NotFound


class InvalidHead(InvalidInput):
    code = "invalid_head"
    title = "This is no place in an audit log"


class EntryNotFound(NotFound):
    code = "audit_entry_not_found"
    title = "There is no such entry in the audit log"
