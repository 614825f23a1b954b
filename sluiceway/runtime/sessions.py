"""A database for the length of one command: the running server, or the embedded one started meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from sluiceway.infra.connect import embedded_server, open_database
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import Unavailable
from sluiceway.runtime.preflight import hold_home


class DatabaseUnreachable(Unavailable):
    code = "database_unreachable"
    title = "The database does not answer"


class NotMigrated(Unavailable):
    code = "not_migrated"
    title = "The database has no schema yet"


@contextmanager
def running_server(settings: Settings) -> Iterator[None]:
    """Make sure that the server answers; an embedded one that does not run is started and stopped again."""
    server = embedded_server(settings)
    if not settings.embedded or server.pid is not None:
        yield
        return
    with hold_home(settings.home, "a sluiceway command"):
        server.start()
        try:
            yield
        finally:
            server.stop()


@contextmanager
def command_database(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """The installation's database, closed at the end.

    Raises `DatabaseUnreachable`, or `NotMigrated` if the schema must be there and is not.
    """
    with running_server(settings):
        database = open_database(settings, pool_size=2)
        try:
            _check(database, migrated)
            yield database
        finally:
            database.dispose()


def _check(database: Database, migrated: bool) -> None:
    try:
        with database.connect(Role.OWNER, autocommit=True) as connection:
            row = connection.execute("SELECT to_regclass('app.pipelines') IS NOT NULL").fetchone()
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise DatabaseUnreachable(
            f"The database does not answer ({reason}): check SLUICEWAY_DATABASE_URL and that the server runs."
        ) from None
    if migrated and not (row and row[0]):
        raise NotMigrated(
            "The database has no schema yet: run `sluiceway migrate`, or start with `sluiceway up`."
        )
