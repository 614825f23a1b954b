"""The audit log over HTTP: searching, exporting and checking it, and that all this is recorded too."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sluiceway.audit.contracts import Actor, Entry
from tests.support.audited import ADA, numbered, owner, put

GATE = Actor("key", "abcdefghijkm", "gate", "192.0.2.9")
PAGE = Path(__file__).parents[3] / "docs" / "audit.md"


@pytest.fixture
def filled(world):
    """Seven entries of the first workspace, one of the second."""
    put(
        world.services.database,
        *numbered(4),
        Entry("key.created", GATE, "key", "k1", after={"name": "100%_x"}),
        Entry("member.invited", ADA, "member", "7", after={"email": "bob@example.com"}),
        Entry("export.made", Actor("system", "cli", "root@host"), "dashboard", "board", detail={"rows": 7}),
    )  # fmt: skip
    put(world.services.database, Entry("key.created", ADA, "key", "theirs"), workspace_id=2)
    return world


def found(client, query: str = "") -> list[str]:
    """Actions and targets, without what asking leaves."""
    answer = client.get(f"/v1/audit?{query}")
    assert answer.status_code == 200, answer.text
    return [
        f"{e['action']} {e['target_id']}"
        for e in answer.json()["items"]
        if e["action"] not in ("audit.read", "session.started")
    ]


def test_newest_first_and_of_this_workspace_alone(filled) -> None:
    assert found(filled.person()) == [
        "export.made board", "member.invited 7", "key.created k1",
        "pipeline.applied p4", "pipeline.applied p3", "pipeline.applied p2", "pipeline.applied p1",
    ]  # fmt: skip
    assert found(filled.person(workspace_id=2)) == ["key.created theirs"]


QUERIES = {
    "actor=abcdefghijkm": ["key.created k1"],
    "actor=gate": ["key.created k1"],
    "actor=system": ["export.made board"],
    "actor=GATE": ["key.created k1"],
    "actor=root%40": ["export.made board"],
    "action=key.created": ["key.created k1"],
    "action=key": ["key.created k1"],
    "action=ke": [],
    "target=member": ["member.invited 7"],
    "target=pipeline&target_id=p2": ["pipeline.applied p2"],
    "address=192.0.2.9": ["key.created k1"],
    "text=bob%40EXAMPLE": ["member.invited 7"],
    "text=100%25_x": ["key.created k1"],
    "text=100%25%25x": [],
    "text=%25_": ["key.created k1"],
    "text=user_agent": [],
    "text=salt": [],
    "text=%27%20OR%20true%20--": [],
    "since=2000-01-01T00:00:00Z&action=export": ["export.made board"],
    "until=2000-01-01T00:00:00Z": [],
    "since=2999-01-01T00:00:00Z": [],
    "actor=gate&action=pipeline": [],
}


def test_every_condition_has_to_hold(filled) -> None:
    admin = filled.person()
    for query, expected in QUERIES.items():
        # What was looked for is itself in the log: without it here.
        kept = [e for e in found(admin, query) if not e.startswith(("audit.", "session."))]
        assert kept == expected, query


def test_pages_hang_together(filled) -> None:
    admin = filled.person()
    seen, cursor = [], ""
    for _ in range(20):
        answer = admin.get(f"/v1/audit?limit=2&action=pipeline{cursor}").json()
        seen += [e["target_id"] for e in answer["items"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == ["p4", "p3", "p2", "p1"]


def test_one_entry_can_be_checked(filled) -> None:
    entry = filled.person().get("/v1/audit/entries/1").json()
    assert entry["actor"] == {
        "kind": "user", "id": ADA.id, "name": "ada@example.com", "address": "192.0.2.7",
        "user_agent": "Firefox",
    }  # fmt: skip
    assert entry["previous"] == "00" * 32 and len(entry["hash"]) == 64 and '"p1"' in entry["content"]
    answer = filled.person().get("/v1/audit/entries/999")
    assert (answer.status_code, answer.json()["code"]) == (404, "audit_entry_not_found")


def test_an_entry_of_another_workspace_is_not_there(filled) -> None:
    other = filled.person(workspace_id=2)
    assert other.get("/v1/audit/entries/5").status_code == 404


def test_verification_names_the_first_broken_entry(filled) -> None:
    admin = filled.person()
    head = admin.get("/v1/audit/head").json()
    told = admin.get(f"/v1/audit/verification?head={head['head']}").json()
    assert told["intact"] and told["entries"] >= 8 and told["broken"] is None and told["start"]["seq"] == 0
    owner(filled.services.database, "UPDATE app.audit_entries SET content = content || ' ' WHERE seq = 2")
    told = admin.get("/v1/audit/verification").json()
    assert not told["intact"] and told["broken"]["seq"] == 2
    answer = admin.get("/v1/audit/verification?head=nonsense")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_head")


def test_looking_is_recorded_once_and_exporting_each_time(filled) -> None:
    admin = filled.person()
    for _ in range(3):
        admin.get("/v1/audit?text=bob&actor=ada")
        assert admin.get("/v1/audit/export?action=key").status_code == 200
    read = admin.get("/v1/audit?action=audit.read").json()["items"]
    exported = admin.get("/v1/audit?action=export.made&actor=user").json()["items"]
    assert [e["detail"] for e in read] == [{"text": "bob", "actor": "ada"}]
    assert [e["detail"] for e in exported] == [{"format": "csv", "action": "key"}] * 3
    assert {e["actor"]["name"] for e in read + exported} == {"owner1@example.com"}
    assert {e["actor"]["address"] for e in read} == {"127.0.0.1"}


def test_an_export_for_spreadsheets_holds_no_formulas(world) -> None:
    evil = Actor("user", "1", "=HYPERLINK(1)", "192.0.2.1", "@SUM(1)")
    put(world.services.database, Entry("key.created", evil, "key", "+1", after={"name": 'a,"b"\nc'}))
    answer = world.person().get("/v1/audit/export?format=csv&target=key")
    assert (
        "attachment" in answer.headers["content-disposition"]
        and answer.headers["cache-control"] == "no-store"
    )
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["actor_name"], row["user_agent"], row["target_id"]) == ("'=HYPERLINK(1)", "'@SUM(1)", "'+1")
    assert row["after"] == '{"name": "a,\\"b\\"\\nc"}'


def test_an_export_is_checked_without_our_code(filled, tmp_path: Path) -> None:
    """The program on the documentation's page, over what the API gives."""
    admin = filled.person()
    lines = admin.get("/v1/audit/export?format=ndjson").text
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-c", program], input=text, capture_output=True, text=True, timeout=60
        )

    good = run(lines)
    last = [line for line in lines.splitlines() if line][-1]
    assert good.returncode == 0 and good.stdout.split()[-1] in last, good.stderr
    bad = run(lines.replace('\\"p2\\"', '\\"p9\\"'))
    assert bad.returncode == 1 and "entry 2 " in bad.stderr
    without = run("".join(line + "\n" for line in lines.splitlines() if '"seq": 3,' not in line))
    assert without.returncode == 1 and "entry 4 " in without.stderr


