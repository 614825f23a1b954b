"""The event route by everybody who must not send, and by pages of other sites: nothing taken, nothing told.

It is plain ASGI and in the document only by hand: here it is as it is served, in front of the application.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from api.app import create_app
from api.events import event_app
from sluiceway.ingestion.contracts import START
from sluiceway.ingestion.limits import open_limits
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from tests.support.callers import (
    ABROAD,
    SPOOFED,
    TREASURE,
    Planted,
    Tried,
    another_organization,
    expired_key,
    revoked_key,
    strangers,
)
from tests.support.raw_asgi import Told, ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PLAIN, SITES, NOTHING = "zq7plain", "zq7sites", "zq7none8"
JSON = (b"content-type", b"application/json")
EVENT = f'{{"id": "{TREASURE}"}}'.encode()
ALLOWED = f"https://{TREASURE}.example.com"
EVIL = (
    "https://evil.example", "null", f"{ALLOWED}.evil.example", f"http://{TREASURE}.example.com",
    f"{ALLOWED}:8443", f"https://x{TREASURE}.example.com", f"{ALLOWED}/", "*", "https://",
)  # fmt: skip
METHODS = ("POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")
HEADERS_OF_OURS = frozenset({"x-request-id", "retry-after", "content-length"})


@dataclass
class Sending:
    """The application with its event route in front."""

    world: Any
    spool: SpoolWriter

    def ask(
        self, pipeline: str, *headers: tuple[bytes, bytes], method: str = "POST", query: str = ""
    ) -> Told:
        body = EVENT if method in ("POST", "PUT", "PATCH") else b""
        return ask(
            self.world, f"/v1/pipelines/{pipeline}/events{query}", JSON, *headers, method=method, body=body
        )

    def taken(self) -> int:
        """How many requests' events are on disk."""
        with SpoolReader(self.spool.folder) as reader:
            return len(reader.read(START, 1 << 22))


@pytest.fixture
def sending(world: Any, planted: Planted) -> Iterator[Sending]:
    another_organization(world)
    fields = "fields:\n  - {name: shop, type: string}\n"
    world.apply(f"name: {PLAIN}\n{fields}")
    world.apply(f"name: {SITES}\nsource: {{allowed_origins: [{ALLOWED!r}]}}\n{fields}")
    services = world.services
    spool = SpoolWriter(services.settings.spool_dir)
    intake = open_limits(services.settings, services.database, spool)
    route = event_app(services.settings, spool, services.database, intake=intake)
    world.app = create_app(services, events=route)
    with world.portal.wrap_async_context_manager(route.lifespan()):
        yield Sending(world, spool)
    spool.close()


def shown(client: Any, spoofed: dict[str, str]) -> list[tuple[bytes, bytes]]:
    own = [(n.lower(), v) for n, v in client.http.headers.raw if n.lower() in (b"authorization", b"cookie")]
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.http.cookies.jar)
    own += [(b"cookie", cookies.encode())] if cookies else []
    return [*own, *((name.lower().encode(), value.encode()) for name, value in spoofed.items())]


def told(answer: Told, pipeline: str) -> tuple[Any, ...]:
    """All that an answer says, but for what was asked and its number."""
    text = answer.body.replace(pipeline.encode(), b"*")
    marks = text.find(b'"request_id"')
    headers = sorted((k, v) for k, v in answer.headers if k.decode().lower() not in HEADERS_OF_OURS)
    return answer.status, text[:marks] if marks >= 0 else text, tuple(headers)


def callers(world: Any, planted: Planted) -> dict[str, Any]:
    found = {kind: make() for kind, make in strangers(world).items()}
    found |= {
        "an expired key that sent": expired_key(world, "ingest"),
        "a revoked key that sent": revoked_key(world, "ingest"),
        "a session": planted.owner,
        "another workspace": world.program("ingest", workspace_id=2),
        "another organization": world.program("ingest", workspace_id=ABROAD),
    }
    found |= {f"a key {scope}": world.program(scope) for scope in ("read", "manage", "provision")}
    access = world.client(checked=False).post("/v1/link-sessions", json={"token": planted.link}).json()
    token = planted.owner.post("/v1/stream-tokens", json={}).json()
    for kind, text in (
        ("a link", planted.link), ("an opened link", access["access"]), ("a stream token", token["token"]),
        ("an invitation", planted.invitation),
    ):  # fmt: skip
        found[kind] = world.client(checked=False, headers={"Authorization": f"Bearer {text}"})
    return found


