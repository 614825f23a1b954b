"""People: custom roles, teams, attributes, invitations, who owns the organization, preferences, mail.

People and organizations belong to no workspace. The API's role sees those it meets in the workspace it acts
for and the person it acts for; what has to be asked before either is known is a function here.
"""

from sluiceway.migrations.script import run

revision = "0013"
down_revision = "0020"
branch_labels = None
depends_on = None

PEOPLE = """
ALTER TABLE app.users ALTER COLUMN password_hash DROP NOT NULL,
  ADD COLUMN theme text NOT NULL DEFAULT 'system' CHECK (theme IN ('system', 'light', 'dark')),
  ADD COLUMN time_zone text,
  ADD COLUMN last_workspace_id integer REFERENCES app.workspaces ON DELETE SET NULL;
COMMENT ON TABLE app.users IS
  'People who can sign in, whatever workspaces they belong to. Personal: e-mail address, name, argon2id hash of the password, preferences. Kept: until the account is deleted.';
COMMENT ON COLUMN app.users.password_hash IS 'argon2id; null: signs in some other way.';
COMMENT ON COLUMN app.users.theme IS 'Preference: colours of the app.';
COMMENT ON COLUMN app.users.time_zone IS 'Preference: IANA name of the zone that times are shown in; null: the browser''s.';
COMMENT ON COLUMN app.users.last_workspace_id IS 'The workspace that the person was in last; a sign-in begins there.';

CREATE TABLE app.roles (
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  slug text NOT NULL CHECK (slug ~ '^[a-z][a-z0-9-]{0,62}$'
    AND slug NOT IN ('owner', 'admin', 'editor', 'analyst', 'viewer', 'link')),
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  permissions text[] NOT NULL,
  created_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, slug)
);
COMMENT ON TABLE app.roles IS 'A workspace''s own roles, beside the five that every workspace has. Personal: who made it. Kept: until removed, without the maker once their account is deleted.';
COMMENT ON COLUMN app.roles.permissions IS 'Of the list in docs/people.md.';

-- A role is one of the five or one of the workspace's own: the generated column carries the reference.
ALTER TABLE app.memberships DROP CONSTRAINT memberships_role_check,
  ADD COLUMN custom_role text GENERATED ALWAYS AS
    (CASE WHEN role IN ('owner', 'admin', 'editor', 'analyst', 'viewer') THEN NULL ELSE role END) STORED,
  ADD COLUMN attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
  ADD COLUMN start_page text,
  ADD COLUMN disabled_at timestamptz,
  ADD FOREIGN KEY (workspace_id, custom_role) REFERENCES app.roles (workspace_id, slug);
CREATE INDEX memberships_person ON app.memberships (user_id);
COMMENT ON TABLE app.memberships IS
  'Which person is what in which workspace. Personal: the role, attributes, start page. Kept: until the person leaves or the account is deleted.';
COMMENT ON COLUMN app.memberships.attributes IS
  'What row rules compare with: {"region": ["emea", "apac"]}. Lists of strings by name.';
COMMENT ON COLUMN app.memberships.start_page IS 'Preference: path of the page that a sign-in leads to; null: the overview.';
COMMENT ON COLUMN app.memberships.disabled_at IS 'Locked out of this workspace, though still a member; null: let in.';

CREATE TABLE app.teams (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (workspace_id, slug),
  UNIQUE (workspace_id, id)
);
COMMENT ON TABLE app.teams IS 'Members under one name, who get its roles and attributes besides their own. Personal: none. Kept: until removed.';
CREATE TABLE app.team_roles (
  workspace_id integer NOT NULL,
  team_id uuid NOT NULL,
  role text NOT NULL CHECK (role <> 'owner'),
  custom_role text GENERATED ALWAYS AS
    (CASE WHEN role IN ('admin', 'editor', 'analyst', 'viewer') THEN NULL ELSE role END) STORED,
  PRIMARY KEY (workspace_id, team_id, role),
  FOREIGN KEY (workspace_id, team_id) REFERENCES app.teams (workspace_id, id) ON DELETE CASCADE,
  FOREIGN KEY (workspace_id, custom_role) REFERENCES app.roles (workspace_id, slug)
);
COMMENT ON TABLE app.team_roles IS 'Roles that a team gives. Ownership is a person''s: no team gives it. Personal: none. Kept: as long as the team.';
CREATE TABLE app.team_members (
  workspace_id integer NOT NULL,
  team_id uuid NOT NULL,
  user_id uuid NOT NULL,
  added_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace_id, team_id, user_id),
  FOREIGN KEY (workspace_id, team_id) REFERENCES app.teams (workspace_id, id) ON DELETE CASCADE,
  FOREIGN KEY (workspace_id, user_id) REFERENCES app.memberships (workspace_id, user_id) ON DELETE CASCADE
);
CREATE INDEX team_members_person ON app.team_members (workspace_id, user_id);
COMMENT ON TABLE app.team_members IS 'Who is in a team; only members of the workspace can be. Personal: the membership. Kept: until the person leaves the team or the workspace.';

CREATE TABLE app.invitations (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  email text NOT NULL,
  role text NOT NULL,
  custom_role text GENERATED ALWAYS AS
    (CASE WHEN role IN ('owner', 'admin', 'editor', 'analyst', 'viewer') THEN NULL ELSE role END) STORED,
  team_ids uuid[] NOT NULL DEFAULT '{}',
  attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
  token_hash bytea NOT NULL UNIQUE,
  invited_by uuid REFERENCES app.users ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  accepted_at timestamptz,
  accepted_by uuid REFERENCES app.users ON DELETE SET NULL,
  revoked_at timestamptz,
  FOREIGN KEY (workspace_id, custom_role) REFERENCES app.roles (workspace_id, slug) ON DELETE CASCADE
);
CREATE UNIQUE INDEX invitations_open ON app.invitations (workspace_id, lower(email))
  WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invitations_newest ON app.invitations (workspace_id, created_at DESC, id DESC);
COMMENT ON TABLE app.invitations IS 'Who was asked to join a workspace, as what, and what came of it. Personal: e-mail address, role, attributes, who invited and who accepted. Kept: 90 days after its end.';
COMMENT ON COLUMN app.invitations.token_hash IS 'SHA-256 of the link''s token, which is kept nowhere; sending again makes a new one.';

CREATE TABLE app.organization_owners (
  organization_id integer NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
  user_id uuid NOT NULL REFERENCES app.users ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, user_id)
);
COMMENT ON TABLE app.organization_owners IS 'Who may name the organization and make workspaces in it. Personal: the ownership. Kept: until handed over or the account is deleted.';

CREATE TABLE app.mails (
  id uuid PRIMARY KEY,
  workspace_id integer NOT NULL REFERENCES app.workspaces ON DELETE CASCADE,
  recipient text NOT NULL,
  sealed bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz,
  refused_at timestamptz,
  problem text
);
ALTER TABLE app.invitations ADD COLUMN mail_id uuid REFERENCES app.mails ON DELETE SET NULL;
COMMENT ON COLUMN app.invitations.mail_id IS 'The mail with the link; null: none was sent, or it was long ago.';
COMMENT ON COLUMN app.mails.problem IS 'What the mail server said when it refused for good.';
COMMENT ON TABLE app.mails IS 'Mail that waits to be sent; its content goes once it is. Personal: the addressee, and what the mail says. Kept: 7 days, the content until it is sent.';
COMMENT ON COLUMN app.mails.sealed IS
  'Subject and text (they can hold one-time links), sealed by sluiceway.infra.envelope; null: sent or refused.';
"""

