"""Senders' secrets over HTTP: sealed, never told again, changed without a gap, of their own workspace."""

from datetime import timedelta

import orjson
import psycopg
import pytest

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import SERVICE_ROLES, Role
from sluiceway.ingestion.access import DatabaseLookup
from sluiceway.ingestion.senders import secrets
from sluiceway.kit.errors import Unauthenticated
from tests.support import signers

SIGNED = "name: deliveries\nsource: {verify: {scheme: github}}\nfields: [{name: a, type: string}]\n"
STANDARD = "name: events\nsource: {verify: {scheme: standard-webhooks}}\nfields: [{name: a, type: string}]\n"
ADDRESS = "/v1/pipelines/deliveries/secrets"


@pytest.fixture
def admin(world):
    world.apply(SIGNED)
    return world.person("admin")


def active(world, pipeline: str = "deliveries") -> list[str]:
    with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
        found = Catalog().get(conn, 1, pipeline)
        values = secrets.active_secrets(
            conn, world.services.database.envelope, 1, found.id, now=world.services.clock.now()
        )
    return [s.value for s in values]


def test_a_value_is_sealed_and_never_told_again(world, admin) -> None:
    made = admin.post(ADDRESS, json={"name": "main", "value": "hush-hush-4711"})
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    assert made.json()["value"] is None and "4711" not in made.text
    assert made.json()["info"]["state"] == "active" and made.json()["info"]["purpose"] == "signature"
    assert "4711" not in admin.get(ADDRESS).text
    sealed = bytes(world.execute("SELECT sealed FROM app.pipeline_secrets").scalar_one())
    assert b"4711" not in sealed and world.services.database.envelope.key_version(sealed) == 1
    assert active(world) == ["hush-hush-4711"]
    lookup = DatabaseLookup(world.services.database, world.services.clock)
    verifier = lookup.sender(None, "deliveries").verifier
    assert verifier is not None
    assert verifier.verify(signers.delivery(b"{}", signers.github("hush-hush-4711", b"{}"))) is None


def test_a_generated_one_is_shown_once(world, admin) -> None:
    made = admin.post(ADDRESS, json={}, headers={"Idempotency-Key": "once"})
    value = made.json()["value"]
    assert len(value) == 43 and active(world) == [value]
    # Sent again, the request gives the same answer and makes no second secret.
    assert admin.post(ADDRESS, json={}, headers={"Idempotency-Key": "once"}).json()["value"] == value
    assert len(admin.get(ADDRESS).json()["items"]) == 1 and value not in admin.get(ADDRESS).text
    world.apply(STANDARD)
    assert admin.post("/v1/pipelines/events/secrets", json={}).json()["value"].startswith("whsec_")


def test_rotation_lets_the_others_end_by_themselves(world, admin) -> None:
    now = world.services.clock.now()
    first = admin.post(ADDRESS, json={"value": "one", "name": "one"}).json()["info"]
    soon = (now + timedelta(hours=1)).isoformat()
    admin.post(ADDRESS, json={"value": "two", "name": "two", "others_expire_at": soon})
    admin.post(ADDRESS, json={"value": "token", "purpose": "challenge", "expires_at": soon})
    assert active(world) == ["token", "two", "one"]
    from sluiceway.infra.clock import FixedClock

    world.stand_at(FixedClock(now + timedelta(hours=2)))
    assert active(world) == ["two"]
    states = {s["name"]: s["state"] for s in admin.get(ADDRESS).json()["items"] if s["name"]}
    assert states == {"one": "expired", "two": "active"}
    assert admin.delete(f"{ADDRESS}/{first['id']}").status_code == 204
    gone = admin.delete(f"{ADDRESS}/{first['id']}")
    assert (gone.status_code, gone.json()["code"]) == (404, "secret_not_found")


def test_rotation_when_there_are_as_many_as_there_may_be(world, admin) -> None:
    for number in range(secrets.MAX_SECRETS):
        assert admin.post(ADDRESS, json={"value": f"s-{number}"}).status_code == 201
    later = (world.services.clock.now() + timedelta(hours=1)).isoformat()
    for more in ({}, {"others_expire_at": later}):
        answer = admin.post(ADDRESS, json={"value": "new", **more})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "value")
    assert len(active(world)) == secrets.MAX_SECRETS
    # Long over means now: a date that PostgreSQL could not tell again is not kept.
    over = "0001-01-01T00:00:00+14:00"
    assert admin.post(ADDRESS, json={"value": "new", "others_expire_at": over}).status_code == 201
    assert active(world) == ["new"] and len(admin.get(ADDRESS).json()["items"]) == secrets.MAX_SECRETS + 1


