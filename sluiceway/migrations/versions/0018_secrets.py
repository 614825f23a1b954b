"""Secrets, privacy and usage: versions of the encryption key, a person's own data, what workspaces use and may use.

Belongs here: `app.encryption_keys` and the fence around sealed columns, `app.personal_data`, `app.forget_person`
and sweeping, usage and quotas. Comments of tables say whose data is in them and how long it is kept:
docs/data-processing.md is made from them.
"""

from sluiceway.migrations.script import run

revision = "0018"
down_revision = "0015"
branch_labels = None
depends_on = None

KEYS = """
CREATE TABLE app.encryption_keys (
  version integer GENERATED ALWAYS AS IDENTITY (MAXVALUE 65535) PRIMARY KEY,
  wrapped bytea NOT NULL,
  state text NOT NULL CHECK (state IN ('current', 'retiring')),
  created_at timestamptz NOT NULL DEFAULT now(),
  retired_at timestamptz,
  CHECK ((state = 'retiring') = (retired_at IS NOT NULL))
);
CREATE UNIQUE INDEX encryption_keys_current ON app.encryption_keys (state) WHERE state = 'current';
COMMENT ON TABLE app.encryption_keys IS
  'Versions of the key that seals stored secrets, each wrapped by the installation''s own key.'
  ' Personal: none. Kept: until a rotation has sealed everything under a newer one.';
COMMENT ON COLUMN app.encryption_keys.wrapped IS 'A random key under AES-256-GCM (sluiceway.infra.keyring).';

-- Processes that seal and open learn the versions here, and only here.
CREATE FUNCTION app.known_keys()
RETURNS TABLE (version integer, wrapped bytea, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT k.version, k.wrapped, k.state FROM app.encryption_keys k ORDER BY k.version
$$;
REVOKE ALL ON FUNCTION app.known_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.known_keys TO sluiceway_app, sluiceway_writer;

-- The fence: nothing is stored under a version that is gone. The lock makes the end of a rotation wait for
-- transactions that have just sealed under the version it is about to forget.
CREATE FUNCTION app.check_seal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  value bytea;
BEGIN
  EXECUTE format('SELECT ($1).%I', TG_ARGV[0]) INTO value USING NEW;
  IF value IS NULL THEN
    RETURN NEW;
  END IF;
  IF length(value) < 3 THEN
    RAISE EXCEPTION 'a sealed value is too short' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM FROM app.encryption_keys
  WHERE version = get_byte(value, 1) * 256 + get_byte(value, 2) FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'a value was sealed under a key version that is gone' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION app.check_seal FROM PUBLIC;
CREATE PROCEDURE app.fence_sealed(relation regclass, sealed_column text)
LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format(
    'CREATE OR REPLACE TRIGGER %I BEFORE INSERT OR UPDATE OF %I ON %s'
    ' FOR EACH ROW EXECUTE FUNCTION app.check_seal(%L)',
    'sealed_' || sealed_column, sealed_column, relation, sealed_column);
END $$;
REVOKE ALL ON PROCEDURE app.fence_sealed FROM PUBLIC;
CALL app.fence_sealed('app.pipeline_secrets', 'sealed');
-- Answers of another form are forgotten: they are kept for a day at most.
DELETE FROM app.idempotency_keys WHERE answer IS NOT NULL;
CALL app.fence_sealed('app.idempotency_keys', 'answer');
COMMENT ON COLUMN app.idempotency_keys.answer IS
  'Headers and body, sealed (sluiceway.infra.envelope), since an answer can hold a new key''s secret; null: still at work.';
"""

