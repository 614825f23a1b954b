"""Builds parts of the platform from settings, for processes and commands. The one place that joins layers."""

from typing import TYPE_CHECKING

from sluiceway.infra.database import Database, Role

if TYPE_CHECKING:
    from expectations.runner import GreatExpectationsGate
    from sluiceway.quality.contracts import SuiteSpec


def make_gate(database: Database) -> "GreatExpectationsGate":
    """The quality gate: Great Expectations over the suites in the database. Importing it takes seconds."""
    from expectations.runner import GreatExpectationsGate
    from sluiceway.quality.service import load_suite

    def load(workspace_id: int, name: str) -> "SuiteSpec | None":
        with database.transaction(Role.WRITER, workspace_id=workspace_id) as connection:
            return load_suite(connection, workspace_id, name)

    return GreatExpectationsGate(load)
