"""Everything that answers and is in no OpenAPI document: pages, forms, provisioning, the app and its socket.

Found by walking the route tables of the applications as they are served, Streamlit's own among them: a new
route is tried without a line here, and one of the API's that asks for no permission fails until it is named.
Each is tried at least five times by each kind of caller who must not get through.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route, WebSocketRoute

import dashboards_app
from api.app import create_app
from api.openapi import operations
from sluiceway.identity.permissions import ROLE_PERMISSIONS, MemberRole, Permission
from tests.support.attacks import unchecked
from tests.support.callers import (
    ABROAD,
    BROWSER,
    NOBODY,
    SPOOFED,
    TREASURE,
    Planted,
    Tried,
    another_organization,
    everything_but,
    person,
    some,
    strangers,
)
from tests.support.raw_asgi import Told, ask
from tests.support.raw_streams import open_socket
from tests.support.routes import permissions_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Header = tuple[bytes, bytes]
ORIGIN = (b"origin", b"http://localhost:8000")
FOREIGN = (b"https://evil.example", b"null", b"http://localhost:8001", b"http://localhost:8000.evil.example")
FORM = (b"content-type", b"application/x-www-form-urlencoded")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Pages that answer everybody and show nothing of anybody.
OPEN = frozenset({
    "asset", "canvas_asset", "openapi", "docs", "sign_in_page", "sign_in_form", "code_page", "code_form",
    "provider_callback", "provider_way", "sign_out_page", "sign_out_form", "forgot_page", "forgot_form",
    "reset_page", "reset_form",
})  # fmt: skip
# What is shown to whoever has the token in the address.
WITH_TOKEN = frozenset({"link_page", "link_form", "invitation_page", "accept_page"})
# With a token that an identity provider has signed.
SIGNED = frozenset({"provider_logout"})
# About whoever is signed in.
OWN = frozenset({
    "account_page", "confirmed_page", "leaving_form", "password_form", "new_app_form", "first_code_form",
    "remove_app_form",
    "recovery_codes_form", "remove_passkey_form", "end_others_form", "end_session_form", "confirm_page",
    "confirm_form", "confirm_by_provider", "data_page", "deletion_form", "preferences_page",
    "preferences_form", "workspace_form",
})  # fmt: skip
# The app's files that are the same for everybody, and what says that it lives.
OPEN_TO_ALL = re.compile(r"/(_stcore/health|robots\.txt|static/.*|favicon.*)")
ROUND_ABOUT = (
    "/static/../_stcore/host-config", "/static/%2e%2e/_stcore/host-config", "//_stcore/host-config",
    "/favicon/../_stcore/host-config", "/_stcore/health/../host-config", "/static/..%2f_stcore/host-config",
    "/static//../_stcore/host-config", "/static/%5c..%5c_stcore/host-config",
    "/favicon.ico/../../_stcore/metrics", "/static/..;/_stcore/host-config",
    "/static/%00/../_stcore/metrics", "/_stcore/health%2f..%2fhost-config",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A path of a route table, how it is asked, and what it asks for. `method` SOCKET: a WebSocket."""

    method: str
    path: str
    name: str
    permission: Permission | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.name})"

    def address(self, names: dict[str, str]) -> str:
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda m: names.get(m[1], NOBODY), self.path)


def ways(routes: Iterable[Any]) -> Iterator[Way]:
    """Every path and method of a route table, those of what is mounted or included in it as well."""
    for route in routes:
        if isinstance(route, APIRoute):
            permission = next(iter(permissions_of(route.dependant)), None)
            yield from (Way(m, route.path, route.name, permission) for m in sorted(route.methods))
        elif hasattr(route, "original_router"):  # a router that was included
            yield from ways(route.original_router.routes)
        elif isinstance(route, WebSocketRoute):
            yield Way("SOCKET", route.path, route.name)
        elif isinstance(route, Route):
            yield from (Way(m, route.path, route.name) for m in sorted(route.methods or METHODS))
        elif isinstance(route, Mount):
            yield Way("MOUNT", route.path or "/", route.name)
        else:
            raise AssertionError(f"a route of a kind that nobody tries: {route!r}")


