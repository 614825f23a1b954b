"""The sign-in page in a real browser: without a script, at every width, in light and dark."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser

from api.app import create_app
from api.services import ApiServices
from sluiceway.identity import service
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"


@dataclass
class Site:
    address: str
    seen: list[dict[str, Any]]


@pytest.fixture
def site(database: Database, settings: Settings, secret_key: SecretKey) -> Iterator[Site]:
    """The application on a free port; behind the sign-in stands a page that says so."""
    with database.transaction(Role.APP, workspace_id=1) as conn:
        service.create_user(conn, "ada@example.com", "Ada", PASSWORD, "owner", 1)
    seen: list[dict[str, Any]] = []

    async def pages(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<title>in</title><h1>Signed in</h1>"})

    app = create_app(ApiServices(settings, database, secret_key), pages=pages)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(f"http://127.0.0.1:{port}", seen)
    server.should_exit = True
    thread.join(timeout=10)


def test_a_person_signs_in_and_out_without_a_script(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.address}/dashboard?slug=flights")
    assert page.url == f"{site.address}/sign-in?next=/dashboard%3Fslug%3Dflights"
    page.get_by_label("E-mail").fill("ada@example.com")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").inner_text() == "The e-mail address or the password is wrong."
    assert page.get_by_label("E-mail").input_value() == "ada@example.com"
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    assert page.url == f"{site.address}/dashboard?slug=flights" and page.title() == "in"
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in context.cookies())
    page.goto(f"{site.address}/sign-out")
    page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{site.address}/sign-in"
    assert [cookie["name"] for cookie in context.cookies()] == ["sluiceway_device"]  # opens nothing


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_width(site: Site, browser: Browser, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(site.address) else None)
    for width, height in ((360, 740), (768, 1024), (1366, 768), (2560, 1300)):
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{site.address}/sign-in")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        button = page.get_by_role("button", name="Sign in").bounding_box()
        assert button and button["y"] + button["height"] <= height and button["width"] >= 280
        assert page.evaluate("document.activeElement.name") == "email"
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(12, 15, 20)"
        assert dark == (scheme == "dark")
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{folder}/sign-in-{width}-{scheme}.png")
    assert wrong == []
    context.close()
