"""What the API's database role sees of people, workspaces and organizations, who belong to no workspace."""

from uuid import UUID

import pytest
import sqlalchemy as sa

from sluiceway.identity import members, service, workspaces
from sluiceway.identity.errors import NotSignedIn
from sluiceway.infra.database import Database, Role
from sluiceway.kit.errors import NotFound


@pytest.fixture
def people(database: Database) -> tuple[UUID, UUID]:
    """Ann in the first workspace of the first organization, Zoe in the only one of another."""
    with database.transaction(Role.APP, workspace_id=1) as conn:
        ann = service.add_person(conn, "ann@example.com", "Ann", None)
        service.add_member(conn, 1, ann.id, "owner")
        zoe = service.add_person(conn, "zoe@example.com", "Zoe", None)
        made, _ = workspaces.create_organization(conn, "Acme", zoe.id)
        workspaces.create_workspace(conn, made, "Main", zoe.id)
    return ann.id, zoe.id


def _count(database: Database, table: str, workspace: int | None = None, user: UUID | None = None) -> int:
    with database.transaction(
        Role.APP, workspace_id=workspace, user_id=None if user is None else str(user)
    ) as conn:
        found: int = conn.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
        return found


def test_a_transaction_meets_its_workspaces_people_and_its_own(
    database: Database, people: tuple[UUID, UUID]
) -> None:
    ann, zoe = people
    assert _count(database, "app.users") == 0
    assert _count(database, "app.users", 1) == 1
    assert _count(database, "app.users", 2, ann) == 2
    assert _count(database, "app.users", None, zoe) == 1
    for table in ("app.workspaces", "app.organizations", "app.organization_owners"):
        assert _count(database, table) == 0, table
        assert _count(database, table, 2) == 1, table


def test_nobody_elses_account_is_changed_or_removed(database: Database, people: tuple[UUID, UUID]) -> None:
    ann, zoe = people
    with database.transaction(Role.APP, workspace_id=1, user_id=str(ann)) as conn:
        for text in ("UPDATE app.users SET name = 'X'", "DELETE FROM app.users"):
            done = conn.execute(sa.text(f"{text} WHERE id = :id"), {"id": zoe})
            assert done.rowcount == 0
        with pytest.raises(NotFound):
            service.set_name(conn, zoe, "X")
        with pytest.raises(NotFound):
            members.get_member(conn, 1, zoe)
        service.set_password(conn, zoe, "violet otter climbs quietly")
        assert conn.execute(sa.text("SELECT current_setting('sluiceway.user_id')")).scalar_one() == str(ann)
    with database.transaction(Role.APP, workspace_id=1) as conn, pytest.raises(sa.exc.ProgrammingError):
        conn.execute(sa.text("INSERT INTO app.users (id, email, name) VALUES (uuidv7(), 'x@y', 'X')"))


def test_other_service_roles_see_no_people_at_all(database: Database, people: tuple[UUID, UUID]) -> None:
    tables = (
        "app.users", "app.memberships", "app.roles", "app.teams", "app.team_roles", "app.team_members",
        "app.invitations", "app.organization_owners",
    )  # fmt: skip
    for role in (Role.READER, Role.WRITER, Role.MODELER, Role.ORCHESTRATOR):
        for table in tables:
            with database.transaction(role, workspace_id=1) as conn, pytest.raises(sa.exc.ProgrammingError):
                conn.execute(sa.text(f"SELECT 1 FROM {table}"))


def test_a_role_of_another_workspace_or_of_nobody_is_refused_by_the_database(
    database: Database, people: tuple[UUID, UUID]
) -> None:
    with database.transaction(Role.APP, workspace_id=2) as conn:
        conn.execute(
            sa.text(
                "INSERT INTO app.roles (workspace_id, slug, name, permissions)"
                " VALUES (2, 'theirs', 'Theirs', '{data:read}')"
            )
        )
    for role in ("theirs", "nothing", "Owner"):
        with database.transaction(Role.APP, workspace_id=1) as conn, pytest.raises(sa.exc.IntegrityError):
            service.add_member(conn, 1, people[0], role)
    with database.transaction(Role.APP, workspace_id=2) as conn, pytest.raises(sa.exc.IntegrityError):
        conn.execute(
            sa.text(
                "INSERT INTO app.roles (workspace_id, slug, name, permissions)"
                " VALUES (2, 'owner', 'Owner', '{data:read}')"
            )
        )


def test_a_session_goes_nowhere_without_a_membership(database: Database, people: tuple[UUID, UUID]) -> None:
    from datetime import UTC, datetime, timedelta

    from sluiceway.identity import sessions

    ann, _ = people
    now = datetime.now(UTC)
    with database.transaction(Role.APP, workspace_id=1, user_id=str(ann)) as conn:
        token = sessions.create_session(
            conn, user_id=ann, workspace_id=1, now=now, lifetime=timedelta(hours=1)
        )
        for unknown in (token, "x" * 43):
            with pytest.raises(NotFound):
                workspaces.move_session(conn, unknown, 2)
        with pytest.raises(NotSignedIn):
            workspaces.move_session(conn, "", 1)
        fresh = workspaces.move_session(conn, token, 1)
        assert sessions.find_session(conn, fresh, now=now).workspace_id == 1
        with pytest.raises(NotSignedIn):
            sessions.find_session(conn, token, now=now)
