"""What the application's routes ask of their callers, read from the routes themselves."""

from collections.abc import Iterator
from typing import Any

from sluiceway.identity.permissions import Permission


def permissions_of(dependant: Any) -> Iterator[Permission]:
    """Every permission that a route's dependencies check, the nested ones too."""
    for inner in dependant.dependencies:
        if (found := getattr(inner.call, "permission", None)) is not None:
            yield found
        yield from permissions_of(inner)
