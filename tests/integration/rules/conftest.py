"""A loaded pipeline to put rules on, without gold and with it."""

from collections.abc import Iterator
from typing import Any

import pytest

from sluiceway.infra.database import Database
from tests.support.ruled import Ruled, ruled_sales


@pytest.fixture
def ruled(database: Database) -> Ruled:
    return ruled_sales(database)


@pytest.fixture
def in_gold(gold_database: Database) -> Ruled:
    return ruled_sales(gold_database)


@pytest.fixture(scope="module")
def shared(cluster: Any, secret_key: Any) -> Iterator[Ruled]:
    """One for all tests of a module that replace the same rule."""
    url = cluster.create()
    database = Database(url, secret_key)
    yield ruled_sales(database)
    database.dispose()
    cluster.drop(url)
