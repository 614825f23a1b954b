"""Open streams and stream tokens are worth what whoever began them is worth now."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.streams import sse
from sluiceway.identity import members, service
from sluiceway.identity.keys import parse_key, revoke_key
from sluiceway.identity.members import Change
from sluiceway.infra.database import Role
from tests.integration.api.conftest import PASSWORD
from tests.support.loaded import Loader
from tests.support.streams import PIPELINE, Events, Served

WRITE = {"X-Sluiceway-Request": "1"}
LIMIT_S = 60


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch, served: Served) -> Iterator[Loader]:
    monkeypatch.setattr(sse, "LOOK_S", 0.05)
    yield Loader(served.services.database, PIPELINE)


def stream(served: Served, path: str, headers: dict[str, str] | None = None) -> Any:
    return httpx.stream("GET", served.url + path, headers=headers or {}, timeout=LIMIT_S)


def person(served: Served, role: str = "viewer") -> tuple[Any, str]:
    """The id of somebody new, and their session's cookie."""
    with served.services.database.transaction(Role.APP, workspace_id=1) as conn:
        user = service.create_user(conn, f"{role}@example.com", "Ada", PASSWORD, role, 1)
    answer = httpx.post(
        f"{served.url}/v1/session",
        json={"email": user.email, "password": PASSWORD},
        headers={**WRITE, "Origin": served.url},
        timeout=LIMIT_S,
    )
    assert answer.status_code == 201, answer.text
    return user.id, answer.headers["set-cookie"].split(";")[0]


def token(served: Served, headers: dict[str, str]) -> str:
    answer = httpx.post(
        f"{served.url}/v1/stream-tokens", json={}, headers={**WRITE, **headers}, timeout=LIMIT_S
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def lock_out(served: Served, user_id: Any) -> None:
    with served.services.database.transaction(Role.APP, workspace_id=1) as conn:
        members.change_member(conn, 1, user_id, Change(disabled=True), giver=None, now=datetime.now(UTC))


def ends(response: httpx.Response) -> None:
    """Read until the server ends the stream."""
    started = time.monotonic()
    for _ in response.iter_raw():
        assert time.monotonic() - started < LIMIT_S, "the stream goes on"


def test_a_stream_ends_when_its_follower_is_locked_out(served: Served) -> None:
    user_id, cookie = person(served)
    with stream(served, "/v1/live", {"Cookie": cookie}) as response:
        assert response.status_code == 200
        lock_out(served, user_id)
        ends(response)
    assert httpx.get(f"{served.url}/v1/live", headers={"Cookie": cookie}, timeout=LIMIT_S).status_code == 401


def test_a_stream_ends_with_its_session(served: Served) -> None:
    _, cookie = person(served)
    with stream(served, "/v1/pipelines/ticks/stream", {"Cookie": cookie}) as response:
        assert response.status_code == 200
        gone = httpx.delete(
            f"{served.url}/v1/session",
            headers={**WRITE, "Cookie": cookie, "Origin": served.url},
            timeout=LIMIT_S,
        )
        assert gone.status_code == 204
        ends(response)


def test_a_stream_ends_when_its_key_is_revoked(served: Served) -> None:
    headers = served.key("read")
    with stream(served, "/v1/live", headers) as response:
        assert response.status_code == 200
        key_id = parse_key(headers["Authorization"].removeprefix("Bearer "))[0]
        with served.services.database.transaction(Role.APP, workspace_id=1) as conn:
            revoke_key(conn, 1, key_id, at=datetime.now(UTC))
        ends(response)


def test_a_stream_ends_when_its_follower_sees_something_else_by_now(served: Served) -> None:
    user_id, cookie = person(served)
    with stream(served, "/v1/live", {"Cookie": cookie}) as response:
        with served.services.database.transaction(Role.APP, workspace_id=1) as conn:
            wanted = Change(attributes={"region": ["emea"]})
            members.change_member(conn, 1, user_id, wanted, giver=None, now=datetime.now(UTC))
        ends(response)


def test_a_token_is_worth_no_more_than_who_made_it(served: Served) -> None:
    user_id, cookie = person(served)
    text = token(served, {"Cookie": cookie, "Origin": served.url})
    with stream(served, f"/v1/live?token={text}") as response:
        assert response.status_code == 200
        lock_out(served, user_id)
        ends(response)
    refused = httpx.get(f"{served.url}/v1/live?token={text}", timeout=LIMIT_S)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_stream_token")


def test_a_revoked_keys_token_is_refused(served: Served) -> None:
    headers = served.key("read")
    text = token(served, headers)
    with served.services.database.transaction(Role.APP, workspace_id=1) as conn:
        revoke_key(conn, 1, parse_key(headers["Authorization"][7:])[0], at=datetime.now(UTC))
    assert (
        httpx.get(f"{served.url}/v1/pipelines/ticks/stream?token={text}", timeout=LIMIT_S).status_code == 401
    )


def test_a_stream_goes_on_while_nothing_changes(served: Served, often: Loader) -> None:
    _, cookie = person(served)
    with stream(served, "/v1/live", {"Cookie": cookie}) as response:
        found = Events(response)
        for n in range(3):
            often.load([{"id": str(n), "value": n}])
            assert found.next()[0] in ("change", "reset", "catalog")
