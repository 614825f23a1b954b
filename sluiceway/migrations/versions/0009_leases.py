"""Several loaders: who lives and which spools each sees, and who works on which pipeline of which spool."""

from sluiceway.migrations.script import run

revision = "0009"
down_revision = "0010"
branch_labels = None
depends_on = None

STATEMENTS = """
CREATE TABLE app.loaders (
  id uuid PRIMARY KEY,
  host text NOT NULL,
  pid integer NOT NULL,
  spools jsonb NOT NULL DEFAULT '{}',
  started_at timestamptz NOT NULL,
  beat_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL
);
COMMENT ON TABLE app.loaders IS 'Processes that load. A clean end removes its row, a dead one''s expires.';
COMMENT ON COLUMN app.loaders.spools IS 'Node → the id of the spool folder of that name which it reads.';

CREATE TABLE app.spool_leases (
  node text NOT NULL,
  pipeline_id integer NOT NULL,
  loader_id uuid NOT NULL REFERENCES app.loaders ON DELETE CASCADE,
  taken_at timestamptz NOT NULL,
  PRIMARY KEY (node, pipeline_id)
);
CREATE INDEX spool_leases_holder ON app.spool_leases (loader_id);
COMMENT ON TABLE app.spool_leases IS
  'Who loads a pipeline''s events from a node''s spool. Valid while the holder lives (app.loaders.expires_at).'
  ' For order and efficiency only: exactly once rests on app.spool_cursors.';

GRANT SELECT, INSERT, UPDATE, DELETE ON app.loaders, app.spool_leases TO sluiceway_writer;
GRANT SELECT ON app.loaders, app.spool_leases TO sluiceway_app;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("DROP TABLE app.spool_leases; DROP TABLE app.loaders")
