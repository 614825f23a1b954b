"""Workspaces that are deleted, hashes of passwords for signing in alone, what sessions at a provider are called.

A deleted workspace stays as a name and a number, for its audit log; nothing else is let into it. Its data is
erased afterwards (`sluiceway.runtime.closing`).
"""

from sluiceway.migrations.script import put_back, run

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

PASSWORDS = """
-- A hash is read by the role that signs people in, which can do nothing else: not by the API's catalog role.
GRANT USAGE ON SCHEMA app TO sluiceway_sign_in;
CREATE FUNCTION app.password_for_sign_in(address text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.password_hash FROM app.users u WHERE lower(u.email) = lower(address) AND u.disabled_at IS NULL
$$;
COMMENT ON FUNCTION app.password_for_sign_in IS 'For the role sluiceway_sign_in alone, which has no other.';
DROP FUNCTION app.password_of(uuid);
CREATE FUNCTION app.password_state(person uuid)
RETURNS TABLE (is_set boolean, set_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.password_hash IS NOT NULL, u.password_set_at FROM app.users u WHERE u.id = person
$$;
DROP FUNCTION app.find_person(text);
CREATE FUNCTION app.find_person(address text)
RETURNS TABLE (id uuid, email text, name text, created_at timestamptz, disabled_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.id, u.email, u.name, u.created_at, u.disabled_at
  FROM app.users u WHERE lower(u.email) = lower(address)
$$;
REVOKE ALL ON FUNCTION app.password_for_sign_in, app.password_state, app.find_person FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.password_for_sign_in TO sluiceway_sign_in;
GRANT EXECUTE ON FUNCTION app.password_state, app.find_person TO sluiceway_app;
"""

PROVIDER_SESSIONS = """
CREATE TABLE app.provider_sessions (
  session_id uuid PRIMARY KEY REFERENCES app.sessions (id) ON DELETE CASCADE,
  provider_id uuid NOT NULL REFERENCES app.identity_providers ON DELETE CASCADE,
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  subject text NOT NULL,
  provider_session text,
  sealed bytea,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX provider_sessions_of_provider ON app.provider_sessions (provider_id, subject);
COMMENT ON TABLE app.provider_sessions IS 'Which session at an identity provider a session here began with, so that one can end with the other. Personal: the subject, the provider''s ID token (sealed). Kept: as long as the session.';
COMMENT ON COLUMN app.provider_sessions.provider_session IS 'The claim sid of its ID token; null: it has none.';
COMMENT ON COLUMN app.provider_sessions.sealed IS
  'The ID token, sealed (sluiceway.infra.envelope): it tells the provider at the end who signs out; null: too long to be sent.';
CALL app.fence_sealed('app.provider_sessions', 'sealed');
ALTER TABLE app.provider_sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.provider_sessions
  USING (user_id = (SELECT nullif(current_setting('sluiceway.user_id', true), '')::uuid))
  WITH CHECK (user_id = (SELECT nullif(current_setting('sluiceway.user_id', true), '')::uuid));
GRANT SELECT, INSERT, DELETE ON app.provider_sessions TO sluiceway_app;

-- Sessions that began at the provider before `at` with this session there, or, without one, by this subject.
CREATE FUNCTION app.end_provider_sessions(provider uuid, who text, named text, at timestamptz)
RETURNS TABLE (session_id uuid, token_hash bytea, user_id uuid, email text, workspace_id integer)
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  WITH ended AS (
    DELETE FROM app.sessions s USING app.provider_sessions p
    WHERE p.session_id = s.id AND p.provider_id = provider AND s.created_at <= at
      AND (who IS NOT NULL OR named IS NOT NULL)
      AND (named IS NULL OR p.provider_session = named) AND (who IS NULL OR p.subject = who)
    RETURNING s.id, s.token_hash, s.user_id, s.workspace_id
  )
  SELECT e.id, e.token_hash, e.user_id, u.email, e.workspace_id FROM ended e JOIN app.users u ON u.id = e.user_id
$$;
REVOKE ALL ON FUNCTION app.end_provider_sessions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.end_provider_sessions TO sluiceway_app;
"""

