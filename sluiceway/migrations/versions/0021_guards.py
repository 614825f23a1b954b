"""Guards that need the tables of others: notices of limits, a person's data in whole, and forgetting a person."""

from sluiceway.migrations.script import put_back, run

revision = "0021"
down_revision = "0016"
branch_labels = None
depends_on = None

STATEMENTS = """
GRANT INSERT ON app.quota_notices TO sluiceway_app;

-- The platform's own measurements, in the first workspace, are nobody's usage.
CREATE OR REPLACE FUNCTION app.quota_room(month date)
RETURNS TABLE (workspace_id integer, measure text, hard bigint, used bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT q.workspace_id, q.measure, least(q.hard, q.ceiling),
    CASE q.measure
      WHEN 'stored_bytes' THEN
        (SELECT coalesce(sum(s.bronze_bytes + s.silver_bytes + s.dead_letter_bytes), 0)::bigint
         FROM app.usage_stored s JOIN app.pipelines p ON p.id = s.pipeline_id
         WHERE s.workspace_id = q.workspace_id AND NOT (p.slug = 'platform-health' AND p.workspace_id = 1))
      ELSE
        (SELECT coalesce(sum(CASE q.measure WHEN 'events' THEN d.events ELSE d.bytes END), 0)::bigint
         FROM app.usage_days d JOIN app.pipelines p ON p.id = d.pipeline_id
         WHERE d.workspace_id = q.workspace_id AND d.day >= month AND d.day < month + interval '1 month'
           AND NOT (p.slug = 'platform-health' AND p.workspace_id = 1))
    END
  FROM app.quotas q
  WHERE q.measure <> 'seats' AND least(q.hard, q.ceiling) IS NOT NULL
$$;

-- Who is locked out of a workspace does not keep it in hand.
CREATE OR REPLACE FUNCTION app.last_owner_of(person uuid)
RETURNS TABLE (workspace_id integer, slug text, name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, w.slug, w.name
  FROM app.memberships m JOIN app.workspaces w ON w.id = m.workspace_id
  WHERE m.user_id = person AND m.role = 'owner' AND NOT EXISTS (
    SELECT FROM app.memberships o JOIN app.users u ON u.id = o.user_id AND u.disabled_at IS NULL
    WHERE o.workspace_id = m.workspace_id AND o.role = 'owner' AND o.user_id <> person
      AND o.disabled_at IS NULL)
  ORDER BY w.id
$$;

-- Memberships refer to the person and are referred to: what hangs on them is theirs as well. Invitations and
-- mail know an address alone.
CREATE OR REPLACE FUNCTION app.personal_data(person uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  reference record;
  part jsonb;
  own_email text;
  found jsonb;
BEGIN
  IF person IS DISTINCT FROM nullif(current_setting('sluiceway.user_id', true), '')::uuid THEN
    RAISE EXCEPTION 'a person''s data is told to that person alone' USING ERRCODE = 'insufficient_privilege';
  END IF;
  SELECT u.email, jsonb_build_object('app.users', jsonb_build_array(to_jsonb(u) - 'password_hash'))
  INTO own_email, found FROM app.users u WHERE u.id = person;
  IF own_email IS NULL THEN
    RETURN NULL;
  END IF;
  FOR reference IN
    SELECT DISTINCT ON (name, link) * FROM (
      SELECT k.conrelid::regclass AS relation, k.conrelid AS relation_id, n.nspname || '.' || c.relname AS name,
             a.attname::text AS link, k.confdeltype = 'c' AS own
      FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid AND NOT c.relispartition
      JOIN pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS pair (near, far)
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = pair.near
      JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = pair.far
      WHERE k.contype = 'f' AND (
        (k.confrelid = 'app.users'::regclass AND f.attname = 'id')
        OR (k.confrelid = 'app.memberships'::regclass AND f.attname = 'user_id'))
    ) links ORDER BY name, link, own DESC
  LOOP
    EXECUTE format(
      'SELECT jsonb_agg((SELECT coalesce(jsonb_object_agg(e.key, e.value), ''{}'') FROM jsonb_each(to_jsonb(t)) e'
      ' WHERE NOT (e.key = ANY ($2)) AND ($3 IS NULL OR e.key = ANY ($3)))) FROM %s t WHERE t.%I = $1',
      reference.relation, reference.link)
    INTO part
    USING person, app.hidden_columns(reference.relation_id),
      CASE WHEN reference.own THEN NULL ELSE ARRAY[
        'id', 'workspace_id', 'name', 'slug', 'title', 'version', 'created_at', 'updated_at', reference.link] END;
    IF part IS NOT NULL THEN
      found := found || jsonb_build_object(reference.name,
        coalesce(found -> reference.name, '[]'::jsonb) || part);
    END IF;
  END LOOP;
  SELECT jsonb_agg(to_jsonb(i) - 'token_hash') INTO part FROM app.invitations i WHERE lower(i.email) = lower(own_email);
  found := found || jsonb_build_object('invitations to this address', coalesce(part, '[]'));
  SELECT jsonb_agg(to_jsonb(m) - 'sealed') INTO part FROM app.mails m WHERE lower(m.recipient) = lower(own_email);
  RETURN found || jsonb_build_object('mail to this address', coalesce(part, '[]'));
END $$;
CREATE FUNCTION app.hidden_columns(relation oid) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT coalesce(array_agg(a.attname::text), '{}') FROM pg_attribute a
  WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
    AND (a.atttypid = 'bytea'::regtype OR a.attname LIKE '%hash' OR a.attname LIKE '%secret%')
$$;

-- The account that this transaction acts for, and what is known of it anywhere: workspaces keep what the person
-- made, without them, and the audit log keeps that somebody did what is in it. Memberships have ended before.
CREATE FUNCTION app.forget_person(person uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  own_email text;
BEGIN
  IF person IS DISTINCT FROM nullif(current_setting('sluiceway.user_id', true), '')::uuid THEN
    RAISE EXCEPTION 'an account is deleted by that person alone' USING ERRCODE = 'insufficient_privilege';
  END IF;
  SELECT u.email INTO own_email FROM app.users u WHERE u.id = person;
  IF own_email IS NULL THEN
    RETURN false;
  END IF;
  IF EXISTS (SELECT FROM app.memberships m WHERE m.user_id = person AND m.disabled_at IS NULL) THEN
    RAISE EXCEPTION 'the person is still a member of a workspace' USING ERRCODE = 'object_in_use';
  END IF;
  PERFORM app.erase_audit_person(person, own_email);
  DELETE FROM app.invitations i WHERE lower(i.email) = lower(own_email);
  DELETE FROM app.mails m WHERE lower(m.recipient) = lower(own_email);
  DELETE FROM app.idempotency_keys k WHERE k.subject = 'user:' || person;
  -- An organization is never without an owner while anybody is left in it.
  INSERT INTO app.organization_owners (organization_id, user_id)
  SELECT DISTINCT ON (w.organization_id) w.organization_id, m.user_id
  FROM app.organization_owners o
  JOIN app.workspaces w ON w.organization_id = o.organization_id
  JOIN app.memberships m ON m.workspace_id = w.id AND m.role = 'owner' AND m.disabled_at IS NULL
  WHERE o.user_id = person AND NOT EXISTS (
    SELECT FROM app.organization_owners p WHERE p.organization_id = o.organization_id AND p.user_id <> person)
  ORDER BY w.organization_id, m.created_at
  ON CONFLICT DO NOTHING;
  DELETE FROM app.users u WHERE u.id = person;
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION app.hidden_columns, app.forget_person FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.forget_person TO sluiceway_app;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("""
    DROP FUNCTION app.forget_person, app.hidden_columns;
    REVOKE INSERT ON app.quota_notices FROM sluiceway_app;
    """)
    put_back("0018", "app.quota_room", "app.last_owner_of", "app.personal_data")
