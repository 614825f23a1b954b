"""Streams that never end, by everybody who must not follow them: with keys, sessions, tokens and links.

Found from the document by what they answer with. Here there is a broker, so that whoever gets in is told;
what is told to those who may follow their own workspace's streams says nothing of another's.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.openapi import operations
from api.streams.sse import MEDIA_TYPE
from sluiceway.identity.permissions import Permission
from sluiceway.live.service import LiveBroker
from tests.support.attacks import unchecked
from tests.support.callers import (
    ABROAD,
    SPOOFED,
    TREASURE,
    Planted,
    Tried,
    another_organization,
    everything_but,
    strangers,
)
from tests.support.loaded import Loader
from tests.support.raw_streams import Header, Streamed, follow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

OWN = "name: own\nevent: {id: id}\nfields:\n  - {name: shop, type: string}\n"
NOTHING = "zq7nothings"


@pytest.fixture
def live(world: Any, planted: Planted) -> Iterator[Planted]:
    another_organization(world)
    broker = world.services.broker = LiveBroker(world.services.database)
    world.portal.call(broker.start)
    world.portal.call(broker.connected.wait)
    yield planted
    world.portal.call(broker.stop)


@pytest.fixture
def paths(world: Any) -> dict[str, Any]:
    """The streams by operation: their path and the permission-asking scheme, from the document."""
    found = {
        told["operationId"]: path
        for path, _, told in operations(world.app.openapi())
        if MEDIA_TYPE in told["responses"].get("200", {}).get("content", {})
    }
    assert set(found) >= {"stream_rows", "stream_changes", "linked_changes"}, found
    return found


def headers_of(client: Any, spoofed: dict[str, str]) -> list[Header]:
    own = [(n.lower(), v) for n, v in client.http.headers.raw if n.lower() == b"authorization"]
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.http.cookies.jar)
    own += [(b"cookie", cookies.encode())] if cookies else []
    return [*own, *((name.lower().encode(), value.encode()) for name, value in spoofed.items())]


def begun(text: str) -> bool:
    """Whoever is let in has seen enough at once."""
    return ": connected" in text


def look(world: Any, target: str, headers: list[Header]) -> Streamed:
    return follow(world, target, *headers, enough=begun)


def test_streams_by_those_who_may_not_follow(
    world: Any, live: Planted, paths: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("streams by those who may not follow")
    owner = live.owner
    strange = {kind: make() for kind, make in strangers(world).items()}
    lower = {
        "a role without the permission": everything_but(world, Permission.DATA_READ, {}),
        "a key ingest": unchecked(world, world.program("ingest")),
        "a key provision": unchecked(world, world.program("provision")),
    }
    access = world.client(checked=False).post("/v1/link-sessions", json={"token": live.link}).json()["access"]
    token = owner.post("/v1/stream-tokens", json={}).json()["token"]
    shown = {
        "a made-up token": "slt_a.b", "a key as a token": live.key, "a link as a token": live.link,
        "half a token": token[:-3], "another's token": f"{token[:-1]}{'a' if token[-1] != 'a' else 'b'}",
        "an invitation": live.invitation, "nothing": "",
    }  # fmt: skip
    for name, path in paths.items():
        target = re.sub(r"\{\w+\}", TREASURE, path)
        for kind, client in {**strange, **lower}.items():
            for spoofed in SPOOFED:
                found = look(world, target, headers_of(client, spoofed))
                judge(tried, f"{kind} at {name}", kind, found, {401, 403})
        of_the_other_kind = token if name == "linked_changes" else access
        for kind, text in {**shown, "a token of the other kind": of_the_other_kind}.items():
            for spoofed in SPOOFED:
                query = f"{target}?token={text}"
                found = look(world, query, headers_of(world.client(), spoofed))
                judge(tried, f"{kind} at {name}", kind, found, {401, 403, 404})
    tried.tell(capsys)


def judge(tried: Tried, what: str, kind: str, found: Streamed, statuses: set[int]) -> None:
    tried.attempts[kind] += 1
    said = found.text.replace(f"'{TREASURE}'", "")
    if found.status not in statuses or not found.ended or TREASURE in said:
        tried.wrong.append(f"{what}: {found.status} {found.text[:200]}")


def test_streams_of_another_workspace(
    world: Any, live: Planted, paths: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pipelines are not there; its changes are not told, whatever is asked for."""
    tried = Tried("streams of another workspace")
    for workspace_id in (2, ABROAD):
        Loader(world.services.database, OWN, workspace_id)
        owner = unchecked(world, world.person("owner", workspace_id=workspace_id))
        key = unchecked(world, world.program("read", workspace_id=workspace_id))
        token = owner.post("/v1/stream-tokens", json={}).json()["token"]
        narrow = owner.post("/v1/stream-tokens", json={"pipelines": ["own"]}).json()["token"]
        kind = f"workspace {workspace_id}"
        for spoofed in SPOOFED:
            for headers, query in (
                (headers_of(owner, spoofed), "?last_event_id=0"),
                (headers_of(key, spoofed), "?last_event_id=0&workspace=main"),
                (headers_of(world.client(), spoofed), f"?token={token}&last_event_id=0"),
                (headers_of(world.client(), spoofed), f"?token={narrow}"),
            ):
                answers = [
                    look(world, f"/v1/pipelines/{name}/stream{query}", headers)
                    for name in (TREASURE, NOTHING)
                ]
                for found in answers:
                    judge(tried, f"{kind} {query[:16]}", kind, found, {403, 404})
                said = {
                    re.sub(r'"request_id":"[^"]+"', "", a.text).replace(TREASURE, "*").replace(NOTHING, "*")
                    for a in answers
                }
                if len(said) != 1:
                    tried.wrong.append(f"{kind}: theirs and nothing: {said}")
    tried.tell(capsys)


