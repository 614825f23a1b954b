"""A person takes their data away, and goes: everything about them is told, and nothing of them is left."""

from typing import Any

import sqlalchemy as sa

from sluiceway.identity.permissions import MemberRole
from sluiceway.infra.database import Role

EMAIL = "editor1@example.com"


def person_of(world: Any, email: str = EMAIL) -> str:
    return str(world.execute("SELECT id FROM app.users WHERE email = :e", e=email).scalar_one())


def test_everything_that_refers_to_a_person_is_told(world: Any) -> None:
    editor = world.person(MemberRole.EDITOR)
    person = person_of(world)
    world.execute(
        "INSERT INTO app.dashboards (id, workspace_id, slug, title, spec, layout, created_by)"
        " VALUES (uuidv7(), 1, 'mine', 'Mine', '{\"secret plan\": 1}', '{}', :p)",
        p=person,
    )
    answer = editor.get("/v1/me/export")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    assert "attachment" in answer.headers["content-disposition"]
    found = answer.json()
    assert found["person"] == person
    [account] = found["data"]["app.users"]
    assert account["email"] == EMAIL and "password_hash" not in account
    [session] = found["data"]["app.sessions"]
    assert session["user_id"] == person and "token_hash" not in session
    assert found["data"]["app.memberships"][0]["role"] == "editor"
    [board] = found["data"]["app.dashboards"]
    assert board["title"] == "Mine" and "spec" not in board, "the content is the workspace's"
    assert [entry["entry"]["action"] for entry in found["audit"]][:1] == ["session.started"]
    assert found["audit"][0]["who"]["name"] == EMAIL and "salt" not in found["audit"][0]["who"]
    assert "argon2" not in answer.text and "secret plan" not in answer.text


def test_the_export_follows_every_reference_in_the_schema(world: Any) -> None:
    """One row for the person in every table that refers to people: a table that is missed is found here."""
    world.person(MemberRole.EDITOR)
    person = person_of(world)
    links = world.execute(
        "SELECT n.nspname || '.' || c.relname AS name, a.attname FROM pg_constraint k"
        " JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)"
        " WHERE k.contype = 'f' AND k.confrelid = 'app.users'::regclass"
    ).all()
    tables = {row.name for row in links}
    assert len(tables) > 15
    with world.services.database.engine(Role.OWNER).connect() as conn:
        conn.execute(
            sa.text("CREATE TABLE app.new_thing (owner_id uuid REFERENCES app.users ON DELETE CASCADE)")
        )
        conn.execute(sa.text("INSERT INTO app.new_thing VALUES (:p)"), {"p": person})
        conn.execute(sa.text("SELECT set_config('sluiceway.user_id', :p, true)"), {"p": person})
        found = conn.execute(
            sa.text("SELECT app.personal_data(CAST(:p AS uuid))"), {"p": person}
        ).scalar_one()
        conn.rollback()
    assert found["app.new_thing"] == [{"owner_id": person}]


def test_nobody_is_told_of_another(world: Any) -> None:
    world.person(MemberRole.EDITOR)
    person = person_of(world)
    database = world.services.database
    for call in ("app.personal_data", "app.audit_of_person", "app.forget_person"):
        for acting in (None, "0198c0de-0000-7000-8000-000000000001"):
            try:
                with database.transaction(Role.APP, workspace_id=1, user_id=acting) as conn:
                    conn.execute(sa.text(f"SELECT {call}(CAST(:p AS uuid))"), {"p": person})
            except sa.exc.DBAPIError as error:
                assert "insufficient_privilege" in str(error.orig.sqlstate) or "alone" in str(error)
            else:
                raise AssertionError(call)
    assert world.program("manage").get("/v1/me/export").status_code == 403


