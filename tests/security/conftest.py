"""Attacks: the application as the API's tests have it, over a database of the test's own."""

from tests.integration.api.conftest import portal, world

__all__ = ["portal", "world"]
