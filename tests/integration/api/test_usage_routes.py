"""Usage and quotas over the API and the command line; limits that are reached are told once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluiceway.identity import seats
from sluiceway.identity.errors import SeatsExceeded
from sluiceway.identity.permissions import MemberRole
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Role
from sluiceway.usage.measuring import measure_stored
from sluiceway.usage.notices import tell_of_limits

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HEADERS = {"Content-Type": "application/json"}


@pytest.fixture
def used(world: Any) -> Any:
    """A workspace that took in 900 events in November and 100 in October."""
    world.apply()
    for day, events in (("2026-11-02", 400), ("2026-11-20", 500), ("2026-10-31", 100)):
        world.execute(
            "SELECT app.note_usage(ARRAY(SELECT id FROM app.pipelines), ARRAY[CAST(:d AS date)],"
            " ARRAY[CAST(:e AS bigint)], ARRAY[CAST(:e AS bigint) * 10])",
            d=day,
            e=events,
        )
    world.stand_at(FixedClock(NOW))
    return world


def test_usage_of_a_month(used: Any) -> None:
    owner = used.person()
    found = owner.get("/v1/usage").json()
    assert (found["month"], found["ends_at"]) == ("2026-11-01", "2026-12-01T00:00:00Z")
    measures = {m["measure"]: m for m in found["measures"]}
    assert {name: m["used"] for name, m in measures.items()} == {
        "events": 900, "ingested_bytes": 9000, "stored_bytes": 0, "seats": 1,
    }  # fmt: skip
    assert measures["stored_bytes"]["as_of"] is None
    assert measures["events"]["limits"] == {"soft": None, "hard": None, "ceiling": None}
    assert [d["events"] for d in found["days"]] == [400, 500]
    assert [(p["pipeline"], p["events"]) for p in found["pipelines"]] == [("orders", 900)]
    before = owner.get("/v1/usage?month=2026-10-15").json()
    assert before["measures"][0]["used"] == 100
    assert owner.get("/v1/usage?month=9999-12-31").status_code == 422
    other = used.person(workspace_id=2).get("/v1/usage").json()
    assert other["pipelines"] == [] and other["measures"][0]["used"] == 0


def test_limits_are_set_by_owners_and_said_back(used: Any) -> None:
    owner = used.person()
    wanted = {"quotas": [{"measure": "events", "soft": 800, "hard": 1000}, {"measure": "seats", "hard": 3}]}
    found = owner.put("/v1/quotas", json=wanted).json()["quotas"]
    assert found["events"] == {"soft": 800, "hard": 1000, "ceiling": None}
    assert found["seats"]["hard"] == 3 and found["stored_bytes"]["hard"] is None
    states = {m["measure"]: m["state"] for m in owner.get("/v1/usage").json()["measures"]}
    assert states == {"events": "soft", "ingested_bytes": "ok", "stored_bytes": "ok", "seats": "ok"}
    admin = used.person(MemberRole.ADMIN)
    assert admin.get("/v1/usage").status_code == 200
    assert admin.put("/v1/quotas", json=wanted).status_code == 403
    assert used.person(MemberRole.VIEWER).get("/v1/usage").status_code == 403
    entries = used.execute(
        "SELECT content FROM app.audit_entries WHERE action = 'quota.changed'"
    ).scalars().all()  # fmt: skip
    assert len(entries) == 1 and '"hard":1000' in entries[0]


def test_limits_that_cannot_be(used: Any) -> None:
    owner = used.person()
    used.execute(
        "INSERT INTO app.quotas (workspace_id, measure, ceiling, updated_by)"
        " VALUES (1, 'events', 1000, 'cli')"
    )
    for quota, field in (
        ({"measure": "events", "hard": 1001}, "quotas.events.hard"),
        ({"measure": "events", "soft": 1001}, "quotas.events.soft"),
        ({"measure": "seats", "soft": 5, "hard": 4}, "quotas.seats.soft"),
    ):
        answer = owner.put("/v1/quotas", json={"quotas": [quota]})
        assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == field
    twice = [{"measure": "seats", "hard": 4}, {"measure": "seats", "hard": 5}]
    assert owner.put("/v1/quotas", json={"quotas": twice}).status_code == 422
    assert owner.put("/v1/quotas", json={"quotas": []}).status_code == 422
    # What the operator set stays, whatever the workspace takes away of its own.
    found = owner.put("/v1/quotas", json={"quotas": [{"measure": "events"}]}).json()
    assert found["quotas"]["events"] == {"soft": None, "hard": None, "ceiling": 1000}


def test_one_member_more_than_there_are_seats(used: Any) -> None:
    owner = used.person()
    used.person(MemberRole.VIEWER)
    owner.put("/v1/quotas", json={"quotas": [{"measure": "seats", "hard": 3}]})
    answer = owner.post("/v1/invitations", json={"email": "new@example.com"})
    assert answer.status_code == 201
    assert owner.get("/v1/usage").json()["invited"] == 1
    answer = owner.post("/v1/invitations", json={"email": "more@example.com"})
    assert answer.status_code == 409 and answer.json()["code"] == "seats_exceeded"
    assert "3 seats" in answer.json()["detail"] and "1 open invitation take" in answer.json()["detail"]
    with used.services.database.transaction(Role.APP, workspace_id=1) as conn:
        seats.check(conn, 1)  # whoever was invited finds the seat
        owner.put("/v1/quotas", json={"quotas": [{"measure": "seats", "hard": 2}]})
        with pytest.raises(SeatsExceeded):
            seats.check(conn, 1)


def test_a_reached_limit_is_told_once_a_month(used: Any) -> None:
    owner = used.person()
    owner.put("/v1/quotas", json={"quotas": [{"measure": "events", "soft": 800, "hard": 900}]})
    services = used.services
    assert tell_of_limits(services.database, services.settings, NOW) == 1
    assert tell_of_limits(services.database, services.settings, NOW + timedelta(hours=1)) == 0
    owner.put("/v1/quotas", json={"quotas": [{"measure": "events", "soft": 800, "hard": 2000}]})
    assert tell_of_limits(services.database, services.settings, NOW) == 1, "the soft one, now"
    entries = used.execute(
        "SELECT content FROM app.audit_entries WHERE action = 'quota.reached' ORDER BY seq"
    )
    levels = [content for (content,) in entries]
    assert len(levels) == 2 and '"level":"hard"' in levels[0] and '"level":"soft"' in levels[1]


def test_what_is_stored_is_measured(used: Any) -> None:
    used.execute(
        "INSERT INTO quality.dead_letters (id, workspace_id, pipeline_id, batch_name, position, step, code,"
        " reason, payload, received_at)"
        " VALUES (uuidv7(), 1, 1, 'b', 'p', 'parse', 'c', 'r', :payload, now())",
        payload=b"x" * 1000,
    )
    [found] = measure_stored(used.services.database, lambda workspace, slug: 5000, NOW)
    assert (found.bronze_bytes, found.dead_letter_bytes) == (5000, 1000)
    assert found.silver_bytes >= 0
    stored = used.person().get("/v1/usage").json()["measures"][2]
    assert stored["used"] == 6000 + found.silver_bytes and stored["as_of"] == "2026-11-21T12:00:00Z"