FUNCTIONS = """
-- The first owner of a workspace in an organization that nobody owns yet, owns it.
CREATE FUNCTION app.found_organization() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
BEGIN
  INSERT INTO organization_owners (organization_id, user_id)
  SELECT w.organization_id, NEW.user_id FROM workspaces w
  WHERE w.id = NEW.workspace_id
    AND NOT EXISTS (SELECT FROM organization_owners o WHERE o.organization_id = w.organization_id)
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER found_organization AFTER INSERT OR UPDATE OF role ON app.memberships
  FOR EACH ROW WHEN (NEW.role = 'owner') EXECUTE FUNCTION app.found_organization();
INSERT INTO app.organization_owners (organization_id, user_id)
  SELECT w.organization_id, m.user_id FROM app.memberships m JOIN app.workspaces w ON w.id = m.workspace_id
  WHERE m.role = 'owner' AND w.id = (
    SELECT min(first.id) FROM app.workspaces first WHERE first.organization_id = w.organization_id)
  ON CONFLICT DO NOTHING;

CREATE FUNCTION app.member_access(in_workspace integer, member uuid)
RETURNS TABLE (role text, roles text[], granted text[], attributes jsonb, owns_organization boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  WITH held AS (
    SELECT m.role AS slug FROM memberships m WHERE m.workspace_id = in_workspace AND m.user_id = member
    UNION
    SELECT r.role FROM team_members t
    JOIN team_roles r ON r.workspace_id = t.workspace_id AND r.team_id = t.team_id
    WHERE t.workspace_id = in_workspace AND t.user_id = member
  ), given AS (
    SELECT m.attributes AS found FROM memberships m
    WHERE m.workspace_id = in_workspace AND m.user_id = member
    UNION ALL
    SELECT d.attributes FROM team_members t JOIN teams d ON d.workspace_id = t.workspace_id AND d.id = t.team_id
    WHERE t.workspace_id = in_workspace AND t.user_id = member
  ), merged AS (
    SELECT a.key, jsonb_agg(DISTINCT v.value ORDER BY v.value) AS found
    FROM given g, jsonb_each(g.found) a, jsonb_array_elements_text(a.value) v GROUP BY a.key
  )
  SELECT m.role,
         (SELECT array_agg(h.slug ORDER BY h.slug) FROM held h),
         (SELECT coalesce(array_agg(DISTINCT p.name), '{}') FROM held h
          JOIN roles r ON r.workspace_id = in_workspace AND r.slug = h.slug, unnest(r.permissions) p(name)),
         (SELECT coalesce(jsonb_object_agg(x.key, x.found), '{}') FROM merged x),
         EXISTS (SELECT FROM organization_owners o JOIN workspaces w ON w.organization_id = o.organization_id
                 WHERE w.id = in_workspace AND o.user_id = member)
  FROM memberships m JOIN users u ON u.id = m.user_id
  WHERE m.workspace_id = in_workspace AND m.user_id = member
    AND m.disabled_at IS NULL AND u.disabled_at IS NULL
$$;
COMMENT ON FUNCTION app.member_access(integer, uuid) IS
  'What a member holds, their teams'' share included; no row: not a member, or locked out.';

DROP FUNCTION app.find_session(bytea);
CREATE FUNCTION app.find_session(hash bytea)
RETURNS TABLE (user_id uuid, workspace_id integer, role text, email text, name text, expires_at timestamptz,
               roles text[], granted text[], attributes jsonb, owns_organization boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT s.user_id, s.workspace_id, a.role, u.email, u.name, s.expires_at,
         a.roles, a.granted, a.attributes, a.owns_organization
  FROM app.sessions s
  JOIN app.users u ON u.id = s.user_id
  CROSS JOIN LATERAL app.member_access(s.workspace_id, s.user_id) a
  WHERE s.token_hash = hash
$$;

-- Moves a session into another of the person's workspaces, under a new token.
CREATE FUNCTION app.move_session(hash bytea, fresh bytea, target integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE who uuid;
BEGIN
  UPDATE sessions s SET token_hash = fresh, workspace_id = target
  WHERE s.token_hash = hash AND EXISTS (SELECT FROM member_access(target, s.user_id))
  RETURNING s.user_id INTO who;
  UPDATE users SET last_workspace_id = target WHERE id = who;
  RETURN who IS NOT NULL;
END $$;

DROP FUNCTION app.memberships_of(uuid);
CREATE FUNCTION app.memberships_of(member uuid)
RETURNS TABLE (workspace_id integer, workspace_slug text, workspace_name text, organization_slug text,
               organization_name text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT m.workspace_id, w.slug, w.name, o.slug, o.name, m.role
  FROM app.memberships m
  JOIN app.workspaces w ON w.id = m.workspace_id
  JOIN app.organizations o ON o.id = w.organization_id
  JOIN app.users u ON u.id = m.user_id
  WHERE m.user_id = member AND m.disabled_at IS NULL
  ORDER BY (m.workspace_id IS NOT DISTINCT FROM u.last_workspace_id) DESC, m.created_at, m.workspace_id
$$;

CREATE FUNCTION app.find_person(address text)
RETURNS TABLE (id uuid, email text, name text, created_at timestamptz, disabled_at timestamptz, password_hash text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.id, u.email, u.name, u.created_at, u.disabled_at, u.password_hash
  FROM app.users u WHERE lower(u.email) = lower(address)
$$;
-- When the person was made; null: someone has the address.
CREATE FUNCTION app.add_person(new_id uuid, address text, full_name text, hash text) RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  INSERT INTO app.users (id, email, name, password_hash) VALUES (new_id, address, full_name, hash)
  ON CONFLICT (lower(email)) DO NOTHING RETURNING created_at
$$;

CREATE FUNCTION app.find_invitation(hash bytea)
RETURNS TABLE (id uuid, workspace_id integer, workspace_name text, organization_name text, email text, role text,
               inviter text, expires_at timestamptz, accepted_at timestamptz, revoked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT i.id, i.workspace_id, w.name, o.name, i.email, i.role, u.name, i.expires_at, i.accepted_at, i.revoked_at
  FROM app.invitations i
  JOIN app.workspaces w ON w.id = i.workspace_id JOIN app.organizations o ON o.id = w.organization_id
  LEFT JOIN app.users u ON u.id = i.invited_by
  WHERE i.token_hash = hash
$$;

-- The workspace of this slug (or `organization/workspace`), the first one for null; several rows: the slug
-- stands for several.
CREATE FUNCTION app.find_workspaces(wanted text) RETURNS TABLE (id integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id FROM app.workspaces w JOIN app.organizations o ON o.id = w.organization_id
  WHERE CASE WHEN wanted IS NULL THEN w.id = (SELECT min(x.id) FROM app.workspaces x)
             WHEN strpos(wanted, '/') > 0 THEN o.slug || '/' || w.slug = wanted
             ELSE w.slug = wanted END
  ORDER BY w.id LIMIT 2
$$;
-- A workspace with its first owner, who owns the organization; null: the slug is taken.
CREATE FUNCTION app.create_workspace(organization integer, new_slug text, new_name text, founder uuid)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE made integer;
BEGIN
  IF NOT EXISTS (SELECT FROM organization_owners o WHERE o.organization_id = organization AND o.user_id = founder) THEN
    RAISE EXCEPTION 'the founder does not own the organization' USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO workspaces (organization_id, slug, name) VALUES (organization, new_slug, new_name)
  ON CONFLICT DO NOTHING RETURNING id INTO made;
  IF made IS NOT NULL THEN
    INSERT INTO memberships (workspace_id, user_id, role) VALUES (made, founder, 'owner');
  END IF;
  RETURN made;
END $$;
CREATE FUNCTION app.create_organization(new_slug text, new_name text, founder uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE made integer;
BEGIN
  INSERT INTO organizations (slug, name) VALUES (new_slug, new_name)
  ON CONFLICT DO NOTHING RETURNING id INTO made;
  IF made IS NOT NULL THEN
    INSERT INTO organization_owners (organization_id, user_id) VALUES (made, founder);
  END IF;
  RETURN made;
END $$;
-- For the command line, whose user has the whole installation.
CREATE FUNCTION app.all_workspaces()
RETURNS TABLE (id integer, slug text, name text, organization_id integer, organization_slug text,
               organization_name text, members bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, w.slug, w.name, o.id, o.slug, o.name,
         (SELECT count(*) FROM app.memberships m WHERE m.workspace_id = w.id AND m.disabled_at IS NULL)
  FROM app.organizations o LEFT JOIN app.workspaces w ON w.organization_id = o.id ORDER BY o.id, w.id
$$;
CREATE FUNCTION app.workspaces_of(organization integer)
RETURNS TABLE (id integer, slug text, name text, created_at timestamptz, members bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT w.id, w.slug, w.name, w.created_at,
         (SELECT count(*) FROM app.memberships m WHERE m.workspace_id = w.id AND m.disabled_at IS NULL)
  FROM app.workspaces w WHERE w.organization_id = organization ORDER BY w.id
$$;
CREATE FUNCTION app.owners_of(organization integer)
RETURNS TABLE (user_id uuid, email text, name text, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT u.id, u.email, u.name, o.created_at FROM app.organization_owners o JOIN app.users u ON u.id = o.user_id
  WHERE o.organization_id = organization ORDER BY o.created_at, u.id
$$;

REVOKE ALL ON FUNCTION app.found_organization, app.member_access, app.find_session, app.move_session,
  app.memberships_of, app.find_person, app.add_person, app.find_invitation, app.find_workspaces,
  app.create_workspace, app.create_organization, app.all_workspaces, app.workspaces_of, app.owners_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.member_access, app.find_session, app.move_session,
  app.memberships_of, app.find_person, app.add_person, app.find_invitation, app.find_workspaces,
  app.create_workspace, app.create_organization, app.all_workspaces, app.workspaces_of, app.owners_of TO sluiceway_app;
"""