USAGE = """
CREATE TABLE app.quotas (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  measure text NOT NULL CHECK (measure IN ('events', 'ingested_bytes', 'stored_bytes', 'seats')),
  soft bigint CHECK (soft >= 0),
  hard bigint CHECK (hard >= 0),
  ceiling bigint CHECK (ceiling >= 0),
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text NOT NULL,
  PRIMARY KEY (workspace_id, measure)
);
COMMENT ON TABLE app.quotas IS
  'How much a workspace may use: past soft people are told, past hard nothing more is taken.'
  ' Personal: who changed it last. Kept: as long as the workspace.';
COMMENT ON COLUMN app.quotas.ceiling IS 'Set by the installation''s operator: the workspace cannot allow itself more.';

CREATE TABLE app.usage_days (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  day date NOT NULL,
  events bigint NOT NULL,
  bytes bigint NOT NULL,
  PRIMARY KEY (workspace_id, day, pipeline_id)
);
COMMENT ON TABLE app.usage_days IS
  'Events and bytes accepted, by pipeline and UTC day. Personal: none. Kept: as long as the pipeline.';
COMMENT ON COLUMN app.usage_days.bytes IS 'Of bodies after decompression.';

CREATE TABLE app.usage_stored (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  bronze_bytes bigint NOT NULL,
  silver_bytes bigint NOT NULL,
  dead_letter_bytes bigint NOT NULL,
  measured_at timestamptz NOT NULL,
  PRIMARY KEY (workspace_id, pipeline_id)
);
COMMENT ON TABLE app.usage_stored IS
  'Bytes stored by pipeline when last measured. Personal: none. Kept: as long as the pipeline.';
COMMENT ON COLUMN app.usage_stored.silver_bytes IS 'Its own tables with indexes, and its share of the samples.';

CREATE TABLE app.quota_notices (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  measure text NOT NULL,
  period date NOT NULL,
  level text NOT NULL CHECK (level IN ('soft', 'hard')),
  noted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, measure, period, level)
);
COMMENT ON TABLE app.quota_notices IS
  'That a limit was reached, told once a month. Personal: none. Kept: as long as the workspace.';

CALL app.isolate('app.quotas');
CALL app.isolate('app.usage_days');
CALL app.isolate('app.usage_stored');
CALL app.isolate('app.quota_notices');
CREATE POLICY writer_works ON app.usage_stored TO sluiceway_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_reads ON app.usage_days FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_reads ON app.quotas FOR SELECT TO sluiceway_writer USING (true);
CREATE POLICY writer_works ON app.quota_notices TO sluiceway_writer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.quotas TO sluiceway_app;
GRANT SELECT ON app.usage_days, app.usage_stored, app.quota_notices TO sluiceway_app;
GRANT SELECT ON app.usage_days, app.quotas TO sluiceway_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.usage_stored, app.quota_notices TO sluiceway_writer;

-- One call a few seconds apart carries what a process accepted, whichever workspaces it was for.
CREATE FUNCTION app.note_usage(pipelines integer[], days date[], events bigint[], bytes bigint[])
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  INSERT INTO app.usage_days AS known (workspace_id, pipeline_id, day, events, bytes)
  SELECT o.workspace_id, o.id, told.d, told.e, told.b
  FROM unnest(pipelines, days, events, bytes) AS told (p, d, e, b) JOIN app.pipelines o ON o.id = told.p
  ORDER BY 1, 2, 3
  ON CONFLICT (workspace_id, day, pipeline_id)
  DO UPDATE SET events = known.events + excluded.events, bytes = known.bytes + excluded.bytes
$$;
-- What is left to each workspace with a hard limit on what it may send or store.
CREATE FUNCTION app.quota_room(month date)
RETURNS TABLE (workspace_id integer, measure text, hard bigint, used bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT q.workspace_id, q.measure, least(q.hard, q.ceiling),
    CASE q.measure
      WHEN 'stored_bytes' THEN
        (SELECT coalesce(sum(s.bronze_bytes + s.silver_bytes + s.dead_letter_bytes), 0)::bigint
         FROM app.usage_stored s WHERE s.workspace_id = q.workspace_id)
      ELSE
        (SELECT coalesce(sum(CASE q.measure WHEN 'events' THEN d.events ELSE d.bytes END), 0)::bigint
         FROM app.usage_days d
         WHERE d.workspace_id = q.workspace_id AND d.day >= month AND d.day < month + interval '1 month')
    END
  FROM app.quotas q
  WHERE q.measure <> 'seats' AND least(q.hard, q.ceiling) IS NOT NULL
$$;
REVOKE ALL ON FUNCTION app.note_usage, app.quota_room FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.note_usage, app.quota_room TO sluiceway_app;
"""

