"""Administration in a real browser: people, roles, rules, keys, the audit log, usage, settings."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from sluiceway.identity import service
from sluiceway.identity.keys import create_key
from sluiceway.infra.database import Role
from tests.support.browser import sign_in
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser

PAGES = {
    "members": "Members",
    "rules": "Access rules",
    "keys": "API keys",
    "audit": "Audit log",
    "usage": "Usage",
    "settings": "Settings",
}
VIEWS = {
    "members": {"Invitations": "invitations", "Teams": "teams", "Roles": "roles", "Sessions": "sessions"},
    "keys": {"Service accounts": "accounts"},
    "settings": {"Sign-in": "sign-in", "Organization": "organization"},
}
RULE = """\
kind: Rule
name: laguardia
pipeline: nyc-flights
roles: ["key:provision"]
rows: origin = 'LGA'
"""


@pytest.fixture
def tab(open_context: Callable[..., BrowserContext], platform: RunningPlatform) -> Iterator[Page]:
    """A page that must not show a traceback, nor a problem that the test did not look at."""
    found = open_context().new_page()
    yield found
    expect(found.locator('[data-testid="stException"]')).to_have_count(0)


@pytest.fixture
def fresh_tab(browser: Browser, platform: RunningPlatform) -> Iterator[Page]:
    """The same of somebody who signed in just now: nothing asks them to confirm who they are."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    found = context.new_page()
    sign_in(found, platform.url, platform.email, platform.password)
    yield found
    expect(found.locator('[data-testid="stException"]')).to_have_count(0)
    context.close()


def go(page: Page, platform: RunningPlatform, name: str, view: str = "") -> None:
    page.goto(f"{platform.url}/{name}" + (f"?view={view}" if view else ""))
    expect(page.locator(".sw-heading h1")).to_have_text(PAGES[name], timeout=60_000)


def dialog(page: Page) -> Locator:
    return page.locator('[role="dialog"]')


def fits(page: Page, name: str) -> None:
    expect(page.locator('[data-testid="stException"], .sw-problem')).to_have_count(0)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} is {wide} px too wide"


@pytest.mark.parametrize(("width", "height", "scheme"), [(390, 844, "dark"), (1440, 900, "light")])
def test_every_page_fits_the_window(
    open_context: Callable[..., BrowserContext],
    platform: RunningPlatform,
    width: int,
    height: int,
    scheme: str,
) -> None:
    page = open_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    for name in PAGES:
        go(page, platform, name)
        fits(page, name)
        for title, view in VIEWS.get(name, {}).items():
            page.get_by_test_id("stMain").get_by_role("radio", name=title).click()
            page.wait_for_url(f"**/{name}?view={view}")
            fits(page, f"{name}, {view}")


def test_somebody_is_invited_and_the_invitation_taken_back(tab: Page, platform: RunningPlatform) -> None:
    go(tab, platform, "members")
    expect(tab.locator(".sw-key").first).to_contain_text(platform.email)
    tab.get_by_role("button", name="Invite").click()
    dialog(tab).get_by_label("E-mail address").fill("grace@example.com")
    dialog(tab).get_by_role("button", name="Invite").click()
    expect(dialog(tab).locator("code")).to_contain_text("/invitation/")
    dialog(tab).get_by_role("button", name="Done").click()
    go(tab, platform, "members", "invitations")
    row = tab.locator("[class*='st-key-key-invitation-']", has_text="grace@example.com")
    expect(row).to_contain_text("Waiting")
    row.get_by_role("button", name="Take back").click()
    dialog(tab).get_by_role("button", name="Take back").click()
    expect(row).to_contain_text("Taken back")


def test_a_role_and_a_team_are_made_and_given(tab: Page, platform: RunningPlatform) -> None:
    with platform.database.transaction(Role.APP, workspace_id=1) as conn:
        service.create_user(conn, "linus@example.com", "Linus", "violet otter climbs quietly", "viewer", 1)
    go(tab, platform, "members", "roles")
    expect(tab.get_by_text("No roles of your own yet")).to_be_visible()
    tab.get_by_role("button", name="New role").click()
    dialog(tab).get_by_role("textbox", name="Name").fill("Support")
    dialog(tab).locator("input[role=combobox]").fill("dead_letter:read")
    dialog(tab).locator("input[role=combobox]").press("Enter")
    dialog(tab).locator("input[role=combobox]").press("Escape")
    dialog(tab).get_by_role("button", name="Save").click()
    expect(tab.locator(".st-key-key-role-support")).to_contain_text("1 permission ")
    go(tab, platform, "members", "teams")
    tab.get_by_role("button", name="New team").click()
    dialog(tab).get_by_role("textbox", name="Name").fill("EMEA")
    dialog(tab).get_by_role("textbox", name="Attributes it gives").fill("region: emea, uk")
    dialog(tab).get_by_role("button", name="Save").click()
    expect(tab.locator(".st-key-key-team-emea")).to_contain_text("region = emea, uk")
    go(tab, platform, "members")
    row = tab.locator("[class*='st-key-key-member-']", has_text="linus@example.com")
    row.get_by_role("button", name="Change").click()
    dialog(tab).get_by_role("textbox", name="Attributes").fill("desk: 7")
    dialog(tab).get_by_role("button", name="Save").click()
    expect(row).to_contain_text("desk = 7")


