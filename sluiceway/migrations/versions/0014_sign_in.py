"""Signing in: second factors, passkeys, identity providers, known devices, attempts, what a workspace asks for.

What belongs to a person and to no workspace is reached by that person alone (`sluiceway.user_id` of the
transaction). What is asked before anybody is known goes through functions of the owner, by hash or by id.
"""

from sluiceway.migrations.script import run

revision = "0014"
down_revision = "0017"
branch_labels = None
depends_on = None

SESSIONS = """
CREATE FUNCTION app.current_organization() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS
$$ SELECT w.organization_id FROM app.workspaces w WHERE w.id = app.current_workspace() $$;
COMMENT ON FUNCTION app.current_organization() IS 'The organization of the workspace this transaction acts for.';

-- Who comes through a provider, or was invited and has not answered yet, has no password.
ALTER TABLE app.users ALTER COLUMN password_hash DROP NOT NULL;
ALTER TABLE app.users ADD COLUMN password_set_at timestamptz;
COMMENT ON COLUMN app.users.password_set_at IS 'When the password was last changed; null: not since the person was made.';

ALTER TABLE app.sessions
  ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
  ADD COLUMN persistent boolean NOT NULL DEFAULT true,
  ADD COLUMN method text NOT NULL DEFAULT 'password'
    CHECK (method IN ('password', 'passkey', 'provider', 'invitation', 'reset')),
  ADD COLUMN second_factor boolean NOT NULL DEFAULT false,
  ADD COLUMN confirmed_at timestamptz,
  ADD COLUMN provider_id uuid;
CREATE INDEX sessions_of_person ON app.sessions (user_id);
COMMENT ON COLUMN app.sessions.id IS 'What a session is called in lists; it opens nothing.';
COMMENT ON COLUMN app.sessions.persistent IS 'Remembered: the cookie outlives the browser, and idleness does not end it.';
COMMENT ON COLUMN app.sessions.second_factor IS 'Whether more than a password was shown.';
COMMENT ON COLUMN app.sessions.confirmed_at IS 'When the person last proved who they are; sensitive changes need this to be fresh.';
COMMENT ON COLUMN app.sessions.provider_id IS 'The identity provider it came through: such a session holds in that organization only.';

CREATE TABLE app.sign_in_policies (
  workspace_id integer PRIMARY KEY REFERENCES app.workspaces ON DELETE CASCADE,
  second_factor_for text[] NOT NULL DEFAULT '{}',
  remember_me boolean NOT NULL DEFAULT true,
  idle_minutes integer CHECK (idle_minutes BETWEEN 5 AND 43200),
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by uuid REFERENCES app.users ON DELETE SET NULL
);
COMMENT ON TABLE app.sign_in_policies IS 'What a workspace asks of those who sign in; no row: nothing beyond the installation''s settings. Personal: who changed it last. Kept: as long as the workspace.';
COMMENT ON COLUMN app.sign_in_policies.second_factor_for IS 'Slugs of the roles that need a second factor; * is everyone.';
COMMENT ON COLUMN app.sign_in_policies.idle_minutes IS 'After how long without a request any session ends; null: as the installation says.';
CALL app.isolate('app.sign_in_policies');
GRANT SELECT, INSERT, UPDATE ON app.sign_in_policies TO sluiceway_app;
"""

