"""Where a lost group of a provider locked somebody out: getting it back undoes that, and no other lock."""

from sluiceway.migrations.script import run

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

STATEMENTS = """
ALTER TABLE app.federated_identities ADD COLUMN locked_out_of integer[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN app.federated_identities.locked_out_of IS
  'Workspaces that a group lost at the provider has closed: getting it back opens them, but none that somebody here has closed.';
UPDATE app.federated_identities f SET locked_out_of = found.rooms
FROM (
  SELECT g.provider_id, g.subject, array_agg(m.workspace_id ORDER BY m.workspace_id) AS rooms
  FROM app.federated_identities g
  JOIN app.identity_providers i ON i.id = g.provider_id
  JOIN app.memberships m ON m.user_id = g.user_id AND m.disabled_at IS NOT NULL
  JOIN app.workspaces w ON w.id = m.workspace_id AND w.organization_id = i.organization_id
  WHERE NOT m.workspace_id = ANY (g.admitted_to)
  GROUP BY g.provider_id, g.subject
) found
WHERE found.provider_id = f.provider_id AND found.subject = f.subject;
"""


def upgrade() -> None:
    run(STATEMENTS)


def downgrade() -> None:
    run("ALTER TABLE app.federated_identities DROP COLUMN locked_out_of")
