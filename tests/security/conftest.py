"""Attacks: the application as the API's tests have it, over a database of the test's own."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from api.app import create_app
from tests.integration.api.conftest import portal, world
from tests.support.callers import Planted, left, plant

__all__ = ["portal", "world"]


@pytest.fixture
def no_limits(world: Any) -> None:
    """So many requests are many more than a person may make a minute."""
    many = 10_000_000
    world.services.settings = replace(
        world.services.settings,
        user_requests_per_minute=many, key_requests_per_minute=many, address_requests_per_minute=many,
    )  # fmt: skip
    world.app = create_app(world.services)


@pytest.fixture
def planted(world: Any, no_limits: None) -> Iterator[Planted]:
    """The first workspace with something of every kind; at the end all is still there."""
    found = plant(world)
    before = left(found.owner)
    assert all(before.values()), before
    yield found
    assert left(found.owner) == before
