"""The modelers' role sees how many events were refused, and why, but not what was in them."""

from sluiceway.migrations.script import run

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

STATEMENTS = """
REVOKE SELECT ON quality.dead_letters, silver.event_keys FROM sluiceway_modeler;
GRANT SELECT (id, workspace_id, pipeline_id, batch_name, event_id, event_time, step, code, expectation,
              received_at, created_at, state, resolved_at)
  ON quality.dead_letters TO sluiceway_modeler;
COMMENT ON TABLE app.outbox IS
  'What has to be done after a commit. Personal: none. Kept: 7 days after it is done.';
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("GRANT SELECT ON quality.dead_letters, silver.event_keys TO sluiceway_modeler")
