"""What each of the database's roles can not do, tried as that role."""

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role

DENIED = psycopg.errors.InsufficientPrivilege

SECRETS_OF_PEOPLE = (
    "SELECT password_hash FROM app.users",
    "SELECT * FROM app.sessions",
    "SELECT * FROM app.api_keys",
    "SELECT * FROM app.pipeline_secrets",
    "SELECT * FROM app.totp",
    "SELECT * FROM app.recovery_codes",
    "SELECT * FROM app.passkeys",
    "SELECT * FROM app.known_devices",
    "SELECT * FROM app.sign_in_steps",
    "SELECT * FROM app.identity_providers",
    "SELECT * FROM app.invitations",
    "SELECT * FROM app.idempotency_keys",
    "SELECT * FROM app.dashboard_links",
    "SELECT * FROM app.audit_entries",
)
NOBODYS = (
    "SELECT * FROM app.encryption_keys",
    "DELETE FROM app.audit_entries",
    "UPDATE app.audit_entries SET content = ''",
    "INSERT INTO app.audit_entries (workspace_id, seq, at, content, previous, hash)"
    " VALUES (1, 99, now(), '', '', '')",
    "DROP TABLE app.pipelines",
    "ALTER TABLE app.dashboards DISABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON app.dashboards USING (true)",
    "DROP POLICY workspace_isolation ON app.dashboards",
    "TRUNCATE app.audit_entries",
    "CREATE ROLE intruder",
    "ALTER ROLE sluiceway_app BYPASSRLS",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "CREATE FUNCTION app.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE public.mine (a int)",
    "CREATE EXTENSION file_fdw",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY app.pipelines TO '/tmp/never'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT rolpassword FROM pg_authid",
)
FORBIDDEN: dict[Role, tuple[str, ...]] = {
    Role.APP: (
        "SELECT password_hash FROM app.users",
        "SELECT app.password_for_sign_in('ann@example.com')",
        "UPDATE app.workspaces SET deleted_at = NULL",
        "SELECT * FROM app.users",
        "INSERT INTO app.users (id, email, name) VALUES (uuidv7(), 'x@example.com', 'X')",
        "INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'x', 'X')",
        "DELETE FROM app.workspaces",
        "INSERT INTO app.usage_days VALUES (1, 1, now()::date, -5, -5)",
        "UPDATE app.usage_days SET events = 0",
        "UPDATE app.usage_stored SET silver_bytes = 0",
        "INSERT INTO silver.batches DEFAULT VALUES",
        "DELETE FROM quality.dead_letters",
        "SELECT sealed FROM app.mails",
        "SELECT app.sweep_expired(now())",
        "SELECT app.drop_audit('40 days')",
        "SELECT app.append_audit(1, now(), '', '', '')",
    ),
    Role.READER: (
        *SECRETS_OF_PEOPLE,
        "SELECT payload FROM quality.dead_letters",
        "SELECT * FROM app.outbox",
        "SELECT * FROM app.mails",
        "SELECT * FROM app.quotas",
        "SELECT * FROM silver.event_keys",
        "SELECT app.known_keys()",
        "SELECT app.find_session('\\x00')",
        "SELECT app.find_api_key('x')",
    ),
    Role.WRITER: (
        *SECRETS_OF_PEOPLE,
        "SELECT * FROM app.memberships",
        "SELECT * FROM app.dashboards",
        "INSERT INTO app.pipelines (workspace_id, slug, name, version, silver_table)"
        " VALUES (1, 'x', 'x', 1, 'x')",
        "UPDATE app.quotas SET hard = NULL",
        "SELECT app.find_session('\\x00')",
        "SELECT app.personal_data(uuidv7())",
    ),
    Role.MODELER: (
        *SECRETS_OF_PEOPLE,
        "SELECT * FROM app.memberships",
        "SELECT * FROM app.outbox",
        "SELECT payload FROM quality.dead_letters",
        "SELECT * FROM silver.event_keys",
        "INSERT INTO silver.samples (workspace_id, pipeline_id, series_id, ts, value, seq)"
        " VALUES (1, 1, 1, now(), 1, 1)",
        "DELETE FROM silver.batches",
        "UPDATE app.pipelines SET name = 'x'",
        "SELECT app.known_keys()",
        "CREATE TABLE silver.mine (a int)",
        "CREATE TABLE dagster.mine (a int)",
    ),
    Role.SIGN_IN: (
        *SECRETS_OF_PEOPLE,
        "SELECT * FROM app.users",
        "SELECT * FROM app.memberships",
        "SELECT * FROM app.workspaces",
        "SELECT app.find_person('ann@example.com')",
        "SELECT app.find_session('\\x00')",
        "SELECT app.find_api_key('x')",
        "SELECT app.set_password(uuidv7(), 'x', now())",
        "SELECT app.known_keys()",
        "SELECT * FROM silver.batches",
        "CREATE TABLE app.mine (a int)",
    ),
    Role.ORCHESTRATOR: (
        *SECRETS_OF_PEOPLE,
        "SELECT * FROM app.pipelines",
        "SELECT * FROM app.workspaces",
        "SELECT * FROM app.outbox",
        "SELECT * FROM silver.samples",
        "SELECT * FROM silver.batches",
        "SELECT * FROM gold.aggregates",
        "SELECT * FROM quality.dead_letters",
        "SELECT app.current_workspace()",
        "CREATE TABLE gold.mine (a int)",
    ),
}
READ_ONLY = (
    "INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket) VALUES (1, 1, '1m', now())",
    "UPDATE app.pipelines SET name = 'x'",
    "CREATE TEMPORARY TABLE mine (a int)",
)


