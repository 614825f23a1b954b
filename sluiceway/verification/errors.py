"""What can be wrong with what a verification is given, as errors with stable codes."""

from sluiceway.kit.errors import InvalidInput


class InvalidLedger(InvalidInput):
    """A ledger, or a consumer's list, that cannot be read; `errors` has the line."""

    code = "invalid_ledger"
    title = "The ledger cannot be read"
