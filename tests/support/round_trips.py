"""Round trips to the server, counted on the wire."""

from collections.abc import Callable
from pathlib import Path

from sluiceway.infra.database import Database, Role


def round_trips(
    database: Database, role: Role, path: Path, work: Callable[[], object], *, single: bool = False
) -> int:
    """Answers that end with ReadyForQuery while `work` runs on the one connection of the role's pool.

    `path`: a file to trace into. `single`: the pool for single statements.
    """
    with database.single(role) if single else database.engine(role).connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        pgconn = driver.pgconn
    with path.open("w") as file:
        pgconn.trace(file.fileno())
        try:
            work()
        finally:
            pgconn.untrace()
    return path.read_text().count("ReadyForQuery")