FACTORS = """
CREATE TABLE app.totp (
  user_id uuid PRIMARY KEY REFERENCES app.users ON DELETE CASCADE,
  sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  confirmed_at timestamptz,
  last_step bigint
);
COMMENT ON TABLE app.totp IS 'The secret of a person''s authenticator app (RFC 6238). Personal: the secret, sealed. Kept: until removed or the account is deleted.';
COMMENT ON COLUMN app.totp.sealed IS
  'AES-256-GCM under a key of its own, which the installation''s key seals (sluiceway.infra.envelope).';
CALL app.fence_sealed('app.totp', 'sealed');
COMMENT ON COLUMN app.totp.confirmed_at IS 'When the first code was right; null: not in use yet.';
COMMENT ON COLUMN app.totp.last_step IS 'Time step (30 s) of the newest code that was taken: no code is taken twice.';

CREATE TABLE app.recovery_codes (
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  code_hash bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  used_at timestamptz,
  PRIMARY KEY (user_id, code_hash)
);
COMMENT ON TABLE app.recovery_codes IS 'SHA-256 of codes with 79 random bits, each good once, for who lost the authenticator app. Personal: hashes, and when each was used. Kept: until the app is removed or set up anew.';

CREATE TABLE app.passkeys (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  credential_id bytea NOT NULL UNIQUE,
  public_key bytea NOT NULL,
  sign_count bigint NOT NULL,
  transports text[] NOT NULL DEFAULT '{}',
  synced boolean NOT NULL,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz
);
CREATE INDEX passkeys_of_person ON app.passkeys (user_id);
COMMENT ON TABLE app.passkeys IS 'WebAuthn credentials: public keys, nothing secret. Personal: the keys'' names, when each was used. Kept: until removed or the account is deleted.';
COMMENT ON COLUMN app.passkeys.synced IS 'Whether the authenticator keeps it in an account beside the device.';

CREATE TABLE app.known_devices (
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  device_hash bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, device_hash)
);
COMMENT ON TABLE app.known_devices IS
  'SHA-256 of a cookie of each browser the person has signed in with: others'' failed attempts do not hold it up. Personal: when each was used last. Kept: the newest 20, until the account is deleted.';
"""

PROVIDERS = """
CREATE TABLE app.identity_providers (
  id uuid PRIMARY KEY,
  organization_id integer NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
  name text NOT NULL,
  issuer text NOT NULL,
  client_id text NOT NULL,
  sealed bytea,
  scopes text[] NOT NULL,
  groups_claim text NOT NULL,
  group_roles jsonb NOT NULL DEFAULT '[]',
  domains text[] NOT NULL DEFAULT '{}',
  default_workspace_id integer REFERENCES app.workspaces ON DELETE SET NULL,
  default_role text,
  covers_second_factor boolean NOT NULL DEFAULT false,
  managed_by text NOT NULL DEFAULT 'api' CHECK (managed_by IN ('api', 'settings')),
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (organization_id, name)
);
COMMENT ON TABLE app.identity_providers IS 'OpenID Connect providers of an organization. Personal: none. Kept: until removed.';
COMMENT ON COLUMN app.identity_providers.sealed IS
  'The client''s secret: AES-256-GCM under a key of its own, which the installation''s key seals; null: a public client.';
CALL app.fence_sealed('app.identity_providers', 'sealed');
COMMENT ON COLUMN app.identity_providers.group_roles IS 'Which group of the provider is which role, and where: [{group, workspace_id, role}].';
COMMENT ON COLUMN app.identity_providers.domains IS 'Domains of the e-mail addresses it may speak for; empty: any.';
COMMENT ON COLUMN app.identity_providers.default_role IS 'Role of those whom no group places; null: they are not let in.';
COMMENT ON COLUMN app.identity_providers.covers_second_factor IS 'Whether signing in there counts as a second factor even if it does not say so.';

ALTER TABLE app.sessions ADD CONSTRAINT sessions_provider
  FOREIGN KEY (provider_id) REFERENCES app.identity_providers ON DELETE CASCADE;

CREATE TABLE app.federated_identities (
  provider_id uuid NOT NULL REFERENCES app.identity_providers ON DELETE CASCADE,
  subject text NOT NULL,
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz,
  admitted_to integer[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (provider_id, subject)
);
CREATE INDEX federated_identities_of_person ON app.federated_identities (user_id);
COMMENT ON TABLE app.federated_identities IS 'Who of a provider is which person here: by its subject, never again by address. Personal: the subject. Kept: until the provider or the account is deleted.';
COMMENT ON COLUMN app.federated_identities.admitted_to IS 'Workspaces that the provider''s groups opened: who loses the group loses them.';

ALTER TABLE app.identity_providers ENABLE ROW LEVEL SECURITY;
CREATE POLICY organization_isolation ON app.identity_providers
  USING (organization_id = (SELECT app.current_organization()))
  WITH CHECK (organization_id = (SELECT app.current_organization()));
GRANT SELECT, INSERT, UPDATE, DELETE ON app.identity_providers TO sluiceway_app;

DO $$
DECLARE relation text;
BEGIN
  FOREACH relation IN ARRAY ARRAY[
    'app.totp', 'app.recovery_codes', 'app.passkeys', 'app.known_devices', 'app.federated_identities'
  ] LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format(
      'CREATE POLICY own ON %1$s USING (user_id = %2$s) WITH CHECK (user_id = %2$s)', relation,
      '(SELECT nullif(current_setting(''sluiceway.user_id'', true), '''')::uuid)');
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO sluiceway_app', relation);
  END LOOP;
END $$;
"""

