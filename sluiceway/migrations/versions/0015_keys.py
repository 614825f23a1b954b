"""Keys that are rotated, service accounts that own keys, links to dashboards, provisioned people and groups."""

from sluiceway.migrations.script import put_back, run

revision = "0015"
down_revision = "0012"
branch_labels = None
depends_on = None

SERVICE_ACCOUNTS = """
CREATE TABLE app.service_accounts (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  roles text[] NOT NULL CHECK (cardinality(roles) > 0),
  attributes jsonb NOT NULL DEFAULT '{}',
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz,
  UNIQUE (workspace_id, id)
);
CREATE UNIQUE INDEX service_accounts_name ON app.service_accounts (workspace_id, lower(name));
COMMENT ON TABLE app.service_accounts IS 'Members that are programs: they own keys and never sign in. Personal: who made it. Kept: until removed, without the maker once their account is deleted.';
COMMENT ON COLUMN app.service_accounts.roles IS 'Slugs of roles, built in or the workspace''s own.';
COMMENT ON COLUMN app.service_accounts.attributes IS 'For row rules: {name: [values]}.';
CALL app.isolate('app.service_accounts');
GRANT SELECT, INSERT, UPDATE, DELETE ON app.service_accounts TO sluiceway_app;
"""

KEYS = """
ALTER TABLE app.api_keys
  ADD COLUMN service_account_id uuid,
  ADD COLUMN rotated_at timestamptz,
  ADD COLUMN previous_hash bytea,
  ADD COLUMN previous_expires_at timestamptz,
  ADD COLUMN previous_used_at timestamptz,
  ADD COLUMN last_used_address text,
  ADD CONSTRAINT api_keys_rotation CHECK ((previous_hash IS NULL) = (previous_expires_at IS NULL)),
  ADD CONSTRAINT api_keys_service_account FOREIGN KEY (workspace_id, service_account_id)
    REFERENCES app.service_accounts (workspace_id, id) ON DELETE CASCADE;
CREATE INDEX api_keys_service_account ON app.api_keys (service_account_id) WHERE service_account_id IS NOT NULL;
COMMENT ON COLUMN app.api_keys.previous_hash IS
  'SHA-256 of the secret before the last rotation; good until previous_expires_at.';
COMMENT ON COLUMN app.api_keys.previous_used_at IS 'When the secret before the last rotation was used last.';
COMMENT ON COLUMN app.api_keys.service_account_id IS 'Whose key it is; null: a key of the workspace.';

DROP FUNCTION app.find_api_key(text);
CREATE FUNCTION app.find_api_key(key_id text)
RETURNS TABLE (id text, workspace_id integer, name text, secret_hash bytea, scopes text[],
               pipeline_ids integer[], expires_at timestamptz, revoked_at timestamptz,
               rate_per_s double precision, burst integer,
               previous_hash bytea, previous_expires_at timestamptz,
               account_id uuid, account_name text, account_roles text[], account_attributes jsonb,
               account_disabled_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT k.id, k.workspace_id, k.name, k.secret_hash, k.scopes, k.pipeline_ids, k.expires_at, k.revoked_at,
         k.rate_per_s, k.burst, k.previous_hash, k.previous_expires_at,
         a.id, a.name, a.roles, a.attributes, a.disabled_at
  FROM app.api_keys k LEFT JOIN app.service_accounts a ON a.id = k.service_account_id
  WHERE k.id = key_id
$$;
REVOKE ALL ON FUNCTION app.find_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.find_api_key TO sluiceway_app;
"""