async def _events(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the event route is tried elsewhere: test_event_route_matrix")


@pytest.fixture
def undocumented(world: Any) -> list[Way]:
    """The API's, as they are served with the event route beside them."""
    app = create_app(world.services, events=_events)
    documented = {(method.upper(), path) for path, method, _ in operations(app.openapi())}
    found = [way for way in ways(app.api.routes) if (way.method, way.path) not in documented]
    assert len(found) > 45, "the walk found too few"
    return found


@pytest.fixture(scope="module")
def streamlit_app() -> Iterator[Any]:
    """Streamlit's application with our pages, as the web process mounts it; no script of it runs."""
    from streamlit.runtime import Runtime

    from dashboards_app.app import make_pages

    pages = make_pages("http://127.0.0.1:9")
    yield pages._build_starlette_app()
    Runtime._instance = None


class Behind:
    """Streamlit behind the gate: what has reached it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        if scope["type"] == "websocket":  # to be let in is what counts: a session of Streamlit's is a thread
            await send({"type": "websocket.accept"})
            return
        await self.app(scope, receive, send)

    def reached(self) -> list[str]:
        """The closed paths that were asked since the last look."""
        found = [s["path"] for s in self.seen if s["type"] == "websocket" or not is_open(s["path"])]
        self.seen.clear()
        return found


def is_open(path: str) -> bool:
    return OPEN_TO_ALL.fullmatch(path) is not None


@pytest.fixture
def behind(world: Any, no_limits: None, streamlit_app: Any) -> Behind:
    found = Behind(streamlit_app)
    world.app = create_app(world.services, pages=found)
    return found


@pytest.fixture
def app_ways(streamlit_app: Any) -> list[Way]:
    """Every route of Streamlit's, and below what it mounts the pages that we have."""
    found = [way for way in ways(streamlit_app.routes) if way.method not in ("MOUNT", "SOCKET")]
    pages = Path(dashboards_app.__file__).parent / "pages"
    names = ["", *sorted(p.stem.replace("_", "-") for p in pages.glob("[a-z]*.py"))]
    assert len(found) > 30 and len(names) > 15
    found += [Way(method, f"/{name}", "page") for name in names for method in ("GET", "POST")]
    return [way for way in found if not is_open(way.path)]


def raw(client: Any, spoofed: dict[str, str], *besides: Header) -> list[Header]:
    """What this client shows with every request, as it stands on the wire."""
    own = [(name.lower(), value) for name, value in client.http.headers.raw]
    kept = [(n, v) for n, v in own if n in (b"authorization", b"cookie", b"x-sluiceway-request")]
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.http.cookies.jar)
    kept += [(b"cookie", cookies.encode())] if cookies else []
    return [*kept, *((n.lower().encode(), v.encode()) for n, v in spoofed.items()), *besides]


def test_every_route_is_in_the_document_or_named(undocumented: list[Way]) -> None:
    unasked = {way.name for way in undocumented if way.permission is None}
    assert unasked == OPEN | WITH_TOKEN | SIGNED | OWN
    asked = {way.permission for way in undocumented if way.permission is not None}
    assert asked == {Permission.PROVISION}
    assert {way.method for way in undocumented} <= set(METHODS), "a socket of the API's own: try it here"


