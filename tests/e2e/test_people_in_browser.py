"""People in a real browser: from an invitation's link into the app, and an app that is as they prefer it."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from sluiceway.identity import invitations
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Role
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser
SOON_MS = 60_000


def test_an_invitation_leads_into_the_app(browser: Browser, platform: RunningPlatform) -> None:
    with platform.database.transaction(Role.APP, workspace_id=1) as conn:
        _, token = invitations.invite(
            conn, 1, "new@example.com", "viewer", giver=None, now=SystemClock().now()
        )
    context = browser.new_context()
    try:
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.goto(f"{platform.url}/invitation/{token}")
        expect(page.locator("h1")).to_have_text("Main")
        page.get_by_label("Your name").fill("Nora <b>New</b>")
        page.get_by_label("A password").fill("violet otter climbs quietly")
        page.get_by_role("button", name="Join").click()
        expect(page.locator(".sw-person strong")).to_have_text("Nora <b>New</b>", timeout=SOON_MS)
        assert [text for text in wrong if "Content Security Policy" in text] == []
        page.goto(f"{platform.url}/invitation/{token}")
        expect(page.locator("h1")).to_have_text("The invitation is not valid any more")
    finally:
        context.close()


def test_the_app_is_as_its_visitor_prefers_it(
    open_context: Callable[..., BrowserContext], platform: RunningPlatform
) -> None:
    context = open_context(color_scheme="light", timezone_id="America/New_York")
    cookies = {cookie["name"]: cookie["value"] for cookie in context.cookies()}
    headers = {"X-Sluiceway-Request": "1", "Origin": platform.url}

    def prefer(**wanted: str | None) -> None:
        answer = httpx.put(f"{platform.url}/v1/me/preferences", json=wanted, cookies=cookies, headers=headers)
        assert answer.status_code == 200, answer.text

    page = context.new_page()
    try:
        prefer(theme="dark", time_zone="Asia/Tokyo")
        page.goto(f"{platform.url}/health")
        clock = page.locator(".sw-health time")
        expect(clock).to_contain_text("JST", timeout=SOON_MS)
        shown = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        assert shown == "rgb(11, 14, 19)"
        prefer(theme="light", time_zone=None)
        page.goto(f"{platform.url}/health")
        expect(clock).to_contain_text("UTC", timeout=SOON_MS)
        shown = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        assert shown == "rgb(247, 248, 250)"
    finally:
        prefer(theme="system")
