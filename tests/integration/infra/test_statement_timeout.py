"""A request's statement ends by itself in the web process; a job's goes on."""

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey


def test_a_statement_that_takes_too_long_is_cut(database_url: str, secret_key: SecretKey) -> None:
    found = Database(database_url, secret_key, app_timeout_ms=50)
    try:
        with pytest.raises(sa.exc.OperationalError) as cut, found.transaction(Role.APP) as connection:
            connection.exec_driver_sql("SELECT pg_sleep(30)")
        assert isinstance(cut.value.orig, psycopg.errors.QueryCanceled)
    finally:
        found.dispose()


def test_without_a_limit_there_is_none(database: Database) -> None:
    with database.transaction(Role.APP) as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "0"
