"""What waits as a dead letter, and what batches have to tell, is found by when it happened.

Row-level security lets a condition use an index only if nothing in it could leak a row, and PostgreSQL does not
take COALESCE for such: with a million open dead letters every query of a dashboard read all of them. CASE is.
The columns beside it let the index answer without the table.
"""

from sluiceway.migrations.script import run

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

STATEMENTS = """
DROP INDEX quality.dead_letters_waiting, silver.batches_with_trouble;
CREATE INDEX dead_letters_waiting ON quality.dead_letters
  (pipeline_id, state, (CASE WHEN event_time IS NULL THEN received_at ELSE event_time END))
  INCLUDE (workspace_id, event_time, received_at)
  WHERE state IN ('open', 'held');
CREATE INDEX dead_letters_of_pipeline ON quality.dead_letters (pipeline_id, created_at DESC, id DESC);
CREATE INDEX batches_with_trouble ON silver.batches
  (pipeline_id, (CASE WHEN max_event_time IS NULL THEN max_received_at ELSE max_event_time END))
  INCLUDE (workspace_id, verdict, duplicates, min_event_time, min_received_at, max_event_time, max_received_at)
  WHERE verdict <> 'pass' OR duplicates > 0;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("""
    DROP INDEX quality.dead_letters_waiting, quality.dead_letters_of_pipeline, silver.batches_with_trouble;
    CREATE INDEX batches_with_trouble ON silver.batches (pipeline_id, coalesce(max_event_time, max_received_at))
      INCLUDE (workspace_id, verdict, duplicates, min_event_time, min_received_at)
      WHERE verdict <> 'pass' OR duplicates > 0;
    CREATE INDEX dead_letters_waiting ON quality.dead_letters (pipeline_id, coalesce(event_time, received_at))
      WHERE state IN ('open', 'held');
    """)
