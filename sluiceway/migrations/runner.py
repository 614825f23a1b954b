"""Brings a database to the newest revision: roles first (a cluster's, not a database's), then Alembic.

Several processes may ask at once: an advisory lock lets one of them work while the others wait.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

from sluiceway.infra.database import SERVICE_ROLES, Database, Role
from sluiceway.infra.keyring import ensure_first_key
from sluiceway.infra.keys import SecretKey

_LOCK = 0x51_01_CE_3A_11
# Each time, since an update of the extension may open the schema again.
_CLOSED_CHUNKS = """
DO $$
BEGIN
  -- Chunks have no policies of their own, and what is granted on a hypertable is granted on them.
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
    REVOKE USAGE ON SCHEMA _timescaledb_internal FROM PUBLIC;
    GRANT USAGE ON SCHEMA _timescaledb_internal TO sluiceway_writer, sluiceway_modeler;
  END IF;
END $$
"""


def migrate(database: Database, key: SecretKey, revision: str = "head") -> None:
    """Create what is missing of roles, schemas and tables, and the first organization and workspace."""
    _ensure_roles(database, key)
    engine = database.engine(Role.OWNER)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            connection.commit()
            _ensure_first_workspace(connection)
            connection.execute(sa.text(_CLOSED_CHUNKS))
            if _has_keys(connection):
                ensure_first_key(connection, key)
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()


def newest_revision() -> str | None:
    """The revision that this code brings a database to."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def _ensure_roles(database: Database, key: SecretKey) -> None:
    with database.connect(Role.OWNER) as connection:
        # Roles belong to the cluster: two databases of one cluster may be migrated at the same time.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK + 1,))
        found = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in SERVICE_ROLES:
            verb = sql.SQL("ALTER" if role.login in found else "CREATE")
            connection.execute(
                sql.SQL(
                    "{} ROLE {} LOGIN PASSWORD {} NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE"
                ).format(verb, sql.Identifier(role.login), sql.Literal(key.password(role.value)))
            )
        # ALTER DEFAULT PRIVILEGES FOR ROLE asks for membership where the owner is no superuser.
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(Role.MODELER.login)))


def _has_keys(connection: sa.Connection) -> bool:
    """Whether the schema is new enough to keep versions of the key: a test may stop at an older one."""
    return connection.execute(sa.text("SELECT to_regclass('app.encryption_keys')")).scalar() is not None


def _ensure_first_workspace(connection: sa.Connection) -> None:
    connection.execute(
        sa.text("INSERT INTO app.organizations (slug, name) VALUES ('main', 'Main') ON CONFLICT DO NOTHING")
    )
    connection.execute(
        sa.text(
            "INSERT INTO app.workspaces (organization_id, slug, name)"
            " SELECT id, 'main', 'Main' FROM app.organizations WHERE slug = 'main' ON CONFLICT DO NOTHING"
        )
    )