PRIVACY = """
-- Everything that is kept about one person, whichever workspace it is in: found by the references to
-- app.users, so that a new table is part of it. What goes with the person is told whole but for hashes and
-- sealed values; what they only made (and what stays) is told by its key, name and times.
CREATE FUNCTION app.personal_data(person uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  reference record;
  part jsonb;
  found jsonb := '{}';
BEGIN
  IF person IS DISTINCT FROM nullif(current_setting('sluiceway.user_id', true), '')::uuid THEN
    RAISE EXCEPTION 'a person''s data is told to that person alone' USING ERRCODE = 'insufficient_privilege';
  END IF;
  SELECT jsonb_build_object('app.users', jsonb_build_array(to_jsonb(u) - 'password_hash')) INTO found
  FROM app.users u WHERE u.id = person;
  FOR reference IN
    SELECT k.conrelid::regclass AS relation, k.conrelid AS oid, n.nspname || '.' || c.relname AS name,
           a.attname AS link, k.confdeltype = 'c' AS own
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    WHERE k.contype = 'f' AND k.confrelid = 'app.users'::regclass AND cardinality(k.conkey) = 1
      AND NOT c.relispartition
    ORDER BY 3, 4
  LOOP
    EXECUTE format(
      'SELECT jsonb_agg((SELECT coalesce(jsonb_object_agg(e.key, e.value), ''{}'') FROM jsonb_each(to_jsonb(t)) e'
      ' WHERE NOT (e.key = ANY ($2)) AND ($3 IS NULL OR e.key = ANY ($3)))) FROM %s t WHERE t.%I = $1',
      reference.relation, reference.link)
    INTO part
    USING person,
      ARRAY(SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = reference.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND (a.atttypid = 'bytea'::regtype OR a.attname LIKE '%hash' OR a.attname LIKE '%secret%')),
      CASE WHEN reference.own THEN NULL ELSE ARRAY(
        SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = reference.oid AND a.attnum > 0 AND (
          a.attname IN ('id', 'workspace_id', 'name', 'slug', 'title', 'version', 'created_at', 'updated_at')
          OR a.attname = reference.link)) END;
    IF part IS NOT NULL THEN
      found := found || jsonb_build_object(reference.name,
        coalesce(found -> reference.name, '[]'::jsonb) || part);
    END IF;
  END LOOP;
  RETURN found;
END $$;
COMMENT ON FUNCTION app.personal_data IS
  'By table, what is kept about the person that this transaction acts for; no hash, key or sealed value.';

-- Workspaces that would be left without an owner.
CREATE FUNCTION app.last_owner_of(person uuid)
RETURNS TABLE (workspace_id integer, slug text, name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, w.slug, w.name
  FROM app.memberships m JOIN app.workspaces w ON w.id = m.workspace_id
  WHERE m.user_id = person AND m.role = 'owner' AND NOT EXISTS (
    SELECT FROM app.memberships o JOIN app.users u ON u.id = o.user_id AND u.disabled_at IS NULL
    WHERE o.workspace_id = m.workspace_id AND o.role = 'owner' AND o.user_id <> person)
  ORDER BY w.id
$$;

-- Past their time in any workspace; what else has an end is swept where it is kept.
CREATE FUNCTION app.sweep_expired(now_at timestamptz)
RETURNS TABLE (sessions bigint, answers bigint, refusals bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  WITH s AS (DELETE FROM app.sessions WHERE expires_at <= now_at RETURNING 1),
       a AS (DELETE FROM app.idempotency_keys WHERE created_at < now_at - interval '1 day' RETURNING 1),
       r AS (DELETE FROM app.intake_refusals WHERE minute < now_at - interval '1 day' RETURNING 1)
  SELECT (SELECT count(*) FROM s), (SELECT count(*) FROM a), (SELECT count(*) FROM r)
$$;
REVOKE ALL ON FUNCTION app.personal_data, app.last_owner_of, app.sweep_expired FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.personal_data, app.last_owner_of TO sluiceway_app;
GRANT EXECUTE ON FUNCTION app.sweep_expired TO sluiceway_writer;
CREATE INDEX sessions_end ON app.sessions (expires_at);
"""