DELETION = """
ALTER TABLE app.workspaces ADD COLUMN deleted_at timestamptz,
  DROP CONSTRAINT workspaces_organization_id_slug_key;
CREATE UNIQUE INDEX workspaces_slug ON app.workspaces (organization_id, slug) WHERE deleted_at IS NULL;
COMMENT ON TABLE app.workspaces IS
  'Rooms of a tenant, which own everything else. Personal: none. Kept: a deleted one by name and number, for its audit log.';
COMMENT ON COLUMN app.workspaces.deleted_at IS 'Since when nobody can enter it; its data is erased. Null: it is there.';

-- Nobody and nothing gets into a workspace that was deleted, not even at the same moment.
CREATE FUNCTION app.check_workspace() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
BEGIN
  PERFORM FROM app.workspaces w WHERE w.id = NEW.workspace_id AND w.deleted_at IS NULL FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the workspace was deleted' USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION app.check_workspace FROM PUBLIC;
DO $$
DECLARE relation text;
BEGIN
  FOREACH relation IN ARRAY ARRAY[
    'memberships', 'invitations', 'api_keys', 'service_accounts', 'dashboard_links', 'pipelines'
  ] LOOP
    EXECUTE format(
      'CREATE TRIGGER workspace_is_there BEFORE INSERT ON app.%I'
      ' FOR EACH ROW EXECUTE FUNCTION app.check_workspace()', relation);
  END LOOP;
END $$;

-- What is in the workspace that this transaction acts for: what a deletion would take.
CREATE FUNCTION app.workspace_contents()
RETURNS TABLE (members bigint, invitations bigint, keys bigint, links bigint, dashboards bigint, pipelines bigint,
               events bigint, dead_letters bigint, rules bigint, stored_bytes bigint, audit_entries bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT
    (SELECT count(*) FROM app.memberships t WHERE t.workspace_id = here),
    (SELECT count(*) FROM app.invitations t
     WHERE t.workspace_id = here AND t.accepted_at IS NULL AND t.revoked_at IS NULL AND t.expires_at > now()),
    (SELECT count(*) FROM app.api_keys t WHERE t.workspace_id = here AND t.revoked_at IS NULL),
    (SELECT count(*) FROM app.dashboard_links t WHERE t.workspace_id = here AND t.revoked_at IS NULL),
    (SELECT count(*) FROM app.dashboards t WHERE t.workspace_id = here),
    (SELECT count(*) FROM app.pipelines t WHERE t.workspace_id = here),
    (SELECT coalesce(sum(t.events), 0)::bigint FROM app.pipeline_state t WHERE t.workspace_id = here),
    (SELECT count(*) FROM quality.dead_letters t WHERE t.workspace_id = here AND t.state IN ('open', 'held')),
    (SELECT count(*) FROM app.rules t WHERE t.workspace_id = here),
    (SELECT coalesce(sum(t.bronze_bytes + t.silver_bytes + t.dead_letter_bytes), 0)::bigint
     FROM app.usage_stored t WHERE t.workspace_id = here),
    (SELECT count(*) FROM app.audit_entries t WHERE t.workspace_id = here)
  FROM (SELECT app.current_workspace() AS here) w
$$;

-- Ends the workspace that this transaction acts for, and gives the moment; null: it was deleted before. Nobody is
-- in it then, and nothing is taken for it; what it holds is erased afterwards, by the worker.
CREATE FUNCTION app.delete_workspace(target integer) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  ended timestamptz;
BEGIN
  IF target IS DISTINCT FROM app.current_workspace() OR target = (SELECT min(w.id) FROM workspaces w) THEN
    RAISE EXCEPTION 'this workspace is not deleted from here' USING ERRCODE = 'insufficient_privilege';
  END IF;
  UPDATE workspaces w SET deleted_at = clock_timestamp() WHERE w.id = target AND w.deleted_at IS NULL
  RETURNING w.deleted_at INTO ended;
  IF ended IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM pg_notify('sluiceway_live', json_build_object('t', 'keys', 'w', target, 'k', k.id)::text)
  FROM api_keys k WHERE k.workspace_id = target;
  UPDATE pipelines p SET state = 'archived', updated_at = ended WHERE p.workspace_id = target;
  PERFORM pg_notify('sluiceway_live', json_build_object('t', 'catalog', 'w', target, 'p', p.id)::text)
  FROM pipelines p WHERE p.workspace_id = target;
  DELETE FROM sessions s WHERE s.workspace_id = target;
  DELETE FROM invitations i WHERE i.workspace_id = target;
  DELETE FROM provisioned_users u WHERE u.workspace_id = target;
  DELETE FROM memberships m WHERE m.workspace_id = target;
  DELETE FROM api_keys k WHERE k.workspace_id = target;
  DELETE FROM service_accounts a WHERE a.workspace_id = target;
  DELETE FROM dashboard_links l WHERE l.workspace_id = target;
  DELETE FROM pipeline_secrets c WHERE c.workspace_id = target;
  UPDATE users u SET last_workspace_id = NULL WHERE u.last_workspace_id = target;
  UPDATE identity_providers i SET
    default_role = CASE WHEN i.default_workspace_id = target THEN NULL ELSE i.default_role END,
    default_workspace_id = nullif(i.default_workspace_id, target),
    group_roles = (SELECT coalesce(jsonb_agg(g.rule ORDER BY g.place), '[]')
                   FROM jsonb_array_elements(i.group_roles) WITH ORDINALITY AS g (rule, place)
                   WHERE (g.rule ->> 'workspace_id')::integer <> target)
  WHERE i.default_workspace_id = target
     OR i.group_roles @> jsonb_build_array(jsonb_build_object('workspace_id', target));
  RETURN ended;
END $$;
-- The oldest other workspace of the same organization: where it is told what became of this one. Null: none.
CREATE FUNCTION app.neighbour_of(target integer) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT min(o.id) FROM app.workspaces w JOIN app.workspaces o ON o.organization_id = w.organization_id
  WHERE w.id = target AND o.id <> target AND o.deleted_at IS NULL
$$;
REVOKE ALL ON FUNCTION app.workspace_contents, app.delete_workspace, app.neighbour_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.workspace_contents, app.delete_workspace, app.neighbour_of TO sluiceway_app;
GRANT EXECUTE ON FUNCTION app.neighbour_of TO sluiceway_writer;
"""