# No service role reaches these two but through the functions below.
STEPS = """
CREATE TABLE app.sign_in_steps (
  token_hash bytea PRIMARY KEY,
  kind text NOT NULL,
  user_id uuid REFERENCES app.users ON DELETE CASCADE,
  payload jsonb NOT NULL DEFAULT '{}',
  sealed bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CALL app.fence_sealed('app.sign_in_steps', 'sealed');
COMMENT ON COLUMN app.sign_in_steps.sealed IS
  'Secret of an authenticator app that is being set up, sealed (sluiceway.infra.envelope); null: of any other kind.';
CREATE INDEX sign_in_steps_end ON app.sign_in_steps (expires_at);
CREATE INDEX sign_in_steps_of_person ON app.sign_in_steps (user_id, kind);
COMMENT ON TABLE app.sign_in_steps IS
  'What is begun and not done: a password that waits for its second factor, a challenge, a way to a provider, a reset link. SHA-256 of random tokens; minutes, a reset link an hour. Personal: who began. Kept: until done or expired.';

CREATE UNLOGGED TABLE app.sign_in_attempts (
  bucket bytea PRIMARY KEY,
  attempts integer NOT NULL,
  last_at timestamptz NOT NULL,
  blocked_until timestamptz
);
CREATE INDEX sign_in_attempts_age ON app.sign_in_attempts (last_at);
COMMENT ON TABLE app.sign_in_attempts IS
  'Attempts by SHA-256 of what they came from (address, account, device), forgotten after a day. Personal: none that can be read. Kept: a day.';
ALTER TABLE app.sign_in_steps ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.sign_in_attempts ENABLE ROW LEVEL SECURITY;
CREATE POLICY functions_only ON app.sign_in_steps USING (false);
CREATE POLICY functions_only ON app.sign_in_attempts USING (false);

CREATE FUNCTION app.put_sign_in_step(hash bytea, what text, person uuid, content jsonb, secret bytea, at timestamptz,
                                    ends timestamptz)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.sign_in_steps s WHERE s.expires_at <= at;
  INSERT INTO app.sign_in_steps (token_hash, kind, user_id, payload, sealed, created_at, expires_at)
    VALUES (hash, what, person, content, secret, at, ends);
$$;
CREATE FUNCTION app.find_sign_in_step(hash bytea, what text, at timestamptz)
RETURNS TABLE (user_id uuid, payload jsonb, sealed bytea, created_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT s.user_id, s.payload, s.sealed, s.created_at FROM app.sign_in_steps s
  WHERE s.token_hash = hash AND s.kind = what AND s.expires_at > at
$$;
CREATE FUNCTION app.take_sign_in_step(hash bytea, what text, at timestamptz)
RETURNS TABLE (user_id uuid, payload jsonb, sealed bytea, created_at timestamptz)
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.sign_in_steps s WHERE s.token_hash = hash AND s.kind = what AND s.expires_at > at
  RETURNING s.user_id, s.payload, s.sealed, s.created_at
$$;
CREATE FUNCTION app.drop_sign_in_steps(person uuid, what text)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.sign_in_steps s WHERE s.user_id = person AND (what IS NULL OR s.kind = what)
$$;

-- An attempt is counted before its hash is computed, so that a thousand at once are a thousand. All buckets
-- let it through and count it, or one of them says how long to wait and none counts.
CREATE FUNCTION app.begin_attempt(keys bytea[], free integer[], at timestamptz, first_s double precision,
                                  longest_s double precision, forget interval)
RETURNS double precision LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE wait_s double precision;
BEGIN
  IF random() < 0.01 THEN
    DELETE FROM app.sign_in_attempts a WHERE a.last_at < at - interval '1 day';
  END IF;
  INSERT INTO app.sign_in_attempts AS a (bucket, attempts, last_at)
    SELECT k, 0, at FROM unnest(keys) k ORDER BY k ON CONFLICT DO NOTHING;
  PERFORM 1 FROM app.sign_in_attempts a WHERE a.bucket = ANY(keys) ORDER BY a.bucket FOR UPDATE;
  SELECT max(extract(epoch FROM a.blocked_until - at)) INTO wait_s
    FROM app.sign_in_attempts a WHERE a.bucket = ANY(keys) AND a.blocked_until > at;
  IF wait_s IS NOT NULL THEN
    RETURN wait_s;
  END IF;
  UPDATE app.sign_in_attempts a SET attempts = n.attempts, last_at = at,
    blocked_until = CASE WHEN n.attempts >= n.free
      THEN at + make_interval(secs => least(first_s * power(2, least(n.attempts - n.free, 20)), longest_s)) END
  FROM (
    SELECT b.bucket, k.free, CASE WHEN b.last_at < at - forget THEN 1 ELSE b.attempts + 1 END AS attempts
    FROM app.sign_in_attempts b JOIN unnest(keys, free) AS k (bucket, free) ON k.bucket = b.bucket
  ) n WHERE n.bucket = a.bucket;
  RETURN 0;
END $$;
CREATE FUNCTION app.attempt_succeeded(own bytea[], shared bytea[])
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.sign_in_attempts a WHERE a.bucket = ANY(own);
  UPDATE app.sign_in_attempts a SET attempts = greatest(a.attempts - 1, 0), blocked_until = NULL
    WHERE a.bucket = ANY(shared);
$$;
"""

