"""Limits: what a key may send, the token buckets that all processes share, and what was refused."""

from sluiceway.migrations.script import put_back, run

revision = "0008"
down_revision = "0004"
branch_labels = None
depends_on = None

KEYS = """
ALTER TABLE app.api_keys ADD COLUMN rate_per_s double precision, ADD COLUMN burst integer,
  ADD CONSTRAINT api_keys_limit CHECK (
    (rate_per_s IS NULL) = (burst IS NULL) AND coalesce(rate_per_s, 1) > 0 AND coalesce(burst, 1) >= 1);
COMMENT ON COLUMN app.api_keys.rate_per_s IS 'Events a second the key may send, averaged; null: no limit of its own.';
COMMENT ON COLUMN app.api_keys.burst IS 'Events the key may send at once.';

DROP FUNCTION app.find_api_key(text);
CREATE FUNCTION app.find_api_key(key_id text)
RETURNS TABLE (id text, workspace_id integer, name text, secret_hash bytea, scopes text[],
               pipeline_ids integer[], expires_at timestamptz, revoked_at timestamptz,
               rate_per_s double precision, burst integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT k.id, k.workspace_id, k.name, k.secret_hash, k.scopes, k.pipeline_ids, k.expires_at, k.revoked_at,
         k.rate_per_s, k.burst
  FROM app.api_keys k WHERE k.id = key_id
$$;
REVOKE ALL ON FUNCTION app.find_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.find_api_key TO sluiceway_app;
"""

BUCKETS = """
CREATE TABLE app.rate_buckets (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  thing text NOT NULL,
  tokens double precision NOT NULL,
  at double precision NOT NULL,
  leases jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (workspace_id, thing)
) WITH (fillfactor = 50);
COMMENT ON TABLE app.rate_buckets IS
  'Token buckets of limited things (pipeline:<id>:events, pipeline:<id>:bytes, key:<id>), shared by all processes.';
COMMENT ON COLUMN app.rate_buckets.at IS 'Unix time in seconds up to which the bucket was refilled.';
COMMENT ON COLUMN app.rate_buckets.leases IS
  'What processes hold ahead: {process: [tokens, until]}. tokens + all leases never exceed the burst.';

-- Refill and take under the rows' locks, all or nothing over the things (which come sorted, so that two
-- processes cannot wait for each other). What a process holds counts against the burst while its lease
-- lasts: so no more than rate * t + burst is used in any t seconds, however many processes hold slices.
CREATE FUNCTION app.take_tokens(
  workspace integer, things text[], rates double precision[], bursts double precision[],
  needs double precision[], aheads double precision[], rests double precision[],
  give_back boolean, holder text, lease_s double precision, at_s double precision DEFAULT NULL,
  OUT granted boolean, OUT leased double precision[], OUT left_over double precision[],
  OUT waits_s double precision[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  bucket app.rate_buckets;
  now_s double precision;
  held double precision;
  held_until double precision;
  own double precision;
  others double precision;
  others_until double precision;
  pool double precision;
  level double precision;
  rest double precision;
  mates jsonb;
  alive jsonb[] := '{}';
  nows double precision[] := '{}';
  shared boolean[] := '{}';
BEGIN
  granted := true;
  leased := array_fill(0::double precision, ARRAY[cardinality(things)]);
  left_over := leased;
  waits_s := leased;
  FOR i IN 1 .. cardinality(things) LOOP
    LOOP
      SELECT * INTO bucket FROM app.rate_buckets b
      WHERE b.workspace_id = workspace AND b.thing = things[i] FOR UPDATE;
      EXIT WHEN FOUND;
      INSERT INTO app.rate_buckets (workspace_id, thing, tokens, at)
      VALUES (workspace, things[i], bursts[i], coalesce(at_s, extract(epoch FROM clock_timestamp())))
      ON CONFLICT DO NOTHING;
    END LOOP;
    IF at_s IS NULL THEN
      now_s := extract(epoch FROM clock_timestamp());
      bucket.at := least(bucket.at, now_s);  -- the server's clock was set back: go on from there
    ELSE
      now_s := greatest(at_s, bucket.at);
    END IF;
    SELECT coalesce(sum(l.tokens), 0), coalesce(max(l.until_s), bucket.at),
           coalesce(sum(l.tokens) FILTER (WHERE l.name = holder AND l.until_s > now_s), 0),
           coalesce(sum(l.tokens) FILTER (WHERE l.name <> holder AND l.until_s > now_s), 0),
           coalesce(max(l.until_s) FILTER (WHERE l.name <> holder AND l.until_s > now_s), now_s),
           coalesce(jsonb_object_agg(l.name, jsonb_build_array(l.tokens, l.until_s))
                    FILTER (WHERE l.name <> holder AND l.until_s > now_s), '{}')
    INTO held, held_until, own, others, others_until, mates
    FROM (SELECT key AS name, (value->>0)::double precision AS tokens,
                 least((value->>1)::double precision, now_s + lease_s) AS until_s
          FROM jsonb_each(bucket.leases)) l;
    -- While anything was held the bucket filled up to the rest of the burst only; afterwards to all of it.
    pool := least(bucket.tokens + rates[i] * greatest(least(held_until, now_s) - bucket.at, 0),
                  greatest(bursts[i] - held, least(bucket.tokens, 0)));
    IF held_until < now_s THEN
      pool := least(pool + rates[i] * (now_s - greatest(held_until, bucket.at)), bursts[i]);
    END IF;
    alive[i] := mates;
    rest := least(rests[i], own);
    IF needs[i] > 0 OR give_back THEN
      pool := pool + rest;
      rest := 0;
    END IF;
    IF needs[i] > pool + 1e-6 THEN
      granted := false;
      level := bursts[i] - others;
      IF needs[i] <= level THEN
        waits_s[i] := (needs[i] - pool) / rates[i];
      ELSE
        waits_s[i] := greatest(
          others_until - now_s
          + greatest(needs[i] - least(level, pool + rates[i] * (others_until - now_s)), 0) / rates[i],
          (needs[i] - pool) / rates[i]);
      END IF;
    END IF;
    left_over[i] := pool;
    rests[i] := rest;
    nows[i] := now_s;
    shared[i] := others > 0;
  END LOOP;
  FOR i IN 1 .. cardinality(things) LOOP
    pool := left_over[i];
    IF granted THEN
      pool := pool - needs[i];
      -- Where others hold slices too, half of what is there is left to them.
      leased[i] := greatest(least(aheads[i], CASE WHEN shared[i] THEN pool / 2 ELSE pool END), 0);
      pool := pool - leased[i];
    END IF;
    held := rests[i] + leased[i];
    UPDATE app.rate_buckets SET tokens = pool, at = nows[i],
      leases = CASE WHEN held > 0
        THEN alive[i] || jsonb_build_object(holder, jsonb_build_array(held, nows[i] + lease_s))
        ELSE alive[i] END
    WHERE workspace_id = workspace AND thing = things[i];
    left_over[i] := pool;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION app.take_tokens FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.take_tokens TO sluiceway_app;
"""