# As in 0013 and 0017, but for workspaces that were deleted.
FOUND = """
CREATE OR REPLACE FUNCTION app.find_workspaces(wanted text) RETURNS TABLE (id integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id FROM app.workspaces w JOIN app.organizations o ON o.id = w.organization_id
  WHERE w.deleted_at IS NULL
    AND CASE WHEN wanted IS NULL THEN w.id = (SELECT min(x.id) FROM app.workspaces x)
             WHEN strpos(wanted, '/') > 0 THEN o.slug || '/' || w.slug = wanted
             ELSE w.slug = wanted END
  ORDER BY w.id LIMIT 2
$$;
CREATE OR REPLACE FUNCTION app.all_workspaces()
RETURNS TABLE (id integer, slug text, name text, organization_id integer, organization_slug text,
               organization_name text, members bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, w.slug, w.name, o.id, o.slug, o.name,
         (SELECT count(*) FROM app.memberships m WHERE m.workspace_id = w.id AND m.disabled_at IS NULL)
  FROM app.organizations o LEFT JOIN app.workspaces w ON w.organization_id = o.id AND w.deleted_at IS NULL
  ORDER BY o.id, w.id
$$;
CREATE OR REPLACE FUNCTION app.workspaces_of(organization integer)
RETURNS TABLE (id integer, slug text, name text, created_at timestamptz, members bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, w.slug, w.name, w.created_at,
         (SELECT count(*) FROM app.memberships m WHERE m.workspace_id = w.id AND m.disabled_at IS NULL)
  FROM app.workspaces w WHERE w.organization_id = organization AND w.deleted_at IS NULL ORDER BY w.id
$$;
CREATE OR REPLACE FUNCTION app.audited_workspaces()
RETURNS TABLE (workspace_id integer, slug text, organization text, seq bigint, hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, CASE WHEN w.deleted_at IS NULL THEN w.slug ELSE 'deleted:' || w.id END, o.slug, h.seq, h.hash
  FROM app.audit_heads h
  JOIN app.workspaces w ON w.id = h.workspace_id JOIN app.organizations o ON o.id = w.organization_id
  ORDER BY w.id
$$;
"""

UNDONE = """
DROP FUNCTION app.neighbour_of, app.delete_workspace, app.workspace_contents;
DROP FUNCTION app.check_workspace CASCADE;
-- A name may be another's by now.
UPDATE app.workspaces SET slug = 'deleted-' || id WHERE deleted_at IS NOT NULL;
DROP INDEX app.workspaces_slug;
ALTER TABLE app.workspaces DROP COLUMN deleted_at, ADD UNIQUE (organization_id, slug);
COMMENT ON TABLE app.workspaces IS
  'Rooms of a tenant, which own everything else. Personal: none. Kept: until removed by the operator.';

DROP FUNCTION app.end_provider_sessions;
DROP TABLE app.provider_sessions;

DROP FUNCTION app.password_for_sign_in, app.password_state, app.find_person;
CREATE FUNCTION app.password_of(person uuid)
RETURNS TABLE (password_hash text, password_set_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.password_hash, u.password_set_at FROM app.users u WHERE u.id = person
$$;
CREATE FUNCTION app.find_person(address text)
RETURNS TABLE (id uuid, email text, name text, created_at timestamptz, disabled_at timestamptz, password_hash text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.id, u.email, u.name, u.created_at, u.disabled_at, u.password_hash
  FROM app.users u WHERE lower(u.email) = lower(address)
$$;
REVOKE ALL ON FUNCTION app.password_of, app.find_person FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.password_of, app.find_person TO sluiceway_app;
REVOKE USAGE ON SCHEMA app FROM sluiceway_sign_in;
"""


def upgrade() -> None:
    for statements in (PASSWORDS, PROVIDER_SESSIONS, DELETION, FOUND):
        run(statements)


def downgrade() -> None:
    run(UNDONE)
    put_back("0013", "app.find_workspaces", "app.all_workspaces", "app.workspaces_of")
    put_back("0017", "app.audited_workspaces")
