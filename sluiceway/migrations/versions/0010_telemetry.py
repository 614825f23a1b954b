"""What processes report of themselves, and platform-wide figures for the health page."""

from sluiceway.migrations.script import run

revision = "0010"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = """
-- Unlogged: it is written every few seconds, and after a crash nobody misses what was said before it.
CREATE UNLOGGED TABLE app.process_reports (
  node text NOT NULL,
  process text NOT NULL,
  at timestamptz NOT NULL,
  report jsonb NOT NULL,
  PRIMARY KEY (node, process)
);
COMMENT ON TABLE app.process_reports IS
  'The last word of every process: figures and its own state, without any tenant''s names or data.';
GRANT SELECT, INSERT, UPDATE, DELETE ON app.process_reports TO sluiceway_writer;
GRANT SELECT, INSERT, UPDATE ON app.process_reports TO sluiceway_app;

-- Figures of the whole platform, without any tenant's names: what the health page judges.
CREATE FUNCTION app.health_figures()
RETURNS TABLE (dirty_buckets bigint, dirty_oldest timestamptz,
               outbox_waiting bigint, outbox_oldest timestamptz, outbox_failing bigint,
               outbox_given_up bigint, outbox_topic text,
               last_batch_at timestamptz, connections bigint, max_connections bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT g.dirty, g.oldest, o.waiting, o.oldest, o.failing, o.given_up, o.topic,
         (SELECT max(last_batch_at) FROM app.pipeline_state),
         (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
         current_setting('max_connections')::bigint
  FROM (SELECT count(*) AS dirty, min(created_at) AS oldest FROM gold.dirty_buckets) g,
       (SELECT count(*) AS waiting,
               min(created_at) FILTER (WHERE available_at <= now() OR attempts > 0) AS oldest,
               count(*) FILTER (WHERE last_error IS NOT NULL) AS failing,
               count(*) FILTER (WHERE attempts >= 20) AS given_up,
               (array_agg(topic ORDER BY attempts DESC) FILTER (WHERE last_error IS NOT NULL))[1] AS topic
        FROM app.outbox WHERE done_at IS NULL) o
$$;
REVOKE ALL ON FUNCTION app.health_figures FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.health_figures TO sluiceway_app;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("DROP FUNCTION app.health_figures; DROP TABLE app.process_reports")
