"""The audit log: entries chained by hash, appended by one function alone, dropped from the front alone.

An entry is written to `audit_waiting` and chained when its transaction commits: the chain's lock is the last
that a transaction takes, and is held for a moment only.
"""

from sluiceway.migrations.script import run

revision = "0017"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE app.audit_entries (
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  seq bigint NOT NULL,
  at timestamptz NOT NULL,
  content text NOT NULL,
  who text,
  whom text,
  previous bytea NOT NULL,
  hash bytea NOT NULL,
  -- For searching: derived from what is hashed, so that they cannot say anything else.
  action text NOT NULL GENERATED ALWAYS AS (content::jsonb ->> 'action') STORED,
  actor_kind text NOT NULL GENERATED ALWAYS AS (content::jsonb -> 'actor' ->> 'kind') STORED,
  actor_id text NOT NULL GENERATED ALWAYS AS (content::jsonb -> 'actor' ->> 'id') STORED,
  target text GENERATED ALWAYS AS (content::jsonb ->> 'target') STORED,
  target_id text GENERATED ALWAYS AS (content::jsonb ->> 'target_id') STORED,
  PRIMARY KEY (workspace_id, seq)
);
CREATE INDEX audit_entries_at ON app.audit_entries (workspace_id, at);
CREATE INDEX audit_entries_action ON app.audit_entries (workspace_id, action, seq);
CREATE INDEX audit_entries_actor ON app.audit_entries (workspace_id, actor_id, seq);
CREATE INDEX audit_entries_target ON app.audit_entries (workspace_id, target, target_id, seq);
COMMENT ON TABLE app.audit_entries IS 'Who did what, when, from where: append-only, hash-chained per workspace.'
  ' Personal: names, addresses and browsers of people, emptied with their account. Kept: SLUICEWAY_AUDIT_DAYS.';
COMMENT ON COLUMN app.audit_entries.content IS 'Canonical JSON; what is hashed, with the place, the time and the hash before.';
COMMENT ON COLUMN app.audit_entries.who IS 'The actor''s name, address and user agent, salted; erased with the person. Its SHA-256 is in content.';
COMMENT ON COLUMN app.audit_entries.whom IS 'What is personal of the target, salted; erased with the person. Its SHA-256 is in content.';
COMMENT ON COLUMN app.audit_entries.hash IS 'SHA-256(previous || workspace \\n seq \\n at \\n content).';

CREATE TABLE app.audit_heads (
  workspace_id integer PRIMARY KEY REFERENCES app.workspaces,
  seq bigint NOT NULL DEFAULT 0,
  at timestamptz NOT NULL DEFAULT '-infinity',
  hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);
COMMENT ON TABLE app.audit_heads IS 'The newest entry of each workspace''s chain. Personal: none. Kept: as long as the workspace.';

CREATE TABLE app.audit_anchors (
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  seq bigint NOT NULL,
  hash bytea NOT NULL,
  at timestamptz NOT NULL,
  dropped bigint NOT NULL,
  dropped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (workspace_id, seq)
);
COMMENT ON TABLE app.audit_anchors IS 'The last entry that retention dropped, each time: where the chain now begins.'
  ' Personal: none. Kept: as long as the workspace.';
COMMENT ON COLUMN app.audit_anchors.at IS 'Time of the last dropped entry.';

CREATE TABLE app.audit_seen (
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  fold text NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (workspace_id, fold)
);
COMMENT ON TABLE app.audit_seen IS 'What was recorded lately and is not to be said again so soon.'
  ' Personal: SHA-256 of who, what and from where. Kept: a day.';

-- Empty but for transactions under way.
CREATE UNLOGGED TABLE app.audit_waiting (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces,
  content text NOT NULL,
  who text,
  whom text
);
COMMENT ON TABLE app.audit_waiting IS 'Entries of transactions that have not committed yet.'
  ' Personal: as app.audit_entries. Kept: until the commit.';