def test_a_key_is_made_and_rotated(tab: Page, platform: RunningPlatform) -> None:
    go(tab, platform, "keys")
    tab.get_by_role("button", name="New key").click()
    dialog(tab).get_by_role("textbox", name="Name").fill("thermometer")
    dialog(tab).get_by_role("button", name="Make key").click()
    first = dialog(tab).locator("code").inner_text()
    dialog(tab).get_by_role("button", name="Done").click()
    row = tab.locator("[class*='st-key-key-']", has_text="thermometer")
    row.get_by_role("button", name="Rotate").click()
    dialog(tab).get_by_role("button", name="Rotate").click()
    expect(dialog(tab).locator("code")).to_contain_text("slw_")
    assert dialog(tab).locator("code").inner_text() != first
    dialog(tab).get_by_role("button", name="Done").click()
    expect(row).to_contain_text("the secret before works until")
    row.get_by_role("button", name="Rotation").click()
    tab.get_by_text("End the old secret", exact=True).last.click()
    dialog(tab).get_by_role("button", name="End it").click()
    expect(row.get_by_role("button", name="Rotate")).to_be_visible()
    expect(row).not_to_contain_text("the secret before works until")


def test_a_rule_is_applied_and_deleted(tab: Page, platform: RunningPlatform) -> None:
    go(tab, platform, "rules")
    expect(tab.get_by_text("No rules yet")).to_be_visible()
    tab.get_by_role("button", name="New rule").click()
    dialog(tab).get_by_role("textbox", name="YAML").fill(RULE)
    dialog(tab).get_by_role("textbox", name="YAML").press("Control+Enter")
    dialog(tab).get_by_role("button", name="Apply").click()
    row = tab.locator(".st-key-key-rule-laguardia")
    expect(row).to_contain_text("origin = 'LGA'")
    row.get_by_role("button", name="Delete").click()
    dialog(tab).get_by_role("button", name="Delete").click()
    expect(tab.get_by_text("No rules yet")).to_be_visible()


def test_limits_are_set_and_what_was_done_is_in_the_audit_log(tab: Page, platform: RunningPlatform) -> None:
    go(tab, platform, "usage")
    expect(tab.locator(".sw-usage section")).to_have_count(4)
    tab.get_by_role("button", name="Limits").click()
    dialog(tab).get_by_label("Seats: soft").fill("400")
    dialog(tab).get_by_label("Stored (GB): hard").fill("2.5")
    dialog(tab).get_by_role("button", name="Save").click()
    expect(dialog(tab)).to_have_count(0)
    expect(tab.locator(".sw-usage section").nth(2)).to_contain_text("of 2.5 GB")
    go(tab, platform, "audit")
    told = tab.locator("details").filter(has_text="quota.changed").first
    expect(told).to_contain_text(platform.email)
    told.locator("summary").click()
    expect(told.locator("ins").filter(has_text='"hard": 2500000000')).to_have_count(1)
    expect(told.locator("small")).to_contain_text("Chrome")
    tab.get_by_role("button", name="Check the chain").click()
    expect(dialog(tab)).to_contain_text("Intact")


def test_settings_show_what_may_be_changed(tab: Page, platform: RunningPlatform) -> None:
    go(tab, platform, "settings")
    expect(tab.get_by_role("textbox", name="Name")).to_have_value("Main")
    go(tab, platform, "settings", "sign-in")
    expect(tab.get_by_text("No identity providers yet")).to_be_visible()
    go(tab, platform, "settings", "organization")
    expect(tab.locator(".sw-table").first).to_contain_text("main")


def test_a_member_is_removed_and_what_was_theirs_changes_hands(
    fresh_tab: Page, platform: RunningPlatform
) -> None:
    with platform.database.transaction(Role.APP, workspace_id=1) as conn:
        rosa = service.add_person(conn, "rosa@example.com", "Rosa", None)
        service.add_member(conn, 1, rosa.id, "editor")
        text = create_key(conn, 1, "rosa's script", ["read"], created_by=rosa.id)
    asked = {"Authorization": f"Bearer {text}"}
    assert httpx.get(f"{platform.url}/v1/dashboards", headers=asked).status_code == 200
    go(fresh_tab, platform, "members")
    row = fresh_tab.locator("[class*='st-key-key-member-']", has_text="rosa@example.com")
    row.get_by_role("button", name="More").click()
    fresh_tab.get_by_text("Remove from workspace").click()
    expect(dialog(fresh_tab).locator(".sw-facts")).to_contain_text("Keys1")
    expect(dialog(fresh_tab)).to_contain_text("Their account stays")
    dialog(fresh_tab).get_by_text("Are refused at once").click()
    dialog(fresh_tab).get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    end = time.monotonic() + 30
    while httpx.get(f"{platform.url}/v1/dashboards", headers=asked).status_code != 401:
        assert time.monotonic() < end, "the key still works"
        time.sleep(0.1)


