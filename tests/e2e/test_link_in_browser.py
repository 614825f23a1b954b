"""A dashboard behind a link, in a browser that never signed in: live, read-only, closed once revoked."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from sluiceway.dashboards import links
from sluiceway.infra.database import Role
from sluiceway.queries.contracts import Filter, TimeRange
from tests.support.browser import wait_until_drawn
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser

FLIGHTS = '[data-widget="flights"] .stat-number'
LIMIT_MS = 60_000


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Page]:
    """A page of a browser without any cookie."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    context.set_default_timeout(LIMIT_MS)
    yield context.new_page()
    context.close()


def make_link(platform: RunningPlatform, **options: Any) -> tuple[str, links.DashboardLink]:
    with platform.database.transaction(Role.APP, workspace_id=1) as conn:
        token, made = links.create_link(conn, 1, "flights-operations", "wall", made_by="cli", **options)
    return f"{platform.url}/link/{token}", made


def opened(page: Page, address: str) -> None:
    page.goto(address)
    page.locator(".live[data-state=live]").wait_for()
    page.locator("article.w:not([aria-busy]) .w-foot:not(.waiting)").first.wait_for()


def shown(page: Page) -> int:
    return int(page.locator(FLIGHTS).inner_text().replace(",", ""))


def flight(carrier: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "id": f"link/{uuid.uuid4()}", "scheduled": now, "carrier": carrier, "origin": "EWR", "dest": "ORD",
        "flight": "1", "dep_delay": 4.0, "arr_delay": 2.0, "air_time": 110.0, "distance": 719.0,
        "cancelled": False,
    }  # fmt: skip


def test_a_stranger_sees_it_live_and_until_it_is_revoked(stranger: Page, platform: RunningPlatform) -> None:
    problems: list[str] = []
    stranger.on("pageerror", lambda error: problems.append(str(error)))
    stranger.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
    )
    address, made = make_link(platform)
    opened(stranger, address)
    wait_until_drawn(stranger)
    expect(stranger.locator("h1")).to_have_text("Flights operations", timeout=LIMIT_MS)
    expect(stranger.locator("article.w")).to_have_count(10)
    expect(stranger.locator(".w-state:visible")).to_have_count(0)
    assert stranger.locator(".ui-draggable-disabled, .ui-resizable-disabled").count() > 0
    before = shown(stranger)
    assert before > 500 and problems == []
    platform.send("nyc-flights", [flight("UA")])
    expect(stranger.locator(FLIGHTS)).not_to_have_text(f"{before:,}", timeout=LIMIT_MS)
    with platform.database.transaction(Role.APP, workspace_id=1) as conn:
        links.revoke_link(conn, 1, made.id, at=datetime.now(UTC))
    expect(stranger.locator(".notice")).to_contain_text("This link is closed", timeout=LIMIT_MS)
    stranger.goto(address)
    expect(stranger.locator("h1")).to_have_text("This link does not work", timeout=LIMIT_MS)


def test_a_password_and_what_is_fixed(stranger: Page, platform: RunningPlatform) -> None:
    address, _ = make_link(
        platform,
        password="open sesame",
        filters=(Filter(field="carrier", op="eq", value="UA"),),
        time=TimeRange(last="24h"),
    )
    stranger.goto(address)
    stranger.locator("input[type=password]").fill("open barley")
    stranger.locator("button").click()
    expect(stranger.locator("[role=alert]")).to_have_text("The password is wrong.", timeout=LIMIT_MS)
    stranger.locator("input[type=password]").fill("open sesame")
    stranger.locator("button").click()
    stranger.locator(".live[data-state=live]").wait_for()
    wait_until_drawn(stranger)
    expect(stranger.locator(".range")).to_have_count(0)
    everybody, _ = make_link(platform, time=TimeRange(last="24h"))
    of_one = shown(stranger)
    opened(stranger, everybody)
    wait_until_drawn(stranger)
    assert 0 < of_one < shown(stranger)