CALL app.isolate('app.audit_entries');
CALL app.isolate('app.audit_heads');
CALL app.isolate('app.audit_anchors');
CALL app.isolate('app.audit_seen');
CALL app.isolate('app.audit_waiting');
GRANT SELECT ON app.audit_entries, app.audit_heads, app.audit_anchors TO sluiceway_app;
"""

CHAIN = """
CREATE FUNCTION app.audit_time(moment timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS
$$ SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

CREATE FUNCTION app.append_audit(
  workspace integer, stamp timestamptz, content text, who text, whom text
) RETURNS void
LANGUAGE plpgsql SET search_path = app, pg_temp AS $$
DECLARE
  head app.audit_heads;
  found_at timestamptz;
  digest bytea;
BEGIN
  INSERT INTO app.audit_heads (workspace_id) VALUES (workspace) ON CONFLICT DO NOTHING;
  SELECT h.* INTO head FROM app.audit_heads h WHERE h.workspace_id = workspace FOR UPDATE;
  found_at := greatest(stamp, head.at);
  digest := sha256(head.hash || convert_to(
    concat_ws(E'\\n', workspace, head.seq + 1, app.audit_time(found_at), content), 'UTF8'));
  INSERT INTO app.audit_entries (workspace_id, seq, at, content, who, whom, previous, hash)
  VALUES (workspace, head.seq + 1, found_at, content, who, whom, head.hash, digest);
  UPDATE app.audit_heads SET seq = head.seq + 1, at = found_at, hash = digest WHERE workspace_id = workspace;
END $$;

CREATE FUNCTION app.chain_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
BEGIN
  PERFORM app.append_audit(NEW.workspace_id, clock_timestamp(), NEW.content, NEW.who, NEW.whom);
  DELETE FROM app.audit_waiting WHERE id = NEW.id;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER chain AFTER INSERT ON app.audit_waiting
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.chain_audit();

CREATE FUNCTION app.record_audit(content text, who text, whom text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
BEGIN
  IF app.current_workspace() IS NULL THEN
    RAISE EXCEPTION 'an audit entry needs the workspace that the transaction acts for';
  END IF;
  INSERT INTO app.audit_waiting (workspace_id, content, who, whom)
  VALUES (app.current_workspace(), content, who, whom);
END $$;

-- The same, unless it was said within `pause`; returns whether it was recorded.
CREATE FUNCTION app.record_audit_once(fold text, pause interval, content text, who text, whom text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO app.audit_seen AS s (workspace_id, fold, at)
  VALUES (app.current_workspace(), record_audit_once.fold, clock_timestamp())
  ON CONFLICT (workspace_id, fold) DO UPDATE SET at = excluded.at
    WHERE s.at <= excluded.at - record_audit_once.pause;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM app.record_audit(record_audit_once.content, record_audit_once.who, record_audit_once.whom);
  RETURN true;
END $$;

-- Append-only, for the owner too: only what is personal may be emptied, and only the front may go, after an
-- anchor has said up to where.
CREATE FUNCTION app.guard_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.workspace_id, NEW.seq, NEW.at, NEW.content, NEW.previous, NEW.hash)
       IS DISTINCT FROM (OLD.workspace_id, OLD.seq, OLD.at, OLD.content, OLD.previous, OLD.hash)
       OR coalesce(NEW.who <> OLD.who OR (NEW.who IS NOT NULL AND OLD.who IS NULL), false)
       OR coalesce(NEW.whom <> OLD.whom OR (NEW.whom IS NOT NULL AND OLD.whom IS NULL), false) THEN
      RAISE EXCEPTION 'the audit log is append-only';
    END IF;
    RETURN NEW;
  END IF;
  IF TG_OP = 'DELETE' AND EXISTS (
    SELECT FROM app.audit_anchors a WHERE a.workspace_id = OLD.workspace_id AND a.seq >= OLD.seq
  ) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON app.audit_entries
  FOR EACH ROW EXECUTE FUNCTION app.guard_audit();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON app.audit_entries
  FOR EACH STATEMENT EXECUTE FUNCTION app.guard_audit();
"""

KEEPING = """
-- Drops what is older than `kept` in every workspace; at least 30 days stay. One row for each that lost some.
CREATE FUNCTION app.drop_audit(kept interval)
RETURNS TABLE (workspace_id integer, seq bigint, hash bytea, dropped bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
#variable_conflict use_column
DECLARE
  last app.audit_entries;
  lost bigint;
BEGIN
  IF kept < interval '30 days' THEN
    RAISE EXCEPTION 'at least 30 days of the audit log are kept';
  END IF;
  DELETE FROM app.audit_seen s WHERE s.at < clock_timestamp() - interval '1 day';
  FOR last IN
    SELECT DISTINCT ON (e.workspace_id) e.* FROM app.audit_entries e
    WHERE e.at < clock_timestamp() - kept ORDER BY e.workspace_id, e.seq DESC
  LOOP
    INSERT INTO app.audit_anchors (workspace_id, seq, hash, at, dropped)
    VALUES (last.workspace_id, last.seq, last.hash, last.at, (
      SELECT count(*) FROM app.audit_entries e WHERE e.workspace_id = last.workspace_id AND e.seq <= last.seq))
    ON CONFLICT DO NOTHING;
    DELETE FROM app.audit_entries e WHERE e.workspace_id = last.workspace_id AND e.seq <= last.seq;
    GET DIAGNOSTICS lost = ROW_COUNT;
    RETURN QUERY SELECT last.workspace_id, last.seq, last.hash, lost;
  END LOOP;
END $$;

-- Empties what is personal of one person, in every workspace; the entries and their chain stay.
CREATE FUNCTION app.erase_audit_person(person uuid, email text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
  touched bigint;
  wanted text := format('"%s"', lower(email));
BEGIN
  UPDATE app.audit_entries SET
    who = CASE WHEN actor_kind = 'user' AND actor_id = person::text THEN NULL ELSE who END,
    whom = CASE WHEN target_id = person::text OR strpos(lower(whom), wanted) > 0 THEN NULL ELSE whom END
  WHERE (who IS NOT NULL AND actor_kind = 'user' AND actor_id = person::text)
     OR (whom IS NOT NULL AND (target_id = person::text OR strpos(lower(whom), wanted) > 0));
  GET DIAGNOSTICS touched = ROW_COUNT;
  RETURN touched;
END $$;

-- What the log says of a person, in every workspace, for that person alone: of others only that they acted.
CREATE FUNCTION app.audit_of_person(person uuid)
RETURNS TABLE (workspace_id integer, seq bigint, at timestamptz, content text, who text, whom text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF person IS DISTINCT FROM nullif(current_setting('sluiceway.user_id', true), '')::uuid THEN
    RAISE EXCEPTION 'a person''s data is told to that person alone' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN QUERY
    SELECT e.workspace_id, e.seq, e.at, e.content,
           CASE WHEN e.actor_kind = 'user' AND e.actor_id = person::text THEN e.who END,
           CASE WHEN e.target_id = person::text THEN e.whom END
    FROM app.audit_entries e
    WHERE (e.actor_kind = 'user' AND e.actor_id = person::text) OR e.target_id = person::text
    ORDER BY e.workspace_id, e.seq;
END $$;

-- The workspaces that have a log, for whoever keeps or checks all of them.
CREATE FUNCTION app.audited_workspaces()
RETURNS TABLE (workspace_id integer, slug text, organization text, seq bigint, hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, w.slug, o.slug, h.seq, h.hash FROM app.audit_heads h
  JOIN app.workspaces w ON w.id = h.workspace_id JOIN app.organizations o ON o.id = w.organization_id
  ORDER BY w.id
$$;

REVOKE ALL ON FUNCTION app.append_audit, app.chain_audit, app.record_audit, app.record_audit_once,
  app.guard_audit, app.drop_audit, app.erase_audit_person, app.audit_of_person, app.audited_workspaces FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.record_audit, app.record_audit_once TO sluiceway_app, sluiceway_writer;
GRANT EXECUTE ON FUNCTION app.erase_audit_person, app.audit_of_person, app.audited_workspaces TO sluiceway_app;
GRANT EXECUTE ON FUNCTION app.drop_audit, app.audited_workspaces TO sluiceway_writer;
"""


def upgrade() -> None:
    run(TABLES + CHAIN + KEEPING)


def downgrade() -> None:
    run("""
    DROP TABLE app.audit_waiting, app.audit_seen, app.audit_anchors, app.audit_heads, app.audit_entries;
    DROP FUNCTION app.append_audit, app.chain_audit, app.record_audit, app.record_audit_once,
      app.guard_audit, app.drop_audit, app.erase_audit_person, app.audit_of_person,
      app.audited_workspaces, app.audit_time;
    """)
