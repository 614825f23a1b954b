"""What every answer carries, how often one may ask, and what people see of errors."""

import dataclasses
from typing import Any

import pytest

from api.app import create_app
from sluiceway.infra.settings import Settings
from tests.support.pages import Pages, socket_messages
from tests.support.raw_asgi import ask

PAGE = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}
PASSWORD = "correct horse battery"
HTTPS = "https://data.example.com"


def changed(world: Any, pages: Any = None, **settings: Any) -> None:
    """The application anew, with other settings."""
    found: Settings = dataclasses.replace(world.services.settings, **settings)
    world.services.settings = found
    world.app = create_app(world.services, pages=pages)


def test_every_kind_of_answer_says_what_it_may_do(world) -> None:
    client = world.person()
    for path in ("/v1/me", "/v1/nothing", "/sign-out", "/docs", "/healthz", "/openapi.json", "/nothing"):
        headers = client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "same-origin" and "camera=()" in headers["permissions-policy"]
        assert "server" not in headers and "x-powered-by" not in headers
        assert not [name for name in headers if name.startswith("access-control-")], path


def test_nothing_but_the_event_route_is_open_to_other_sites(world) -> None:
    preflight = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-sluiceway-request",
    }
    for path in ("/v1/session", "/v1/query", "/v1/keys", "/sign-in", "/openapi.json"):
        answer = world.client().request("OPTIONS", path, headers=preflight)
        assert answer.status_code == 405, path
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_over_https_the_cookie_is_of_this_host_alone(world) -> None:
    world.person("owner")
    changed(world, public_url=HTTPS)
    client = world.client(headers={"Origin": HTTPS})
    answer = client.post("/v1/session", json={"email": "owner1@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-sluiceway_session=")
    assert "Secure" in cookie and "HttpOnly" in cookie and "Path=/" in cookie and "Domain" not in cookie
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    token = cookie.split(";")[0].partition("=")[2]
    mine = world.client(headers={"Cookie": f"__Host-sluiceway_session={token}"})
    assert mine.get("/v1/me").json()["email"] == "owner1@example.com"
    planted = world.client(headers={"Cookie": f"sluiceway_session={token}"})
    assert planted.get("/v1/me").status_code == 401, "a name that a neighbouring site can set"
    left = mine.request("DELETE", "/v1/session", headers={"Origin": HTTPS, "X-Sluiceway-Request": "1"})
    assert left.status_code == 204 and left.headers["set-cookie"].startswith("__Host-sluiceway_session=")
    assert mine.get("/v1/me").status_code == 401


def test_over_https_a_page_of_the_same_host_without_is_another_site(world) -> None:
    world.person("owner")
    changed(world, public_url=HTTPS)
    form = {"email": "owner1@example.com", "password": PASSWORD}
    for origin in (
        "http://data.example.com",
        "http://localhost:8000",
        "https://data.example.com.evil.example",
    ):
        answer = world.client(headers={"Origin": origin}).post("/v1/session", json=form)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request"), origin


def test_over_https_the_cookies_of_the_apps_framework_are_secure_too(world) -> None:
    async def pages(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"set-cookie", b"_streamlit_xsrf=1; Path=/"), (b"set-cookie", b"a=1; Secure")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    changed(world, pages=pages, public_url=HTTPS)
    found = world.client().get("/_stcore/health").headers.get_list("set-cookie")
    assert found == ["_streamlit_xsrf=1; Path=/; Secure", "a=1; Secure"]


def test_the_pages_are_not_for_other_sites_to_read(world) -> None:
    async def pages(scope: Any, receive: Any, send: Any) -> None:
        assert not [1 for name, _ in scope["headers"] if name == b"origin"], "Streamlit need not decide"
        headers = [(b"access-control-allow-origin", b"*"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"page"})

    changed(world, pages=pages)
    answer = world.person().get("/media/x", headers={"Origin": "https://evil.example"})
    assert answer.text == "page" and "access-control-allow-origin" not in answer.headers


def test_a_socket_is_for_pages_of_this_site(world) -> None:
    pages = Pages()
    changed(world, pages=pages)
    token = world.person().http.cookies["sluiceway_session"]
    evil = [
        None,
        "null",
        "https://evil.example",
        "http://localhost:8001",
        "http://localhost:8000.evil.example",
    ]
    for origin in evil:
        told = socket_messages(world, world.app, token, origin)
        assert told == [
            {"type": "websocket.close", "code": 1008, "reason": "The request does not come from this site"}
        ], origin
    assert pages.seen == []
    assert socket_messages(world, world.app, token, "http://localhost:8000")[0]["type"] == "websocket.accept"


def test_a_write_to_the_pages_from_another_site_is_refused(world) -> None:
    pages = Pages()
    changed(world, pages=pages)
    client = world.person()
    upload = "/_stcore/upload_file/a/b"
    answer = client.put(upload, content=b"x", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
    assert pages.seen == []
    token = client.http.cookies["sluiceway_session"].encode()
    own = (b"cookie", b"sluiceway_session=" + token), (b"origin", b"http://localhost:8000")
    assert ask(world, upload, *own, method="PUT", body=b"x").status == 200, "from here it reaches the app"


def test_a_person_and_a_key_and_an_address_are_limited_each_for_itself(world) -> None:
    person, program, stranger = world.person(), world.program("read"), world.client(address="203.0.113.9")
    changed(world, user_requests_per_minute=4, key_requests_per_minute=3, address_requests_per_minute=2)
    for client, most, name in ((person, 4, "user"), (program, 3, "key"), (stranger, 2, "address")):
        client = world.client(headers=dict(client.http.headers), address="203.0.113.9")
        if name == "user":
            client.http.cookies = person.http.cookies
        answers = [client.get("/v1/me") for _ in range(most + 1)]
        usual = 401 if name == "address" else 200
        assert [a.status_code for a in answers] == [usual] * most + [429], name
        assert {a.headers["ratelimit-policy"] for a in answers} == {f'"{name}";q={most};w=60'}
        assert [int(a.headers["ratelimit"].split("r=")[1].split(";")[0]) for a in answers] == [
            *range(most - 1, -1, -1),
            0,
        ]
        refused = answers[-1]
        assert refused.json()["code"] == "too_many_requests" and refused.json()["retryable"] is True
        assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_the_address_is_the_one_a_trusted_proxy_names(world) -> None:
    changed(world, address_requests_per_minute=1)
    proxy = world.client(address="127.0.0.1")
    for client in ("198.51.100.1", "198.51.100.2"):
        forwarded = {"X-Forwarded-For": f"203.0.113.250, {client}"}
        assert proxy.get("/v1/me", headers=forwarded).status_code == 401
        assert proxy.get("/v1/me", headers=forwarded).status_code == 429
    liar = world.client(address="203.0.113.7")
    told = [liar.get("/v1/me", headers={"X-Forwarded-For": f"198.51.100.{n}"}).status_code for n in range(3)]
    assert told == [401, 429, 429]


def test_a_body_that_says_it_is_too_large_is_not_read(world) -> None:
    client = world.client(headers={"Content-Length": "999999999999", "Content-Type": "application/json"})
    answer = client.post("/v1/session", content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_person_sees_a_page_where_a_program_gets_problem_details(world) -> None:
    client = world.client()
    for path, status, title in (
        ("/nothing", 404, "There is nothing here"),
        ("/sign-in/%3Cscript%3Ealert(1)%3C%2Fscript%3E", 404, "There is nothing here"),
    ):
        answer = client.get(path, headers=PAGE)
        assert answer.status_code == status and answer.headers["content-type"] == "text/html; charset=utf-8"
        assert (
            f"<h1>{title}</h1>" in answer.text
            and "alert(1)" not in answer.text
            and "nothing<" not in answer.text
        )
        assert answer.headers["cache-control"] == "no-store"
        assert client.get(path).json()["code"] == "not_found"
    answer = client.get("/v1/nothing", headers=PAGE)
    assert answer.json()["code"] == "not_found", "the API is for programs, whoever looks"
    evil = {**PAGE, "Origin": "https://evil.example"}
    answer = client.post("/sign-in", data={"email": "a@b", "password": "x"}, headers=evil)
    assert answer.status_code == 403 and "<h1>The request does not come from this site</h1>" in answer.text


def test_an_error_page_says_nothing_of_its_cause(world, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is 4711")

    monkeypatch.setattr("api.pages.reference.render", explode)
    answer = world.client().get("/docs", headers={**PAGE, "X-Request-Id": "mine-1"})
    assert answer.status_code == 500 and "<h1>Something went wrong</h1>" in answer.text
    assert "4711" not in answer.text and "RuntimeError" not in answer.text and "Traceback" not in answer.text
    assert "Error 500, request mine-1." in answer.text


def test_a_failing_app_is_a_page_too(world, caplog: pytest.LogCaptureFixture) -> None:
    async def pages(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the secret is 4711")

    changed(world, pages=pages)
    answer = world.person().get("/dashboard%0a%1b[31m", headers=PAGE)
    assert answer.status_code == 500 and "<h1>Something went wrong</h1>" in answer.text
    assert "4711" not in answer.text
    assert "\x1b" not in caplog.records[-1].getMessage() and "\n" not in caplog.records[-1].getMessage()
