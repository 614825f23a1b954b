"""The page Health in a real browser: what is wrong is said in words, and that it is well again."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.platform import RunningPlatform, flights, health
from tests.support.screenshots import PICTURES, take

pytestmark = pytest.mark.browser
STAGES = (
    "Receiving", "Spool", "Bronze", "Loading", "Quality gate", "Gold", "Live", "Delivery", "Database", "Disk",
)  # fmt: skip
SOON_MS = 90_000


@pytest.fixture
def with_loader(platform: RunningPlatform) -> Iterator[RunningPlatform]:
    """The platform; whatever becomes of the test, its loader runs again afterwards."""
    yield platform
    if platform.processes["loader"].poll() is not None:
        platform.start("loader")


@pytest.mark.timeout(600)  # each wait has its own limit, and they add up
def test_a_stopped_loader_is_told_in_words_and_its_recovery_too(
    page: Page, with_loader: RunningPlatform
) -> None:
    platform = with_loader
    page.goto(f"{platform.url}/health")
    expect(page.locator(".sw-stage h2")).to_have_text(list(STAGES), timeout=SOON_MS)
    loading = page.locator('.sw-stage[data-stage="loading"]')
    expect(loading).to_contain_text("Well", timeout=SOON_MS)

    platform.stop("loader")
    expect(loading).to_contain_text("Look at it", timeout=SOON_MS)
    findings = page.locator(".sw-findings")
    expect(findings).to_contain_text("The loader is not running: it was stopped at", timeout=SOON_MS)
    before = platform.rows("platform-health")
    platform.send("platform-health", health(0))
    words = re.compile(
        r"The loader has not committed for .+ although [\d.]+ k?B wait: it was stopped at \d\d:\d\d UTC\."
    )
    expect(findings).to_contain_text(words, timeout=SOON_MS)
    expect(findings).to_contain_text("sluiceway process loader")
    expect(page.locator(".sw-health strong")).to_contain_text("Loading")
    expect(page.locator(".sw-health")).to_have_attribute("data-tone", "critical")
    row = page.locator(".sw-table tr").filter(has_text="loader")
    expect(row).to_contain_text("Stopped")

    platform.start("loader")
    expect(loading).to_contain_text("Well", timeout=SOON_MS)
    expect(findings.filter(has_text="The loader")).to_have_count(0, timeout=SOON_MS)
    expect(row).to_contain_text("Running", timeout=SOON_MS)
    platform.wait_for_rows("platform-health", before + len(health(0)))


def test_a_phone_shows_every_stage_without_scrolling_sideways(
    open_context: Callable[..., BrowserContext], platform: RunningPlatform
) -> None:
    page = open_context(viewport={"width": 390, "height": 844}, color_scheme="dark").new_page()
    page.goto(f"{platform.url}/health")
    expect(page.locator(".sw-stage")).to_have_count(len(STAGES), timeout=SOON_MS)
    expect(page.locator(".sw-way li")).to_have_count(len(STAGES))
    wide = page.locator(".sw-page, .sw-stage, .sw-way, .sw-findings li").evaluate_all(
        "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert wide == 0


def test_charts_are_drawn_from_what_was_measured(page: Page, platform: RunningPlatform) -> None:
    platform.send("nyc-flights", flights(0)[-3:])
    page.goto(f"{platform.url}/health")
    chart = page.locator('.sw-stage[data-stage="database"] .sw-spark')
    expect(chart).to_have_attribute("style", re.compile("--chart:"), timeout=SOON_MS)
    assert "polyline" in (chart.get_attribute("style") or "")


def test_the_picture_of_the_page_can_be_taken(
    browser: Browser, platform: RunningPlatform, tmp_path: Path
) -> None:
    wanted = [picture for picture in PICTURES if picture.name == "health"]
    (path,) = take(browser, platform.url, platform.email, platform.password, tmp_path, wanted)
    assert path.stat().st_size > 20_000
