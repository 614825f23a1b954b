"""Every migration can be undone on a full database, and done again: the schema is what it was each time."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from sluiceway.identity import service, sessions
from sluiceway.identity.keys import create_key
from sluiceway.identity.permissions import Scope
from sluiceway.identity.roles import create_role
from sluiceway.identity.service_accounts import create_account
from sluiceway.identity.teams import add_to_team, create_team
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.migrations import migrate
from sluiceway.migrations.runner import _config
from tests.conftest import Cluster
from tests.support.ruled import ruled_sales
from tests.support.schema import schema_of

# What one cannot do without: the first migration makes the schemas themselves.
LOWEST = "0001"


def revisions() -> list[str]:
    """From the first to the newest."""
    script = ScriptDirectory.from_config(_config())
    found = [revision.revision for revision in script.walk_revisions()]
    assert len(script.get_heads()) == 1
    return found[::-1]


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """Of a database without any schema."""
    name = f"both_ways_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield cluster.server.url_of(name)
    cluster.drop(cluster.server.url_of(name))


@pytest.fixture
def empty(url: str, secret_key: SecretKey) -> Iterator[Database]:
    database = Database(url, secret_key)
    yield database
    database.dispose()


def run(database: Database, direction: str, revision: str) -> None:
    config = _config()
    with database.engine(Role.OWNER).connect() as connection:
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)
        connection.commit()


def fill(database: Database) -> None:
    """Something in most tables that people and loading write to, and what an older schema cannot hold."""
    now = datetime.now(UTC)
    ruled = ruled_sales(database)
    ruled.rule(rows="region in user.regions", masks=[{"field": "email", "as": "hash"}])
    with database.transaction(Role.APP, workspace_id=1) as conn:
        owner = service.create_user(conn, "ann@example.com", "Ann", "violet otter climbs", "owner")
        create_role(conn, 1, "Helper", ["workspace:read"], giver=None)
        bea = service.add_person(conn, "bea@example.com", "Bea", None)
        service.add_member(conn, 1, bea.id, "helper")
        team = create_team(conn, 1, "Emea", giver=None, roles=["analyst"], attributes={"region": ["emea"]})
        add_to_team(conn, 1, team.id, bea.id, giver=None)
        account = create_account(conn, 1, "Loader", ["editor"], giver=None)
        create_key(conn, 1, "key", [Scope.READ])
        create_key(conn, 1, "of the account", [Scope.ACCOUNT], account_id=account.id)
        sessions.create_session(conn, user_id=owner.id, workspace_id=1, now=now, lifetime=sessions.LIFETIME)
    with database.connect(Role.OWNER) as connection:
        connection.execute(FILLED)


FILLED = """
INSERT INTO app.workspaces (organization_id, slug, name, deleted_at) VALUES (1, 'gone', 'Gone', now());
INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'gone', 'There again');
INSERT INTO app.dashboards (id, workspace_id, slug, title, spec, layout)
  VALUES ('0198c0de-0000-7000-8000-000000000009', 1, 'd', 'D', '{}', '{}');
INSERT INTO app.dashboard_links (id, workspace_id, dashboard_id, name, token_hash, made_by)
  VALUES (gen_random_uuid(), 1, '0198c0de-0000-7000-8000-000000000009', 'l', '\\x01', 'cli');
INSERT INTO app.quotas (workspace_id, measure, soft, updated_by) VALUES (1, 'events', 1, 'cli');
INSERT INTO app.sign_in_policies (workspace_id, second_factor_for) VALUES (1, '{*}');
INSERT INTO app.identity_providers
  (id, organization_id, name, issuer, client_id, scopes, groups_claim)
  VALUES ('0198c0de-0000-7000-8000-000000000008', 1, 'SSO', 'https://x.example', 'c', '{openid}', 'groups');
UPDATE app.sessions SET provider_id = '0198c0de-0000-7000-8000-000000000008', method = 'provider';
INSERT INTO app.provider_sessions (session_id, provider_id, user_id, subject)
  SELECT id, provider_id, user_id, 's' FROM app.sessions;
INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket) VALUES (1, 1, 'modelers', now());
"""


def difference(left: frozenset[str], right: frozenset[str]) -> dict[str, list[str]]:
    return {"gone": sorted(left - right), "new": sorted(right - left)}


SAME: dict[str, list[str]] = {"gone": [], "new": []}


def test_each_migration_is_undone_and_done_again_on_a_full_database(
    empty: Database, secret_key: SecretKey, url: str
) -> None:
    order = revisions()
    as_new: dict[str, frozenset[str]] = {}
    for revision in order:
        migrate(empty, secret_key, revision)
        as_new[revision] = schema_of(url)
    fill(empty)
    own = {"silver.sales"}
    kept = counts(url)
    assert kept["app.users"] == 2 and kept["silver.sales"] == 12
    wrong: dict[str, Any] = {}
    for newer, older in zip(order[:0:-1], order[-2::-1], strict=True):
        run(empty, "downgrade", older)
        found = difference(as_new[older], schema_of(url, own))
        if found != SAME:
            wrong[f"down from {newer} to {older}"] = found
    assert wrong == {}
    lowest = counts(url)
    assert {name: lowest[name] for name in ("app.users", "app.pipelines", "silver.sales")} == {
        "app.users": 2, "app.pipelines": 1, "silver.sales": 12,
    }  # fmt: skip
    for revision in order[1:]:
        run(empty, "upgrade", revision)
        found = difference(as_new[revision], schema_of(url, own))
        if found != SAME:
            wrong[f"up to {revision}"] = found
    assert wrong == {}
    with empty.transaction(Role.APP, workspace_id=1) as conn:
        found_user = service.find_user(conn, "ann@example.com")
    assert found_user is not None and found_user.name == "Ann"


def counts(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        names = [row[0] for row in connection.execute(TABLES)]
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}  # type: ignore[index, call-overload]


TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('app', 'silver', 'gold', 'quality') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""


def test_the_last_downgrade_leaves_nothing(empty: Database, secret_key: SecretKey, url: str) -> None:
    migrate(empty, secret_key, LOWEST)
    run(empty, "downgrade", "base")
    assert schema_of(url) == frozenset()
