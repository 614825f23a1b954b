"""Second factors and passkeys in a real browser, with a virtual authenticator; the account page's widths."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyotp
import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect

from api.app import create_app
from api.services import ApiServices
from sluiceway.identity import service
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import load_settings

pytestmark = pytest.mark.browser

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
AUTHENTICATOR = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


async def _behind(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<title>in</title><h1>Signed in</h1>"})


@pytest.fixture
def site(database: Database, database_url: str, secret_key: SecretKey, tmp_path: Any) -> Iterator[str]:
    """The application at `localhost`: passkeys are made for a name, not for an IP address."""
    with database.transaction(Role.APP, workspace_id=1) as conn:
        service.create_user(conn, EMAIL, "Ada Lovelace", PASSWORD, "owner", 1)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    address = f"http://localhost:{listener.getsockname()[1]}"
    settings = load_settings(
        {
            "SLUICEWAY_HOME": str(tmp_path),
            "SLUICEWAY_DATABASE_URL": database_url,
            "SLUICEWAY_PUBLIC_URL": address,
        }
    )
    app = create_app(ApiServices(settings, database, secret_key), pages=_behind)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield address
    server.should_exit = True
    thread.join(timeout=30)
    listener.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context(viewport={"width": 1366, "height": 800})
    found.set_default_timeout(30_000)
    yield found
    found.close()


def _authenticator(page: Page) -> tuple[CDPSession, str]:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    return session, made["authenticatorId"]


def _sign_in(page: Page, site: str) -> None:
    page.goto(f"{site}/sign-in")
    page.get_by_label("E-mail").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def _sign_out(page: Page, site: str) -> None:
    page.goto(f"{site}/sign-out")
    page.get_by_role("button", name="Sign out").click()


def _add_passkey(page: Page, site: str, name: str) -> None:
    page.goto(f"{site}/account")
    page.get_by_label("Name of the device").fill(name)
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("status")).to_have_text("The passkey is added.")


def test_a_passkey_signs_in_alone_and_after_a_password(site: str, context: BrowserContext) -> None:
    page = context.new_page()
    session, authenticator = _authenticator(page)
    _sign_in(page, site)
    _add_passkey(page, site, "Work laptop")
    expect(page.get_by_text("Work laptop")).to_be_visible()
    _sign_out(page, site)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_title("in")
    _sign_out(page, site)
    _sign_in(page, site)
    expect(page.get_by_role("heading")).to_have_text("One more step")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_title("in")

    # What the person did not verify, and what is no longer registered, lets nobody in.
    _sign_out(page, site)
    session.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("not used")
    session.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": True})
    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_title("in")
    page.goto(f"{site}/account")
    page.get_by_role("button", name="Remove Work laptop").click()
    expect(page.get_by_role("status")).to_contain_text("The passkey is removed.")
    _sign_out(page, site)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_have_text("This passkey is not registered here.")


def test_an_answer_is_good_once_and_a_copied_passkey_is_noticed(site: str, context: BrowserContext) -> None:
    page = context.new_page()
    session, authenticator = _authenticator(page)
    _sign_in(page, site)
    _add_passkey(page, site, "Work laptop")
    _sign_out(page, site)
    sent: list[Any] = []
    page.on(
        "request", lambda r: sent.append(r.post_data_json) if r.url.endswith("/session/passkey") else None
    )
    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_title("in")
    again = page.request.post(f"{site}/v1/session/passkey", data=sent[0], headers={"Origin": site})
    assert (again.status, again.json()["code"]) == (401, "sign_in_step_expired")
    # A copy of the key has an older counter: it is refused from the second use on.
    asked = page.request.post(f"{site}/v1/session/passkey-options", data={}, headers={"Origin": site}).json()
    stale = page.request.post(
        f"{site}/v1/session/passkey", data={**sent[0], "step": asked["step"]}, headers={"Origin": site}
    )
    assert (stale.status, stale.json()["code"]) == (401, "passkey_refused")
    held = session.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})["credentials"][0]
    session.send(
        "WebAuthn.removeCredential", {"authenticatorId": authenticator, "credentialId": held["credentialId"]}
    )
    session.send(
        "WebAuthn.addCredential", {"authenticatorId": authenticator, "credential": {**held, "signCount": 0}}
    )
    _sign_out(page, site)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("does not hold")


def test_an_app_and_its_recovery_codes(site: str, context: BrowserContext) -> None:
    page = context.new_page()
    wrong: list[str] = []
    page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(site) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    _sign_in(page, site)
    page.goto(f"{site}/account")
    page.get_by_role("button", name="Set up an app").click()
    secret = page.locator(".key").inner_text().replace(" ", "")
    page.get_by_role("textbox", name="Code").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Take it into use").click()
    codes = page.locator(".codes code").all_inner_texts()
    assert len(codes) == 10
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_text("10 of 10 recovery codes are left")).to_be_visible()
    _sign_out(page, site)
    _sign_in(page, site)
    page.get_by_role("textbox", name="Code").fill(codes[0])
    page.get_by_role("button", name="Go on").click()
    expect(page).to_have_title("in")
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_account_page_fits_every_width(site: str, context: BrowserContext, scheme: Any) -> None:
    page = context.new_page()
    _authenticator(page)
    page.emulate_media(color_scheme=scheme)
    _sign_in(page, site)
    _add_passkey(page, site, "A laptop with a name that is as long as names can be, W" + "W" * 4)
    for path in ("/account", "/confirm?next=/account", "/forgot", "/sign-out"):
        for width, height in ((360, 740), (768, 1024), (1366, 768)):
            page.set_viewport_size({"width": width, "height": height})
            page.goto(f"{site}{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            if folder := os.environ.get("SCREENSHOTS"):
                name = path.strip("/").partition("?")[0]
                page.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
