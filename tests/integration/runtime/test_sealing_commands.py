"""`sluiceway secrets`, `usage`, `quota`, `user export` and `user delete`, as an operator uses them."""

import json
import stat
from pathlib import Path

import pytest

from sluiceway.identity.service import create_user
from sluiceway.infra import rotation
from sluiceway.infra.database import Database, Role
from sluiceway.infra.envelope import CannotOpen
from sluiceway.infra.keys import SecretKey, load_secret_key
from sluiceway.infra.mail import seal_context, send_later
from sluiceway.infra.settings import load_settings
from sluiceway.migrations import migrate
from tests.support.command_line import Run

NEW_KEY = "another key for tests only, long enough too"


def mail(database: Database) -> bytes:
    """A sealed value; returns it as kept."""
    with database.transaction(Role.APP, workspace_id=1) as connection:
        send_later(connection, database.envelope, 1, "ada@example.com", "Hello", "a one-time link")
    return sealed(database)[1]


def sealed(database: Database) -> tuple[str, bytes]:
    with database.connect(Role.OWNER) as connection:
        row = connection.execute("SELECT id, sealed FROM app.mails").fetchone()
    assert row is not None
    return str(row[0]), bytes(row[1])


def test_rotate_and_status(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mail(database)
    monkeypatch.setattr(rotation, "GRACE", rotation.GRACE / 1000)
    code, out, err = run("secrets", "rotate")
    assert (code, err) == (0, "") and "1 values were sealed again; the old version is gone." in out
    name, after = sealed(database)
    assert before[1:3] == b"\x00\x01" and after[1:3] == b"\x00\x02"
    assert b"a one-time link" in database.envelope.open(after, seal_context(1, name))  # type: ignore[arg-type]
    code, out, _ = run("secrets", "status")
    assert code == 0 and out.split()[:2] == ["2", "current"] and out.rstrip().endswith("1 values")
    with database.connect(Role.OWNER) as connection:
        row = connection.execute(
            "SELECT content FROM app.audit_entries WHERE action = 'secrets.rotated'"
        ).fetchone()
    assert row is not None and '"values":1' in row[0]


def test_a_value_that_cannot_be_opened_is_named(run: Run, database: Database) -> None:
    mail(database)
    with database.connect(Role.OWNER) as connection:
        connection.execute("UPDATE app.mails SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 255)")
    code, out, err = run("secrets", "rotate")
    assert code == 1 and f"app.mails.sealed {sealed(database)[0]}" in err and "gone" not in out


def test_another_installation_key(run: Run, database: Database, database_url: str) -> None:
    kept = mail(database)
    assert run("secrets", "change-key", stdin="short\n")[0] == 2
    code, out, err = run("secrets", "change-key", stdin=NEW_KEY + "\n")
    assert (code, err) == (0, "") and NEW_KEY not in out and "Restart every process" in out
    name, value = sealed(database)
    assert value == kept, "the values stay as they are"
    new = Database(database_url, SecretKey(NEW_KEY.encode()))
    assert b"one-time" in new.envelope.open(value, seal_context(1, name))  # type: ignore[arg-type]
    new.dispose()
    database.keyring.forget()
    with pytest.raises(CannotOpen):
        database.envelope.seal(b"x", "x")
    # Who goes on with the old key is told so, and harms nothing.
    code, _, err = run("secrets", "rotate")
    assert code == 1 and "SLUICEWAY_SECRET_KEY" in err


def test_the_key_file_is_replaced_and_a_broken_change_goes_on(
    run: Run, cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.create("template1")
    settings = load_settings({"SLUICEWAY_HOME": str(tmp_path / "own"), "SLUICEWAY_DATABASE_URL": url})
    first = load_secret_key(settings)
    own = Database(url, first)
    migrate(own, first)
    value = own.envelope.seal(b"kept", "place")
    own.dispose()
    monkeypatch.setenv("SLUICEWAY_HOME", str(settings.home))
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", url)
    monkeypatch.delenv("SLUICEWAY_SECRET_KEY")
    old = (settings.home / "secret.key").read_bytes()

    def crash(self: Path, target: Path) -> Path:
        raise OSError(5, "the machine stopped")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", crash)
        assert run("secrets", "change-key")[0] == 1
    assert (settings.home / "secret.key").read_bytes() == old
    waiting = (settings.home / "secret.key.next").read_bytes()
    assert run("secrets", "change-key")[0] == 0
    assert (settings.home / "secret.key").read_bytes() == waiting != old
    assert not (settings.home / "secret.key.next").exists()
    assert stat.S_IMODE((settings.home / "secret.key").stat().st_mode) == 0o600
    changed = Database(url, load_secret_key(settings))
    assert changed.envelope.open(value, "place") == b"kept"
    changed.dispose()
    cluster.drop(url)


def test_usage_and_quotas(run: Run, database: Database) -> None:
    assert run("quota", "list")[1].split("\n")[0].split() == ["events", "no", "limit"]
    code, out, err = run("quota", "set", "events", "--soft", "1.5M", "--hard", "2M", "--ceiling", "3M")
    assert (code, err) == (0, "")
    assert out == "events: soft 1,500,000 events, hard 2,000,000 events, ceiling 3,000,000 events\n"
    assert run("quota", "set", "events", "--hard", "none")[1].startswith(
        "events: soft 1,500,000 events, ceiling"
    )
    code, _, err = run("quota", "set", "events", "--hard", "4M")
    assert code == 2 and "at most 3,000,000 events" in err
    assert run("quota", "set", "events", "--hard", "many")[0] == 2
    assert run("quota", "set", "wishes", "--hard", "3")[0] == 2
    assert run("quota", "set", "seats", "--hard", "0", "--workspace", "nowhere")[0] == 1
    assert run("quota", "set", "stored_bytes", "--hard", "2.5GB")[1] == "stored_bytes: hard 2.5 GB\n"
    code, out, _ = run("usage", "--month", "2026-10")
    assert code == 0 and out.startswith("2026-10\n") and "0 events  (soft 1,500,000 events" in out
    with database.connect(Role.OWNER) as connection:
        count = connection.execute("SELECT count(*) FROM app.audit_entries WHERE action = 'quota.changed'")
        assert count.fetchone() == (3,)


def test_a_persons_data_for_who_asks_the_operator(run: Run, database: Database, tmp_path: Path) -> None:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        create_user(connection, "root@example.com", "Root", "correct horse battery", "owner")
        create_user(connection, "ada@example.com", "Ada", "correct horse battery", "editor")
        create_user(connection, "bea@example.com", "Bea", "correct horse battery", "viewer")
    code, out, err = run("user", "export", "ada@example.com")
    assert (code, err) == (0, "")
    assert json.loads(out)["data"]["app.memberships"][0]["role"] == "editor" and "argon2" not in out
    target = tmp_path / "ada.json"
    assert run("user", "export", "ADA@example.com", "--into", str(target))[0] == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600 and json.loads(target.read_text())["audit"]
    assert run("user", "export", "nobody@example.com")[0] == 1
    assert run("user", "delete", "ada@example.com", stdin="n\n")[0] == 1
    assert "belonged to 1 workspace." in run("user", "delete", "ada@example.com", "--yes")[1]
    assert run("member", "remove", "bea@example.com")[0] == 0
    assert "belonged to 0 workspaces." in run("user", "delete", "bea@example.com", "--yes")[1]
    code, _, err = run("user", "delete", "root@example.com", "--yes")
    assert code == 1 and "only owner of Main" in err
    with database.connect(Role.OWNER) as connection:
        rows = connection.execute("SELECT email FROM app.users").fetchall()
        told = connection.execute(
            "SELECT workspace_id, actor_kind, actor_id FROM app.audit_entries WHERE action = 'person.erased'"
        ).fetchall()
    assert rows == [("root@example.com",)]
    assert told == [(1, "system", "cli")] * 2  # the operator did it, not the two of them


def test_a_new_password_holds_where_the_server_asks_for_it(database: Database) -> None:
    """The embedded server trusts its socket: here the stored verifiers are looked at."""
    verifiers = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'sluiceway%'"
    with database.connect(Role.OWNER) as connection:
        before = dict(connection.execute(verifiers).fetchall())
    with database.transaction(Role.OWNER) as connection:
        rotation.change_installation_key(
            connection, SecretKey(b"a key for tests only, long enough to pass"), SecretKey(NEW_KEY.encode())
        )
    with database.connect(Role.OWNER) as connection:
        after = dict(connection.execute(verifiers).fetchall())
    assert len(after) == 6 and all(after[role] != before[role] for role in after)
    assert all(isinstance(text, str) and text.startswith("SCRAM-SHA-256$") for text in after.values())
