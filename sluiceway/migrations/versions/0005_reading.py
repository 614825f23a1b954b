"""Reading: what the query service may see, the indexes it stands on, and the text of dashboards.

Row-level security shapes these: a condition may use an index only if its operator cannot leak a row, and
jsonb's cannot promise that. So series are found by pipeline and metric, and their dimensions are looked at.
"""

from sluiceway.migrations.script import run

revision = "0005"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = """
GRANT SELECT ON app.pipeline_versions TO sluiceway_reader;
-- How many dead letters there are, never what is in them.
GRANT SELECT (id, workspace_id, pipeline_id, event_time, received_at, created_at, state, step, expectation)
  ON quality.dead_letters TO sluiceway_reader;

CREATE INDEX batches_of_pipeline ON silver.batches (pipeline_id, id);
CREATE INDEX batches_first_event ON silver.batches (pipeline_id, min_event_time);
CREATE INDEX batches_last_event ON silver.batches (pipeline_id, max_event_time);
CREATE INDEX batches_with_trouble ON silver.batches (pipeline_id, coalesce(max_event_time, max_received_at))
  INCLUDE (workspace_id, verdict, duplicates, min_event_time, min_received_at)
  WHERE verdict <> 'pass' OR duplicates > 0;
CREATE INDEX dead_letters_waiting ON quality.dead_letters (pipeline_id, coalesce(event_time, received_at))
  WHERE state IN ('open', 'held');

ALTER TABLE app.dashboards ADD COLUMN source text NOT NULL DEFAULT '';
COMMENT ON COLUMN app.dashboards.source IS
  'The YAML exactly as applied, comments included; empty: made by the API, the spec is all there is.';
COMMENT ON COLUMN app.dashboards.layout_version IS
  'Counts drags and resizes; version counts changes of the spec.';
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("""
    ALTER TABLE app.dashboards DROP COLUMN source;
    COMMENT ON COLUMN app.dashboards.layout_version IS NULL;
    DROP INDEX silver.batches_of_pipeline, silver.batches_first_event, silver.batches_last_event,
      silver.batches_with_trouble, quality.dead_letters_waiting;
    REVOKE SELECT ON app.pipeline_versions FROM sluiceway_reader;
    REVOKE SELECT (id, workspace_id, pipeline_id, event_time, received_at, created_at, state, step, expectation)
      ON quality.dead_letters FROM sluiceway_reader;
    """)
