"""The pages around the dashboards, and the way in and out, in a real browser."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.platform import RunningPlatform
from tests.support.screenshots import PICTURES, take

pytestmark = pytest.mark.browser


def test_signing_in_leads_to_the_page_asked_for_and_out_again(
    browser: Browser, platform: RunningPlatform
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{platform.url}/dashboard?slug=platform-health")
    assert "/sign-in" in page.url
    page.locator("input[name=email]").fill(platform.email)
    page.locator("input[name=password]").fill("not this one")
    page.locator("input[name=password]").press("Enter")
    expect(page.locator(".alert")).to_be_visible()
    page.locator("input[name=password]").fill(platform.password)
    page.locator("input[name=password]").press("Enter")
    expect(page.locator("h1")).to_have_text("Platform health")
    expect(page.locator(".sw-person")).to_contain_text("Ada Lovelace")
    page.locator(".sw-person").get_by_text("Sign out").click()
    page.wait_for_url("**/sign-out*")
    page.locator("form button").first.click()
    page.wait_for_url("**/sign-in*")
    page.goto(f"{platform.url}/pipelines")
    assert "/sign-in" in page.url
    context.close()


def test_the_list_of_dashboards_leads_to_one(page: Page, platform: RunningPlatform) -> None:
    page.goto(platform.url)
    expect(page.locator(".sw-card")).to_have_count(2)
    page.locator(".st-key-card-flights-operations a").click()
    expect(page.locator("h1")).to_have_text("Flights operations")
    assert "slug=flights-operations" in page.url
    page.get_by_role("button", name="YAML").click()
    expect(page.locator('[role="dialog"]')).to_contain_text("kind: Dashboard")


def test_pipelines_show_their_state_and_lead_to_their_batches(page: Page, platform: RunningPlatform) -> None:
    page.goto(f"{platform.url}/pipelines")
    row = page.locator(".st-key-row-nyc-flights")
    for text in ("New York flights", "Live", "Rate", "Lag", "Last batch", "Dead letters", "Gate"):
        expect(row).to_contain_text(text)
    expect(page.locator(".st-key-row-github-webhooks")).to_contain_text("No data yet")
    row.locator("a").click()
    expect(page.locator(".sw-heading h1")).to_have_text("New York flights")
    expect(page.locator(".sw-table").first).to_contain_text("test/")
    page.get_by_role("tab", name="Fields").click()
    expect(page.get_by_text("Departure delay", exact=False).first).to_be_visible()


def test_a_dead_letter_shows_its_reason_and_becomes_a_row_when_corrected(
    page: Page, platform: RunningPlatform
) -> None:
    mark = str(uuid.uuid4())
    wrong = {
        "id": mark, "scheduled": datetime.now(UTC).isoformat(), "carrier": "UA", "origin": "EWR",
        "flight": "1", "dep_delay": "late", "distance": 719, "cancelled": False,
    }  # fmt: skip
    platform.send("nyc-flights", [wrong])
    page.goto(f"{platform.url}/dead-letters")
    letter = page.locator('[class*="st-key-letter-"]').filter(has_text="dep_delay").first
    expect(letter).to_be_visible()
    letter.get_by_role("button", name="Payload").click()
    event = page.locator('[role="dialog"] textarea')
    expect(event).to_have_value(re.compile(re.escape(mark)))
    event.fill(event.input_value().replace('"late"', "12"))
    event.press("Control+Enter")
    page.get_by_role("button", name="Retry with this").click()
    # The web process imports the quality engine for its first retry.
    expect(page.get_by_text("It became a row.")).to_be_visible(timeout=60_000)


def test_quality_lists_the_expectations(page: Page, platform: RunningPlatform) -> None:
    page.goto(f"{platform.url}/quality")
    expect(page.locator(".sw-heading h1")).to_have_text("Quality")
    page.goto(f"{platform.url}/pipeline?slug=nyc-flights")
    page.get_by_role("tab", name="Quality").click()
    expect(page.locator(".sw-table").filter(has_text="Expectation")).to_contain_text("100%")
    for width in (390, 1366):  # a phone, a laptop
        page.set_viewport_size({"width": width, "height": 844})
        back = page.locator(".st-key-back a p")
        expect(back).to_have_text("All pipelines")
        assert back.evaluate("text => text.scrollWidth <= text.clientWidth"), "a letter is cut off"


def test_a_key_is_made_shown_once_and_revoked(page: Page, platform: RunningPlatform) -> None:
    page.goto(f"{platform.url}/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("gate sensors")
    page.get_by_role("button", name="Make key").click()
    expect(page.locator('[role="dialog"]')).to_contain_text("slw_")
    page.get_by_role("button", name="Done").click()
    row = page.locator('[class*="st-key-key-"]').filter(has_text="gate sensors")
    expect(row).to_contain_text("Active", ignore_case=True)
    row.get_by_role("button", name="Revoke").click()
    page.locator('[role="dialog"]').get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("Revoked", ignore_case=True)


def test_nothing_is_fetched_from_elsewhere(
    open_context: Callable[..., BrowserContext], platform: RunningPlatform
) -> None:
    context = open_context()
    foreign: list[str] = []
    context.on(
        "request",
        lambda request: (
            None if request.url.startswith((platform.url, "data:", "blob:")) else foreign.append(request.url)
        ),
    )
    page = context.new_page()
    for path in ("/", "/pipelines", "/dashboard?slug=flights-operations"):
        page.goto(platform.url + path)
        page.wait_for_timeout(1500)
    assert foreign == []


def test_the_pictures_of_the_documentation_can_be_taken(
    browser: Browser, platform: RunningPlatform, tmp_path: Path
) -> None:
    wanted = [p for p in PICTURES if p.name in ("provenance", "pipelines")]
    paths = take(browser, platform.url, platform.email, platform.password, tmp_path, wanted)
    assert [path.stem for path in paths] == [picture.name for picture in wanted]
    for path in paths:
        assert path.stat().st_size > 20_000
