"""A dashboard in a real browser: it draws, it is live, it is shared, it says how far it can be trusted."""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.support.browser import layout, open_dashboard, wait_until_drawn
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser

FLIGHTS = '[data-widget="flights"]'


def flight(**fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "id": f"test/{uuid.uuid4()}", "scheduled": now, "carrier": "UA", "origin": "EWR", "dest": "ORD",
        "flight": "1", "dep_delay": 4.0, "arr_delay": 2.0, "air_time": 110.0, "distance": 719.0,
        "cancelled": False, **fields,
    }  # fmt: skip


def fixed_range() -> str:
    """A range that does not move on while a test counts: nothing leaves it by getting old."""
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    return f"&from={(now - timedelta(days=1)).isoformat()}Z&to={(now + timedelta(hours=1)).isoformat()}Z"


def shown_flights(page: Page) -> int:
    return int(page.locator(f"{FLIGHTS} .stat-number").inner_text().replace(",", ""))


def test_every_widget_draws_and_says_how_fresh_and_how_trusted_it_is(
    page: Page, platform: RunningPlatform
) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
    )
    page.set_viewport_size({"width": 1366, "height": 1400})
    open_dashboard(page, platform.url, "flights-operations")
    wait_until_drawn(page)
    expect(page.locator("h1")).to_have_text("Flights operations")
    expect(page.locator("article.w")).to_have_count(10)
    expect(page.locator(".w-state:visible")).to_have_count(0)
    for foot in page.locator("article.w .w-foot").all():
        expect(foot.locator(".fresh")).to_contain_text("live")
        expect(foot.locator(".badge")).not_to_be_empty()
    expect(page.locator('[data-widget="departures"] .plot .main-svg').first).to_be_visible()
    expect(page.locator('[data-widget="latest"] tbody tr')).to_have_count(30)
    assert shown_flights(page) > 500
    assert problems == []


def test_the_line_below_a_number_opens_where_it_comes_from(page: Page, platform: RunningPlatform) -> None:
    open_dashboard(page, platform.url, "flights-operations")
    page.locator(f"{FLIGHTS} .w-foot").click()
    card = page.locator(".prov")
    expect(card).to_be_visible()
    for text in ("How fresh", "How trusted", "Where from", "Set aside in this range", "Sequence"):
        expect(card).to_contain_text(text)
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_events_are_on_the_screen_without_a_reload(page: Page, platform: RunningPlatform) -> None:
    open_dashboard(page, platform.url, "flights-operations", fixed_range())
    wait_until_drawn(page)
    for _ in range(4):
        before = shown_flights(page)
        platform.send("nyc-flights", [flight()])
        expect(page.locator(f"{FLIGHTS} .stat-number")).to_have_text(f"{before + 1:,}")


def test_a_failing_row_is_told_by_the_badge(page: Page, platform: RunningPlatform) -> None:
    open_dashboard(page, platform.url, "flights-operations", fixed_range())
    badge = page.locator(f"{FLIGHTS} .badge")
    wait_until_drawn(page)
    before = shown_flights(page)
    platform.send("nyc-flights", [flight(origin="ZZZ"), flight()])
    expect(badge).to_contain_text("set aside")
    expect(badge).to_have_attribute("data-tone", "warning")
    expect(page.locator(f"{FLIGHTS} .stat-number")).to_have_text(f"{before + 1:,}")


def test_a_moved_widget_is_kept_and_moves_in_another_browser(
    open_context: Callable[..., BrowserContext], platform: RunningPlatform
) -> None:
    one, other = open_context().new_page(), open_context().new_page()
    for page in (one, other):
        open_dashboard(page, platform.url, "platform-health")
    before = layout(one)
    widths = {w["w"] for name, w in before.items() if name in ("rate", "memory-now")}
    assert widths == {3}
    head = one.locator('[data-widget="memory-now"] .w-head').bounding_box()
    target = one.locator('[data-widget="rate"] .w-head').bounding_box()
    assert head and target
    one.mouse.move(head["x"] + 40, head["y"] + 12)
    one.mouse.down()
    one.mouse.move(head["x"] - 200, head["y"] + 16, steps=8)
    one.mouse.move(target["x"] + 30, target["y"] + 16, steps=12)
    one.wait_for_timeout(200)
    one.mouse.up()
    expect(one.locator(".toast")).to_have_text("Layout saved")
    moved = layout(one)
    assert moved["memory-now"]["x"] == 0 and moved != before
    end = time.monotonic() + 60
    while layout(other) != moved and time.monotonic() < end:
        other.wait_for_timeout(50)
    assert layout(other) == moved
    one.reload()
    one.locator(".live[data-state=live]").wait_for()
    assert layout(one) == moved


