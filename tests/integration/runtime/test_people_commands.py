"""Commands about people: from inviting to leaving, in more than one workspace and organization."""

import pytest
import sqlalchemy as sa

from sluiceway.identity import accepting, service
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from tests.support.command_line import Run

PASSWORD = "violet otter climbs quietly"


@pytest.fixture
def owner(run: Run) -> str:
    code, _, err = run(
        "user", "create", "ann@example.com", "--role", "owner", "--password-stdin", stdin=PASSWORD + "\n"
    )
    assert code == 0, err
    return "ann@example.com"


def test_an_invitation_by_command(
    run: Run, database: Database, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("team", "create", "EMEA", "--role", "analyst", "--attribute", "region=emea")[0] == 0
    code, link, err = run("invite", "bea@example.com", "--team", "emea", "--attribute", "level=2")
    assert (code, err) == (0, "") and "/invitation/" in link
    now = SystemClock().now()
    with database.transaction(Role.APP) as conn:
        offer = accepting.find_offer(conn, link.strip().rpartition("/")[2], now=now)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        user = service.add_person(conn, "bea@example.com", "Bea", None)
        accepting.accept(conn, offer, user, now=now)
    listed = run("member", "list")[1]
    assert "bea@example.com" in listed and "emea" in listed and "level=2" in listed
    assert "accepted" in run("invitation", "list", "--all")[1]
    assert run("invite", "bea@example.com")[2] == (
        "sluiceway: bea@example.com is a member of this workspace already.\n"
    )
    monkeypatch.setenv("SLUICEWAY_SMTP_URL", "smtp://127.0.0.1:1?starttls=no")
    assert run("invite", "cem@example.com")[1] == "cem@example.com is mailed a link.\n"
    waiting = run("invitation", "list")[1]
    assert "cem@example.com" in waiting and "mail waiting" in waiting
    one = waiting.split()[0]
    assert run("invitation", "resend", one)[0] == 0
    assert run("invitation", "revoke", one)[0] == 0
    assert run("invitation", "list")[1] == ""


def test_members_roles_and_teams_by_command(run: Run, database: Database, owner: str) -> None:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        for name in ("bea", "cem"):
            user = service.add_person(conn, f"{name}@example.com", name, None)
            service.add_member(conn, 1, user.id, "viewer")
    assert "data:read" in run("role", "permissions")[1]
    assert run("role", "create", "Keys", "--permission", "key:read")[1] == "keys allows key:read.\n"
    code, _, err = run("role", "create", "Fly", "--permission", "fly")
    assert code == 2 and "'fly' is no permission" in err
    assert run("member", "change", "bea@example.com", "--role", "keys", "--attribute", "region=a")[0] == 0
    assert "is owner here" not in run("member", "change", "bea@example.com", "--attribute", "region=b")[1]
    line = next(text for text in run("member", "list")[1].splitlines() if text.startswith("bea@"))
    assert "keys" in line and "region=b" in line
    code, _, err = run("role", "delete", "keys")
    assert code == 1 and "give them another one first" in err
    assert run("team", "create", "Night", "--role", "analyst")[0] == 0
    assert run("team", "add", "night", "cem@example.com")[0] == 0
    assert "1 members" in run("team", "list")[1]
    assert run("team", "remove", "night", "cem@example.com")[0] == 0
    assert run("team", "delete", "night")[0] == 0
    assert run("member", "disable", "cem@example.com")[0] == 0
    assert "disabled" in run("member", "list", "--search", "cem")[1]
    assert run("member", "enable", "cem@example.com")[0] == 0
    code, _, err = run("member", "remove", owner)
    assert code == 1 and "hand its ownership over first" in err
    assert run("member", "hand-over", owner, "cem@example.com", "--afterwards", "viewer")[0] == 0
    code, out, _ = run("member", "remove", owner)
    assert code == 0 and "To cem@example.com: nothing." in out
    code, out, err = run("member", "add", owner, "--role", "editor")
    assert (code, out, err) == (0, f"{owner} is a member, as editor.\n", "")
    with database.engine(Role.OWNER).connect() as conn:
        actors = conn.execute(sa.text("SELECT DISTINCT actor_kind FROM app.audit_entries")).scalars().all()
    assert actors == ["system"]


def test_organizations_and_workspaces_by_command(run: Run, owner: str) -> None:
    code, out, err = run("workspace", "create", "Logistics", "--owner", owner)
    assert (code, out, err) == (0, f"main/logistics is a workspace, owned by {owner}.\n", "")
    code, out, err = run("organization", "create", "Acme", "--owner", owner)
    assert (code, out, err) == (
        0, f"acme/main is a workspace of a new organization, owned by {owner}.\n", "",
    )  # fmt: skip
    listed = run("workspace", "list")[1]
    assert [line.split()[0] for line in listed.splitlines()] == ["main/main", "main/logistics", "acme/main"]
    code, _, err = run("member", "list", "--workspace", "main")
    assert code == 1 and "write organization/main" in err
    assert owner in run("member", "list", "--workspace", "acme/main")[1]
    assert run("workspace", "rename", "--name", "Acme data", "--workspace", "acme/main")[0] == 0
    assert "Acme data" in run("workspace", "list")[1]
    assert run("organization", "rename", "--name", "Acme Ltd", "--organization", "acme")[0] == 0
    assert f"owned by {owner}" in run("organization", "list")[1]
    code, _, err = run("workspace", "create", "X", "--owner", "nobody@example.com")
    assert code == 1 and "Nobody has an account" in err
    code, _, err = run("organization", "create", "Acme", "--owner", owner)
    assert code == 1 and "already" in err