def test_nobody_sends_who_may_not(
    world: Any, sending: Sending, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a pipeline that is there answers as one that is not."""
    tried = Tried("sending")
    known = callers(world, planted)
    for kind, client in known.items():
        for method in METHODS:
            for query in ("", "?workspace=main", "?workspace=1"):
                for spoofed in SPOOFED if (method, query) == ("POST", "") else SPOOFED[:1]:
                    headers = shown(client, spoofed)
                    answers = [
                        sending.ask(name, *headers, method=method, query=query) for name in (PLAIN, NOTHING)
                    ]
                    tried.attempts[kind] += len(answers)
                    what = f"{kind}: {method}{query}: {[(a.status, a.body[:200]) for a in answers]}"
                    if told(answers[0], PLAIN) != told(answers[1], NOTHING):
                        tried.wrong.append(what)
                    if any(a.status not in (401, 403, 404, 405) for a in answers):
                        tried.wrong.append(what)
    for kind, client in known.items():
        for spoofed in SPOOFED:  # its senders sign: what they are told of it says no more than that
            answer = sending.ask(TREASURE, *shown(client, spoofed))
            tried.attempts[kind] += 1
            said = answer.body.replace(f"'{TREASURE}'".encode(), b"")
            if answer.status not in (401, 403, 404) or TREASURE.encode() in said:
                tried.wrong.append(f"{kind}: the signed one: {answer.status} {answer.body[:200]!r}")
    assert sending.taken() == 0
    good = world.program("ingest")
    assert sending.ask(PLAIN, *shown(good, {})).status == 202 and sending.taken() == 1, "the control"
    tried.tell(capsys)


def test_pages_of_other_sites(sending: Sending, planted: Planted, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither ask nor send, with a good key or with none; and learn no pipeline's name by asking."""
    world, tried = sending.world, Tried("pages of other sites")
    good, people = world.program("ingest"), planted.owner
    asks = (
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"authorization"),
    )
    for origin in EVIL:
        for kind, client in (
            ("with a key", good),
            ("with a session", people),
            ("with nothing", world.client()),
        ):
            for pipeline in (TREASURE, SITES, PLAIN, NOTHING):
                for method, besides in (("POST", ()), ("OPTIONS", asks), ("GET", ())):
                    answer = sending.ask(
                        pipeline, *shown(client, {}), (b"origin", origin.encode()), *besides, method=method
                    )
                    tried.attempts[f"{kind}"] += 1
                    cross = [k for k, _ in answer.headers if k.lower().startswith(b"access-control-")]
                    # A pipeline that names no site takes what has a key; its answers stay unread.
                    takes = method == "POST" and client is good and pipeline == PLAIN
                    if cross or (answer.status < 400) != takes:
                        tried.wrong.append(f"{origin} {kind}: {method} {pipeline}: {answer.status} {cross}")
                    if TREASURE.encode() in answer.body.replace(f"'{TREASURE}'".encode(), b""):
                        tried.wrong.append(f"{origin} {kind}: {method} {pipeline}: {answer.body[:200]!r}")
    shown_to_strangers = {
        told(sending.ask(name, (b"origin", EVIL[0].encode()), *asks, method="OPTIONS"), name)
        for name in (SITES, PLAIN, NOTHING)
    }
    assert len(shown_to_strangers) == 1, "a preflight tells pages of other sites which pipelines there are"
    allowed = sending.ask(TREASURE, (b"origin", ALLOWED.encode()), *asks, method="OPTIONS")
    assert allowed.status == 200 and (b"access-control-allow-origin", ALLOWED.encode()) in allowed.headers
    tried.tell(capsys)


def test_a_workspace_whose_name_others_have_is_named_with_its_organization(sending: Sending) -> None:
    """Anybody may call a workspace of their own so: that must not reach into this one, nor close its way."""
    world = sending.world
    world.execute("UPDATE app.workspaces SET slug = 'other' WHERE id = :abroad", abroad=ABROAD)
    home = world.execute("SELECT slug FROM app.organizations WHERE id = 1").scalar_one()
    pages = f"name: {PLAIN}\nsource: {{allowed_origins: [{ALLOWED!r}]}}\n"
    world.apply(f"{pages}fields:\n  - {{name: shop, type: string}}\n", 2)
    asks = ((b"origin", ALLOWED.encode()), (b"access-control-request-method", b"POST"))
    plain = sending.ask(PLAIN, *asks, method="OPTIONS", query="?workspace=other")
    whole = sending.ask(PLAIN, *asks, method="OPTIONS", query=f"?workspace={home}/other")
    theirs = sending.ask(PLAIN, *asks, method="OPTIONS", query="?workspace=abroad/other")
    assert (plain.status, whole.status, theirs.status) == (405, 200, 405)
