"""What the API keeps for itself: answers to repeated requests, replays asked for, platform-wide figures."""

from sluiceway.migrations.script import run

revision = "0006"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE app.idempotency_keys (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  subject text NOT NULL,
  key text NOT NULL,
  request_hash bytea NOT NULL,
  status integer,
  answer bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, subject, key)
);
CREATE INDEX idempotency_keys_age ON app.idempotency_keys (created_at);
COMMENT ON TABLE app.idempotency_keys IS 'Answers to POSTs with an Idempotency-Key, kept for a day.';
COMMENT ON COLUMN app.idempotency_keys.answer IS
  'Headers and body, sealed with AES-256-GCM (an answer can hold a new key''s secret); null: still at work.';

CREATE TABLE app.replays (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  pipeline_id integer NOT NULL REFERENCES app.pipelines ON DELETE CASCADE,
  from_day date NOT NULL,
  to_day date NOT NULL,
  state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
  days_done integer NOT NULL DEFAULT 0,
  events bigint NOT NULL DEFAULT 0,
  rows bigint NOT NULL DEFAULT 0,
  dead_letters bigint NOT NULL DEFAULT 0,
  error text,
  requested_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz,
  CHECK (from_day <= to_day)
);
CREATE INDEX replays_newest ON app.replays (workspace_id, created_at DESC, id DESC);
COMMENT ON COLUMN app.replays.to_day IS 'The last UTC day of receipt that is replayed, itself included.';
COMMENT ON COLUMN app.replays.requested_by IS 'Subject of the caller: user:<uuid>, key:<id>, or cli.';

CALL app.isolate('app.idempotency_keys');
CALL app.isolate('app.replays');
GRANT SELECT, INSERT, UPDATE, DELETE ON app.idempotency_keys TO sluiceway_app;
GRANT SELECT, INSERT ON app.replays TO sluiceway_app;
GRANT SELECT, UPDATE ON app.replays TO sluiceway_writer;

-- Figures of the whole platform, without any tenant's names: what an operator's Prometheus may see.
CREATE FUNCTION app.platform_figures()
RETURNS TABLE (pipelines bigint, events bigint, duplicates bigint, dead_letters bigint,
               open_dead_letters bigint, last_batch_at timestamptz, outbox_waiting bigint,
               outbox_oldest timestamptz, dirty_buckets bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT (SELECT count(*) FROM app.pipelines WHERE state = 'active'),
         s.events, s.duplicates, s.dead_letters,
         (SELECT count(*) FROM quality.dead_letters WHERE state IN ('open', 'held')),
         s.last_batch_at, o.waiting, o.oldest,
         (SELECT count(*) FROM gold.dirty_buckets)
  FROM (SELECT coalesce(sum(events), 0)::bigint AS events, coalesce(sum(duplicates), 0)::bigint AS duplicates,
               coalesce(sum(dead_letters), 0)::bigint AS dead_letters, max(last_batch_at) AS last_batch_at
        FROM app.pipeline_state) s,
       (SELECT count(*) AS waiting, min(created_at) AS oldest FROM app.outbox WHERE done_at IS NULL) o
$$;
REVOKE ALL ON FUNCTION app.platform_figures FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.platform_figures TO sluiceway_app;
"""


def upgrade() -> None:
    run(TABLES)


def downgrade() -> None:
    run("DROP FUNCTION app.platform_figures; DROP TABLE app.replays; DROP TABLE app.idempotency_keys")
