"""What a rule hides is shown by nothing: every read of the document, every kind of answer, every cache.

A pipeline's rows of one region and one column carry `HIDDEN`. Whoever may not see them asks for everything,
before and after somebody who may has asked the very same. The operations are found from the document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest

from api.app import create_app
from api.openapi import operations
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Role
from sluiceway.live.service import LiveBroker
from sluiceway.quality.contracts import ExpectationOutcome, GateVerdict
from sluiceway.quality.service import apply_suite
from sluiceway.warehouse.service import Warehouse
from tests.support.attacks import unchecked
from tests.support.callers import BROWSER, NOBODY, Tried, as_another_process
from tests.support.loaded import Loader
from tests.support.raw_streams import follow
from tests.support.ruled import SALES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

HIDDEN = "zq7hidden"
AMOUNT = 730_411_922_317  # of hidden rows, together with their number: no answer may be made of it
ARROW = "application/vnd.apache.arrow.stream"
EU = "viewer;regions=EU"
RULE = {
    "kind": "Rule", "name": "regions", "pipeline": "sales", "except": ["owner"],
    "rows": "region in user.regions",
    "masks": [
        {"field": "email", "as": "hide"}, {"field": "tags", "as": "hash"},
        {"field": "event_id", "as": "hide"},
    ],
}  # fmt: skip
BOARD = {
    "kind": "Dashboard", "name": "board", "time": {"last": "7d"}, "widgets": [
        {"id": "sum", "type": "stat", "query": {
            "pipeline": "sales", "measures": [{"field": "amount", "agg": "sum", "as": "total"}]}},
        {"id": "rows", "type": "table", "query": {"pipeline": "sales", "rows": ["region", "amount"]}},
        {"id": "mail", "type": "table", "query": {"pipeline": "sales", "rows": ["email"]}},
    ],
}  # fmt: skip
SUITE = """\
kind: Suite
name: plausible
expectations:
  - name: plausible
    type: expect_column_values_to_not_be_null
    kwargs: {column: email}
    on_failure: warn
