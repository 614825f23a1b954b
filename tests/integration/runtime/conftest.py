"""What tests of the running parts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from tests.support.command_line import run
from tests.support.web_process import Web, start_web

__all__ = ["run"]


@pytest.fixture
def web(settings: Settings, database: Database, tmp_path: Path) -> Iterator[Web]:
    found = start_web(settings, database, tmp_path / "web.log")
    yield found
    if found.process.poll() is None:
        found.process.kill()
    found.process.wait()
