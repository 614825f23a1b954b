"""`sluiceway workspace delete`: says what goes, asks for the name, and may end an organization's last one."""

import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from tests.support.command_line import Run


def _make(database: Database) -> None:
    with database.transaction(Role.OWNER) as conn:
        conn.execute(sa.text("INSERT INTO app.organizations (slug, name) VALUES ('acme', 'Acme')"))
        conn.execute(
            sa.text("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (2, 'only', 'The only')")
        )


def test_a_workspace_is_deleted_by_its_name(run: Run, database: Database) -> None:
    _make(database)
    code, out, err = run("workspace", "delete", "acme/only", "--name", "another")
    assert code == 2 and "name" in err and "0 pipelines" in out
    assert "acme/only" in run("workspace", "list")[1]
    code, out, err = run("workspace", "delete", "acme/only", "--name", "The only")
    assert (code, err) == (0, "") and "The only is deleted" in out
    assert "acme/only" not in run("workspace", "list")[1]
    assert run("workspace", "delete", "acme/only", "--name", "The only")[0] == 1
    # Its log is there still, by its number, and the installation's first workspace was told.
    code, out, _ = run("audit", "verify", "--workspace", "deleted:2")
    assert code == 0 and "acme/deleted:2" in out
    assert "workspace.deleted" in run("audit", "list", "--workspace", "deleted:2")[1]
    assert "workspace.deleted" in run("audit", "list", "--workspace", "main/main")[1]


def test_the_first_workspace_stays(run: Run, database: Database) -> None:
    code, _, err = run("workspace", "delete", "main", "--name", "Main")
    assert code == 1 and "first workspace" in err
