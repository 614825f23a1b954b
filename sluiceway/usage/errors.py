"""Why nothing more is taken, and which limits cannot be."""

from sluiceway.kit.errors import InvalidInput, TooManyRequests


class QuotaExceeded(TooManyRequests):
    """A workspace's hard limit is reached; `retry_after_s`: until the month ends, or the next measuring."""

    code = "quota_exceeded"
    title = "The workspace's quota is used up"


class InvalidQuota(InvalidInput):
    code = "invalid_quota"
    title = "These limits cannot be"
