"""The spine: tenants, pipelines, silver, gold's bookkeeping, quality, dashboards.

Every table that belongs to a workspace carries `workspace_id` and the policy `workspace_isolation`.
Leaf partitions carry none: only the writer is granted on them, so that it can COPY into them.
"""

from sluiceway.migrations.script import run

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES_AND_SCHEMAS = """
CREATE SCHEMA app;
CREATE SCHEMA silver;
CREATE SCHEMA gold;
CREATE SCHEMA quality;
CREATE SCHEMA staging;
CREATE SCHEMA marts;
CREATE SCHEMA dagster;
GRANT USAGE ON SCHEMA app, silver, gold, quality TO
  sluiceway_writer, sluiceway_app, sluiceway_reader, sluiceway_modeler;
GRANT USAGE ON SCHEMA staging, marts TO sluiceway_reader, sluiceway_writer;
GRANT USAGE, CREATE ON SCHEMA staging, marts, gold TO sluiceway_modeler;
GRANT USAGE, CREATE ON SCHEMA dagster TO sluiceway_orchestrator;

CREATE FUNCTION app.current_workspace() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('sluiceway.workspace_id', true), '')::integer $$;
COMMENT ON FUNCTION app.current_workspace() IS
  'The workspace this transaction acts for (SET LOCAL sluiceway.workspace_id); null: none, so no row is seen.';

-- One place that makes a table a workspace's own.
CREATE PROCEDURE app.isolate(relation regclass)
LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
  EXECUTE format(
    'CREATE POLICY workspace_isolation ON %s USING (workspace_id = (SELECT app.current_workspace()))'
    ' WITH CHECK (workspace_id = (SELECT app.current_workspace()))', relation);
  -- The modelers' role builds every workspace's gold at once; it can read, never write, the rest.
  EXECUTE format('CREATE POLICY modeler_reads ON %s FOR SELECT TO sluiceway_modeler USING (true)', relation);
END $$;
"""

PEOPLE = """
CREATE TABLE app.organizations (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  slug text NOT NULL UNIQUE,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE app.workspaces (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  organization_id integer NOT NULL REFERENCES app.organizations,
  slug text NOT NULL,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (organization_id, slug)
);
CREATE TABLE app.users (
  id uuid PRIMARY KEY,
  email text NOT NULL,
  name text NOT NULL,
  password_hash text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz
);
CREATE UNIQUE INDEX users_email_key ON app.users (lower(email));
CREATE TABLE app.memberships (
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  role text NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'analyst', 'viewer')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, user_id)
);
CREATE TABLE app.sessions (
  token_hash bytea PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  user_agent text NOT NULL DEFAULT '',
  address text NOT NULL DEFAULT ''
);
CREATE TABLE app.api_keys (
  id text PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  name text NOT NULL,
  secret_hash bytea NOT NULL,
  scopes text[] NOT NULL,
  pipeline_ids integer[],
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
COMMENT ON COLUMN app.api_keys.pipeline_ids IS 'Pipelines an ingest key may write to; null: every one.';

-- Who is asking is found before a workspace is known: these two functions, and only they, see every row.
CREATE FUNCTION app.find_session(hash bytea)
RETURNS TABLE (user_id uuid, workspace_id integer, role text, email text, name text, expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT s.user_id, s.workspace_id, m.role, u.email, u.name, s.expires_at
  FROM app.sessions s
  JOIN app.users u ON u.id = s.user_id AND u.disabled_at IS NULL
  JOIN app.memberships m ON m.user_id = s.user_id AND m.workspace_id = s.workspace_id
  WHERE s.token_hash = hash
$$;
CREATE FUNCTION app.find_api_key(key_id text)
RETURNS TABLE (id text, workspace_id integer, name text, secret_hash bytea, scopes text[],
               pipeline_ids integer[], expires_at timestamptz, revoked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT k.id, k.workspace_id, k.name, k.secret_hash, k.scopes, k.pipeline_ids, k.expires_at, k.revoked_at
  FROM app.api_keys k WHERE k.id = key_id
$$;
CREATE FUNCTION app.memberships_of(member uuid)
RETURNS TABLE (workspace_id integer, workspace_slug text, workspace_name text, organization_slug text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT m.workspace_id, w.slug, w.name, o.slug, m.role
  FROM app.memberships m
  JOIN app.workspaces w ON w.id = m.workspace_id
  JOIN app.organizations o ON o.id = w.organization_id
  WHERE m.user_id = member ORDER BY m.created_at
$$;
REVOKE ALL ON FUNCTION app.find_session, app.find_api_key, app.memberships_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.find_session, app.find_api_key, app.memberships_of TO sluiceway_app;
"""

