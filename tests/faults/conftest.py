"""What fault tests share: the fork server, and databases that have gold and a pipeline already."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from tests.support.cluster import Cluster
from tests.support.faults.stage import Stage
from tests.support.faults.world import prepare_template


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Starts the product's processes in a moment."""
    with Stage() as found:
        yield found


@pytest.fixture(scope="session")
def loaded_template(
    cluster: Cluster, gold_template: tuple[str, Path], secret_key: SecretKey
) -> Iterator[str]:
    """Name of a database with gold and the pipeline `orders`."""
    url = cluster.create(gold_template[0])
    database = Database(url, secret_key)
    prepare_template(database)
    database.dispose()
    yield psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    cluster.drop(url)


@pytest.fixture
def orders_url(cluster: Cluster, loaded_template: str) -> Iterator[str]:
    url = cluster.create(loaded_template)
    yield url
    cluster.drop(url)


@pytest.fixture
def orders_database(orders_url: str, secret_key: SecretKey) -> Iterator[Database]:
    """A database of this test's own, with gold and the pipeline `orders` (id 1)."""
    found = Database(orders_url, secret_key)
    yield found
    found.dispose()
