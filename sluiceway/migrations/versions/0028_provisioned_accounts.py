"""Which organization's provider made an account: to that organization alone it can be given back unasked.

And counts of people's and keys' requests are forgotten after a day, since a full bucket is as good as none.
"""

from sluiceway.migrations.script import put_back, run

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

STATEMENTS = """
ALTER TABLE app.users ADD COLUMN made_in integer REFERENCES app.organizations ON DELETE SET NULL;
COMMENT ON COLUMN app.users.made_in IS
  'The organization whose provisioning made the account; null: nobody''s did.';
UPDATE app.users u SET made_in = w.organization_id
FROM app.provisioned_users p JOIN app.workspaces w ON w.id = p.workspace_id
WHERE p.user_id = u.id AND p.made_account;

CREATE FUNCTION app.is_of_organization(person uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT EXISTS (SELECT FROM memberships m JOIN workspaces w ON w.id = m.workspace_id
                 WHERE m.user_id = person AND w.organization_id = current_organization())
      OR (EXISTS (SELECT FROM users u WHERE u.id = person AND u.made_in = current_organization())
          AND NOT EXISTS (SELECT FROM memberships m WHERE m.user_id = person))
$$;
COMMENT ON FUNCTION app.is_of_organization IS
  'Whether somebody is in a workspace of the organization that is acted for, or was made by its provisioning and is in none at all.';
REVOKE ALL ON FUNCTION app.is_of_organization FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.is_of_organization TO sluiceway_app;

COMMENT ON TABLE app.rate_buckets IS
  'Token buckets of limited things (pipeline:<id>:events, pipeline:<id>:bytes, key:<id>) and of requests (requests:<hash of the caller''s id>), shared by all processes. Personal: the hash of the id of a person who made hundreds of requests in a minute. Kept: as long as the workspace, those of requests a day.';

-- As in 0018, and counts of requests.
CREATE OR REPLACE FUNCTION app.sweep_expired(now_at timestamptz)
RETURNS TABLE (sessions bigint, answers bigint, refusals bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  WITH s AS (DELETE FROM app.sessions WHERE expires_at <= now_at RETURNING 1),
       a AS (DELETE FROM app.idempotency_keys WHERE created_at < now_at - interval '1 day' RETURNING 1),
       r AS (DELETE FROM app.intake_refusals WHERE minute < now_at - interval '1 day' RETURNING 1),
       b AS (DELETE FROM app.rate_buckets
             WHERE thing LIKE 'requests:%' AND at < extract(epoch FROM now_at) - 86400)
  SELECT (SELECT count(*) FROM s), (SELECT count(*) FROM a), (SELECT count(*) FROM r)
$$;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("""
    DROP FUNCTION app.is_of_organization;
    ALTER TABLE app.users DROP COLUMN made_in;
    COMMENT ON TABLE app.rate_buckets IS
      'Token buckets of limited things (pipeline:<id>:events, pipeline:<id>:bytes, key:<id>), shared by all processes. Personal: none. Kept: as long as the workspace.';
    """)
    put_back("0018", "app.sweep_expired")