CATALOG = """
CREATE TABLE app.pipelines (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  slug text NOT NULL,
  name text NOT NULL,
  version integer NOT NULL,
  state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'archived')),
  silver_table text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (workspace_id, slug)
);
COMMENT ON COLUMN app.pipelines.silver_table IS 'Name within schema silver.';
CREATE TABLE app.pipeline_versions (
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  version integer NOT NULL,
  spec jsonb NOT NULL,
  source text NOT NULL,
  checksum text NOT NULL,
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (pipeline_id, version)
);
COMMENT ON COLUMN app.pipeline_versions.source IS 'The YAML exactly as applied, comments included.';
CREATE TABLE app.pipeline_state (
  pipeline_id integer PRIMARY KEY REFERENCES app.pipelines ON DELETE CASCADE,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  last_seq bigint NOT NULL DEFAULT 0,
  events bigint NOT NULL DEFAULT 0,
  duplicates bigint NOT NULL DEFAULT 0,
  dead_letters bigint NOT NULL DEFAULT 0,
  last_batch_id bigint,
  last_batch_at timestamptz,
  last_received_at timestamptz,
  last_event_time timestamptz,
  last_verdict text
);
COMMENT ON COLUMN app.pipeline_state.last_seq IS 'The newest silver row''s seq: gapless, in commit order.';
CREATE TABLE app.spool_cursors (
  node text NOT NULL,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  segment bigint NOT NULL,
  "offset" bigint NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (node, pipeline_id)
);
CREATE TABLE app.outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  topic text NOT NULL,
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  available_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  leased_until timestamptz,
  leased_by text,
  done_at timestamptz,
  last_error text
);
CREATE INDEX outbox_waiting ON app.outbox (available_at, id) WHERE done_at IS NULL;
CREATE TABLE app.dashboards (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  slug text NOT NULL,
  title text NOT NULL,
  description text NOT NULL DEFAULT '',
  version integer NOT NULL DEFAULT 1,
  spec jsonb NOT NULL,
  layout jsonb NOT NULL,
  layout_version integer NOT NULL DEFAULT 1,
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  updated_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (workspace_id, slug)
);
COMMENT ON COLUMN app.dashboards.layout IS 'Grid position by widget id: {"<widget>": {"x", "y", "w", "h"}}.';
"""

SILVER = """
CREATE TABLE silver.batches (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  name text NOT NULL,
  origin text NOT NULL CHECK (origin IN ('live', 'replay', 'retry')),
  pipeline_version integer NOT NULL,
  verdict text NOT NULL CHECK (verdict IN ('pass', 'warn', 'quarantine', 'hold')),
  events integer NOT NULL,
  rows integer NOT NULL,
  samples integer NOT NULL,
  duplicates integer NOT NULL,
  dead_letters integer NOT NULL,
  size_bytes bigint NOT NULL,
  first_seq bigint,
  last_seq bigint,
  min_event_time timestamptz,
  max_event_time timestamptz,
  min_received_at timestamptz NOT NULL,
  max_received_at timestamptz NOT NULL,
  loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (pipeline_id, name)
);
CREATE INDEX batches_loaded ON silver.batches (workspace_id, loaded_at);
COMMENT ON COLUMN silver.batches.name IS 'node/segment/offset of its first record: doing it again changes nothing.';

CREATE TABLE silver.series (
  series_id bigint NOT NULL,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  metric text NOT NULL,
  dimensions jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (series_id)
);
CREATE INDEX series_pipeline ON silver.series (pipeline_id, metric);
COMMENT ON COLUMN silver.series.series_id IS
  'First 63 bits of blake2b over pipeline id, metric and the dimensions'' canonical JSON.';

CREATE TABLE silver.samples (
  workspace_id integer NOT NULL,
  pipeline_id integer NOT NULL,
  series_id bigint NOT NULL,
  ts timestamptz NOT NULL,
  value double precision NOT NULL,
  seq bigint NOT NULL
) PARTITION BY RANGE (ts);
CREATE INDEX samples_time ON silver.samples (pipeline_id, ts);
COMMENT ON COLUMN silver.samples.seq IS 'seq of the silver row that the sample was taken from.';

CREATE TABLE silver.event_keys (
  workspace_id integer NOT NULL,
  pipeline_id integer NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  seen_at timestamptz NOT NULL
) PARTITION BY RANGE (seen_at);
COMMENT ON TABLE silver.event_keys IS
  'Event ids of the de-duplication window; each weekly partition has a unique index (pipeline_id, event_id).';
"""

