"""Known ids by three hours: the index of a leaf made from now on has the day and its slot before the id.

What comes in now is written into the pages of these three hours alone, which stay in memory however full the
window is. Leaves that are there keep their index, which answers the same questions until they are dropped.
"""

from sluiceway.migrations.script import run

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

KEPT = " Personal: whatever the senders'' event ids hold. Kept: the window of the pipeline, by whole weeks."
STATEMENTS = f"""
ALTER TABLE silver.event_keys ADD COLUMN slot smallint
  GENERATED ALWAYS AS ((extract(hour FROM seen_at AT TIME ZONE 'UTC')::integer / 3)::smallint) STORED;
COMMENT ON TABLE silver.event_keys IS
  'Event ids of the de-duplication window; each weekly partition has a unique index'
  ' (pipeline_id, day, slot, event_id).{KEPT}';
COMMENT ON COLUMN silver.event_keys.slot IS 'Which three hours of the day (UTC) seen_at lies in, from 0 to 7.';
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run(f"""
    ALTER TABLE silver.event_keys DROP COLUMN slot;
    COMMENT ON TABLE silver.event_keys IS
      'Event ids of the de-duplication window; each weekly partition has a unique index'
      ' (pipeline_id, day, event_id).{KEPT}';
    """)
