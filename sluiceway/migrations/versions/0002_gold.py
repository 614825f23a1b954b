"""Gold: the registry of continuous aggregates, floors below which history stands, and refreshing.

Who reads an aggregate reads `gold.<name>`, a view made by dbt: what is materialized but for the dirty
buckets, and the dirty buckets aggregated from the level below. Who loads appends rows to
`gold.dirty_buckets` and never waits. A refresh takes the ids it sees, computes their buckets with a later
snapshot, and deletes those ids and no other: a load that commits meanwhile keeps its own.
"""

from sluiceway.migrations.script import run

revision = "0002"
down_revision = "0006"
branch_labels = None
depends_on = None

REGISTRY = """
CREATE TABLE gold.aggregates (
  name text PRIMARY KEY,
  level text NOT NULL UNIQUE,
  backend text NOT NULL CHECK (backend IN ('postgresql', 'timescaledb')),
  materialized text NOT NULL,
  source text NOT NULL,
  source_time text NOT NULL,
  bucket_width interval NOT NULL CHECK (
    extract(month FROM bucket_width) = 0 AND extract(year FROM bucket_width) = 0
    AND bucket_width >= interval '1 minute'
    AND mod(extract(epoch FROM bucket_width), 60) = 0),
  columns text[] NOT NULL,
  query text NOT NULL,
  rank integer NOT NULL,
  retention interval,
  checksum text,
  updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gold.aggregates IS 'Continuous aggregates that dbt built; written by its materialization.';
COMMENT ON COLUMN gold.aggregates.level IS
  'Its rows in gold.dirty_buckets. Loads write 1m, 1h and 1d; every other level is spread from 1m.';
COMMENT ON COLUMN gold.aggregates.query IS 'The model''s SQL with __input__ for the relation it aggregates.';
COMMENT ON COLUMN gold.aggregates.rank IS 'How far from silver: 1 reads silver, 2 reads an aggregate of rank 1.';
COMMENT ON COLUMN gold.aggregates.checksum IS 'Of the definition that the retained rows were last filled with.';

CREATE TABLE gold.floors (
  source text PRIMARY KEY,
  floor timestamptz NOT NULL,
  moved_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gold.floors IS
  'Where the rows of a source begin since older ones were dropped: buckets below it are never computed again.';

CREATE TABLE gold.builds (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  checksum text NOT NULL,
  elapsed_s double precision NOT NULL,
  built_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gold.builds IS 'Successful dbt runs of the platform itself, by what they were made from.';

GRANT SELECT, INSERT, UPDATE, DELETE ON gold.aggregates, gold.floors, gold.builds TO sluiceway_modeler;
GRANT SELECT ON gold.aggregates, gold.floors, gold.builds TO sluiceway_writer, sluiceway_app, sluiceway_reader;

ALTER TABLE gold.dirty_buckets DROP CONSTRAINT dirty_buckets_level_check;
-- Rows come and go all the time: dead ones must not pile up under the reads, nor statistics go stale.
ALTER TABLE gold.dirty_buckets SET (
  autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_vacuum_insert_threshold = 5000, autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_threshold = 1000, autovacuum_analyze_scale_factor = 0.1);

-- Weeks begin on Monday, as TimescaleDB's time_bucket has it.
CREATE FUNCTION gold.time_bucket(width interval, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
$$ SELECT date_bin(width, at, timestamptz '2000-01-03 00:00:00+00') $$;

-- A modeler's own aggregate hears of every changed minute too. As the owner: a load need not know of it.
CREATE FUNCTION gold.spread_dirty() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = gold, pg_temp AS $$
BEGIN
  INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)
  SELECT DISTINCT n.workspace_id, n.pipeline_id, a.level, gold.time_bucket(a.bucket_width, n.bucket)
  FROM gold.aggregates a JOIN added n ON n.level = '1m'
  WHERE a.level NOT IN ('1m', '1h', '1d');
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION gold.spread_dirty FROM PUBLIC;
CREATE TRIGGER spread_dirty AFTER INSERT ON gold.dirty_buckets
REFERENCING NEW TABLE AS added FOR EACH STATEMENT
WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION gold.spread_dirty();
"""

