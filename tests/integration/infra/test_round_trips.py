"""How often a transaction goes to the server and back, and what becomes of a connection the server cut."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.identity.contracts import DataAccess
from sluiceway.infra import database as module
from sluiceway.infra.database import Database, Role
from tests.support.round_trips import round_trips

NASTY = ["O'Neill", "back\\slash", "'); DROP TABLE app.users; --", "ünï—code", '"quoted"', "line\nend"]


def _trips(database: Database, path: Path, work: Callable[[Database], None]) -> int:
    return round_trips(database, Role.APP, path, lambda: work(database), single=work is _single)


def _one(database: Database) -> None:
    with database.transaction(Role.APP, workspace_id=1, user_id="u") as connection:
        connection.exec_driver_sql("SELECT 1").scalar_one()


def _single(database: Database) -> None:
    with database.single(Role.APP) as connection:
        connection.exec_driver_sql("SELECT 1").scalar_one()


def test_round_trips_of_a_transaction_and_of_a_single_statement(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTED_S", 1e9)
    assert _trips(database, tmp_path / "one", _one) == 3  # begin, statement, commit
    assert _trips(database, tmp_path / "single", _single) == 1
    assert _trips(database, tmp_path / "again", _one) == 3


def test_a_single_statement_is_a_transaction_of_its_own_and_acts_for_nobody(database: Database) -> None:
    _one(database)
    with database.single(Role.APP) as connection:
        assert connection.exec_driver_sql("SELECT app.current_workspace()").scalar() is None
        connection.exec_driver_sql(
            "SELECT app.begin_attempt(ARRAY['\\x01'::bytea], ARRAY[5], now(), 1, 60, interval '1 hour')"
        )
    with database.engine(Role.OWNER).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM app.sign_in_attempts").scalar_one() == 1
    with pytest.raises(sa.exc.ProgrammingError), database.single(Role.APP) as connection:
        connection.exec_driver_sql("SELECT nothing_like_it()")
    _one(database)


def test_what_a_transaction_acts_as_is_taken_literally_and_ends_with_it(database: Database) -> None:
    access = DataAccess.of(1, ["viewer"], {"region": NASTY})
    asked = "SELECT current_setting('sluiceway.access'), current_setting('work_mem'), app.current_workspace()"
    with database.transaction(Role.READER, access=access, settings={"work_mem": "5MB"}) as connection:
        told, memory, workspace = connection.exec_driver_sql(asked).one()
    assert json.loads(told)[0]["attributes"]["region"] == sorted(NASTY)
    assert (memory, workspace) == ("5MB", 1)
    for name in NASTY:
        with database.transaction(Role.APP, workspace_id=1, user_id=name) as connection:
            assert connection.exec_driver_sql("SELECT current_setting('sluiceway.user_id')").scalar() == name
    with database.engine(Role.READER).connect() as connection:
        assert connection.exec_driver_sql(asked.replace("')", "', true)")).one() == ("", "4MB", None)


def test_a_transaction_that_cannot_begin_says_so_and_leaves_the_connection_whole(database: Database) -> None:
    with (
        pytest.raises(sa.exc.SQLAlchemyError),
        database.transaction(Role.READER, workspace_id=1, settings={"statement_timeout": "soon"}),
    ):
        pytest.fail("it began")
    with database.transaction(Role.READER, workspace_id=1) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_an_error_inside_is_rolled_back(database: Database) -> None:
    insert = "INSERT INTO app.dashboards (id, workspace_id, slug, title, spec, layout)"
    with pytest.raises(ZeroDivisionError), database.transaction(Role.APP, workspace_id=1) as connection:
        connection.exec_driver_sql(f"{insert} VALUES (uuidv7(), 1, 'd', 't', '{{}}', '{{}}')")
        raise ZeroDivisionError
    with database.transaction(Role.APP, workspace_id=1) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM app.dashboards").scalar_one() == 0


@pytest.mark.parametrize("rested_s", [1e9, 0.0])
def test_a_connection_that_the_server_cut_is_made_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch, rested_s: float
) -> None:
    """Whether it was used a moment ago or long ago; and those beside it in the pool as well."""
    monkeypatch.setattr(module, "RESTED_S", rested_s)
    engine = database.engine(Role.APP)
    with engine.connect() as one, engine.connect() as two:
        pids = {c.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for c in (one, two)}
    with database.connect(Role.OWNER, autocommit=True) as owner:
        for pid in pids:
            assert owner.execute("SELECT pg_terminate_backend(%s, 30000)", (pid,)).fetchone() == (True,)
    with engine.connect() as one, engine.connect() as two:
        found = {c.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for c in (one, two)}
    assert len(found) == 2 and not found & pids


def test_a_connection_in_steady_use_is_not_asked_for_a_sign_of_life(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTED_S", 1e9)
    assert _trips(database, tmp_path / "busy", _single) == 1
    monkeypatch.setattr(module, "RESTED_S", 0.0)
    assert _trips(database, tmp_path / "rested", _single) == 2


def test_a_notice_on_a_connection_is_no_reason_to_drop_it(database: Database) -> None:
    """Something waits to be read, and the server is there."""
    with database.engine(Role.APP).connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.connection.driver_connection.execute("LISTEN round_trips")  # type: ignore[union-attr]
        connection.commit()
    with psycopg.connect(database.conninfo(Role.OWNER), autocommit=True) as owner:
        owner.execute("NOTIFY round_trips")
    with database.engine(Role.APP).connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == pid
