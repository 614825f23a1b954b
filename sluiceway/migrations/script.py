"""Runs a revision's SQL as it stands; when it is undone, functions are as an earlier revision made them."""

import re
from importlib import import_module
from pathlib import Path
from typing import LiteralString

from alembic import op

_VERSIONS = Path(__file__).parent / "versions"


def run(statements: LiteralString) -> None:
    """Send several statements at once, without parameters: a percent sign means itself."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(statements)


def put_back(revision: str, *names: str) -> None:
    """Make functions and procedures again as this earlier revision made them, in their schema's name."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    for name in names:
        driver.execute(_definition(revision, name).encode())


def _definition(revision: str, name: str) -> str:
    (path,) = _VERSIONS.glob(f"{revision}_*.py")
    module = import_module(f"sluiceway.migrations.versions.{path.stem}")
    text = "\n".join(value for value in vars(module).values() if isinstance(value, str))
    found = re.search(
        rf"CREATE (?:OR REPLACE )?((?:FUNCTION|PROCEDURE) {re.escape(name)}\(.*?\$\$;)", text, re.DOTALL
    )
    assert found is not None, f"revision {revision} makes no {name}"
    return f"CREATE OR REPLACE {found[1]}"