FUNCTIONS = """
-- What a session still is: ended by idleness or by its provider's bounds (no row), or seen just now.
CREATE FUNCTION app.see_session(hash bytea, at timestamptz, idle interval)
RETURNS TABLE (id uuid, second_factor boolean, second_factor_for text[], confirmed_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  seen record;
BEGIN
  SELECT s.*, p.second_factor_for AS wanted, p.idle_minutes, i.organization_id AS provider_organization,
         w.organization_id, i.enabled
    INTO seen
    FROM app.sessions s
    JOIN app.workspaces w ON w.id = s.workspace_id
    LEFT JOIN app.sign_in_policies p ON p.workspace_id = s.workspace_id
    LEFT JOIN app.identity_providers i ON i.id = s.provider_id
    WHERE s.token_hash = hash;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF seen.provider_id IS NOT NULL
    AND (seen.provider_organization IS DISTINCT FROM seen.organization_id OR NOT seen.enabled) THEN
    RETURN;
  END IF;
  IF seen.last_seen_at + coalesce(
    make_interval(mins => seen.idle_minutes), CASE WHEN NOT seen.persistent THEN idle END) <= at THEN
    DELETE FROM app.sessions s WHERE s.token_hash = hash;
    RETURN;
  END IF;
  IF seen.last_seen_at < at - interval '1 minute' THEN
    UPDATE app.sessions s SET last_seen_at = at WHERE s.token_hash = hash;
  END IF;
  RETURN QUERY SELECT seen.id, seen.second_factor, coalesce(seen.wanted, '{}'), seen.confirmed_at;
END $$;
CREATE FUNCTION app.sessions_of(person uuid, at timestamptz)
RETURNS TABLE (id uuid, workspace_id integer, workspace_name text, created_at timestamptz,
               last_seen_at timestamptz, expires_at timestamptz, user_agent text, address text, method text,
               second_factor boolean, persistent boolean, token_hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT s.id, s.workspace_id, w.name, s.created_at, s.last_seen_at, s.expires_at, s.user_agent, s.address,
         s.method, s.second_factor, s.persistent, s.token_hash
  FROM app.sessions s JOIN app.workspaces w ON w.id = s.workspace_id
  WHERE s.user_id = person AND s.expires_at > at ORDER BY s.last_seen_at DESC, s.id
$$;
-- One session by its id, or all but the one kept: in every workspace of the person's.
CREATE FUNCTION app.end_sessions_of(person uuid, only_id uuid, kept bytea)
RETURNS SETOF bytea LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.sessions s
  WHERE s.user_id = person AND (only_id IS NULL OR s.id = only_id) AND s.token_hash IS DISTINCT FROM kept
  RETURNING s.token_hash
$$;
CREATE FUNCTION app.end_session_by_hash(hash bytea)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.sessions s WHERE s.token_hash = hash
$$;

-- Passwords are set and compared by person; nobody may list them.
CREATE FUNCTION app.set_password(person uuid, hash text, at timestamptz)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  UPDATE app.users u SET password_hash = hash, password_set_at = at WHERE u.id = person
$$;
CREATE FUNCTION app.password_of(person uuid)
RETURNS TABLE (password_hash text, password_set_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.password_hash, u.password_set_at FROM app.users u WHERE u.id = person
$$;
CREATE FUNCTION app.find_passkey(credential bytea)
RETURNS TABLE (user_id uuid, disabled boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT p.user_id, u.disabled_at IS NOT NULL FROM app.passkeys p JOIN app.users u ON u.id = p.user_id
  WHERE p.credential_id = credential
$$;
CREATE FUNCTION app.sign_in_providers()
RETURNS TABLE (id uuid, name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT i.id, i.name FROM app.identity_providers i WHERE i.enabled ORDER BY lower(i.name), i.id
$$;
CREATE FUNCTION app.find_identity_provider(provider uuid)
RETURNS SETOF app.identity_providers
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT i.* FROM app.identity_providers i WHERE i.id = provider AND i.enabled
$$;
CREATE FUNCTION app.find_federated_identity(provider uuid, who text)
RETURNS TABLE (user_id uuid, disabled boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT f.user_id, u.disabled_at IS NOT NULL
  FROM app.federated_identities f JOIN app.users u ON u.id = f.user_id
  WHERE f.provider_id = provider AND f.subject = who
$$;
CREATE FUNCTION app.forget_federated_identities(provider uuid)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.federated_identities f USING app.identity_providers i
  WHERE f.provider_id = provider AND i.id = provider AND i.organization_id = app.current_organization();
  DELETE FROM app.sessions s USING app.identity_providers i
  WHERE s.provider_id = provider AND i.id = provider AND i.organization_id = app.current_organization();
$$;
CREATE FUNCTION app.workspace_has_role(workspace integer, wanted text)
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM app.roles r JOIN app.workspaces w ON w.id = r.workspace_id
    WHERE r.workspace_id = workspace AND r.slug = wanted AND w.organization_id = app.current_organization());
END $$;
-- Organizations a person belongs to: a provider may speak for nobody who is also elsewhere.
CREATE FUNCTION app.organizations_of(person uuid)
RETURNS SETOF integer LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT DISTINCT w.organization_id FROM app.memberships m JOIN app.workspaces w ON w.id = m.workspace_id
  WHERE m.user_id = person
$$;

DO $$
DECLARE found regprocedure;
BEGIN
  FOR found IN
    SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'app'::regnamespace AND p.proname IN (
      'put_sign_in_step', 'find_sign_in_step', 'take_sign_in_step', 'drop_sign_in_steps', 'begin_attempt',
      'attempt_succeeded', 'see_session', 'sessions_of', 'end_sessions_of', 'end_session_by_hash',
      'set_password', 'password_of', 'find_passkey', 'sign_in_providers', 'find_identity_provider', 'find_federated_identity',
      'organizations_of', 'current_organization', 'forget_federated_identities', 'workspace_has_role')
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', found);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO sluiceway_app', found);
  END LOOP;
END $$;
"""