def test_changes_of_another_workspace_are_told_to_nobody(
    world: Any, live: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it loads rows and changes its dashboards, the others' streams tell of their own alone."""
    tried = Tried("changes of another workspace")
    theirs = Loader(
        world.services.database, "name: other-treasure\nfields:\n  - {name: shop, type: string}\n"
    )
    for workspace_id in (2, ABROAD):
        own = Loader(world.services.database, OWN, workspace_id)
        owner = unchecked(world, world.person("owner", workspace_id=workspace_id))
        token = owner.post("/v1/stream-tokens", json={}).json()["token"]
        kind = f"workspace {workspace_id}"
        number = iter(range(1_000))

        def change(own: Loader = own, number: Iterator[int] = number) -> None:
            at = next(number)
            theirs.load([{"id": f"{TREASURE}-{at}", "shop": TREASURE}])
            place = {"w": {"x": at % 5, "y": 1, "w": 3, "h": 2}}
            version = live.owner.get(f"/v1/dashboards/{TREASURE}").json()["layout_version"]
            body = {"version": version, "client_id": TREASURE, "layout": place}
            assert live.owner.put(f"/v1/dashboards/{TREASURE}/layout", json=body).status_code == 200
            own.load([{"id": str(at), "shop": "mine"}])  # told last: what was to be told before has been

        for headers, target in (
            (headers_of(owner, {}), "/v1/live"),
            (headers_of(owner, SPOOFED[4]), "/v1/live?workspace=main"),
            ([], f"/v1/live?token={token}"),
            (headers_of(owner, {}), "/v1/pipelines/own/stream"),
            ([], f"/v1/pipelines/own/stream?token={token}"),
        ):
            mine = '"shop":"mine"' if "own" in target else '"pipeline":"own"'
            found = follow(world, target, *headers, enough=lambda text, m=mine: m in text, then=change)
            tried.attempts[kind] += 1
            if found.status != 200 or "treasure" in found.text:
                tried.wrong.append(f"{kind}: {target[:40]}: {found.status} {found.text[:300]}")
    tried.tell(capsys)
