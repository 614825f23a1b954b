"""A database with one entry in its audit log."""

import pytest

from sluiceway.infra.database import Database
from tests.support.audited import numbered, put


@pytest.fixture
def audited(database: Database) -> Database:
    put(database, *numbered(1))
    return database
