"""Known ids by day: the index of a leaf made from now on has the day before the id.

Random ids then touch the pages of their own day, not those of the whole window. Leaves that are there keep their
index, which answers the same questions until they are dropped.
"""

from sluiceway.migrations.script import run

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

STATEMENTS = """
ALTER TABLE silver.event_keys
  ADD COLUMN day date GENERATED ALWAYS AS ((seen_at AT TIME ZONE 'UTC')::date) STORED;
COMMENT ON TABLE silver.event_keys IS
  'Event ids of the de-duplication window; each weekly partition has a unique index (pipeline_id, day, event_id).';
COMMENT ON COLUMN silver.event_keys.day IS
  'Of seen_at, in UTC; a column, since with row-level security no index is used for an expression.';
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("""
    ALTER TABLE silver.event_keys DROP COLUMN day;
    COMMENT ON TABLE silver.event_keys IS
      'Event ids of the de-duplication window; each weekly partition has a unique index (pipeline_id, event_id).';
    """)