def test_processes_hear_of_a_change(world, admin) -> None:
    with world.services.database.connect(Role.APP, autocommit=True) as listening:
        listening.execute("LISTEN sluiceway_live")
        info = admin.post(ADDRESS, json={"value": "one"}).json()["info"]
        admin.delete(f"{ADDRESS}/{info['id']}")
        heard = [orjson.loads(n.payload) for n in listening.notifies(timeout=30, stop_after=2)]
    assert heard == [{"t": "secrets", "w": 1, "p": 1}] * 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": ""}, "value"),
        ({"value": "  "}, "value"),
        ({"value": "x" * 5000}, "value"),
        ({"value": "x", "name": "n" * 101}, "name"),
        ({"value": "x", "purpose": "other"}, "purpose"),
        ({"value": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"value": "x", "expires_at": "2020-01-01"}, "expires_at"),
        ({"value": "x", "expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
        ({"value": "x", "others_expire_at": "9999-12-31T23:59:59-12:00"}, "others_expire_at"),
        ({"value": "x", "more": 1}, "more"),
        ({"value": "a\u0000b"}, "value"),
        ({"value": "pasted\n"}, "value"),
    ],
)
def test_wrong_ones_name_the_field(world, admin, body, field) -> None:
    answer = admin.post(ADDRESS, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert active(world) == []


def test_a_value_must_fit_the_scheme(world, admin) -> None:
    world.apply(STANDARD)
    answer = admin.post("/v1/pipelines/events/secrets", json={"value": "not-base64-4711!"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_secret")
    assert "4711" not in answer.text and "whsec_" in answer.text
    # The verify token of a handshake is any text.
    made = admin.post("/v1/pipelines/events/secrets", json={"value": "any!", "purpose": "challenge"})
    assert made.status_code == 201


def test_there_is_an_end_to_how_many(world, admin) -> None:
    for number in range(secrets.MAX_SECRETS):
        assert admin.post(ADDRESS, json={"value": f"s{number}"}).status_code == 201
    answer = admin.post(ADDRESS, json={"value": "one too many"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "value")
    page = admin.get(f"{ADDRESS}?limit=15").json()
    rest = admin.get(f"{ADDRESS}?limit=15&cursor={page['next_cursor']}").json()
    assert len({s["id"] for s in page["items"] + rest["items"]}) == secrets.MAX_SECRETS
    assert rest["next_cursor"] is None


def test_only_administrators_and_only_their_own(world, admin) -> None:
    info = admin.post(ADDRESS, json={"value": "one"}).json()["info"]
    for stranger in (world.person("editor"), world.program("manage"), world.program("ingest")):
        assert stranger.get(ADDRESS).status_code == 403
        assert stranger.post(ADDRESS, json={"value": "x"}).status_code == 403
        assert stranger.delete(f"{ADDRESS}/{info['id']}").status_code == 403
    other = world.person("admin", workspace_id=2)
    for answer in (
        other.get(ADDRESS), other.post(ADDRESS, json={"value": "x"}), other.delete(f"{ADDRESS}/{info['id']}"),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["code"]) == (404, "pipeline_not_found")
    world.apply(SIGNED, workspace_id=2)
    answer = other.delete(f"{ADDRESS}/{info['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "secret_not_found")
    assert active(world) == ["one"]


@pytest.mark.parametrize("role", [r for r in SERVICE_ROLES if r is not Role.APP])
def test_no_other_role_may_even_read_what_is_sealed(world, admin, role: Role) -> None:
    admin.post(ADDRESS, json={"value": "one"})
    with (
        world.services.database.connect(role) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT sealed FROM app.pipeline_secrets")


def test_an_archived_pipeline_takes_none(world, admin) -> None:
    with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
        Catalog().set_state(conn, 1, "deliveries", "archived")
    answer = admin.post(ADDRESS, json={"value": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "pipeline_archived")


def test_what_another_key_sealed_is_left_out(world, admin, caplog: pytest.LogCaptureFixture) -> None:
    admin.post(ADDRESS, json={"value": "one"})
    admin.post(ADDRESS, json={"value": "two"})
    world.execute(
        "UPDATE app.pipeline_secrets SET sealed = set_byte(sealed, 30, (get_byte(sealed, 30) + 1) % 256)"
        " WHERE id = (SELECT id FROM app.pipeline_secrets ORDER BY created_at LIMIT 1)"
    )
    assert active(world) == ["two"]
    assert "SLUICEWAY_SECRET_KEY" in caplog.text and "one" not in caplog.text.split("sealed with")[0]


def test_senders_of_a_pipeline_that_is_not_theirs_are_told_nothing(world, admin) -> None:
    world.apply()
    lookup = DatabaseLookup(world.services.database, world.services.clock)
    assert lookup.sender("main", "deliveries").pipeline_id == lookup.sender(None, "deliveries").pipeline_id
    seen = set()
    for workspace, slug in (
        (None, "orders"), (None, "nothing"), ("other", "deliveries"), ("no", "deliveries"), (None, "a/b"),
    ):  # fmt: skip
        with pytest.raises(Unauthenticated) as caught:
            lookup.sender(workspace, slug)
        seen.add((caught.value.code, caught.value.detail))
    assert len(seen) == 1