REFRESH = """
CREATE FUNCTION gold.floor_of(source_name text) RETURNS timestamptz
LANGUAGE sql STABLE AS
$$ SELECT coalesce((SELECT floor FROM gold.floors WHERE source = source_name), '-infinity') $$;

-- Recomputes on plain PostgreSQL; returns how many buckets (null where all in a range were, by force).
CREATE FUNCTION gold.refresh_buckets(
  a gold.aggregates, window_start timestamptz, window_end timestamptz, force boolean
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  low timestamptz := greatest(coalesce(window_start, '-infinity'), gold.floor_of(a.source));
  high timestamptz := coalesce(window_end, 'infinity') - a.bucket_width;
  ids bigint[];
  pipelines integer[];
  buckets timestamptz[];
  input text;
  chosen text := array_to_string(ARRAY(SELECT quote_ident(c) FROM unnest(a.columns) c), ', ');
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'a refresh needs the isolation level read committed: it must see later than its claim';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('gold.aggregates ' || a.name, 0));
  PERFORM set_config('work_mem', '64MB', true);
  IF isfinite(low) THEN  -- the first bucket that begins in the window
    low := gold.time_bucket(a.bucket_width, low - interval '1 microsecond') + a.bucket_width;
  END IF;

  -- What lies below the floor is taken as well, and forgotten.
  WITH claimed AS MATERIALIZED (
    SELECT id, pipeline_id, bucket FROM gold.dirty_buckets
    WHERE level = a.level AND bucket >= coalesce(window_start, '-infinity') AND bucket <= high
  ), keys AS (
    SELECT DISTINCT pipeline_id, bucket FROM claimed WHERE bucket >= low
  )
  SELECT (SELECT array_agg(id) FROM claimed),
         (SELECT array_agg(pipeline_id ORDER BY pipeline_id, bucket) FROM keys),
         (SELECT array_agg(bucket ORDER BY pipeline_id, bucket) FROM keys)
  INTO ids, pipelines, buckets;

  IF force THEN
    EXECUTE format('DELETE FROM %s WHERE bucket >= $1 AND bucket <= $2', a.materialized) USING low, high;
    input := format(
      '(SELECT * FROM %s s WHERE s.%I >= $1 AND s.%2$I < $2::timestamptz + $3)', a.source, a.source_time);
    EXECUTE format('INSERT INTO %s (%s) SELECT %2$s FROM (%s) q WHERE bucket >= $1 AND bucket <= $2'
                   ' ORDER BY pipeline_id, bucket', a.materialized, chosen, replace(a.query, '__input__', input))
    USING low, high, a.bucket_width;
  ELSIF buckets IS NOT NULL THEN
    EXECUTE format(
      'DELETE FROM %s m USING unnest($1, $2) AS d (pipeline_id, bucket)'
      ' WHERE m.pipeline_id = d.pipeline_id AND m.bucket = d.bucket', a.materialized)
    USING pipelines, buckets;
    -- Neighbouring buckets are read in one go: a year's backfill is few ranges, not 200,000 look-ups.
    input := format(
      '(SELECT i.* FROM ('
      '   SELECT pipeline_id, min(bucket) AS low, max(bucket) + $3 AS high'
      '   FROM (SELECT pipeline_id, bucket,'
      '           bucket - $3 * row_number() OVER (PARTITION BY pipeline_id ORDER BY bucket) AS island'
      '         FROM unnest($1, $2) AS d (pipeline_id, bucket)) numbered'
      '   GROUP BY pipeline_id, island) r'
      ' CROSS JOIN LATERAL (SELECT * FROM %s s'
      '   WHERE s.pipeline_id = r.pipeline_id AND s.%I >= r.low AND s.%2$I < r.high OFFSET 0) i)',
      a.source, a.source_time);
    EXECUTE format('INSERT INTO %s (%s) SELECT %2$s FROM (%s) q ORDER BY pipeline_id, bucket',
                   a.materialized, chosen, replace(a.query, '__input__', input))
    USING pipelines, buckets, a.bucket_width;
  END IF;

  DELETE FROM gold.dirty_buckets WHERE id = ANY (ids);
  RETURN CASE WHEN force THEN NULL ELSE coalesce(cardinality(buckets), 0) END;
END $$;

CREATE PROCEDURE gold.refresh_aggregate(
  aggregate text, window_start timestamptz, window_end timestamptz,
  force boolean, INOUT refreshed bigint
)
LANGUAGE plpgsql AS $$
DECLARE
  a gold.aggregates;
  lower_name text;
  below bigint;
  ids bigint[];
  low timestamptz;
  high timestamptz;
  floor timestamptz;
BEGIN
  SELECT * INTO a FROM gold.aggregates WHERE name = aggregate;
  IF NOT FOUND THEN
    RAISE EXCEPTION '% is not a continuous aggregate', aggregate USING ERRCODE = 'undefined_table';
  END IF;
  IF window_start IS NOT NULL AND window_end IS NOT NULL AND window_end - window_start < a.bucket_width THEN
    RAISE EXCEPTION 'refresh window too small' USING ERRCODE = 'invalid_parameter_value',
      DETAIL = format('It must cover at least one bucket of %s.', a.bucket_width);
  END IF;
  IF a.backend = 'postgresql' THEN
    refreshed := gold.refresh_buckets(a, window_start, window_end, force);
    RETURN;
  END IF;

  -- TimescaleDB knows itself what changed in a range; the range is ours, and never reaches below the
  -- floor, where the chunks were dropped and a refresh would erase what they left in gold.
  floor := gold.floor_of(a.source);
  SELECT array_agg(id), count(DISTINCT (pipeline_id, bucket)) FILTER (WHERE bucket >= floor),
         min(bucket) FILTER (WHERE bucket >= floor), max(bucket) + a.bucket_width
  INTO ids, refreshed, low, high
  FROM gold.dirty_buckets
  WHERE level = a.level AND bucket >= coalesce(window_start, '-infinity')
    AND bucket <= coalesce(window_end, 'infinity') - a.bucket_width;
  IF force THEN
    low := nullif(greatest(coalesce(window_start, '-infinity'), floor), '-infinity');
    high := window_end;
  END IF;
  COMMIT;
  IF force OR low IS NOT NULL THEN
    SELECT name INTO lower_name FROM gold.aggregates WHERE name = a.source;
    IF lower_name IS NOT NULL THEN
      CALL gold.refresh_aggregate(lower_name, low, high, false, below);
    END IF;
    CALL refresh_continuous_aggregate(a.materialized::regclass, low, high);
  END IF;
  DELETE FROM gold.dirty_buckets WHERE id = ANY (ids);
  COMMIT;
END $$;
CREATE PROCEDURE gold.refresh_continuous_aggregate(
  continuous_aggregate regclass, window_start timestamptz, window_end timestamptz, force boolean DEFAULT false
)
LANGUAGE plpgsql AS $$
DECLARE
  found_name text := (SELECT name FROM gold.aggregates WHERE to_regclass(name) = continuous_aggregate);
  refreshed bigint;
BEGIN
  CALL gold.refresh_aggregate(
    coalesce(found_name, continuous_aggregate::text), window_start, window_end, force, refreshed);
END $$;
COMMENT ON PROCEDURE gold.refresh_continuous_aggregate IS
  'Recomputes the dirty buckets that lie wholly in [window_start, window_end) (null: open), all of them by '
  'force, none below the floor. On TimescaleDB call it outside a transaction.';

CREATE PROCEDURE gold.refresh_dirty(INOUT refreshed bigint DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
  names text[] := ARRAY(SELECT name FROM gold.aggregates ORDER BY rank, name);
  one text;
  buckets bigint;
BEGIN
  refreshed := 0;
  FOREACH one IN ARRAY names LOOP
    CALL gold.refresh_aggregate(one, NULL, NULL, false, buckets);
    refreshed := refreshed + coalesce(buckets, 0);
  END LOOP;
END $$;
COMMENT ON PROCEDURE gold.refresh_dirty IS 'Refreshes every aggregate, lowest level first; returns the number of buckets.';

CREATE PROCEDURE gold.set_floor(source_name text, before timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
  names text[] := ARRAY(SELECT name FROM gold.aggregates WHERE source = source_name ORDER BY name);
  one text;
  buckets bigint;
BEGIN
  FOREACH one IN ARRAY names LOOP
    CALL gold.refresh_aggregate(one, NULL, NULL, false, buckets);
  END LOOP;
  -- Whole days: then no bucket up to a day lies half below the floor.
  INSERT INTO gold.floors (source, floor) VALUES (source_name, date_trunc('day', before, 'UTC'))
  ON CONFLICT (source) DO UPDATE SET floor = greatest(floors.floor, excluded.floor), moved_at = now();
END $$;
COMMENT ON PROCEDURE gold.set_floor IS
  'Before rows of a source older than `before` are dropped: refreshes what reads it, then lets no refresh below.';
"""

