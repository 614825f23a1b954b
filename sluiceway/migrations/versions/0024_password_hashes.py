"""No role reads the hashes of passwords: they are compared through functions, one person at a time."""

from sluiceway.migrations.script import run

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

STATEMENTS = """
REVOKE SELECT ON app.users FROM sluiceway_app;
DO $$
BEGIN
  EXECUTE (
    SELECT format('GRANT SELECT (%s) ON app.users TO sluiceway_app', string_agg(quote_ident(attname), ', '))
    FROM pg_attribute
    WHERE attrelid = 'app.users'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'password_hash');
END $$;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("REVOKE SELECT ON app.users FROM sluiceway_app; GRANT SELECT ON app.users TO sluiceway_app")