def test_strangers_at_the_routes_that_no_document_has(
    world: Any, undocumented: list[Way], planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("routes of the API without a document")
    names = {**planted.names, "token": "x" * 43, "provider_id": NOBODY, "name": "none.css"}
    kinds = {kind: make() for kind, make in strangers(world).items()}
    kinds["a good key"] = world.program("read", "manage")  # a key is nobody's session
    for kind, client in kinds.items():
        for number, way in enumerate(undocumented):
            if way.permission is not None and kind == "a good key":
                continue  # what a good key may is tried below
            for spoofed in some(number):
                tried.attempts[kind] += 1
                told = ask(world, way.address(names), *raw(client, spoofed, ORIGIN, FORM), method=way.method)
                place = " ".join(told.header("location"))
                if not turned_away(way, told, place) or TREASURE.encode() in told.body + place.encode():
                    tried.wrong.append(f"{kind}: {way}: {told.status} {place} {told.body[:120]!r}")
    tried.tell(capsys)


def turned_away(way: Way, told: Told, place: str) -> bool:
    """Whether a stranger is told no more than that one has to be somebody."""
    if way.permission is not None:
        return told.status == 401
    if way.name in OWN:
        to_sign_in = told.status == 303 and place.startswith("/sign-in") and told.body == b""
        return told.status == 401 or (way.method == "GET" and to_sign_in)
    if way.name in WITH_TOKEN | SIGNED:
        return told.status == 404
    return told.status < 500 and not any("sluiceway_session=" in c for c in told.header("set-cookie"))


def test_who_may_not_provision(
    world: Any, undocumented: list[Way], planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("provisioning")
    another_organization(world)
    people: dict[Any, Any] = {}
    permitted = Permission.PROVISION
    lower = [everything_but(world, permitted, people)]
    lower += [
        person(world, role, people)
        for role, held in ROLE_PERMISSIONS.items()
        if permitted not in held and role is not MemberRole.OWNER
    ]
    scoped = [unchecked(world, world.program(scope)) for scope in ("ingest", "read", "manage")]
    foreign = [unchecked(world, world.program("provision", workspace_id=n)) for n in (2, ABROAD)]
    kinds = {"a lower role": lower, "a key of another scope": scoped, "another organization's key": foreign}
    for kind, clients in kinds.items():
        for number, way in enumerate(undocumented):
            if way.permission is None:
                continue
            named = "{user_id}" in way.path or "{group_id}" in way.path
            for client in clients:
                for spoofed in some(number):
                    tried.attempts[kind] += 1
                    headers = {"Content-Type": "application/scim+json", **spoofed}
                    body = None if way.method == "GET" else b"{}"
                    answer = client.request(
                        way.method, way.address(planted.names), content=body, headers=headers
                    )
                    if clients is foreign:
                        good = answer.status_code in ((400, 404) if named else (200, 400, 404))
                    else:
                        good = answer.status_code == 403
                    shown = answer.text.replace(f"/{TREASURE}", "")
                    if not good or TREASURE in shown or planted.names["user_id"] in shown:
                        tried.wrong.append(f"{kind}: {way}: {answer.status_code} {answer.text[:200]}")
    tried.tell(capsys)


def sessions_and_keys(world: Any) -> dict[str, Any]:
    """Those whom the gate could mistake for somebody."""
    found = {kind: make() for kind, make in strangers(world).items() if "key" not in kind}
    return {**found, "a good key": world.program("read", "manage")}


def test_strangers_never_reach_the_app(
    world: Any, app_ways: list[Way], behind: Behind, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("routes of the app")
    member = world.person("viewer")
    kinds = sessions_and_keys(world)
    for kind, client in kinds.items():
        for number, way in enumerate(app_ways):
            for spoofed in some(number):
                tried.attempts[kind] += 1
                told = ask(world, way.address({}), *raw(client, spoofed, ORIGIN), method=way.method)
                place = " ".join(told.header("location"))
                sent = told.status == 303 and place.startswith("/sign-in") and told.body == b""
                if behind.reached() or not (told.status == 401 or sent):
                    tried.wrong.append(f"{kind}: {way}: {told.status} {place} {told.body[:120]!r}")
    # The control: somebody who is signed in does.
    for way in app_ways:
        ask(world, way.address({}), *raw(member, {}, ORIGIN), method=way.method)
        assert behind.reached() == [way.address({})], way
    tried.tell(capsys)


def test_no_way_round_about_leads_into_the_app(
    world: Any, behind: Behind, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("ways round about into the app")
    member = ask(world, "/_stcore/host-config", *raw(world.person("viewer"), {}))
    assert b"allowedOrigins" in member.body, "the control: what a member is told"
    behind.reached()
    for path in ROUND_ABOUT:
        for spoofed in SPOOFED:
            tried.attempts["anonymous"] += 1
            told = ask(world, path, *raw(world.client(), spoofed))
            if b"allowedOrigins" in told.body or b"# TYPE" in told.body or told.status >= 500:
                tried.wrong.append(f"{path}: {told.status} {told.body[:120]!r}")
    tried.tell(capsys)


def test_sockets(
    world: Any,
    undocumented: list[Way],
    app_ways: list[Way],
    streamlit_app: Any,
    behind: Behind,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One path takes a socket, of people who are signed in, from pages of this site."""
    tried = Tried("sockets")
    sockets = [way.path for way in ways(streamlit_app.routes) if way.method == "SOCKET"]
    assert sockets == ["/_stcore/stream"]
    elsewhere = [
        "/", "/_stcore/health", "/static/x.js", "/favicon.png", "/robots.txt", "/v1/live", "/metrics",
        *sorted({way.address({}) for way in (*undocumented, *app_ways)}),
    ]  # fmt: skip
    for kind, client in sessions_and_keys(world).items():
        for number, path in enumerate([*sockets, *elsewhere] if kind == "anonymous" else sockets):
            for spoofed in SPOOFED if path in sockets else some(number):
                tried.attempts[kind] += 1
                told = open_socket(world, path, *raw(client, spoofed, ORIGIN))
                if behind.reached() or [m["type"] for m in told] != ["websocket.close"]:
                    tried.wrong.append(f"{kind}: {path}: {told}")
    member = world.person("viewer")
    for origin in FOREIGN:
        for path in sockets:
            for spoofed in SPOOFED:
                tried.attempts["another site"] += 1
                told = open_socket(world, path, *raw(member, spoofed, (b"origin", origin)))
                if behind.reached() or told[0]["type"] != "websocket.close":
                    tried.wrong.append(f"from {origin!r}: {path}: {told}")
    assert open_socket(world, sockets[0], *raw(member, {}, ORIGIN))[0]["type"] == "websocket.accept"
    tried.tell(capsys)


def test_the_app_is_told_who_asks_whatever_they_say(
    world: Any, behind: Behind, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another role and another workspace: the app asks the API with the visitor's own session."""
    tried = Tried("who the app is told of")
    another_organization(world)
    people: dict[Any, Any] = {}
    for workspace_id in (1, 2, ABROAD):
        for role in MemberRole:
            client = person(world, role, people, workspace_id)
            kind = "a lower role" if workspace_id == 1 else "another workspace"
            for spoofed in some(len(people)):
                for path in ("/keys", "/_stcore/stream"):
                    tried.attempts[kind] += 1
                    headers = raw(client, spoofed, ORIGIN, (b"accept", b"text/html"))
                    open_socket(world, path, *headers) if "stream" in path else ask(world, path, *headers)
                    told = [v for n, v in behind.seen[-1]["headers"] if n.lower() == b"x-sluiceway-user"]
                    behind.reached()
                    if [_who(json.loads(one)) for one in told] != [
                        (f"{role}{workspace_id}", role, workspace_id)
                    ]:
                        tried.wrong.append(f"{role} of {workspace_id} with {spoofed}: {told}")
    tried.tell(capsys)


def _who(told: dict[str, Any]) -> tuple[str, str, int]:
    return told["email"].partition("@")[0], told["role"], told["workspace_id"]


def test_forms_are_about_whoever_sends_them(
    world: Any, undocumented: list[Way], planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another person's things named in the address: of another workspace, and of one's own."""
    tried = Tried("forms that name another person's things")
    another_organization(world)
    named = [
        way for way in undocumented if way.name in OWN and "{" in way.path and "provider" not in way.path
    ]
    assert named, "the forms that name something"
    for kind, role, workspace_id in (
        ("a lower role", "viewer", 1), ("another workspace", "owner", 2), ("another org", "owner", ABROAD),
    ):  # fmt: skip
        client = world.client(headers=dict(BROWSER), checked=False)
        client.http.cookies = world.person(role, workspace_id).http.cookies
        for way in named:
            for spoofed in SPOOFED:
                tried.attempts[kind] += 1
                answers = [
                    client.request(way.method, way.address(names), data={}, headers=spoofed)
                    for names in (planted.names, {})
                ]
                if len({a.status_code for a in answers}) > 1 or answers[0].status_code not in (303, 403, 404):
                    tried.wrong.append(f"{kind}: {way}: {[a.status_code for a in answers]}")
                if any(TREASURE in a.text for a in answers):
                    tried.wrong.append(f"{kind}: {way} shows it")
        for number in (1, 77):
            answer = client.post("/account/workspace", data={"workspace_id": number})
            assert answer.status_code == (303 if (number, workspace_id) == (1, 1) else 404), answer.text
    assert world.execute("SELECT count(*) FROM app.passkeys").scalar_one() == 1, "the passkey is still there"
    tried.tell(capsys)
