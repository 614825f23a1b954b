"""Two processes over one database: what ends or changes in one holds at once in the other."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from api.app import create_app
from api.services import ApiServices
from sluiceway.identity import members, sessions
from sluiceway.identity.members import Change
from sluiceway.infra.database import Database, Role

COOKIE = "sluiceway_session"
NEW_PASSWORD = "violet otter climbs quietly"


@pytest.fixture
def elsewhere(world: Any, database_url: str) -> Iterator[Callable[[Any], Any]]:
    """Gives the browser of a client as it reaches another process."""
    known = world.services
    database = Database(database_url, known.key)
    other = type(world)(
        ApiServices(settings=known.settings, database=database, key=known.key), None, world.portal
    )
    other.app = create_app(other.services)

    def same(browser: Any) -> Any:
        return other.client(headers={"Cookie": f"{COOKIE}={browser.http.cookies[COOKIE]}"})

    yield same
    database.dispose()


def _person(world: Any, email: str) -> Any:
    return world.execute("SELECT id FROM app.users WHERE email = :e", e=email).scalar_one()


def _asks(browser: Any) -> int:
    status: int = browser.get("/v1/session").status_code
    return status


def test_a_session_that_ends_in_one_process_ends_in_the_other(world: Any, elsewhere: Any) -> None:
    owner = world.person("owner")

    def ended_by(end: Callable[[Any], Any]) -> None:
        browser = world.person("viewer")
        there = elsewhere(browser)
        assert (_asks(browser), _asks(there)) == (200, 200)
        assert end(browser).status_code in (200, 204)
        assert (_asks(there), _asks(browser)) == (401, 401)

    def by_somebody_else(_browser: Any) -> Any:
        found = owner.get("/v1/sessions").json()["items"]
        his = next(s["id"] for s in found if s["email"].startswith("viewer"))
        return owner.delete(f"/v1/sessions/{his}")

    ended_by(lambda browser: browser.delete("/v1/session"))
    ended_by(by_somebody_else)
    viewer = _person(world, "viewer1@example.com")
    ended_by(lambda _: owner.patch(f"/v1/members/{viewer}", json={"disabled": True}))
    owner.patch(f"/v1/members/{viewer}", json={"disabled": False})
    ended_by(lambda _: owner.delete(f"/v1/members/{viewer}"))
    assert _person(world, "viewer1@example.com") == viewer  # still somebody, and a member of nothing


def test_a_changed_password_ends_the_other_sessions_everywhere(world: Any, elsewhere: Any) -> None:
    one, two = world.person("viewer"), world.person("viewer")
    there, here = elsewhere(two), elsewhere(one)
    assert (_asks(there), _asks(here)) == (200, 200)
    assert one.put("/v1/me/password", json={"password": NEW_PASSWORD}).status_code == 204
    assert _asks(there) == 401
    assert _asks(one) == 200


def test_what_somebody_holds_changes_in_every_process_at_once(world: Any, elsewhere: Any) -> None:
    owner, browser = world.person("owner"), world.person("viewer")
    viewer = _person(world, "viewer1@example.com")
    there = elsewhere(browser)

    def holds(permission: str) -> bool:
        return permission in there.get("/v1/session").json()["permissions"]

    assert not holds("rule:read")
    owner.patch(f"/v1/members/{viewer}", json={"role": "editor"})
    assert holds("rule:read")
    owner.patch(f"/v1/members/{viewer}", json={"role": "viewer"})
    assert not holds("rule:read")
    assert owner.post("/v1/teams", json={"name": "Night", "roles": ["analyst"]}).status_code == 201
    owner.put(f"/v1/teams/night/members/{viewer}")
    assert holds("data:export")
    owner.patch("/v1/teams/night", json={"roles": [], "attributes": {"region": ["emea"]}})
    assert not holds("data:export")
    assert there.get("/v1/session").json()["attributes"] == {"region": ["emea"]}
    owner.delete("/v1/teams/night")
    assert there.get("/v1/session").json()["attributes"] == {}
    owner.post("/v1/roles", json={"name": "Keeper", "permissions": ["key:read", "data:read"]})
    owner.patch(f"/v1/members/{viewer}", json={"role": "keeper"})
    assert there.get("/v1/keys").status_code == 200
    owner.patch("/v1/roles/keeper", json={"permissions": ["data:read"]})
    assert there.get("/v1/keys").status_code == 403
    assert owner.put("/v1/sign-in/policy", json={"second_factor_for": ["keeper"]}).status_code == 200
    assert there.get("/v1/pipelines").json()["code"] == "second_factor_missing"


def test_what_no_web_process_did_holds_at_once_as_well(world: Any, elsewhere: Any) -> None:
    """As the command line and provisioning do it: straight to the database."""
    browser = world.person("editor")
    there, database = elsewhere(browser), world.services.database
    editor = _person(world, "editor1@example.com")
    assert (_asks(browser), _asks(there)) == (200, 200)
    now = world.services.clock.now()
    with database.transaction(Role.APP, workspace_id=1) as conn:
        members.change_member(conn, 1, editor, Change(role="viewer"), giver=None, now=now)
    assert [b.get("/v1/rules").status_code for b in (browser, there)] == [403, 403]
    with database.transaction(Role.APP, workspace_id=1) as conn:
        sessions.end_own(conn, editor)
    assert (_asks(browser), _asks(there)) == (401, 401)


def test_finding_who_asks_is_one_statement(world: Any) -> None:
    """With roles, teams, attributes, policies and the session's own end: every request asks for it."""
    browser = world.person("viewer")
    engine = world.services.database.engine(Role.APP)
    seen: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        for _ in range(2):
            assert browser.get("/v1/me/preferences").status_code == 200
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a QueuePool
    assert ["find_session" in one for one in seen] == [True, False, True, False], seen
