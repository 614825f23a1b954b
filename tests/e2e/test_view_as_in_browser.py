"""Looking at a dashboard as another role: fewer numbers, a banner that says so, and the way back."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from sluiceway.rules import service
from sluiceway.rules.contracts import RuleSpec
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser

FLIGHTS = '[data-widget="flights"] .stat-number'
LIMIT_MS = 60_000


@pytest.fixture
def ruled(platform: RunningPlatform) -> Iterator[RunningPlatform]:
    spec = RuleSpec.model_validate(
        {
            "name": "carriers", "pipeline": "nyc-flights", "except": ["owner"],
            "rows": "carrier in user.carriers",
        }
    )  # fmt: skip
    service.save_rule(platform.database, 1, spec)
    yield platform
    service.delete_rule(platform.database, 1, "carriers")


def shown(page: Page) -> int:
    expect(page.locator(FLIGHTS)).to_have_text(re.compile(r"^[\d,]+$"), timeout=LIMIT_MS)
    return int(page.locator(FLIGHTS).inner_text().replace(",", ""))


def test_the_owner_looks_as_a_viewer_and_back(
    open_context: Callable[..., BrowserContext], ruled: RunningPlatform
) -> None:
    page = open_context().new_page()
    page.set_default_timeout(LIMIT_MS)
    address = f"{ruled.url}/dashboard?slug=flights-operations"
    page.goto(address)
    mine = shown(page)
    page.get_by_role("button", name="View as…").click()
    page.get_by_role("textbox", name="Attributes").fill("carriers=UA")
    page.get_by_role("button", name="Look", exact=True).click()
    expect(page.locator(".sw-viewing")).to_contain_text("viewer with carriers=UA", timeout=LIMIT_MS)
    expect(page.locator(FLIGHTS)).not_to_have_text(f"{mine:,}", timeout=LIMIT_MS)
    theirs = shown(page)
    assert 0 < theirs < mine
    assert page.locator(".ui-draggable-disabled, .ui-resizable-disabled").count() > 0
    # Who has no attribute sees nothing at all.
    page.goto(f"{address}&as=analyst")
    expect(page.locator(".sw-viewing")).to_contain_text("analyst", timeout=LIMIT_MS)
    expect(page.locator('[data-widget="flights"]')).not_to_contain_text(f"{theirs:,}", timeout=LIMIT_MS)
    page.get_by_role("button", name="Back to my own view").click()
    expect(page.locator(".sw-viewing")).to_have_count(0, timeout=LIMIT_MS)
    expect(page.locator(FLIGHTS)).to_have_text(f"{mine:,}", timeout=LIMIT_MS)
