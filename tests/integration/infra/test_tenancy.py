"""The database's own lock: every workspace's table has its policy, and no service role can pass it."""

import pytest
import sqlalchemy as sa

from sluiceway.infra.database import SERVICE_ROLES, Database, Role

TABLES = """
SELECT c.oid::regclass::text AS name, c.relrowsecurity AS secured,
       EXISTS (
         SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'workspace_isolation'
       ) AS isolated
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id'
WHERE n.nspname IN ('app', 'silver', 'gold', 'quality', 'marts', 'staging')
  AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""


def test_every_table_of_a_workspace_has_its_policy(database: Database) -> None:
    with database.engine(Role.OWNER).connect() as connection:
        rows = connection.execute(sa.text(TABLES)).all()
    assert len(rows) >= 17
    assert [row.name for row in rows if not (row.secured and row.isolated)] == []


def test_no_service_role_bypasses_row_level_security(database: Database) -> None:
    with database.engine(Role.OWNER).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT rolname FROM pg_roles WHERE rolname LIKE 'sluiceway%'"
                " AND (rolbypassrls OR rolsuper OR rolcreaterole)"
            )
        ).all()
    assert rows == []


@pytest.mark.parametrize("role", SERVICE_ROLES)
def test_each_service_role_signs_in(database: Database, role: Role) -> None:
    with database.connect(role) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role.login,)


def test_a_transaction_sees_only_its_workspace(database: Database) -> None:
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
        )
        for workspace in (1, 2):
            connection.execute(
                sa.text(
                    "INSERT INTO app.dashboards (id, workspace_id, slug, title, spec, layout)"
                    " VALUES (uuidv7(), :w, 'd', 't', '{}', '{}')"
                ),
                {"w": workspace},
            )
    count = sa.text("SELECT array_agg(workspace_id) FROM app.dashboards")
    with database.transaction(Role.APP, workspace_id=2) as connection:
        assert connection.execute(count).scalar() == [2]
    with database.transaction(Role.APP) as connection:
        assert connection.execute(count).scalar() is None
