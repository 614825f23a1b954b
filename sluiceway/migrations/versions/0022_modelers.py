"""Two gaps: modelers saw what was in refused events; refused sign-ins kept a forgotten person's address."""

from sluiceway.migrations.script import put_back, run

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

-- Whoever was not let in is in the log by the address they gave: that goes with the person, too.
CREATE OR REPLACE FUNCTION app.erase_audit_person(person uuid, email text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  found bigint;
  wanted text := format('"%s"', lower(email));
BEGIN
  UPDATE app.audit_entries SET
    who = CASE WHEN (actor_kind = 'user' AND actor_id = person::text) OR strpos(lower(who), wanted) > 0
               THEN NULL ELSE who END,
    whom = CASE WHEN target_id = person::text OR strpos(lower(whom), wanted) > 0 THEN NULL ELSE whom END
  WHERE (who IS NOT NULL
         AND ((actor_kind = 'user' AND actor_id = person::text) OR strpos(lower(who), wanted) > 0))
     OR (whom IS NOT NULL AND (target_id = person::text OR strpos(lower(whom), wanted) > 0));
  GET DIAGNOSTICS found = ROW_COUNT;
  RETURN found;
END $$;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("""
    REVOKE SELECT ON quality.dead_letters FROM sluiceway_modeler;
    GRANT SELECT ON quality.dead_letters, silver.event_keys TO sluiceway_modeler;
    COMMENT ON TABLE app.outbox IS
      'What has to be done after a commit. Personal: addressees of mail, in what waits to be sent. Kept: 7 days after it is done.';
    """)
    put_back("0017", "app.erase_audit_person")