GOLD_AND_QUALITY = """
CREATE TABLE gold.dirty_buckets (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id integer NOT NULL,
  pipeline_id integer NOT NULL,
  level text NOT NULL CHECK (level IN ('1m', '1h', '1d')),
  bucket timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dirty_buckets_key ON gold.dirty_buckets (level, pipeline_id, bucket);
COMMENT ON TABLE gold.dirty_buckets IS
  'Append-only: a load never waits for a refresh. A refresh deletes exactly the ids it saw before it read the samples.';

CREATE TABLE quality.suites (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  name text NOT NULL,
  version integer NOT NULL,
  spec jsonb NOT NULL,
  source text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (workspace_id, name, version)
);
CREATE TABLE quality.results (
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  suite text NOT NULL,
  expectation text NOT NULL,
  origin text NOT NULL CHECK (origin IN ('live', 'replay', 'deep')),
  minute timestamptz NOT NULL,
  action text NOT NULL CHECK (action IN ('quarantine', 'hold', 'warn')),
  batches integer NOT NULL,
  failed_batches integer NOT NULL,
  evaluated bigint NOT NULL,
  unexpected bigint NOT NULL,
  detail jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (pipeline_id, expectation, origin, minute)
);
COMMENT ON TABLE quality.results IS 'What the gate found, summed per expectation and minute.';
CREATE TABLE quality.dead_letters (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  batch_name text NOT NULL,
  position text NOT NULL,
  event_id text,
  event_time timestamptz,
  step text NOT NULL CHECK (step IN ('parse', 'map', 'gate', 'retention')),
  code text NOT NULL,
  reason text NOT NULL,
  expectation text,
  payload bytea NOT NULL,
  received_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'held', 'retried', 'discarded')),
  resolved_at timestamptz,
  UNIQUE (pipeline_id, position)
);
CREATE INDEX dead_letters_newest ON quality.dead_letters (workspace_id, created_at DESC, id DESC);
COMMENT ON COLUMN quality.dead_letters.position IS 'node/segment/offset/index of the event: the same event is one dead letter.';
"""

ISOLATION_AND_GRANTS = """
DO $$
DECLARE relation regclass;
BEGIN
  FOR relation IN
    SELECT a.attrelid::regclass FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attname = 'workspace_id' AND n.nspname IN ('app', 'silver', 'gold', 'quality')
      AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  LOOP
    CALL app.isolate(relation);
  END LOOP;
END $$;

-- The loader and the jobs must know of every workspace's pipelines before they act for one of them.
CREATE POLICY writer_reads ON app.pipelines FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_reads ON app.pipeline_versions FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_reads ON app.pipeline_state FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_reads ON app.spool_cursors FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_reads ON quality.suites FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_reads ON silver.batches FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_reads ON quality.results FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_works ON app.outbox TO sluiceway_writer USING (true);
CREATE POLICY writer_refreshes ON gold.dirty_buckets TO sluiceway_modeler USING (true) WITH CHECK (true);

GRANT SELECT ON app.organizations, app.workspaces TO sluiceway_app, sluiceway_writer, sluiceway_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON
  app.users, app.memberships, app.sessions, app.api_keys, app.dashboards TO sluiceway_app;
GRANT SELECT, INSERT, UPDATE ON app.pipelines, app.pipeline_versions, app.pipeline_state TO sluiceway_app;
GRANT SELECT, INSERT ON app.outbox, quality.suites TO sluiceway_app;
GRANT SELECT ON app.spool_cursors, silver.batches, silver.series, gold.dirty_buckets, quality.results TO sluiceway_app;
GRANT SELECT, UPDATE ON quality.dead_letters TO sluiceway_app;

GRANT SELECT ON app.pipelines, app.pipeline_versions, quality.suites TO sluiceway_writer;
GRANT SELECT, INSERT, UPDATE ON app.pipeline_state, app.spool_cursors TO sluiceway_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON
  app.outbox, silver.batches, silver.series, silver.samples, silver.event_keys, gold.dirty_buckets,
  quality.results, quality.dead_letters TO sluiceway_writer;

GRANT SELECT ON app.pipelines, app.pipeline_state, silver.batches, silver.series, silver.samples,
  gold.dirty_buckets, quality.results TO sluiceway_reader;

GRANT SELECT ON ALL TABLES IN SCHEMA silver, gold, quality TO sluiceway_modeler;
GRANT SELECT ON app.workspaces, app.pipelines, app.pipeline_state TO sluiceway_modeler;
GRANT INSERT, DELETE ON gold.dirty_buckets TO sluiceway_modeler;
-- What the modelers' role builds, readers may read (row-level security decides which rows).
ALTER DEFAULT PRIVILEGES FOR ROLE sluiceway_modeler IN SCHEMA gold, staging, marts
  GRANT SELECT ON TABLES TO sluiceway_reader;
"""


def upgrade() -> None:
    for statements in (
        ROLES_AND_SCHEMAS,
        PEOPLE,
        CATALOG,
        SILVER,
        GOLD_AND_QUALITY,
        ISOLATION_AND_GRANTS,
    ):
        run(statements)


def downgrade() -> None:
    run("DROP SCHEMA app, silver, gold, quality, staging, marts, dagster CASCADE")