# TimescaleDB makes no continuous aggregate over a hypertable with row-level security: there only the
# writer and the modelers' role reach the samples, and readers see them through gold's views alone.
HYPERTABLE = """
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
    RETURN;
  END IF;
  DROP TABLE silver.samples;
  CREATE TABLE silver.samples (
    workspace_id integer NOT NULL,
    pipeline_id integer NOT NULL,
    series_id bigint NOT NULL,
    ts timestamptz NOT NULL,
    value double precision NOT NULL,
    seq bigint NOT NULL
  );
  PERFORM create_hypertable('silver.samples', by_range('ts', interval '7 days'));
  CREATE INDEX samples_time ON silver.samples (pipeline_id, ts);
  COMMENT ON COLUMN silver.samples.seq IS 'seq of the silver row that the sample was taken from.';
  GRANT SELECT, INSERT, UPDATE, DELETE ON silver.samples TO sluiceway_writer;
  -- TRIGGER: a continuous aggregate's maker must be let to follow the changes.
  GRANT SELECT, TRIGGER ON silver.samples TO sluiceway_modeler;
END $$;
"""


def upgrade() -> None:
    for statements in (REGISTRY, REFRESH, HYPERTABLE):
        run(statements)


def downgrade() -> None:
    run("""
    DROP PROCEDURE gold.set_floor, gold.refresh_dirty, gold.refresh_continuous_aggregate,
      gold.refresh_aggregate;
    DROP FUNCTION gold.refresh_buckets, gold.floor_of;
    DROP TRIGGER spread_dirty ON gold.dirty_buckets;
    DROP FUNCTION gold.spread_dirty, gold.time_bucket;
    DROP TABLE gold.builds, gold.floors, gold.aggregates;
    ALTER TABLE gold.dirty_buckets RESET (
      autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor,
      autovacuum_vacuum_insert_threshold, autovacuum_vacuum_insert_scale_factor,
      autovacuum_analyze_threshold, autovacuum_analyze_scale_factor);
    DELETE FROM gold.dirty_buckets WHERE level NOT IN ('1m', '1h', '1d');
    ALTER TABLE gold.dirty_buckets
      ADD CONSTRAINT dirty_buckets_level_check CHECK (level IN ('1m', '1h', '1d'));
    """)
