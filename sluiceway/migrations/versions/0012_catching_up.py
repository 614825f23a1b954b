"""What a pause leaves behind: the oldest event that was not loaded, and how far each node's lake is."""

from sluiceway.migrations.script import run

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATEMENTS = """
ALTER TABLE app.pipeline_state ADD COLUMN unloaded_since timestamptz;
COMMENT ON COLUMN app.pipeline_state.unloaded_since IS
  'Receipt of the oldest event passed over while paused or archived, until a replay takes it up.';
ALTER TABLE app.spool_positions ADD COLUMN kept_until timestamptz;
COMMENT ON COLUMN app.spool_positions.kept_until IS
  'What the node received before is in the lake. Null: not told yet; infinity: its spool is drained.';
-- Nodes that are gone for long will not tell.
UPDATE app.spool_positions SET kept_until = 'infinity' WHERE updated_at < now() - interval '7 days';
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("""
    ALTER TABLE app.spool_positions DROP COLUMN kept_until;
    ALTER TABLE app.pipeline_state DROP COLUMN unloaded_since;
    """)
