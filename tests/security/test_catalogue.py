"""PostgreSQL's own catalogue: every table has its policy or a reason, no function or view leads round it."""

import pytest
import sqlalchemy as sa

from sluiceway.infra.database import SERVICE_ROLES, Database, Role

OURS = ("app", "silver", "gold", "quality", "staging", "marts", "public")

WITHOUT_POLICY = {
    # Bookkeeping of the platform: no workspace's rows, names or data.
    "app.spool_positions": "how far each node's spool is read, by node",
    "app.loaders": "processes that load, by host and pid",
    "app.spool_leases": "which process loads which pipeline's spool, by number",
    "app.spool_folders": "which spool folder has which node's name",
    "app.process_reports": "figures of processes",
    "app.encryption_keys": "granted to nobody: reached through app.known_keys alone",
    "gold.aggregates": "the modelers' own definitions, the same for every workspace",
    "gold.floors": "where each source's rows begin, by table",
    "gold.builds": "dbt runs",
    "public.alembic_version": "the schema's revision",
}
"""Reviewed, each with what is in it. A new table gets a policy; only what belongs to nobody comes here."""

BEYOND_WORKSPACE = {
    ("workspace_isolation", "*"): "the rule itself",
    (
        "modeler_reads",
        "sluiceway_modeler",
    ): "dbt builds every workspace's gold at once; readers' policies follow it",
    ("writer_reads", "sluiceway_writer"): "the loader must know all pipelines before it acts for one",
    (
        "writer_works",
        "sluiceway_writer",
    ): "the worker empties every workspace's outbox, mails and measurements",
    ("writer_refreshes", "sluiceway_modeler"): "refreshing gold takes dirty buckets of all workspaces",
    ("every_workspace", "sluiceway_writer"): "the worker acts for each in turn",
    ("every_workspace", "sluiceway_modeler"): "marts name workspaces by their own column",
}
"""Policies that let a role see more than one workspace's rows, by name and role, each with its reason."""

TABLES = """
SELECT n.nspname || '.' || c.relname AS name, c.relrowsecurity AS secured, c.oid,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive) AS has_policy,
       EXISTS (SELECT FROM pg_attribute a
               WHERE a.attrelid = c.oid AND a.attname = 'workspace_id') AS of_workspace,
       EXISTS (SELECT FROM pg_policy p
               WHERE p.polrelid = c.oid AND p.polname = 'workspace_isolation') AS isolated
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(:schemas) AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
ORDER BY 1
"""
POLICIES = """
SELECT n.nspname || '.' || c.relname AS relation, p.polname AS name,
       coalesce(pg_get_expr(p.polqual, p.polrelid), '')
         || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') AS text,
       CASE WHEN p.polroles = '{0}' THEN ARRAY['*']
            ELSE ARRAY(SELECT rolname::text FROM pg_roles WHERE oid = ANY (p.polroles)) END AS roles
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(:schemas) AND p.polpermissive
"""
BOUND = ("current_workspace()", "current_person()", "current_organization()", "sluiceway.user_id")


def rows(database: Database, text: str, **values: object) -> list[sa.Row[tuple[object, ...]]]:
    with database.engine(Role.OWNER).connect() as connection:
        return list(connection.execute(sa.text(text), {"schemas": list(OURS), **values}))


def test_every_table_has_its_policy_or_a_reviewed_reason(gold_database: Database) -> None:
    found = rows(gold_database, TABLES)
    assert len(found) > 50
    bare = {row.name for row in found if not (row.secured and row.has_policy)}
    assert bare <= WITHOUT_POLICY.keys(), "give it a policy (app.isolate), or a reviewed reason"
    assert {row.name for row in found} >= WITHOUT_POLICY.keys() - {"app.spool_folders"}, (
        "a reason without a table"
    )
    assert [r.name for r in found if r.of_workspace and not r.isolated and r.name not in _own_way()] == []


def _own_way() -> set[str]:
    """Tables with a workspace_id that have policies of their own instead, which the next test looks at."""
    return {"app.sessions", "app.identity_providers", "app.users"}


