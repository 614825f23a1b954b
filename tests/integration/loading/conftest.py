"""What tests of loading share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.infra.database import Database
from sluiceway.quality.contracts import Gate
from tests.support.loading import ORDERS, Bench


@pytest.fixture
def make(database: Database, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes benches on one spool; they are closed at the end."""
    made: list[Bench] = []

    def bench(source: str = ORDERS, gate: Gate | None = None, **options: Any) -> Bench:
        made.append(Bench(database, tmp_path / "spool", source=source, gate=gate, **options))
        return made[-1]

    yield bench
    for item in made:
        item.close()