COMMENTS = """
COMMENT ON TABLE app.organizations IS
  'Tenants. Personal: none. Kept: until removed by the operator.';
COMMENT ON TABLE app.workspaces IS
  'Rooms of a tenant, which own everything else. Personal: none. Kept: until removed by the operator.';
COMMENT ON TABLE app.users IS
  'People who can sign in. Personal: e-mail address, name, argon2id hash of the password. Kept: until the account is deleted.';
COMMENT ON TABLE app.memberships IS
  'Which person is what in which workspace. Personal: the role. Kept: until the person leaves or the account is deleted.';
COMMENT ON TABLE app.sessions IS
  'Sign-ins. Personal: address, browser, times. Kept: until signed out or expired (SLUICEWAY_SESSION_DAYS); swept every hour.';
COMMENT ON TABLE app.api_keys IS
  'Keys of programs; of the secret only SHA-256. Personal: who made it. Kept: as long as the workspace, without the maker once their account is deleted.';
COMMENT ON TABLE app.pipelines IS
  'What takes events in. Personal: none. Kept: as long as the workspace.';
COMMENT ON TABLE app.pipeline_versions IS
  'Each version of a pipeline as it was applied. Personal: who applied it. Kept: as long as the pipeline, without the author once their account is deleted.';
COMMENT ON TABLE app.pipeline_state IS
  'How far each pipeline is, in counts and times. Personal: none. Kept: as long as the pipeline.';
COMMENT ON TABLE app.pipeline_secrets IS
  'Secrets of senders, sealed; several may be valid at a time, so that one can be changed without a gap. Personal: who added it. Kept: until removed.';
COMMENT ON TABLE app.spool_cursors IS
  'How far each pipeline of each node''s spool is loaded. Personal: none. Kept: as long as the pipeline.';
COMMENT ON TABLE app.spool_positions IS
  'Everything before this is loaded, whatever its pipeline; app.spool_cursors decides for each pipeline. Personal: none. Kept: as long as the node.';
COMMENT ON TABLE app.spool_leases IS
  'Who loads a pipeline''s events from a node''s spool. Valid while the holder lives (app.loaders.expires_at).'
  ' For order and efficiency only: exactly once rests on app.spool_cursors. Personal: none. Kept: while held.';
COMMENT ON TABLE app.loaders IS
  'Processes that load. A clean end removes its row, a dead one''s expires. Personal: none. Kept: while they live.';
COMMENT ON TABLE app.outbox IS
  'What has to be done after a commit. Personal: addressees of mail, in what waits to be sent. Kept: 7 days after it is done.';
COMMENT ON TABLE app.dashboards IS
  'Dashboards with their layouts. Personal: who made and changed it. Kept: until removed, without the person once their account is deleted.';
COMMENT ON TABLE app.idempotency_keys IS
  'Answers to POSTs with an Idempotency-Key, sealed. Personal: the caller''s id. Kept: a day.';
COMMENT ON TABLE app.replays IS
  'Replays that were asked for. Personal: the id of who asked. Kept: as long as the pipeline.';
COMMENT ON TABLE app.rate_buckets IS
  'Token buckets of limited things (pipeline:<id>:events, pipeline:<id>:bytes, key:<id>), shared by all processes. Personal: none. Kept: as long as the workspace.';
COMMENT ON TABLE app.intake_refusals IS
  'Requests refused by a limit or a high-water mark, by minute. Personal: none. Kept: a day.';
COMMENT ON TABLE app.process_reports IS
  'The last word of every process: figures and its own state, without any tenant''s names or data. Personal: none. Kept: a day after its last word.';
COMMENT ON TABLE silver.batches IS
  'One row a loaded batch, in counts and times. Personal: none. Kept: the pipeline''s retention.';
COMMENT ON TABLE silver.series IS
  'Names of time series: metric and dimension values. Personal: whatever the pipeline''s dimensions hold. Kept: as long as the pipeline.';
COMMENT ON TABLE silver.samples IS
  'Values of time series. Personal: none beside the series'' names. Kept: the pipeline''s retention.';
COMMENT ON TABLE silver.event_keys IS
  'Event ids of the de-duplication window; each weekly partition has a unique index (pipeline_id, day, event_id).'
  ' Personal: whatever the senders'' event ids hold. Kept: the window of the pipeline, by whole weeks.';
COMMENT ON TABLE gold.dirty_buckets IS
  'Append-only: a load never waits for a refresh. A refresh deletes exactly the ids it saw before it read the samples.'
  ' Personal: none. Kept: until refreshed.';
COMMENT ON TABLE gold.aggregates IS
  'Continuous aggregates that dbt built; written by its materialization. Personal: none. Kept: as long as the model.';
COMMENT ON TABLE gold.floors IS
  'Where the rows of a source begin since older ones were dropped: buckets below it are never computed again. Personal: none. Kept: for ever.';
COMMENT ON TABLE gold.builds IS
  'Successful dbt runs of the platform itself, by what they were made from. Personal: none. Kept: for ever.';
COMMENT ON TABLE quality.suites IS
  'Versions of quality suites. Personal: none. Kept: as long as the workspace.';
COMMENT ON TABLE quality.results IS
  'What the gate found, summed per expectation and minute. Personal: none. Kept: the pipeline''s retention.';
COMMENT ON TABLE quality.dead_letters IS
  'Events that could not become silver, with their bytes and the headers that the pipeline reads. Personal: whatever the events hold. Kept: as long as the pipeline.';
"""

