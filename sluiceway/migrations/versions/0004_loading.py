"""Loading: how far each node's spool has been read, and the request headers a dead letter came with."""

from sluiceway.migrations.script import run

revision = "0004"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = """
CREATE TABLE app.spool_positions (
  node text PRIMARY KEY,
  segment bigint NOT NULL,
  "offset" bigint NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE app.spool_positions IS
  'Everything before this is loaded, whatever its pipeline; app.spool_cursors decides for each pipeline.';
GRANT SELECT, INSERT, UPDATE ON app.spool_positions TO sluiceway_writer;
GRANT SELECT ON app.spool_positions TO sluiceway_app;

ALTER TABLE quality.dead_letters ADD COLUMN headers jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN quality.dead_letters.headers IS 'The request headers that the pipeline''s paths read.';
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("DROP TABLE app.spool_positions; ALTER TABLE quality.dead_letters DROP COLUMN headers")