LOCKS = """
CALL app.isolate('app.roles');
CALL app.isolate('app.teams');
CALL app.isolate('app.team_roles');
CALL app.isolate('app.team_members');
CALL app.isolate('app.invitations');
CALL app.isolate('app.mails');
CALL app.fence_sealed('app.mails', 'sealed');
CREATE POLICY writer_works ON app.mails TO sluiceway_writer USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON
  app.roles, app.teams, app.team_roles, app.team_members, app.invitations TO sluiceway_app;
GRANT SELECT (id, workspace_id, recipient, created_at, sent_at, refused_at, problem), INSERT ON app.mails TO sluiceway_app;
GRANT SELECT, UPDATE, DELETE ON app.mails TO sluiceway_writer;

-- People: whom the workspace has, and oneself (sluiceway.user_id). app.add_person is the one way to make one.
ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;
CREATE POLICY people_met ON app.users FOR SELECT TO sluiceway_app
  USING (id = (SELECT nullif(current_setting('sluiceway.user_id', true), '')::uuid) OR id IN (SELECT m.user_id FROM app.memberships m));
CREATE POLICY people_changed ON app.users FOR UPDATE TO sluiceway_app
  USING (id = (SELECT nullif(current_setting('sluiceway.user_id', true), '')::uuid) OR id IN (SELECT m.user_id FROM app.memberships m));
CREATE POLICY oneself_forgotten ON app.users FOR DELETE TO sluiceway_app
  USING (id = (SELECT nullif(current_setting('sluiceway.user_id', true), '')::uuid));
REVOKE INSERT ON app.users FROM sluiceway_app;

-- Workspaces and organizations: the one that is acted for.
ALTER TABLE app.workspaces ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_workspace ON app.workspaces USING (id = (SELECT app.current_workspace()));
CREATE POLICY every_workspace ON app.workspaces FOR SELECT TO sluiceway_writer, sluiceway_modeler USING (true);
GRANT UPDATE (slug, name) ON app.workspaces TO sluiceway_app;
ALTER TABLE app.organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON app.organizations
  USING (id = (SELECT w.organization_id FROM app.workspaces w WHERE w.id = (SELECT app.current_workspace())));
GRANT UPDATE (slug, name) ON app.organizations TO sluiceway_app;
ALTER TABLE app.organization_owners ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON app.organization_owners
  USING (organization_id =
    (SELECT w.organization_id FROM app.workspaces w WHERE w.id = (SELECT app.current_workspace())));
GRANT SELECT, INSERT, UPDATE, DELETE ON app.organization_owners TO sluiceway_app;
"""

