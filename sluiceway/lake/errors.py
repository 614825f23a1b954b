"""What can go wrong between the platform and its lake."""

from sluiceway.kit.errors import Unavailable


class LakeUnavailable(Unavailable):
    code = "lake_unavailable"
    title = "The lake cannot be reached"


class LakeDamaged(Unavailable):
    code = "lake_damaged"
    title = "An object of the lake cannot be read"
    retryable = False