COMMENTED_BEFORE = """
COMMENT ON COLUMN app.idempotency_keys.answer IS
  'Headers and body, sealed with AES-256-GCM (an answer can hold a new key''s secret); null: still at work.';
COMMENT ON TABLE app.organizations IS NULL;
COMMENT ON TABLE app.workspaces IS NULL;
COMMENT ON TABLE app.users IS NULL;
COMMENT ON TABLE app.memberships IS NULL;
COMMENT ON TABLE app.sessions IS NULL;
COMMENT ON TABLE app.api_keys IS NULL;
COMMENT ON TABLE app.pipelines IS NULL;
COMMENT ON TABLE app.pipeline_versions IS NULL;
COMMENT ON TABLE app.pipeline_state IS NULL;
COMMENT ON TABLE app.pipeline_secrets IS 'Several may be valid at a time, so that a sender''s secret can be changed without a gap.';
COMMENT ON TABLE app.spool_cursors IS NULL;
COMMENT ON TABLE app.spool_positions IS
  'Everything before this is loaded, whatever its pipeline; app.spool_cursors decides for each pipeline.';
COMMENT ON TABLE app.spool_leases IS
  'Who loads a pipeline''s events from a node''s spool. Valid while the holder lives (app.loaders.expires_at).'
  ' For order and efficiency only: exactly once rests on app.spool_cursors.';
COMMENT ON TABLE app.loaders IS 'Processes that load. A clean end removes its row, a dead one''s expires.';
COMMENT ON TABLE app.outbox IS NULL;
COMMENT ON TABLE app.dashboards IS NULL;
COMMENT ON TABLE app.idempotency_keys IS 'Answers to POSTs with an Idempotency-Key, kept for a day.';
COMMENT ON TABLE app.replays IS NULL;
COMMENT ON TABLE app.rate_buckets IS
  'Token buckets of limited things (pipeline:<id>:events, pipeline:<id>:bytes, key:<id>), shared by all processes.';
COMMENT ON TABLE app.intake_refusals IS
  'Requests refused by a limit or a high-water mark, by minute; kept for a day.';
COMMENT ON TABLE app.process_reports IS
  'The last word of every process: figures and its own state, without any tenant''s names or data.';
COMMENT ON TABLE silver.batches IS NULL;
COMMENT ON TABLE silver.series IS NULL;
COMMENT ON TABLE silver.samples IS NULL;
COMMENT ON TABLE silver.event_keys IS
  'Event ids of the de-duplication window; each weekly partition has a unique index (pipeline_id, day, event_id).';
COMMENT ON TABLE gold.dirty_buckets IS
  'Append-only: a load never waits for a refresh. A refresh deletes exactly the ids it saw before it read the samples.';
COMMENT ON TABLE gold.aggregates IS 'Continuous aggregates that dbt built; written by its materialization.';
COMMENT ON TABLE gold.floors IS
  'Where the rows of a source begin since older ones were dropped: buckets below it are never computed again.';
COMMENT ON TABLE gold.builds IS 'Successful dbt runs of the platform itself, by what they were made from.';
COMMENT ON TABLE quality.suites IS NULL;
COMMENT ON TABLE quality.results IS 'What the gate found, summed per expectation and minute.';
COMMENT ON TABLE quality.dead_letters IS NULL;
"""


def upgrade() -> None:
    for statements in (KEYS, USAGE, PRIVACY, COMMENTS):
        run(statements)


def downgrade() -> None:
    run("""
    DROP INDEX app.sessions_end;
    DROP FUNCTION app.sweep_expired, app.last_owner_of, app.personal_data, app.quota_room, app.note_usage;
    DROP TABLE app.quota_notices, app.usage_stored, app.usage_days, app.quotas;
    DROP TRIGGER sealed_answer ON app.idempotency_keys;
    DROP TRIGGER sealed_sealed ON app.pipeline_secrets;
    DROP PROCEDURE app.fence_sealed;
    DROP FUNCTION app.check_seal, app.known_keys;
    DROP TABLE app.encryption_keys;
    """)
    run(COMMENTED_BEFORE)