def test_a_deleted_account_leaves_only_a_number(world: Any) -> None:
    world.person()
    editor = world.person(MemberRole.EDITOR)
    person = person_of(world)
    key = world.key("read", created_by=person)
    editor.get("/v1/me/export")
    wrong = {"email": EMAIL, "password": "not the password"}
    assert world.client().post("/v1/session", json=wrong).status_code == 401
    assert editor.post("/v1/me/deletion", json={"email": "someone@example.com"}).status_code == 422
    assert editor.post("/v1/me/deletion", json={"email": EMAIL.upper()}).status_code == 204
    assert editor.get("/v1/me").status_code == 401
    assert world.execute("SELECT count(*) FROM app.users WHERE email = :e", e=EMAIL).scalar_one() == 0
    for table in ("app.memberships", "app.sessions", "app.totp", "app.passkeys", "app.known_devices"):
        assert world.execute(f"SELECT count(*) FROM {table} WHERE user_id = :p", p=person).scalar_one() == 0
    owner = person_of(world, "owner1@example.com")
    made_by = world.execute("SELECT created_by FROM app.api_keys WHERE id = :k", k=key.split("_")[1])
    assert str(made_by.scalar_one()) == owner, "their keys work on, in the owner's hands"

    entries = world.execute(
        "SELECT content, who, whom FROM app.audit_entries WHERE actor_id = :p", p=person
    ).all()
    assert len(entries) >= 3 and all(EMAIL not in str(row) for row in entries)
    assert any("person.erased" in row.content for row in entries)
    assert [
        row for row in entries if row.who is not None and "address" in row.who and "127.0.0.1" in row.who
    ] == []
    everything = world.execute(
        "SELECT count(*) FROM app.audit_entries WHERE who LIKE :e OR whom LIKE :e OR content LIKE :e",
        e=f"%{EMAIL}%",
    )
    assert everything.scalar_one() == 0
    again = world.client().post("/v1/session", json={"email": EMAIL, "password": "correct horse battery"})
    assert again.status_code == 401
    owner_client = world.person()
    assert owner_client.get("/v1/audit/verification").json()["intact"] is True, "the chain holds all the same"


def test_the_only_owner_hands_over_first(world: Any) -> None:
    owner = world.person()
    answer = owner.post("/v1/me/deletion", json={"email": "owner1@example.com"})
    assert answer.status_code == 409 and answer.json()["code"] == "last_owner"
    assert "Main" in answer.json()["detail"]
    assert owner.get("/v1/me").status_code == 200


def test_a_person_of_two_workspaces_leaves_both(world: Any) -> None:
    world.person()
    world.person(workspace_id=2)
    editor = world.person(MemberRole.EDITOR)
    person = person_of(world)
    world.execute(
        "INSERT INTO app.memberships (workspace_id, user_id, role) VALUES (2, :p, 'viewer')", p=person
    )
    assert editor.post("/v1/me/deletion", json={"email": EMAIL}).status_code == 204
    rooms = world.execute(
        "SELECT workspace_id FROM app.audit_entries WHERE action = 'person.erased' ORDER BY 1"
    ).scalars()
    assert list(rooms) == [1, 2]


def test_the_same_as_a_page(world: Any) -> None:
    world.person()
    editor = world.person(MemberRole.EDITOR)
    page = editor.get("/account/data")
    assert page.status_code == 200 and EMAIL in page.text and 'href="/v1/me/export"' in page.text
    assert "<script" not in page.text.replace('<script type="module" src="/assets/', "")
    assert "/account/data" in editor.get("/account").text
    stranger = world.client(checked=False)
    assert stranger.get("/account/data").status_code == 303
    wrong = editor.post("/account/data/deletion", data={"email": "<b>someone</b>@example.com"})
    assert wrong.status_code == 422 and "<b>" not in wrong.text and "not the one of the account" in wrong.text
    elsewhere = editor.post(
        "/account/data/deletion", data={"email": EMAIL}, headers={"Origin": "https://evil.example"}
    )
    assert elsewhere.status_code == 403
    done = editor.post("/account/data/deletion", data={"email": EMAIL})
    assert done.status_code == 303 and done.headers["location"] == "/sign-in"
    assert editor.get("/v1/me").status_code == 401


def test_who_has_not_confirmed_lately_is_asked_first(world: Any) -> None:
    world.person()
    editor = world.person(MemberRole.EDITOR)
    world.execute("UPDATE app.sessions SET confirmed_at = confirmed_at - interval '11 minutes'")
    answer = editor.post("/v1/me/deletion", json={"email": EMAIL})
    assert answer.status_code == 403 and answer.json()["code"] == "confirmation_required"
    assert editor.get("/v1/me").status_code == 200
