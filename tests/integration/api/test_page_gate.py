"""The gate in front of the pages, and what the application is made of for each role."""

from typing import Any

import pytest

from api.app import create_app
from tests.support.pages import Pages, socket_messages

Scope = dict[str, Any]


@pytest.fixture
def pages(world) -> Pages:
    found = Pages()
    world.app = create_app(world.services, pages=found)
    return found


def test_a_stranger_is_sent_to_sign_in_and_back(world, pages: Pages) -> None:
    client = world.client()
    assert client.get("/").headers["location"] == "/sign-in"
    answer = client.get("/dashboard?slug=flights&range=24h")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=/dashboard%3Fslug%3Dflights%26range%3D24h"
    stale = world.client(headers={"Cookie": "sluiceway_session=" + "x" * 43})
    assert stale.get("/").status_code == 303
    assert pages.seen == []


def test_the_next_path_survives_the_sign_in_form(world, pages: Pages) -> None:
    page = world.client().get("/sign-in?next=/dashboard%3Fslug%3Dflights%26range%3D24h").text
    assert 'name="next" value="/dashboard?slug=flights&amp;range=24h"' in page


def test_who_is_signed_in_reaches_the_pages_and_cannot_be_forged(world, pages: Pages) -> None:
    client = world.person("editor")
    forged = {"x-sluiceway-user": '{"email": "boss@example.com"}', "X-Sluiceway-User": "{}"}
    assert client.get("/pipelines", headers=forged).text == "page"
    assert [u["email"] for u in pages.user()] == ["editor1@example.com"]
    assert pages.user()[0]["workspace_id"] == 1


def test_bundles_need_no_sign_in(world, pages: Pages) -> None:
    forged = {"x-sluiceway-user": "{}"}
    assert world.client().get("/static/js/index.js", headers=forged).status_code == 200
    assert pages.user() == []


def test_a_file_that_is_not_there_is_not_the_apps_frame(world) -> None:
    world.app = create_app(world.services, pages=Pages(frame=True))
    for path in ("/static/nothing.js", "/static/", "/favicon-of-another"):
        answer = world.client().get(path)
        assert (answer.status_code, "page" in answer.text) == (404, False), path


def test_an_address_without_a_page_is_not_found(world) -> None:
    pages = Pages()
    world.app = create_app(world.services, pages=pages, addresses=frozenset({"", "usage"}))
    browser = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    assert world.client().get("/nothing", headers=browser).status_code == 303  # first: who is it?
    somebody = world.person("viewer")
    for path in ("/nothing", "/usage/more", "/<b>mine"):
        answer = somebody.get(path, headers=browser)
        assert answer.status_code == 404, path
        assert "There is nothing here" in answer.text and "mine" not in answer.text
    assert pages.seen == []
    for path in ("/", "/usage", "/usage/"):
        assert somebody.get(path, headers=browser).text == "page", path
    assert somebody.get("/usage/_stcore/health").text == "page"  # which its script asks for, not a person


@pytest.mark.parametrize("path", ["/_stcore/upload_file/a/b", "/_stcore/host-config", "/media/x"])
def test_a_stranger_gets_none_of_the_apps_own_routes(world, pages: Pages, path: str) -> None:
    assert world.client().request("PUT", path).status_code == 401
    assert world.client().get(path).status_code in (303, 401)
    assert pages.seen == []


def test_what_the_api_owns_never_reaches_the_pages(world, pages: Pages) -> None:
    client = world.person("owner")
    for path in ("/v1/nothing", "/v1", "/docs/nothing", "/metrics/x", "/healthz/x"):
        assert client.get(path).status_code == 404, path
    assert pages.seen == []


def test_sockets_are_for_people_who_are_signed_in(world, pages: Pages) -> None:
    assert socket_messages(world, world.app, None)[0]["type"] == "websocket.close"
    assert pages.seen == []
    token = world.person("viewer").http.cookies["sluiceway_session"]
    assert socket_messages(world, world.app, token)[0]["type"] == "websocket.accept"
    assert [u["email"] for u in pages.user()] == ["viewer1@example.com"]


def test_an_ingest_process_has_no_api(world) -> None:
    reached: list[str] = []

    async def events(scope: Scope, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    app = world.app = create_app(world.services, {"ingest"}, events=events)
    client = world.client(checked=False)
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 200
    assert client.get("/v1/pipelines").status_code == 404
    assert client.get("/sign-in").status_code == 404
    assert client.post("/v1/pipelines/orders/events", json={}).status_code == 202
    assert client.get("/v1/pipelines/orders/events").status_code == 202, "senders shake hands by GET"
    assert reached == ["/v1/pipelines/orders/events"] * 2
    assert "/v1/pipelines/{pipeline}/events" in app.openapi()["paths"]


def test_the_app_is_told_what_its_visitor_prefers(world, pages: Pages) -> None:
    client = world.person("viewer")
    client.put("/v1/me/preferences", json={"theme": "dark", "time_zone": "Asia/Kathmandu"})
    client.get("/dashboards", headers={"Accept": "text/html"})
    assert pages.user()[0]["time_zone"] == "Asia/Kathmandu"
    # A page that comes compressed, or not at all, could not be told.
    assert b"accept-encoding" not in dict(pages.seen[-1]["headers"])
    client.get("/_stcore/host-config", headers={"Accept": "application/json"})
    assert pages.user()[0]["time_zone"] is None
