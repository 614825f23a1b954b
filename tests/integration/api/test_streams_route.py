"""Server-sent events over a real socket: rows, resume, changes, tokens, the end of the process."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from api.streams import sse
from sluiceway.infra.database import Role
from sluiceway.live.rows import Followed, RowFeed
from tests.support.loaded import Loader
from tests.support.streams import PIPELINE, Events, Served


def events(first: int, last: int) -> list[dict[str, Any]]:
    return [{"id": str(n), "value": n} for n in range(first, last + 1)]


def stream(served: Served, path: str, headers: dict[str, str] | None = None) -> Any:
    return httpx.stream("GET", served.url + path, headers=headers or {}, timeout=60)


def test_what_is_committed_once_the_answer_has_begun_is_told_however_late_the_stream_looks(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(served.services.database, PIPELINE)
    loader.load(events(1, 2))
    looked = asyncio.Event()
    real = RowFeed.last_seq
    asked: list[int] = []

    async def slow(feed: RowFeed, followed: Followed) -> int:
        if asked:  # the look after subscribing: it comes when everything is committed
            await looked.wait()
        asked.append(1)
        return await real(feed, followed)

    monkeypatch.setattr(RowFeed, "last_seq", slow)
    with stream(served, "/v1/pipelines/ticks/stream", served.key("read")) as response:
        found = Events(response)
        next(found._lines)  # the answer has begun
        loader.load(events(3, 4))
        assert served.loop is not None
        served.loop.call_soon_threadsafe(looked.set)
        assert [found.next()[1] for _ in range(2)] == ["3", "4"]


def test_rows_resume_from_the_last_id(served: Served) -> None:
    loader = Loader(served.services.database, PIPELINE)
    loader.load(events(1, 4))
    key = served.key("read")
    with stream(served, "/v1/pipelines/ticks/stream", {**key, "Last-Event-ID": "2"}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        found = Events(response)
        kind, seq, row = found.next()
        assert (kind, seq, row["event_id"], row["value"]) == ("row", "3", "3", 3.0)
        assert found.next()[1] == "4"
        loader.load(events(5, 5))
        assert found.next()[1] == "5"
        assert found.comments == [": connected"]
    with stream(served, "/v1/pipelines/ticks/stream?last_event_id=4", key) as response:
        assert Events(response).next()[1] == "5"
    with stream(served, "/v1/pipelines/ticks/stream", {**key, "Last-Event-ID": "77"}) as response:
        assert Events(response).next() == (
            "reset", "5", {"reason": "ahead", "from_seq": 77, "next_seq": 6},
        )  # fmt: skip


def test_changes_and_layouts_are_told(served: Served) -> None:
    loader = Loader(served.services.database, PIPELINE)
    key = {**served.key("read", "manage")}
    with (
        stream(served, "/v1/live", key) as response,
        httpx.Client(base_url=served.url, headers=key) as client,
    ):
        found = Events(response)
        while not (served.services.broker and served.services.broker.subscribers):
            time.sleep(0.01)
        loader.load(events(1, 3))
        kind, _, change = found.next()
        assert kind == "change" and (change["pipeline"], change["seq"], change["rows"]) == ("ticks", 3, 3)
        assert set(change) == {"pipeline", "seq", "rows", "min", "max", "at"}
        spec = {"name": "board", "widgets": [{"id": "words", "type": "text", "text": "hi"}]}
        client.post("/v1/dashboards", json={"spec": spec})
        assert found.next()[::2] == ("dashboard", {"dashboard": "board", "version": 1})
        place = {"x": 1, "y": 2, "w": 3, "h": 4}
        client.put(
            "/v1/dashboards/board/layout",
            json={"version": 1, "client_id": "me", "layout": {"words": place}},
        )
        assert found.next()[::2] == (
            "layout",
            {"dashboard": "board", "layout_version": 2, "client_id": "me", "layout": {"words": place}},
        )


def test_a_token_follows_its_pipelines_alone(served: Served) -> None:
    loader = Loader(served.services.database, PIPELINE)
    other = Loader(served.services.database, PIPELINE.replace("ticks", "tocks"))
    key = served.key("read")
    with httpx.Client(base_url=served.url, headers=key) as client:
        made = client.post("/v1/stream-tokens", json={"pipelines": ["ticks"], "ttl_s": 60})
        assert made.status_code == 201, made.text
        wrong = client.post("/v1/stream-tokens", json={"pipelines": ["ticks", "nope"]})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "pipelines.1")
        assert client.post("/v1/stream-tokens", json={"ttl_s": 10**9}).status_code == 422
    token = made.json()["token"]
    with stream(served, f"/v1/pipelines/ticks/stream?token={token}&last_event_id=0") as response:
        loader.load(events(1, 1))
        assert Events(response).next()[1] == "1"
    with stream(served, f"/v1/pipelines/tocks/stream?token={token}") as response:
        assert response.status_code == 403
    with stream(served, f"/v1/live?token={token}") as response:
        found = Events(response)
        while not (served.services.broker and served.services.broker.subscribers):
            time.sleep(0.01)
        other.load(events(1, 1))
        loader.load(events(2, 2))
        assert found.next()[2]["pipeline"] == "ticks"


@pytest.mark.parametrize("path", ["/v1/live", "/v1/pipelines/ticks/stream"])
def test_nobody_follows_unknown(served: Served, path: str) -> None:
    Loader(served.services.database, PIPELINE)
    assert httpx.get(served.url + path).status_code == 401
    assert httpx.get(f"{served.url}{path}?token=slt_a.b").json()["code"] == "invalid_stream_token"
    assert httpx.get(served.url + path, headers=served.key("ingest")).status_code == 403


def test_another_workspace_and_wrong_ids(served: Served) -> None:
    loader = Loader(served.services.database, PIPELINE)
    with served.services.database.connect(Role.OWNER) as connection:
        connection.execute("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'o', 'O')")
    path = f"{served.url}/v1/pipelines/ticks/stream"
    stranger = served.key("read", workspace_id=2)
    assert httpx.get(path, headers=stranger).status_code == 404
    for wrong in ("-1", "abc", "1.5", "9" * 30):
        answer = httpx.get(path, headers={**served.key("read"), "Last-Event-ID": wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_event_id")
    with stream(served, "/v1/live", stranger) as response:
        found = Events(response)
        while not (served.services.broker and served.services.broker.subscribers):
            time.sleep(0.01)
        loader.load(events(1, 1))
        with served.services.database.connect(Role.APP) as connection:
            connection.execute('SELECT pg_notify(\'sluiceway_live\', \'{"t":"catalog","w":2,"p":9}\')')
        assert found.next()[::2] == ("catalog", {"pipeline_id": 9})


def test_streams_end_with_the_process_and_with_the_client(served: Served) -> None:
    Loader(served.services.database, PIPELINE)
    broker, key = served.services.broker, served.key("read")
    assert broker is not None
    with stream(served, "/v1/live", key) as response:
        Events(response)
        next(response.iter_raw())
    deadline = time.monotonic() + 30
    while broker.subscribers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert broker.subscribers == 0
    with stream(served, "/v1/pipelines/ticks/stream", key) as response:
        served.stop()
        with pytest.raises(EOFError):
            Events(response).next()


def test_a_quiet_stream_is_kept_alive(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    Loader(served.services.database, PIPELINE)
    monkeypatch.setattr("api.routes.live.KEEP_ALIVE_S", 0.05)
    with stream(served, "/v1/live", served.key("read")) as response:
        lines = response.iter_lines()
        assert [line for line in (next(lines) for _ in range(7)) if line.startswith(":")] == [
            ": connected", ": keep-alive", ": keep-alive",
        ]  # fmt: skip


def test_a_stream_ends_when_its_time_is_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    Loader(served.services.database, PIPELINE)
    monkeypatch.setattr("api.routes.live.MAX_AGE_S", 0.2)
    with stream(served, "/v1/live", served.key("read")) as response, pytest.raises(EOFError):
        Events(response).next()


def test_an_event_on_the_wire() -> None:
    assert sse.encode("row", b'{"a":1}', 7) == b'id: 7\nevent: row\ndata: {"a":1}\n\n'
    assert sse.encode("change", b"{}") == b"event: change\ndata: {}\n\n"
