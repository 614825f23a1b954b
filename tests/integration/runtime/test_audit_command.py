"""`sluiceway audit`, and what commands leave in the log."""

import json
from pathlib import Path

from sluiceway.audit.contracts import AuditEntry
from sluiceway.audit.reading import Search, search
from sluiceway.infra.database import Database, Role
from tests.support.audited import numbered, owner, put
from tests.support.command_line import Run

EXAMPLES = Path(__file__).parents[3] / "examples"


def log(database: Database, action: str | None = None) -> list[AuditEntry]:
    """Oldest first."""
    with database.transaction(Role.APP, workspace_id=1) as conn:
        return search(conn, 1, Search(action=action), limit=1000)[::-1]


def test_verify_says_that_all_is_well_and_what_is_not(run: Run, database: Database) -> None:
    assert run("audit", "verify")[:2] == (0, "No workspace has an audit log yet.\n")
    put(database, *numbered(5))
    head = run("audit", "head")[1].strip()
    code, out, err = run("audit", "verify", "--head", head)
    assert (code, err) == (0, "") and "main/main: 5 entries are as they were written" in out and head in out
    owner(database, "UPDATE app.audit_entries SET content = replace(content, 'p2', 'p9') WHERE seq = 2")
    code, out, err = run("audit", "verify", "--workspace", "main")
    assert (code, err) == (1, "") and out.startswith("main/main: BROKEN at entry 2. It was changed")
    code, out, _ = run("audit", "verify", "--json")
    assert code == 1 and json.loads(out)[0]["broken"]["seq"] == 2


def test_a_head_that_was_noted_finds_a_log_that_was_cut(run: Run, database: Database) -> None:
    put(database, *numbered(3))
    head = run("audit", "head", "--workspace", "main/main")[1].strip()
    owner(database, "DELETE FROM app.audit_entries WHERE seq = 3")
    owner(
        database,
        "UPDATE app.audit_heads h SET seq = 2, hash = e.hash FROM app.audit_entries e WHERE e.seq = 2",
    )
    assert run("audit", "verify")[0] == 0
    code, out, _ = run("audit", "verify", "--workspace", "main", "--head", head)
    assert code == 1 and "BROKEN at entry 3" in out


def test_every_workspace_is_checked(run: Run, database: Database) -> None:
    with database.engine(Role.OWNER).begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'O')"
        )
    put(database, *numbered(2))
    put(database, *numbered(1), workspace_id=2)
    owner(database, "UPDATE app.audit_entries SET at = now() WHERE workspace_id = 2")
    code, out, _ = run("audit", "verify")
    assert code == 1 and "main/main: 2 entries" in out and "main/other: BROKEN at entry 1" in out
    code, _, err = run("audit", "verify", "--head", "1:" + "0" * 64)
    assert code == 2 and "--workspace" in err
    assert run("audit", "head", "--workspace", "none")[0] == 1
    assert run("audit", "verify", "--head", "x")[0] == 2


def test_searching_and_exporting_are_recorded(run: Run, database: Database, tmp_path: Path) -> None:
    put(database, *numbered(3, after={"note": "\x1b[31mred"}))
    code, out, err = run("audit", "list", "--action", "pipeline", "--limit", "2")
    assert (code, err) == (0, "") and out.count("\n") == 2 and "\x1b" not in out
    assert "p3" in out and "ada@example.com" in out and "192.0.2.7" in out
    file = tmp_path / "audit.csv"
    assert run("audit", "export", "--format", "csv", "--into", str(file), "--target", "pipeline")[0] == 0
    assert file.read_text().count("\n") == 4
    code, out, _ = run("audit", "export", "--target-id", "p2")
    assert code == 0 and json.loads(out)["target_id"] == "p2"
    told = [(e.action, e.detail) for e in log(database) if e.actor.kind == "system"]
    assert told == [
        ("audit.read", {"action": "pipeline"}),
        ("export.made", {"format": "csv", "target": "pipeline"}),
        ("export.made", {"format": "ndjson", "target_id": "p2"}),
    ]
    assert run("audit", "export", "--format", "xml")[0] == 2


def test_commands_leave_what_they_changed(run: Run, database: Database) -> None:
    pipeline = str(EXAMPLES / "pipelines" / "nyc-flights.yml")
    dashboard = str(next((EXAMPLES / "dashboards").glob("*.yml")))
    for _ in range(2):
        assert run("apply", pipeline, dashboard)[0] == 0
    assert run("export", "nyc-flights")[0] == 0
    words = "plum-otter-basket-47"
    made = run(
        "user", "create", "bob@example.com", "--role", "editor", "--password-stdin", stdin=words + "\n"
    )
    assert made[0] == 0, made
    for command in ("disable", "enable"):
        assert run("user", command, "bob@example.com")[0] == 0
    key = run("key", "create", "--scope", "read")[1].strip()
    assert run("key", "revoke", key.split("_")[1])[0] == 0
    told = [e for e in log(database) if e.action != "key.used"]
    assert [e.action for e in told][:7] == [
        "pipeline.applied", "dashboard.created", "export.made", "person.created", "person.disabled",
        "person.enabled", "key.created",
    ]  # fmt: skip
    assert {(e.actor.kind, e.actor.id) for e in told} == {("system", "cli")}
    assert all("@" in e.actor.name for e in told)
    assert told[3].after == {"email": "bob@example.com", "role": "editor"}
    with database.engine(Role.OWNER).connect() as conn:
        text = str(
            conn.exec_driver_sql(
                "SELECT string_agg(concat(content, who, whom), '') FROM app.audit_entries"
            ).scalar()
        )
    assert key.split("_")[2] not in text and words not in text


def test_what_changes_nothing_is_not_told(run: Run, database: Database) -> None:
    pipeline = str(EXAMPLES / "pipelines" / "nyc-flights.yml")
    for _ in range(3):
        assert run("apply", pipeline)[0] == 0
    assert [e.action for e in log(database)] == ["pipeline.applied"]
