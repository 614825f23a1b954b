"""Row rules and column masks: what is kept of them, and how the database itself holds to the row rules.

A transaction that reads data for somebody says with whose eyes (`sluiceway.access`: a JSON list of one or two
of `{"roles": [...], "attributes": {"name": [...]}}`; the second is who looks through the first). A restrictive
policy stands for each rule on its silver table or mart, and one on everything that is kept by series. They ask
these functions once a statement, never once a row. Where nobody said who looks, no row passes.

Rules are written by the owner alone: a rule's compiled condition becomes part of a policy.
"""

from sluiceway.migrations.script import put_back, run

revision = "0016"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE app.rules (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  name text NOT NULL,
  version integer NOT NULL,
  pipeline_id integer REFERENCES app.pipelines ON DELETE CASCADE,
  model text,
  roles text[] NOT NULL DEFAULT '{}',
  exempt text[] NOT NULL DEFAULT '{}',
  spec jsonb NOT NULL,
  condition text,
  series_condition text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by uuid REFERENCES app.users ON DELETE SET NULL,
  UNIQUE (workspace_id, name),
  CHECK ((pipeline_id IS NULL) <> (model IS NULL)),
  CHECK ((condition IS NULL) = (series_condition IS NULL))
);
CREATE INDEX rules_pipeline ON app.rules (pipeline_id);
COMMENT ON TABLE app.rules IS 'Row rules and column masks as they hold now; written by the owner alone. Personal: who changed it last. Kept: until deleted.';
COMMENT ON COLUMN app.rules.model IS 'Name of a relation in schema marts.';
COMMENT ON COLUMN app.rules.roles IS 'Whom it concerns: holders of any of these; empty: everyone.';
COMMENT ON COLUMN app.rules.exempt IS 'Holders of any of these it does not concern.';
COMMENT ON COLUMN app.rules.condition IS 'SQL over the table''s columns, part of its policy; null: it only masks.';
COMMENT ON COLUMN app.rules.series_condition IS 'The same over silver.series (dimensions).';
CREATE TABLE app.rule_versions (
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  name text NOT NULL,
  version integer NOT NULL,
  deleted boolean NOT NULL DEFAULT false,
  spec jsonb NOT NULL,
  source text NOT NULL DEFAULT '',
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, name, version)
);
COMMENT ON TABLE app.rule_versions IS 'Every version a rule ever had, and when it was deleted. Personal: who made it. Kept: for good.';
CREATE TABLE app.rule_heads (
  workspace_id integer PRIMARY KEY REFERENCES app.workspaces,
  version bigint NOT NULL
);
COMMENT ON TABLE app.rule_heads IS 'Counts changes of a workspace''s rules: what was kept under another count is old. Personal: none. Kept: with the workspace.';
"""

EYES = """
CREATE FUNCTION app.eye(number integer) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(told) = 'array' AND jsonb_typeof(told -> number) = 'object' THEN told -> number END
  FROM (SELECT nullif(current_setting('sluiceway.access', true), '')::jsonb AS told) AS t
$$;
COMMENT ON FUNCTION app.eye IS
  'Who looks (0), and who looks through them (1), as SET LOCAL sluiceway.access says; null: nobody.';

CREATE FUNCTION app.rule_spares(eye integer, concerned text[], exempt text[]) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN app.eye(eye) IS NULL THEN eye > 0 AND app.eye(0) IS NOT NULL
    ELSE coalesce(app.eye(eye) -> 'roles' ?| exempt, false)
      OR NOT (cardinality(concerned) = 0 OR coalesce(app.eye(eye) -> 'roles' ?| concerned, false))
  END
$$;
COMMENT ON FUNCTION app.rule_spares IS 'Whether a rule does not concern these eyes. Nobody known: it does.';

CREATE FUNCTION app.rule_judges(eye integer, needed text[]) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT app.eye(eye) IS NOT NULL AND NOT EXISTS (
    SELECT FROM unnest(needed) AS n (name)
    WHERE coalesce(jsonb_array_length(app.eye(eye) -> 'attributes' -> n.name), 0) = 0)
$$;
COMMENT ON FUNCTION app.rule_judges IS
  'Whether these eyes have every attribute a rule asks for; who lacks one sees no row of it.';

CREATE FUNCTION app.rule_values(eye integer, attribute text) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT ARRAY(SELECT jsonb_array_elements_text(app.eye(eye) -> 'attributes' -> attribute))
$$;
-- What is no number is left out rather than an error: errors tell.
CREATE FUNCTION app.rule_integers(eye integer, attribute text) RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT ARRAY(SELECT CASE WHEN v ~ '^-?[0-9]{1,18}$' THEN v::bigint END
               FROM unnest(app.rule_values(eye, attribute)) AS v WHERE v ~ '^-?[0-9]{1,18}$')
