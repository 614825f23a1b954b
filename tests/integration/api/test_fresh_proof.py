"""What a thief of a session would do first asks again who one is: ownership, members, others' sessions."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sluiceway.identity import service
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Role

PASSWORD = {"password": "correct horse battery"}


def _member(world: Any, email: str) -> UUID:
    with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
        user = service.add_person(conn, email, "Bea", None)
        service.add_member(conn, 1, user.id, "viewer")
    return user.id


def test_it_is_asked_for_after_ten_minutes_and_then_let_through(world: Any) -> None:
    owner, editor = world.person("owner"), world.person("editor")
    bea, heir = _member(world, "bea@example.com"), _member(world, "heir@example.com")
    session = owner.get("/v1/sessions").json()["items"][0]
    assert session["email"] == "editor1@example.com"
    world.stand_at(FixedClock(world.services.clock.now() + timedelta(minutes=11)))

    def ask() -> list[tuple[int, str | None]]:
        answers = [
            owner.delete(f"/v1/sessions/{session['id']}"),
            owner.delete(f"/v1/members/{bea}"),
            owner.put(f"/v1/organization/owners/{heir}"),
            owner.delete(f"/v1/organization/owners/{heir}"),
            owner.post(f"/v1/members/{heir}/ownership", json={"afterwards": "admin"}),
        ]
        return [(a.status_code, a.json()["code"] if a.status_code >= 400 else None) for a in answers]

    assert ask() == [(403, "confirmation_required")] * 5
    assert editor.get("/v1/session").status_code == 200
    assert owner.post("/v1/session/confirmation", json=PASSWORD).status_code == 204
    assert ask() == [(204, None), (200, None), (200, None), (204, None), (200, None)]
    assert editor.get("/v1/session").status_code == 401
    assert owner.get("/v1/session").json()["role"] == "admin"
