"""The secrets with which senders sign their deliveries to a pipeline."""

from sluiceway.migrations.script import run

revision = "0007"
down_revision = "0008"
branch_labels = None
depends_on = None

SECRETS = """
CREATE TABLE app.pipeline_secrets (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  name text NOT NULL,
  purpose text NOT NULL CHECK (purpose IN ('signature', 'challenge')),
  sealed bytea NOT NULL,
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz
);
CREATE INDEX pipeline_secrets_pipeline ON app.pipeline_secrets (pipeline_id, created_at);
COMMENT ON TABLE app.pipeline_secrets IS 'Several may be valid at a time, so that a sender''s secret can be changed without a gap.';
COMMENT ON COLUMN app.pipeline_secrets.sealed IS
  'AES-256-GCM under a key of its own, which the installation''s key seals (sluiceway.infra.envelope).';

CALL app.isolate('app.pipeline_secrets');
GRANT SELECT, INSERT, UPDATE, DELETE ON app.pipeline_secrets TO sluiceway_app;
"""


def upgrade() -> None:
    run(SECRETS)


def downgrade() -> None:
    run("DROP TABLE app.pipeline_secrets")