UNDONE = """
DROP POLICY own_organization ON app.organizations;
DROP POLICY own_workspace ON app.workspaces;
DROP POLICY every_workspace ON app.workspaces;
DROP POLICY people_met ON app.users;
DROP POLICY people_changed ON app.users;
DROP POLICY oneself_forgotten ON app.users;
ALTER TABLE app.organizations DISABLE ROW LEVEL SECURITY;
ALTER TABLE app.workspaces DISABLE ROW LEVEL SECURITY;
ALTER TABLE app.users DISABLE ROW LEVEL SECURITY;
REVOKE UPDATE (slug, name) ON app.organizations, app.workspaces FROM sluiceway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.users TO sluiceway_app;
DROP TRIGGER found_organization ON app.memberships;
DROP FUNCTION app.found_organization, app.find_session, app.move_session, app.memberships_of, app.find_person,
  app.add_person, app.find_invitation, app.find_workspaces, app.create_workspace, app.create_organization,
  app.all_workspaces, app.workspaces_of, app.owners_of;
DROP FUNCTION app.member_access;
DROP TABLE app.organization_owners, app.invitations, app.mails, app.team_members, app.team_roles, app.teams;
UPDATE app.memberships SET role = 'viewer' WHERE custom_role IS NOT NULL;
ALTER TABLE app.memberships DROP COLUMN custom_role, DROP COLUMN attributes, DROP COLUMN start_page,
  DROP COLUMN disabled_at,
  ADD CONSTRAINT memberships_role_check CHECK (role IN ('owner', 'admin', 'editor', 'analyst', 'viewer'));
DROP INDEX app.memberships_person;
DROP TABLE app.roles;
ALTER TABLE app.users DROP COLUMN theme, DROP COLUMN time_zone, DROP COLUMN last_workspace_id;
COMMENT ON COLUMN app.users.password_hash IS NULL;
COMMENT ON TABLE app.users IS
  'People who can sign in. Personal: e-mail address, name, argon2id hash of the password. Kept: until the account is deleted.';
COMMENT ON TABLE app.memberships IS
  'Which person is what in which workspace. Personal: the role. Kept: until the person leaves or the account is deleted.';
CREATE FUNCTION app.find_session(hash bytea)
RETURNS TABLE (user_id uuid, workspace_id integer, role text, email text, name text, expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
  SELECT s.user_id, s.workspace_id, m.role, u.email, u.name, s.expires_at
  FROM app.sessions s
  JOIN app.users u ON u.id = s.user_id AND u.disabled_at IS NULL
  JOIN app.memberships m ON m.user_id = s.user_id AND m.workspace_id = s.workspace_id
  WHERE s.token_hash = hash
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
REVOKE ALL ON FUNCTION app.find_session, app.memberships_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.find_session, app.memberships_of TO sluiceway_app;
"""


def upgrade() -> None:
    for statements in (PEOPLE, FUNCTIONS, LOCKS):
        run(statements)


def downgrade() -> None:
    run(UNDONE)