def test_all_sessions_of_somebody_are_ended_at_once(fresh_tab: Page, platform: RunningPlatform) -> None:
    password = "violet otter climbs quietly"
    with platform.database.transaction(Role.APP, workspace_id=1) as conn:
        service.create_user(conn, "sally@example.com", "Sally", password, "viewer", 1)
    headers = {"X-Sluiceway-Request": "1", "Origin": platform.url}
    clients = [httpx.Client(base_url=platform.url, headers=headers) for _ in range(2)]
    try:
        for client in clients:
            body = {"email": "sally@example.com", "password": password}
            assert client.post("/v1/session", json=body, timeout=30).status_code == 201
        go(fresh_tab, platform, "members", "sessions")
        fresh_tab.get_by_role("textbox", name="Search").fill("sally@")
        fresh_tab.get_by_role("textbox", name="Search").press("Enter")
        rows = fresh_tab.locator("[class*='st-key-key-session-']")
        expect(rows).to_have_count(2)
        fresh_tab.get_by_role("button", name="End all 2").click()
        dialog(fresh_tab).get_by_role("button", name="End 2 sessions").click()
        expect(fresh_tab.get_by_text("Nobody found")).to_be_visible()
        assert [client.get("/v1/session").status_code for client in clients] == [401, 401]
    finally:
        for client in clients:
            client.close()


def test_an_identity_provider_is_added_changed_and_removed(
    fresh_tab: Page, platform: RunningPlatform
) -> None:
    go(fresh_tab, platform, "settings", "sign-in")
    fresh_tab.get_by_role("button", name="Add a provider").click()
    fields = {"Name": "Login", "Issuer": "https://login.example.com", "Client id": "sluiceway"}
    for label, value in fields.items():
        dialog(fresh_tab).get_by_role("textbox", name=label, exact=True).fill(value)
    dialog(fresh_tab).get_by_role("button", name="Save").click()
    row = fresh_tab.locator("[class*='st-key-key-provider-']", has_text="login.example.com")
    row.get_by_role("button", name="Change").click()
    dialog(fresh_tab).get_by_role("textbox", name="What groups become here").fill("data-team: nowhere/editor")
    dialog(fresh_tab).get_by_role("button", name="Save").click()
    expect(dialog(fresh_tab).locator(".sw-problem")).to_contain_text("A group is not placed")
    dialog(fresh_tab).get_by_role("textbox", name="What groups become here").fill("data-team: main/editor")
    dialog(fresh_tab).get_by_text("On the sign-in page").click()
    dialog(fresh_tab).get_by_role("button", name="Save").click()
    expect(row).to_contain_text("1 group")
    expect(row).to_contain_text("off")
    row.get_by_role("button", name="Remove").click()
    dialog(fresh_tab).get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)


def test_a_viewer_is_offered_what_they_may_see(browser: Browser, platform: RunningPlatform) -> None:
    password = "violet otter climbs quietly"
    with platform.database.transaction(Role.APP, workspace_id=1) as conn:
        service.create_user(conn, "vera@example.com", "Vera", password, "viewer", 1)
    context = browser.new_context()
    try:
        page = context.new_page()
        sign_in(page, platform.url, "vera@example.com", password)
        links = page.locator(".st-key-nav a")
        expect(links.filter(has_text="Settings")).to_have_count(1, timeout=60_000)
        for name in ("Members", "Access rules", "API keys", "Audit log", "Usage"):
            expect(links.filter(has_text=name)).to_have_count(0)
        page.goto(f"{platform.url}/audit")
        expect(page.get_by_text("You may not see this")).to_be_visible()
    finally:
        context.close()


def test_a_dashboard_is_shared_by_a_link_and_no_more(
    tab: Page, browser: Browser, platform: RunningPlatform
) -> None:
    tab.goto(f"{platform.url}/dashboard?slug=flights-operations")
    tab.get_by_role("button", name="Share").click(timeout=60_000)
    dialog(tab).get_by_role("textbox", name="Name").fill("board on the wall")
    dialog(tab).get_by_role("button", name="Make link").click()
    url = dialog(tab).locator("code").inner_text().strip()
    dialog(tab).get_by_role("button", name="Done").click()
    context = browser.new_context()
    try:
        stranger = context.new_page()
        stranger.goto(url)
        expect(stranger.locator(".live[data-state=live]")).to_be_visible(timeout=60_000)
        row = dialog(tab).locator("[class*='st-key-key-link-']", has_text="board on the wall")
        row.get_by_role("button", name="Revoke").click()
        expect(row).to_have_count(0)
        assert stranger.goto(url).status == 404  # type: ignore[union-attr]
    finally:
        context.close()
