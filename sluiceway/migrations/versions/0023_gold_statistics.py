"""A refresh that fills an aggregate looks at it: the level above is planned with what is there."""

from sluiceway.migrations.script import put_back, run

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# As in 0002, but for `added` and what is done with it.
STATEMENTS = """
-- Recomputes on plain PostgreSQL; returns how many buckets (null where all in a range were, by force).
CREATE OR REPLACE FUNCTION gold.refresh_buckets(
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
  added bigint := 0;
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
    GET DIAGNOSTICS added = ROW_COUNT;
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
    GET DIAGNOSTICS added = ROW_COUNT;
  END IF;
  -- The next level reads this one at once, before autovacuum has looked: taken for empty, it would be compared
  -- row by row with every bucket that was dirty.
  IF added > 1000
     AND added > (SELECT 0.2 * greatest(reltuples, 0) FROM pg_class WHERE oid = a.materialized::regclass) THEN
    EXECUTE format('ANALYZE %s', a.materialized);
  END IF;

  DELETE FROM gold.dirty_buckets WHERE id = ANY (ids);
  RETURN CASE WHEN force THEN NULL ELSE coalesce(cardinality(buckets), 0) END;
END $$;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    put_back("0002", "gold.refresh_buckets")