@pytest.mark.parametrize("role", FORBIDDEN)
def test_a_role_is_refused_what_is_not_its_work(database: Database, role: Role) -> None:
    allowed = []
    with database.connect(role, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("SELECT set_config('sluiceway.workspace_id', '1', false)")
        for statement in (*NOBODYS, *FORBIDDEN[role]):
            try:
                connection.execute(statement)
            except DENIED:
                continue
            except psycopg.Error as error:
                allowed.append(f"{statement}: {type(error).__name__}: {error}")
            else:
                allowed.append(statement)
    assert allowed == []


def test_the_reader_writes_nothing(database: Database) -> None:
    with database.connect(Role.READER, autocommit=True) as connection:
        for statement in READ_ONLY:
            with pytest.raises((psycopg.errors.ReadOnlySqlTransaction, DENIED)):
                connection.execute(statement)


def test_reading_without_saying_for_whom_shows_nothing(gold_database: Database) -> None:
    """Each service role that serves requests, each of its readable tables with a workspace: no row."""
    with gold_database.engine(Role.OWNER).begin() as owner:
        owner.execute(
            sa.text(
                "INSERT INTO app.dashboards (id, workspace_id, slug, title, spec, layout)"
                " VALUES (uuidv7(), 1, 'd', 't', '{}', '{}')"
            )
        )
        readable = owner.execute(
            sa.text(
                "SELECT r.rolname, c.oid::regclass::text AS name FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = c.relnamespace"
                " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id'"
                " CROSS JOIN pg_roles r"
                " WHERE n.nspname IN ('app', 'silver', 'gold', 'quality', 'marts', 'staging')"
                " AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition"
                " AND r.rolname IN ('sluiceway_app', 'sluiceway_reader')"
                " AND has_table_privilege(r.oid, c.oid, 'SELECT') ORDER BY 1, 2"
            )
        ).all()
    assert len(readable) > 40
    for role in (Role.APP, Role.READER):
        with gold_database.connect(role, autocommit=True) as connection:
            for name in (row.name for row in readable if row.rolname == role.login):
                assert connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is None, name


def test_no_function_gives_the_catalogs_role_a_hash(database: Database) -> None:
    """Whatever is found out about people, the hash of a password is read by the role that signs in alone."""
    with database.engine(Role.OWNER).begin() as owner:
        owner.execute(
            sa.text(
                "INSERT INTO app.users (id, email, name, password_hash)"
                " VALUES ('0198c0de-0000-7000-8000-000000000001', 'ann@example.com', 'Ann', 'the hash')"
            )
        )
        about_people = owner.execute(
            sa.text(
                "SELECT p.proname, r.rolname FROM pg_proc p CROSS JOIN pg_roles r"
                " WHERE p.pronamespace = 'app'::regnamespace AND r.rolname LIKE 'sluiceway%'"
                " AND p.prosecdef AND has_function_privilege(r.oid, p.oid, 'EXECUTE')"
                " AND pg_get_functiondef(p.oid) ~ 'password_hash'"
            )
        ).all()
    reviewed = {
        ("password_for_sign_in", "sluiceway_sign_in"),
        ("password_state", "sluiceway_app"),  # whether there is one
        ("add_person", "sluiceway_app"), ("set_password", "sluiceway_app"),  # they write it
        ("personal_data", "sluiceway_app"),  # without it
    }  # fmt: skip
    assert {(row.proname, row.rolname) for row in about_people} <= reviewed
    with database.transaction(Role.SIGN_IN) as conn:
        found = conn.execute(sa.text("SELECT app.password_for_sign_in('ANN@example.com')")).scalar()
    assert found == "the hash"
    with database.transaction(Role.APP, user_id="0198c0de-0000-7000-8000-000000000001") as conn:
        for question in (
            "SELECT * FROM app.find_person('ann@example.com')",
            "SELECT * FROM app.password_state('0198c0de-0000-7000-8000-000000000001')",
            "SELECT app.personal_data('0198c0de-0000-7000-8000-000000000001')",
        ):
            assert "the hash" not in str(conn.execute(sa.text(question)).all())
