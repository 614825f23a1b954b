"""An installation that had people before it had roles of its own: they keep what they are."""

import hashlib
from datetime import UTC, datetime, timedelta

import psycopg
import sqlalchemy as sa

from sluiceway.identity import service, sessions
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.migrations import migrate
from tests.conftest import Cluster

BEFORE = "0020"
PEOPLE = """
INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'second', 'Second');
INSERT INTO app.users (id, email, name, password_hash) VALUES
  ('0198c0de-0000-7000-8000-000000000001', 'ann@example.com', 'Ann', 'x'),
  ('0198c0de-0000-7000-8000-000000000002', 'bea@example.com', 'Bea', 'x');
INSERT INTO app.memberships (workspace_id, user_id, role) VALUES
  (1, '0198c0de-0000-7000-8000-000000000001', 'owner'),
  (2, '0198c0de-0000-7000-8000-000000000001', 'viewer'),
  (2, '0198c0de-0000-7000-8000-000000000002', 'owner');
INSERT INTO app.sessions (token_hash, user_id, workspace_id, expires_at)
  VALUES (%s, '0198c0de-0000-7000-8000-000000000001', 1, now() + interval '1 day');
"""


def test_people_are_what_they_were(cluster: Cluster, secret_key: SecretKey) -> None:
    with psycopg.connect(cluster.server.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE before_people")
    url = cluster.server.url_of("before_people")
    database = Database(url, secret_key)
    token = "t" * 43
    try:
        migrate(database, secret_key, BEFORE)
        with psycopg.connect(url) as connection:
            quoted = psycopg.sql.Literal(hashlib.sha256(token.encode()).digest()).as_string(connection)
            connection.execute(PEOPLE.replace("%s", quoted))  # type: ignore[call-overload]  # our own text
        migrate(database, secret_key)
        now = datetime.now(UTC) + timedelta(minutes=1)
        with database.transaction(Role.APP) as conn:
            caller = sessions.find_session(conn, token, now=now)
            bea = service.find_user(conn, "BEA@example.com")
            assert bea is not None
            rooms = {room.workspace_slug: room.role for room in service.memberships(conn, caller.user_id)}
        assert (caller.role, caller.roles, rooms) == (
            "owner",
            ("owner",),
            {"main": "owner", "second": "viewer"},
        )
        assert "organization:manage" in caller.permissions
        with database.engine(Role.OWNER).connect() as conn:
            owners = conn.execute(sa.text("SELECT user_id FROM app.organization_owners")).scalars().all()
        assert owners == [caller.user_id]
    finally:
        database.dispose()
        cluster.drop(url)