"""
WEEK = {"last": "7d"}
QUERIES: dict[str, dict[str, Any]] = {
    "rows": {"rows": ["region", "amount", "tags"]},
    "rows with what is hidden": {"rows": ["email"]},
    "rows with the event": {"rows": ["event_id"]},
    "a sum": {"measures": [{"field": "amount", "agg": "sum"}]},
    "the most": {"measures": [{"field": "amount", "agg": "max"}]},
    "a sum by region": {"measures": [{"field": "amount", "agg": "sum"}], "dimensions": ["region"]},
    "a sum by the hour": {"measures": [{"field": "amount", "agg": "sum"}], "grain": "1h"},
    "a sum by the day": {"measures": [{"field": "amount", "agg": "sum"}], "grain": "1d"},
    "by what is hidden": {"measures": [{"agg": "count"}], "dimensions": ["email"]},
    "by what is hashed": {"measures": [{"agg": "count"}], "dimensions": ["tags"]},
    "filtered by what is hidden": {
        "measures": [{"agg": "count"}],
        "filters": [{"field": "email", "op": "eq", "value": "person@example.com"}],
    },
    "ordered by what is hidden": {"rows": ["amount"], "order": [{"by": "email"}]},
    "of the other region": {
        "rows": ["amount"], "filters": [{"field": "region", "op": "eq", "value": "US"}],
    },
    "how many there are of it": {"measures": [{"field": "email", "agg": "count_distinct"}]},
}  # fmt: skip


class Examples:
    """A gate that keeps examples of values, as Great Expectations does."""

    def check(self, pipeline: Any, frame: Any) -> GateVerdict:
        found = {"examples": [f"{HIDDEN}@example.com"], "observed": AMOUNT}
        return GateVerdict("warn", {}, (ExpectationOutcome("plausible", "warn", False, 1, 1, found),))

    def invalidate(self) -> None:
        return None


@dataclass
class Ruled:
    """The application with hidden rows in it, whoever sees them and whoever must not."""

    world: Any
    owner: Any
    names: dict[str, str]
    link: str
    loader: Loader


def events(hour: int) -> list[dict[str, Any]]:
    at = datetime.now(UTC) - timedelta(hours=hour)
    return [
        {
            "id": f"{HIDDEN}-{hour}-{region}", "at": at.isoformat(), "region": region, "size": 1,
            "amount": AMOUNT if region == "US" else 1, "email": f"{HIDDEN}{hour}@example.com",
            "tags": {"note": f"{HIDDEN}-{region}"},
        }
        for region in ("EU", "US")
    ]  # fmt: skip


@pytest.fixture
def ruled(world: Any, no_limits: None) -> Ruled:
    with world.services.database.transaction(Role.APP, workspace_id=1) as connection:
        apply_suite(connection, 1, SUITE)
    loader = Loader(world.services.database, f"{SALES}quality: {{suite: plausible}}\n")
    loader.warehouse = Warehouse(world.services.database, Examples(), SystemClock())
    for hour in (1, 30):
        loader.load(events(hour))
    dead = {**events(2)[1], "amount": f"{HIDDEN}-amount"}
    loader.load([dead])
    owner = world.person()
    for path, document in (("rules/regions", RULE), ("dashboards/board", BOARD)):
        answer = owner.put(
            f"/v1/{path}", content=orjson.dumps(document), headers={"Content-Type": "text/yaml"}
        )
        assert answer.status_code == 201, answer.text
    for role in ("viewer", "analyst", "editor", "admin"):
        world.person(role)
    world.execute("UPDATE app.memberships SET attributes = '{\"regions\": [\"EU\"]}' WHERE role <> 'owner'")
    link = owner.post("/v1/dashboards/board/links", json={"name": "wall"}).json()["token"]
    replay = owner.post("/v1/replays", json={"pipeline": "sales", "from": "2026-03-01"}).json()
    letter = owner.get("/v1/dead-letters").json()["items"][0]
    names = {
        "pipeline": "sales", "slug": "board", "name": "regions", "letter_id": letter["id"],
        "replay_id": replay["id"], "kind": "rule", "workspace_id": "1", "suite": "none", "seq": "3",
        "batch_id": str(owner.get("/v1/batches").json()["items"][0]["id"]),
        "user_id": owner.get("/v1/session").json()["user_id"],
    }  # fmt: skip
    return Ruled(world, owner, names, link, loader)


def onlookers(world: Any) -> dict[str, tuple[Any, dict[str, str]]]:
    """Everybody whom the rule concerns, each a client and the headers that go with every request."""
    found: dict[str, tuple[Any, dict[str, str]]] = {
        f"a ruled {role}": (unchecked(world, world.person(role)), {})
        for role in ("viewer", "analyst", "editor", "admin")
    }
    found |= {f"a key {scope}": (unchecked(world, world.program(scope)), {}) for scope in ("read", "manage")}
    found["the owner as a viewer"] = (unchecked(world, world.person("owner")), {"X-Sluiceway-View-As": EU})
    found["the owner as a link"] = (unchecked(world, world.person("owner")), {"X-Sluiceway-View-As": "link"})
    return found


def shows(text: str) -> str | None:
    """What of the hidden stands in an answer; None: nothing."""
    for needle in (HIDDEN, str(AMOUNT), str(AMOUNT * 2), str(AMOUNT + 1), str(2 * AMOUNT + 2)):
        if needle in text:
            return needle
    return None


def test_every_read_of_the_document(ruled: Ruled, capsys: pytest.CaptureFixture[str]) -> None:
    world, tried = ruled.world, Tried("reads by those whom a rule concerns")
    reads = [
        re.sub(r"\{(\w+)\}", lambda m: ruled.names.get(m[1], NOBODY), path)
        for path, method, operation in operations(world.app.openapi())
        if method == "get" and not path.endswith(("/stream", "/live"))
    ]
    letters = ("", f"?event_id={HIDDEN}-2-US", "?pipeline=sales&code=invalid_number", "?state=open")
    reads += [f"/v1/dead-letters{query}" for query in letters]
    reads += ["/v1/quality/results?failed=true", "/v1/quality/summary?pipeline=sales"]
    owner = unchecked(world, ruled.owner)
    seen = {path: owner.get(path) for path in reads}
    shown = {path for path, answer in seen.items() if shows(answer.text)}
    assert len(shown) >= 6, f"the control: what is hidden stands in {sorted(shown)}"
    tags = {path: answer.headers["etag"] for path, answer in seen.items() if "etag" in answer.headers}
    for kind, (client, headers) in onlookers(world).items():
        for path in reads:
            if path.startswith(("/v1/audit", "/v1/me/export", "/v1/rules", "/v1/schemas")):
                continue  # what people did, what rules say, what files look like: no row of the data
            found = client.get(path, headers={**headers, "If-None-Match": tags.get(path, '"1"')})
            tried.attempts[kind] += 1
            if found.status_code == 304 or found.status_code >= 500 or shows(found.text):
                tried.wrong.append(f"{kind}: {path}: {found.status_code} {shows(found.text)}")
    tried.tell(capsys)


def asked(client: Any, query: dict[str, Any], headers: dict[str, str]) -> tuple[int, str, Any]:
    """As JSON and as Arrow: the status, all that was shown, and the rows."""
    body = {"pipeline": "sales", "time": WEEK, **query}
    plain = client.post("/v1/query", json=body, headers=headers)
    arrow = client.post("/v1/query", json=body, headers={**headers, "Accept": ARROW})
    assert plain.status_code == arrow.status_code < 500, f"{plain.text} {arrow.text}"
    text = plain.text + arrow.content.decode("latin-1")
    rows = plain.json()["rows"] if plain.status_code == 200 else plain.json()["code"]
    if arrow.status_code == 200:
        table = pa.ipc.open_stream(arrow.content).read_all()
        text += str(table.to_pylist()) + str(table.schema)
        assert len(table) == len(rows)
    return plain.status_code, text, rows


def test_the_same_question_before_and_after_whoever_sees_all(
    ruled: Ruled, capsys: pytest.CaptureFixture[str]
) -> None:
    world, tried = ruled.world, Tried("questions that others have asked as well")
    signed_in, sees_all = onlookers(world), ruled.owner
    for name, query in QUERIES.items():
        first: dict[str, Any] = {}
        # Nothing is kept yet: those whom the rule concerns ask first, then all take turns.
        as_another_process(world)
        world.app = create_app(world.services)
        people = {kind: (unchecked(world, client), told) for kind, (client, told) in signed_in.items()}
        owner = unchecked(world, sees_all)
        for turn in range(3):
            for kind, (client, headers) in people.items():
                status, text, rows = asked(client, query, headers)
                tried.attempts[kind] += 2
                if found := shows(text):
                    tried.wrong.append(f"{kind}: {name}, turn {turn}: {status} shows {found}")
                if first.setdefault(kind, rows) != rows:
                    tried.wrong.append(f"{kind}: {name}: {rows} after {first[kind]}")
            _, _, rows = asked(owner, query, {})
            if first.setdefault("the owner", rows) != rows:
                tried.wrong.append(f"the owner: {name}: {rows} after {first['the owner']}")
    assert shows(asked(owner, QUERIES["a sum"], {})[1]) and shows(asked(owner, QUERIES["rows"], {})[1])
    tried.tell(capsys)


def test_a_hidden_column_can_be_named_nowhere(ruled: Ruled, capsys: pytest.CaptureFixture[str]) -> None:
    """That there is one is in the pipeline's file, which readers see; what it holds is told by nothing."""
    world, tried = ruled.world, Tried("names of hidden columns")
    count: dict[str, Any] = {"measures": [{"agg": "count"}]}
    places: dict[str, dict[str, Any]] = {
        "rows": {"rows": ["email"]},
        "dimensions": {**count, "dimensions": ["email"]},
        "is null": {**count, "filters": [{"field": "email", "op": "is_null"}]},
        "equals": {**count, "filters": [{"field": "email", "op": "eq", "value": f"{HIDDEN}1@example.com"}]},
        "order": {"rows": ["amount"], "order": [{"by": "email"}]},
        "measures": {"measures": [{"field": "email", "agg": "count_distinct"}]},
        "the most": {"measures": [{"field": "email", "agg": "max"}]},
    }
    for kind, (client, headers) in onlookers(world).items():
        for place, query in places.items():
            body = {"pipeline": "sales", "time": WEEK, **query}
            answer = client.post("/v1/query", json=body, headers=headers)
            tried.attempts[kind] += 1
            if answer.status_code != 422 or shows(answer.text):
                tried.wrong.append(f"{kind}: {place}: {answer.status_code} {answer.text[:200]}")
    tried.tell(capsys)