LINKS = """
CREATE TABLE app.dashboard_links (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  dashboard_id uuid NOT NULL REFERENCES app.dashboards ON DELETE CASCADE,
  name text NOT NULL,
  token_hash bytea NOT NULL UNIQUE,
  password_hash text,
  filters jsonb NOT NULL DEFAULT '[]',
  time jsonb,
  made_by text NOT NULL,
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  last_used_address text,
  uses bigint NOT NULL DEFAULT 0
);
CREATE INDEX dashboard_links_newest ON app.dashboard_links (workspace_id, created_at DESC, id DESC);
CREATE INDEX dashboard_links_dashboard ON app.dashboard_links (dashboard_id);
COMMENT ON TABLE app.dashboard_links IS 'Links that show one dashboard to whoever has them, without signing in; of the token only SHA-256, of a password argon2id. Personal: who made it, and the address that opened it last. Kept: as long as the dashboard, without the maker once their account is deleted.';
COMMENT ON COLUMN app.dashboard_links.token_hash IS 'SHA-256 of the token in the link''s address.';
COMMENT ON COLUMN app.dashboard_links.password_hash IS 'argon2id; null: the link alone is enough.';
COMMENT ON COLUMN app.dashboard_links.filters IS 'Added to every query: [{field, op, value}].';
COMMENT ON COLUMN app.dashboard_links.time IS 'The only time range that is shown; null: the viewer chooses.';
COMMENT ON COLUMN app.dashboard_links.made_by IS 'Subject of the caller: user:<uuid>, key:<id>, or cli.';
COMMENT ON COLUMN app.dashboard_links.uses IS 'How often it was opened.';
CALL app.isolate('app.dashboard_links');
GRANT SELECT, INSERT, UPDATE, DELETE ON app.dashboard_links TO sluiceway_app;

-- Whoever has a link is found before a workspace is known.
CREATE FUNCTION app.find_dashboard_link(hash bytea)
RETURNS TABLE (id uuid, workspace_id integer, dashboard text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT l.id, l.workspace_id, d.slug
  FROM app.dashboard_links l JOIN app.dashboards d ON d.id = l.dashboard_id
  WHERE l.token_hash = hash
$$;
REVOKE ALL ON FUNCTION app.find_dashboard_link FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.find_dashboard_link TO sluiceway_app;
"""

PROVISIONING = """
CREATE TABLE app.provisioned_users (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  user_name text NOT NULL,
  external_id text,
  made_account boolean NOT NULL DEFAULT false,
  attributes jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, user_id)
);
CREATE UNIQUE INDEX provisioned_users_name ON app.provisioned_users (workspace_id, lower(user_name));
COMMENT ON TABLE app.provisioned_users IS
  'People whom an identity provider keeps over SCIM; whether they are active says their membership. Personal: names and addresses as the provider sent them. Kept: until the provider removes them or the account is deleted.';
COMMENT ON COLUMN app.provisioned_users.made_account IS 'Whether provisioning made the account, rather than found it.';
COMMENT ON COLUMN app.provisioned_users.attributes IS 'What the provider sent and is to get back.';
CREATE TABLE app.provisioned_groups (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  team_id uuid NOT NULL,
  external_id text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, team_id)
);
COMMENT ON TABLE app.provisioned_groups IS 'Teams that an identity provider keeps over SCIM. Personal: none. Kept: until removed.';
CALL app.isolate('app.provisioned_users');
CALL app.isolate('app.provisioned_groups');
GRANT SELECT, INSERT, UPDATE, DELETE ON app.provisioned_users, app.provisioned_groups TO sluiceway_app;
"""


def upgrade() -> None:
    run(SERVICE_ACCOUNTS)
    run(KEYS)
    run(LINKS)
    run(PROVISIONING)


def downgrade() -> None:
    run(
        """
        DROP TABLE app.provisioned_groups;
        DROP TABLE app.provisioned_users;
        DROP FUNCTION app.find_dashboard_link;
        DROP TABLE app.dashboard_links;
        DROP FUNCTION app.find_api_key(text);
        """
    )
    put_back("0008", "app.find_api_key")
    run(
        """
        REVOKE ALL ON FUNCTION app.find_api_key FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION app.find_api_key TO sluiceway_app;
        ALTER TABLE app.api_keys
          DROP CONSTRAINT api_keys_service_account, DROP CONSTRAINT api_keys_rotation,
          DROP COLUMN service_account_id, DROP COLUMN rotated_at, DROP COLUMN previous_hash,
          DROP COLUMN previous_expires_at, DROP COLUMN previous_used_at, DROP COLUMN last_used_address;
        DROP TABLE app.service_accounts;
        """
    )
