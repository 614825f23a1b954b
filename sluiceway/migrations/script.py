"""Runs a revision's SQL as it stands."""

from typing import LiteralString

from alembic import op


def run(statements: LiteralString) -> None:
    """Send several statements at once, without parameters: a percent sign means itself."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(statements)