def test_links_show_what_their_role_may_see(ruled: Ruled, capsys: pytest.CaptureFixture[str]) -> None:
    """Opened by people whose own sessions go along, and by nobody; before and after the owner has asked."""
    world, tried = ruled.world, Tried("links")
    ask_as = {"nobody": world.client(checked=False), "its maker": unchecked(world, ruled.owner)}
    for kind, client in ask_as.items():
        opened = client.post("/v1/link-sessions", json={"token": ruled.link}).json()
        headers = {"Authorization": f"Bearer {opened['access']}"}
        for _ in range(3):
            for widget in BOARD["widgets"]:  # type: ignore[attr-defined]
                for time in (None, WEEK, {"last": "30d"}):
                    body = {"widget": widget["id"], "query": {**widget["query"], "time": time}}
                    answer = client.post("/v1/link/query", json=body, headers=headers)
                    tried.attempts[kind] += 1
                    if answer.status_code not in (200, 403, 422) or shows(answer.text):
                        tried.wrong.append(f"{kind}: {body}: {answer.status_code} {answer.text[:200]}")
                asked(unchecked(world, ruled.owner), {**widget["query"]}, {})
            board = client.get("/v1/link/dashboard", headers=headers)
            page = client.get(f"/link/{ruled.link}")
            tried.attempts[kind] += 2
            if shows(board.text) or shows(page.text) or board.status_code != 200:
                tried.wrong.append(f"{kind}: {board.status_code} {board.text[:200]}")
    tried.tell(capsys)


