"""Which folder a node's name belongs to: the id of its spool, beside the node's position."""

from sluiceway.migrations.script import run

revision = "0020"
down_revision = "0014"
branch_labels = None
depends_on = None

STATEMENTS = """
ALTER TABLE app.spool_positions ADD COLUMN spool_id text;
COMMENT ON COLUMN app.spool_positions.spool_id IS
  'The folder (its spool.json) that is known by the node''s name; no other is loaded under it.'
  ' Null: used before ids were kept, the first folder that comes has it.';
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("ALTER TABLE app.spool_positions DROP COLUMN spool_id")