def test_a_large_export_comes_in_pages(world) -> None:
    with world.services.database.engine(owner_role()).begin() as conn:
        conn.exec_driver_sql(
            'SELECT app.append_audit(1, now(), concat(\'{"action":"x.done","actor":{"id":"1","kind":"user"},'
            '"request_id":"","target":null,"target_id":"\', n, \'"}\'), NULL, NULL)'
            " FROM generate_series(1, 2500) n"
        )
    answer = world.person().get("/v1/audit/export?format=ndjson&action=x.done")
    assert answer.text.count("\n") == 2500
    assert world.person().get("/v1/audit/verification").json()["entries"] >= 2500


def owner_role():
    from sluiceway.infra.database import Role

    return Role.OWNER


PATHS = [
    "/v1/audit",
    "/v1/audit/entries/1",
    "/v1/audit/head",
    "/v1/audit/verification",
    "/v1/audit/export",
    "/v1/audit/actions",
]


def test_only_admins_and_owners_see_it(filled) -> None:
    for role, status in (("owner", 200), ("admin", 200), ("editor", 403), ("analyst", 403), ("viewer", 403)):
        client = filled.person(role)
        assert {client.get(path).status_code for path in PATHS} == {status}, role
    for scope in ("ingest", "read", "manage"):
        client = filled.program(scope)
        assert {client.get(path).status_code for path in PATHS} == {403}, scope
    assert {filled.client().get(path).status_code for path in PATHS} == {401}


def test_what_cannot_be_searched(world) -> None:
    admin = world.person()
    for query in ("cursor=zzz", "limit=0", "since=yesterday", "actor=", "text=" + "x" * 301, "text=%00"):
        answer = admin.get(f"/v1/audit?{query}")
        assert answer.status_code == 422, f"{query}: {answer.text}"


def test_a_format_that_is_none(world) -> None:
    assert world.person().get("/v1/audit/export?format=xml").status_code == 422