@pytest.fixture
def live(ruled: Ruled) -> Iterator[Ruled]:
    """With a broker, so that streams flow."""
    world = ruled.world
    broker = world.services.broker = LiveBroker(world.services.database)
    world.portal.call(broker.start)
    world.portal.call(broker.connected.wait)
    yield ruled
    world.portal.call(broker.stop)


def test_streams_show_what_their_followers_may_see(live: Ruled, capsys: pytest.CaptureFixture[str]) -> None:
    """From the beginning and live; with a token as well, which is worth what its maker may see."""
    world, tried = live.world, Tried("streams")
    ways = []
    for kind, (client, headers) in onlookers(world).items():
        made = client.post("/v1/stream-tokens", json={"pipelines": ["sales"]}, headers=headers)
        view = f"&as_role={headers['X-Sluiceway-View-As']}" if headers else ""
        own = [(n.lower(), v) for n, v in client.http.headers.raw if n.lower() == b"authorization"]
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.http.cookies.jar)
        own += [(b"cookie", cookies.encode())] if cookies else []
        ways += [
            (kind, f"/v1/pipelines/sales/stream?last_event_id=0{view}", own),
            (kind, f"/v1/live?{view}", own),
        ]
        if made.status_code == 201:
            token = made.json()["token"]
            ways += [(kind, f"/v1/pipelines/sales/stream?last_event_id=0&token={token}", [])]
            ways += [(kind, f"/v1/live?token={token}", [])]
    number = iter(range(40, 10_000))

    def load() -> None:
        live.loader.load(events(next(number)))

    opened = world.client(checked=False).post("/v1/link-sessions", json={"token": live.link}).json()
    ways.append(("a link's holder", f"/v1/link/live?token={opened['access']}", []))
    for kind, target, headers in ways:
        rows = "/stream?" in target
        # Those who see rows are told of one; the others are told that something has changed, or of nothing.
        sees_rows = rows and ("ruled" in kind or "as a viewer" in kind)
        enough = ("event: row" if sees_rows else "event: change") if sees_rows or not rows else ": connected"
        try:
            found = follow(world, target, *headers, enough=lambda text, e=enough: e in text, then=load)
        except TimeoutError:
            raise AssertionError(f"{kind} was never told: {enough} at {target[:60]}") from None
        tried.attempts[kind] += 1
        if found.status != 200 or shows(found.text):
            tried.wrong.append(f"{kind}: {target[:60]}: {found.status} {found.text[:300]}")
    tried.tell(capsys, least=1)
    assert tried.attempts.total() >= 20


def test_an_answer_that_is_kept_is_its_callers_alone(
    ruled: Ruled, capsys: pytest.CaptureFixture[str]
) -> None:
    """`Idempotency-Key`: neither for another person or workspace, nor for whoever may do it no more."""
    world, tried = ruled.world, Tried("answers kept for whoever repeats a request")
    admin = unchecked(world, world.person("admin"))
    body, key = {"name": HIDDEN, "scopes": ["read"]}, {"Idempotency-Key": "again"}
    made = admin.post("/v1/keys", json=body, headers=key)
    assert made.status_code == 201
    again = admin.post("/v1/keys", json=body, headers=key)
    assert again.headers["idempotency-replayed"] == "true" and again.json() == made.json(), "the control"
    others = {
        "another person": unchecked(world, world.person("owner")),
        "another workspace": unchecked(world, world.person("owner", workspace_id=2)),
        "a lower role": unchecked(world, world.person("editor")),
        "a key": unchecked(world, world.program("manage")),
        "nobody": world.client(checked=False, headers=BROWSER),
    }
    for kind, client in others.items():
        for _ in range(5):
            answer = client.post("/v1/keys", json=body, headers=key)
            tried.attempts[kind] += 1
            if made.json()["key"] in answer.text or made.json()["info"]["id"] in answer.text:
                tried.wrong.append(f"{kind}: {answer.status_code}")
    world.execute("UPDATE app.memberships SET role = 'viewer' WHERE role = 'admin'")
    as_another_process(world)
    world.app = create_app(world.services)
    lowered = unchecked(world, admin)
    for _ in range(5):
        answer = lowered.post("/v1/keys", json=body, headers=key)
        tried.attempts["whoever was an admin"] += 1
        if answer.status_code != 403 or made.json()["key"] in answer.text:
            tried.wrong.append(f"whoever was an admin: {answer.status_code} {answer.text[:100]}")
    tried.tell(capsys)
