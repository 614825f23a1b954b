"""Installations with gold; one of them with 200 orders, some sent again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.warehouse.gold import refresh_dirty
from tests.support.installation import Installation
from tests.support.loading import order

Make = Callable[..., Installation]


@pytest.fixture
def make(gold_database: Database, tmp_path: Path, settings: Settings) -> Iterator[Make]:
    made: list[Installation] = []

    def installation(**options: Any) -> Installation:
        made.append(Installation(gold_database, tmp_path / "spool", settings, **options))
        return made[-1]

    yield installation
    for one in made:
        one.close()


@pytest.fixture
def whole(make: Make) -> Installation:
    """200 orders, 50 of them sent twice; refreshed into gold but for the newest."""
    found = make()
    found.accept([order(n) for n in range(150)])
    found.settle()
    refresh_dirty(found.database)
    found.accept([order(n) for n in range(100, 200)])
    found.settle()
    return found