REFUSALS = """
CREATE TABLE app.intake_refusals (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  minute timestamptz NOT NULL,
  code text NOT NULL,
  requests bigint NOT NULL,
  PRIMARY KEY (workspace_id, pipeline_id, minute, code)
);
CREATE INDEX intake_refusals_age ON app.intake_refusals (minute);
COMMENT ON TABLE app.intake_refusals IS
  'Requests refused by a limit or a high-water mark, by minute; kept for a day.';
CALL app.isolate('app.intake_refusals');
CALL app.isolate('app.rate_buckets');
GRANT SELECT ON app.intake_refusals TO sluiceway_app;

-- One call a few seconds apart carries what a process refused, whichever workspaces it was for.
CREATE FUNCTION app.note_refusals(
  pipelines integer[], minutes timestamptz[], codes text[], counts bigint[]
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
  DELETE FROM app.intake_refusals WHERE minute < now() - interval '1 day';
  INSERT INTO app.intake_refusals AS known (workspace_id, pipeline_id, minute, code, requests)
  SELECT o.workspace_id, o.id, told.m, told.c, told.n
  FROM unnest(pipelines, minutes, codes, counts) AS told (p, m, c, n) JOIN app.pipelines o ON o.id = told.p
  ORDER BY 1, 2, 3, 4
  ON CONFLICT (workspace_id, pipeline_id, minute, code)
  DO UPDATE SET requests = known.requests + excluded.requests
$$;
REVOKE ALL ON FUNCTION app.note_refusals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.note_refusals TO sluiceway_app;
"""


def upgrade() -> None:
    run(KEYS)
    run(BUCKETS)
    run(REFUSALS)


def downgrade() -> None:
    run(
        """
        DROP FUNCTION app.note_refusals;
        DROP TABLE app.intake_refusals;
        DROP FUNCTION app.take_tokens;
        DROP TABLE app.rate_buckets;
        DROP FUNCTION app.find_api_key(text);
        """
    )
    put_back("0001", "app.find_api_key")
    run(
        """
        REVOKE ALL ON FUNCTION app.find_api_key FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION app.find_api_key TO sluiceway_app;
        ALTER TABLE app.api_keys DROP CONSTRAINT api_keys_limit, DROP COLUMN rate_per_s, DROP COLUMN burst;
        """
    )