def upgrade() -> None:
    for statements in (SESSIONS, FACTORS, PROVIDERS, STEPS, FUNCTIONS):
        run(statements)


def downgrade() -> None:
    run("""
    DROP FUNCTION app.see_session, app.sessions_of, app.end_sessions_of, app.end_session_by_hash,
      app.find_passkey, app.sign_in_providers, app.find_identity_provider, app.find_federated_identity,
      app.forget_federated_identities, app.workspace_has_role, app.set_password, app.password_of, app.organizations_of, app.begin_attempt, app.attempt_succeeded, app.put_sign_in_step,
      app.find_sign_in_step, app.take_sign_in_step, app.drop_sign_in_steps;
    ALTER TABLE app.sessions DROP COLUMN id, DROP COLUMN persistent, DROP COLUMN method,
      DROP COLUMN second_factor, DROP COLUMN confirmed_at, DROP COLUMN provider_id;
    DROP INDEX app.sessions_of_person;
    DROP TABLE app.totp, app.recovery_codes, app.passkeys, app.known_devices, app.federated_identities,
      app.identity_providers, app.sign_in_steps, app.sign_in_attempts, app.sign_in_policies;
    DROP FUNCTION app.current_organization;
    ALTER TABLE app.users DROP COLUMN password_set_at;
    -- Nothing fits an empty hash: who has no password cannot sign in by one.
    UPDATE app.users SET password_hash = '' WHERE password_hash IS NULL;
    ALTER TABLE app.users ALTER COLUMN password_hash SET NOT NULL;
    """)