def test_every_policy_is_bound_to_who_asks_or_reviewed(gold_database: Database) -> None:
    found = rows(gold_database, POLICIES)
    assert len(found) > 60
    wide = {
        (row.name, role)
        for row in found
        if not any(bound in row.text for bound in BOUND) and row.text != "false"
        for role in row.roles
    }
    assert wide <= BEYOND_WORKSPACE.keys(), "a policy that lets through more than who asks may see"


def test_a_new_table_without_a_policy_is_found(database: Database) -> None:
    with database.engine(Role.OWNER).begin() as connection:
        connection.execute(sa.text("CREATE TABLE app.forgotten (workspace_id integer, secret text)"))
        connection.execute(sa.text("CREATE TABLE marts.forgotten (workspace_id integer)"))
        connection.execute(sa.text("ALTER TABLE marts.forgotten ENABLE ROW LEVEL SECURITY"))
    bare = {row.name for row in rows(database, TABLES) if not (row.secured and row.has_policy)}
    assert {"app.forgotten", "marts.forgotten"} <= bare - WITHOUT_POLICY.keys()


def test_leaves_are_for_the_writer_alone(gold_database: Database) -> None:
    text = """
    SELECT c.oid::regclass::text AS name, g.grantee::regrole::text AS grantee
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) g
    WHERE n.nspname = ANY(:schemas) AND c.relispartition AND g.grantee <> c.relowner
    """
    assert {row.grantee for row in rows(gold_database, text)} <= {"sluiceway_writer"}


def test_views_read_with_the_rights_of_who_asks(gold_database: Database) -> None:
    text = """
    SELECT c.oid::regclass::text AS name, c.reloptions, c.relkind FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY(:schemas) AND c.relkind IN ('v', 'm')
    """
    found = rows(gold_database, text)
    assert len(found) >= 5
    assert [row.name for row in found if row.relkind == "m"] == [], (
        "policies do not reach a materialized view"
    )
    assert [r.name for r in found if "security_invoker=true" not in (r.reloptions or [])] == []


def test_functions_with_the_owners_rights_are_closed_and_cannot_be_led_astray(database: Database) -> None:
    text = """
    SELECT p.oid::regprocedure::text AS name, p.proconfig,
           EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
                   WHERE g.grantee = 0) AS open
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = ANY(:schemas) AND p.prosecdef
    """
    found = rows(database, text)
    assert len(found) > 30
    assert [row.name for row in found if row.open] == [], "REVOKE ALL ... FROM PUBLIC"
    assert [r.name for r in found if not any(c.startswith("search_path=") for c in r.proconfig or [])] == []


def test_nobody_may_do_more_than_sign_in(database: Database) -> None:
    text = """
    SELECT rolname FROM pg_roles WHERE rolname LIKE 'sluiceway%'
      AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
    """
    assert rows(database, text) == []
    members = """
    SELECT m.member::regrole::text AS member, m.roleid::regrole::text AS of FROM pg_auth_members m
    WHERE m.member::regrole::text LIKE 'sluiceway%'
    """
    assert rows(database, members) == [], "no service role is another"
    owned = """
    SELECT DISTINCT n.nspname, c.relowner::regrole::text AS owner FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY(:schemas) AND c.relowner::regrole::text LIKE 'sluiceway%'
    """
    assert {(r.nspname, r.owner) for r in rows(database, owned)} <= {
        (schema, "sluiceway_modeler") for schema in ("staging", "marts", "gold")
    }


@pytest.mark.parametrize("role", SERVICE_ROLES)
def test_where_a_role_may_make_things(database: Database, role: Role) -> None:
    text = """
    SELECT n.nspname FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND has_schema_privilege(:role, n.oid, 'CREATE') ORDER BY 1
    """
    allowed = {Role.MODELER: ["gold", "marts", "staging"], Role.ORCHESTRATOR: ["dagster"]}
    assert [row.nspname for row in rows(database, text, role=role.login)] == allowed.get(role, [])