def test_a_widget_moves_by_the_arrow_keys(page: Page, platform: RunningPlatform) -> None:
    open_dashboard(page, platform.url, "flights-operations")
    before = layout(page)["about"]
    page.locator('[data-widget="about"]').focus()
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator(".toast")).to_have_text("Layout saved")
    after = layout(page)["about"]
    assert (after["x"], after["y"], after["h"]) == (before["x"], before["y"], before["h"] + 1)
    page.keyboard.press("Shift+ArrowUp")
    page.wait_for_timeout(400)
    assert layout(page)["about"] == before


def test_the_range_is_in_the_address_and_survives_reload_and_sharing(
    page: Page, open_context: Callable[..., BrowserContext], platform: RunningPlatform
) -> None:
    open_dashboard(page, platform.url, "flights-operations")
    wait_until_drawn(page)
    a_day = shown_flights(page)
    page.locator('.seg[data-range="7d"]').click()
    expect(page.locator(f"{FLIGHTS} .stat-number")).not_to_have_text(f"{a_day:,}")
    assert "range=7d" in page.url and "slug=flights-operations" in page.url
    page.reload()
    page.locator(".live[data-state=live]").wait_for()
    expect(page.locator('.seg[data-range="7d"]')).to_have_attribute("aria-pressed", "true")
    shared = open_context().new_page()
    shared.goto(page.url)
    expect(shared.locator('.seg[data-range="7d"]')).to_have_attribute("aria-pressed", "true")
    page.goto(
        f"{platform.url}/dashboard?slug=flights-operations&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z"
    )
    expect(page.locator(".seg.custom")).to_have_attribute("aria-pressed", "true")
    expect(page.locator('[data-widget="departures"] .w-state')).to_contain_text("No data in this range")


def test_a_custom_range_is_chosen_in_the_dialog(page: Page, platform: RunningPlatform) -> None:
    open_dashboard(page, platform.url, "flights-operations")
    page.locator(".seg.custom").click()
    first, last = page.locator(".range-form input").all()
    first.fill("2026-01-02T00:00")
    last.fill("2026-01-01T00:00")
    page.locator(".range-form .primary").click()
    expect(page.locator(".range-form .problem")).to_contain_text("should be before")
    last.fill("2026-01-03T00:00")
    page.locator(".range-form .primary").click()
    expect(page.locator(".range-form")).to_be_hidden()
    assert "from=2026-01-0" in page.url and "to=2026-01-0" in page.url


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(18, 22, 29)")])
def test_light_and_dark_follow_the_person(
    open_context: Callable[..., BrowserContext], platform: RunningPlatform, scheme: Any, ground: str
) -> None:
    page = open_context(color_scheme=scheme).new_page()
    open_dashboard(page, platform.url, "flights-operations")
    expect(page.locator(".canvas")).to_have_attribute("data-theme", scheme)
    expect(page.locator("article.w").first).to_have_css("background-color", ground)


def test_a_phone_shows_one_column_in_reading_order(
    open_context: Callable[..., BrowserContext], platform: RunningPlatform
) -> None:
    page = open_context(viewport={"width": 390, "height": 844}).new_page()
    open_dashboard(page, platform.url, "flights-operations")
    places = layout(page)
    assert {place["x"] for place in places.values()} == {0}
    order = sorted(places, key=lambda name: places[name]["y"])
    assert order[:2] == ["flights", "departure-delay"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_unknown_dashboard_says_so(page: Page, platform: RunningPlatform) -> None:
    page.goto(f"{platform.url}/dashboard?slug=not-there")
    expect(page.locator(".notice")).to_contain_text("There is no such dashboard")


def test_two_tabs_share_one_stream(
    open_context: Callable[..., BrowserContext], platform: RunningPlatform
) -> None:
    context = open_context()
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        open_dashboard(tab, platform.url, "flights-operations")
    workers = {tab.evaluate("typeof SharedWorker") for tab in tabs}
    assert workers == {"function"}
    # A stream of the page itself would be in its own list of requests; the worker's is not.
    for tab in tabs:
        names = tab.evaluate("performance.getEntriesByType('resource').map((e) => e.name)")
        assert not [name for name in names if name.endswith("/v1/live")]