$$;
CREATE FUNCTION app.rule_numbers(eye integer, attribute text) RETURNS double precision[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT ARRAY(SELECT CASE WHEN v ~ '^-?[0-9]{1,15}(\\.[0-9]{1,15})?$' THEN v::double precision END
               FROM unnest(app.rule_values(eye, attribute)) AS v
               WHERE v ~ '^-?[0-9]{1,15}(\\.[0-9]{1,15})?$')
$$;

CREATE FUNCTION app.pseudonym(value text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT left(encode(sha256(convert_to(current_setting('sluiceway.pseudonym_key') || value, 'UTF8')), 'hex'), 16)
$$;
COMMENT ON FUNCTION app.pseudonym IS
  'The same 16 characters for the same value in one workspace; without the installation''s key nobody can try values.';
"""

SERIES = """
CREATE FUNCTION app.ruled_pipelines() RETURNS integer[]
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT coalesce(array_agg(DISTINCT pipeline_id), '{}') FROM app.rules
  WHERE workspace_id = app.current_workspace() AND pipeline_id IS NOT NULL AND condition IS NOT NULL
    AND NOT (app.rule_spares(0, roles, exempt) AND app.rule_spares(1, roles, exempt))
$$;
COMMENT ON FUNCTION app.ruled_pipelines IS 'Pipelines of which whoever looks may see certain rows only.';

CREATE FUNCTION app.visible_series() RETURNS SETOF bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = app, pg_temp ROWS 1000 AS $$
DECLARE
  workspace integer := app.current_workspace();
  about integer := nullif(current_setting('sluiceway.pipeline', true), '')::integer;
  ruled record;
BEGIN
  -- A query names the pipeline it is about: that can only make this fewer.
  FOR ruled IN
    SELECT pipeline_id, string_agg('(' || series_condition || ')', ' AND ') AS conditions FROM app.rules
    WHERE workspace_id = workspace AND condition IS NOT NULL AND pipeline_id = ANY (app.ruled_pipelines())
      AND (about IS NULL OR pipeline_id = about)
    GROUP BY pipeline_id
  LOOP
    RETURN QUERY EXECUTE
      'SELECT series_id FROM silver.series WHERE workspace_id = $1 AND pipeline_id = $2 AND '
      || ruled.conditions USING workspace, ruled.pipeline_id;
  END LOOP;
END $$;
COMMENT ON FUNCTION app.visible_series IS 'Series of ruled pipelines that whoever looks may see.';
REVOKE ALL ON FUNCTION app.ruled_pipelines, app.visible_series FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.ruled_pipelines, app.visible_series
  TO sluiceway_reader, sluiceway_app, sluiceway_modeler;

-- Whoever follows rows has to tell rows that have gone from rows that are not theirs: a number, no row.
CREATE FUNCTION app.next_seq(pipeline integer, after bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  relation text := (
    SELECT silver_table FROM app.pipelines WHERE id = pipeline AND workspace_id = app.current_workspace());
  found bigint;
BEGIN
  IF relation IS NOT NULL THEN
    EXECUTE format('SELECT min(seq) FROM silver.%I WHERE seq > $1', relation) INTO found USING after;
  END IF;
  RETURN found;
END $$;
REVOKE ALL ON FUNCTION app.next_seq FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.next_seq TO sluiceway_reader;

-- What is kept by series: only series whose dimensions the rules let through. What is kept of all series
-- together (a modeler's own aggregate without series_id) tells of every row: nothing of a ruled pipeline.
CREATE PROCEDURE app.rule_series(relation regclass)
LANGUAGE plpgsql AS $$
DECLARE
  by_series boolean := EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = relation AND attname = 'series_id' AND NOT attisdropped);
BEGIN
  EXECUTE format('DROP POLICY IF EXISTS row_rules ON %s', relation);
  EXECUTE format(
    'CREATE POLICY row_rules ON %s AS RESTRICTIVE FOR SELECT TO sluiceway_reader USING ('
    'pipeline_id <> ALL ((SELECT app.ruled_pipelines())::integer[])%s)',
    relation, CASE WHEN by_series THEN ' OR series_id IN (SELECT app.visible_series())' ELSE '' END);
END $$;

-- One restrictive policy for each rule on a silver table or a mart.
CREATE PROCEDURE app.enforce_rules(relation regclass)
LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
  FOR r IN SELECT polname FROM pg_policy WHERE polrelid = relation AND polname ~ '^rule_[0-9]+$' LOOP
    EXECUTE format('DROP POLICY %I ON %s', r.polname, relation);
  END LOOP;
  FOR r IN
    SELECT u.id, u.workspace_id, u.condition FROM app.rules u LEFT JOIN app.pipelines p ON p.id = u.pipeline_id
    WHERE u.condition IS NOT NULL
      AND relation = to_regclass(CASE WHEN u.model IS NULL THEN format('silver.%I', p.silver_table)
                                      ELSE format('marts.%I', u.model) END)
    ORDER BY u.id
  LOOP
    BEGIN
      EXECUTE format(
        'CREATE POLICY rule_%s ON %s AS RESTRICTIVE FOR SELECT TO sluiceway_reader USING'
        ' (workspace_id <> %s OR (%s))', r.id, relation, r.workspace_id, r.condition);
    EXCEPTION WHEN undefined_column OR undefined_function OR datatype_mismatch THEN
      -- A mart that was built anew without what its rule asks for: nobody sees what nobody can judge.
      EXECUTE format(
        'CREATE POLICY rule_%s ON %s AS RESTRICTIVE FOR SELECT TO sluiceway_reader USING'
        ' (workspace_id <> %s)', r.id, relation, r.workspace_id);
    END;
  END LOOP;
END $$;

CREATE OR REPLACE PROCEDURE app.isolate(relation regclass)
LANGUAGE plpgsql AS $$
DECLARE
  schema_name text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = relation);
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
  EXECUTE format('DROP POLICY IF EXISTS workspace_isolation ON %s', relation);
  EXECUTE format('DROP POLICY IF EXISTS modeler_reads ON %s', relation);
  EXECUTE format(
    'CREATE POLICY workspace_isolation ON %s USING (workspace_id = (SELECT app.current_workspace()))'
    ' WITH CHECK (workspace_id = (SELECT app.current_workspace()))', relation);
  -- The modelers' role builds every workspace's gold at once; it can read, never write, the rest.
  EXECUTE format('CREATE POLICY modeler_reads ON %s FOR SELECT TO sluiceway_modeler USING (true)', relation);
  IF schema_name IN ('marts', 'silver') THEN
    CALL app.enforce_rules(relation);
  ELSIF schema_name = 'gold' AND EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = relation AND attname = 'pipeline_id' AND NOT attisdropped)
  THEN
    CALL app.rule_series(relation);
  END IF;
END $$;
"""

ENFORCED = """
CALL app.isolate('app.rules');
CALL app.isolate('app.rule_versions');
CALL app.isolate('app.rule_heads');
GRANT SELECT ON app.rules, app.rule_heads TO sluiceway_app, sluiceway_reader, sluiceway_modeler;
GRANT SELECT ON app.rule_versions TO sluiceway_app;

DO $$
DECLARE relation regclass;
BEGIN
  FOR relation IN
    SELECT c.oid::regclass FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'pipeline_id' AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relrowsecurity
      AND (c.oid IN ('silver.series'::regclass, 'silver.samples'::regclass)
           OR (c.relnamespace = 'gold'::regnamespace AND c.oid <> 'gold.dirty_buckets'::regclass))
  LOOP
    CALL app.rule_series(relation);
  END LOOP;
  -- The catalog's role has no business with the rows themselves: they are read with somebody's eyes.
  FOR relation IN
    SELECT to_regclass(format('silver.%I', silver_table)) FROM app.pipelines
    UNION ALL SELECT 'silver.series'::regclass
  LOOP
    IF relation IS NOT NULL THEN
      EXECUTE format('REVOKE SELECT ON %s FROM sluiceway_app', relation);
    END IF;
  END LOOP;
END $$;
"""


def upgrade() -> None:
    for statements in (TABLES, EYES, SERIES, ENFORCED):
        run(statements)


def downgrade() -> None:
    run("""
    DO $$
    DECLARE r record;
    BEGIN
      FOR r IN
        SELECT p.polname, p.polrelid::regclass AS relation FROM pg_policy p
        WHERE p.polname = 'row_rules' OR p.polname ~ '^rule_[0-9]+$'
      LOOP
        EXECUTE format('DROP POLICY %I ON %s', r.polname, r.relation);
      END LOOP;
      FOR r IN SELECT to_regclass(format('silver.%I', silver_table)) AS relation FROM app.pipelines LOOP
        IF r.relation IS NOT NULL THEN
          EXECUTE format('GRANT SELECT ON %s TO sluiceway_app', r.relation);
        END IF;
      END LOOP;
    END $$;
    GRANT SELECT ON silver.series TO sluiceway_app;
    DROP PROCEDURE app.enforce_rules, app.rule_series;
    DROP FUNCTION app.next_seq, app.visible_series, app.ruled_pipelines, app.pseudonym, app.rule_numbers, app.rule_integers,
      app.rule_values, app.rule_judges, app.rule_spares, app.eye;
    DROP TABLE app.rule_heads, app.rule_versions, app.rules;
    """)
    put_back("0001", "app.isolate")
