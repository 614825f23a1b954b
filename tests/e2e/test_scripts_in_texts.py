"""Scripts in every text that a person or a sender can enter, on every page, in a real browser.

The browser is told to ignore the Content-Security-Policy, so that a script which got into a page would run:
what is tested is that none gets in. In a workspace of its own, so that other tests see nothing of it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import orjson
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from sluiceway.identity.keys import create_key
from sluiceway.identity.service import create_user
from sluiceway.infra.database import Role
from tests.support.attacked_texts import (
    BROWSER,
    DASHBOARD,
    IMAGE,
    LINK,
    NAMED,
    PIPELINE,
    RULE,
    SCRIPT,
    SHORT,
    SVG,
    events,
)
from tests.support.attacks import SCRIPTS
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser

EMAIL, PASSWORD = "mallory@example.com", "a passphrase that nobody guesses 71"
FOUND = """() => {
  const found = window.xss ? ["a script ran"] : [];
  const look = (root) => root.querySelectorAll("*").forEach((element) => {
    if (element.hasAttribute("data-xss")) found.push(element.outerHTML.slice(0, 200));
    if (element.tagName === "SCRIPT" && element.text.includes("window.xss")) found.push(element.text);
    for (const { name, value } of element.attributes) {
      if (name.startsWith("on") && value.includes("xss")) found.push(`${name}=${value}`);
      if (/^\\s*javascript:/i.test(value)) found.push(`${name}=${value}`);
    }
    if (element.shadowRoot) look(element.shadowRoot);
  });
  look(document);
  return found;
}"""
TEXTS = """() => {
  const texts = [];
  const look = (root) => {
    texts.push(root.textContent ?? "", root.body?.innerText ?? "");
    root.querySelectorAll("*").forEach((element) => element.shadowRoot && look(element.shadowRoot));
    root.querySelectorAll("input, textarea").forEach((element) => texts.push(element.value));
  };
  look(document);
  return texts.join(" ");
}"""


@dataclass(frozen=True)
class Attacked:
    """Where it is, what was handed out (a link and an invitation), and its owner's session."""

    url: str
    handed_out: dict[str, str]
    cookies: dict[str, str]


@pytest.fixture(scope="module")
def attacked(platform: RunningPlatform) -> Iterator[Attacked]:
    """A workspace whose every text is an attack, entered as its people and senders would."""
    with platform.database.engine(Role.OWNER).begin() as connection:
        organization_id = connection.exec_driver_sql(
            "INSERT INTO app.organizations (slug, name) VALUES ('attacked', %(name)s) RETURNING id",
            {"name": f"House {IMAGE}"},
        ).scalar_one()
        workspace_id = connection.exec_driver_sql(
            "INSERT INTO app.workspaces (organization_id, slug, name)"
            " VALUES (%(organization)s, 'attacked', %(name)s) RETURNING id",
            {"organization": organization_id, "name": f"Room {IMAGE}"},
        ).scalar_one()
    with platform.database.transaction(Role.APP, workspace_id=workspace_id) as connection:
        create_user(connection, EMAIL, f"Mallory {IMAGE}", PASSWORD, "owner", workspace_id)
        ingest = create_key(connection, workspace_id, f"Key {SVG}", ["ingest"])
        create_key(connection, workspace_id, LINK[:100], ["read"])
    headers = {"X-Sluiceway-Request": "1", "Origin": platform.url, "User-Agent": BROWSER}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=60) as client:
        answer = client.post("/v1/session", json={"email": EMAIL, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        for path, document in (
            ("/v1/pipelines/attacked", PIPELINE),
            ("/v1/dashboards/attacked-board", DASHBOARD),
        ):
            content = orjson.dumps(document)
            answer = client.put(path, content=content, headers={"Content-Type": "application/yaml"})
            assert answer.is_success, f"{path}: {answer.text}"
        cookies = dict(client.cookies)
        addresses = _administer(platform, client, organization_id)
        sent = client.post(
            "/v1/pipelines/attacked/events",
            content=b"\n".join(orjson.dumps(event) for event in events()),
            headers={"Authorization": f"Bearer {ingest}", "Content-Type": "application/x-ndjson"},
        )
        assert sent.status_code == 202, sent.text
        end = time.monotonic() + 60
        while True:
            letters = client.get("/v1/dead-letters").json()["items"]
            rows = client.post("/v1/query", json={"pipeline": "attacked", "rows": ["note"]}).json()[
                "row_count"
            ]
            if letters and rows == len(SCRIPTS):
                break
            assert time.monotonic() < end, f"{rows} rows and {len(letters)} dead letters are there"
            time.sleep(0.1)
    yield Attacked(platform.url, addresses, cookies)
    with platform.database.engine(Role.OWNER).begin() as connection:
        connection.exec_driver_sql(  # it stands on the one page for signing in
            "DELETE FROM app.identity_providers WHERE organization_id = %(o)s", {"o": organization_id}
        )


def _administer(platform: RunningPlatform, client: httpx.Client, organization_id: int) -> dict[str, str]:
    """What owners and administrators name; returns where a link and an invitation lead."""
    with platform.database.engine(Role.OWNER).begin() as connection:
        values = {
            "o": organization_id,
            "email": EMAIL,
            "door": f"Door {IMAGE}",
            "passkey": f"Passkey {IMAGE}",
        }
        connection.exec_driver_sql(
            "INSERT INTO app.passkeys (id, user_id, credential_id, public_key, sign_count, synced, name)"
            " SELECT gen_random_uuid(), id, 'x', 'y', 0, false, %(passkey)s"
            " FROM app.users WHERE email = %(email)s",
            values,
        )
        connection.exec_driver_sql(
            "INSERT INTO app.identity_providers"
            " (id, organization_id, name, issuer, client_id, scopes, groups_claim)"
            " VALUES (gen_random_uuid(), %(o)s, %(door)s, 'https://sso.example.com', %(door)s, '{openid}',"
            " 'g')",
            values,
        )
    rule = orjson.dumps(RULE)
    answer = client.put("/v1/rules/attacked-rule", content=rule, headers={"Content-Type": "application/yaml"})
    assert answer.is_success, answer.text
    made = {}
    for path, body in NAMED:
        answer = client.post(path, json=body)
        assert answer.is_success, f"{path}: {answer.text}"
        made[path] = answer.json()
    role = made["/v1/roles"]["slug"]
    invited = client.post("/v1/invitations", json={"email": "guest@example.com", "role": role})
    assert invited.is_success, invited.text
    return {"invitation": invited.json()["link"], "link": made[NAMED[-1][0]]["url"]}


@pytest.fixture(scope="module")
def window(browser: Browser, attacked: Attacked) -> Iterator[BrowserContext]:
    """A browser window in which any script that gets into a page runs."""
    context = browser.new_context(bypass_csp=True, viewport={"width": 1366, "height": 1800})
    context.set_default_timeout(60_000)
    context.add_cookies(
        [{"name": name, "value": value, "url": attacked.url} for name, value in attacked.cookies.items()]
    )
    yield context
    context.close()


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    found = window.new_page()
    asked: list[str] = []
    found.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    yield found
    assert asked == []
    found.close()


def settle(page: Page) -> None:
    """Until the app's script is through."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()


def shown(page: Page, part: str) -> None:
    """The attack's text is on the page, and nothing but text."""
    page.wait_for_function(f"(part) => ({TEXTS})().includes(part)", arg=part)
    assert page.evaluate(FOUND) == []


def test_a_script_that_gets_in_would_be_found(page: Page, attacked: Attacked) -> None:
    """The control: without it, nothing found would mean nothing."""
    page.goto(f"{attacked.url}/sign-out")
    page.evaluate("(html) => { document.body.innerHTML = html; }", IMAGE)
    page.wait_for_function("() => window.xss === 1")
    found = page.evaluate(FOUND)
    assert "a script ran" in found and len(found) == 3


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/", f"Board {IMAGE}"),
        ("/pipelines", f"Title {IMAGE}"),
        ("/dead-letters", "attacked"),
        ("/keys", f"Key {SVG}"),
        ("/keys?view=accounts", f"Account {IMAGE}"),
        ("/members", f"Mallory {IMAGE}"),
        ("/members?view=invitations", "guest@example.com"),
        ("/members?view=teams", f"Team {IMAGE}"),
        ("/members?view=roles", f"Role {IMAGE}"),
        ("/members?view=sessions", EMAIL),
        ("/rules", IMAGE),
        ("/audit", IMAGE),
        ("/settings", "attacked"),
        ("/settings?view=sign-in", f"Door {IMAGE}"),
        ("/settings?view=organization", f"House {IMAGE}"),
        ("/account", f"Passkey {IMAGE}"),
        ("/account/preferences", f"Room {IMAGE}"),
        ("/account/data", "Delete the account"),
        ("/sign-out", EMAIL),
    ],
)
def test_no_page_runs_what_a_text_says(page: Page, attacked: Attacked, path: str, part: str) -> None:
    page.goto(attacked.url + path)
    if page.locator("#root").count():  # the app's; one's own account is a page of forms
        settle(page)
    shown(page, part)


def test_no_page_for_strangers_runs_what_a_text_says(page: Page, attacked: Attacked) -> None:
    """What links and mails lead to, and the page for signing in."""
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(60_000)
    for path, part in (
        ("/sign-in", f"Door {IMAGE}"),
        (attacked.handed_out["invitation"], f"Room {IMAGE}"),
        (attacked.handed_out["invitation"], f"Mallory {IMAGE}"),
        (attacked.handed_out["link"], f"Board {IMAGE}"),
    ):
        visit = context.new_page()
        visit.goto(attacked.url + "/" + path.split("/", 3)[3] if "://" in path else attacked.url + path)
        shown(visit, part)
        visit.close()
    context.close()


def test_no_dialog_runs_what_a_text_says(page: Page, attacked: Attacked) -> None:
    """What the rows' first buttons open, on the pages where administrators name things."""
    for path in ("/members?view=teams", "/members?view=roles", "/keys?view=accounts"):
        for number in range(2):
            page.goto(attacked.url + path)
            page.locator("[class*='st-key-key-'] button").nth(number).click()
            page.locator('[role="dialog"]').wait_for()
            settle(page)
            assert page.evaluate(FOUND) == [], f"{path}, button {number}"


def test_the_board_draws_texts_as_texts(page: Page, attacked: Attacked) -> None:
    page.goto(f"{attacked.url}/dashboard?slug=attacked-board")
    page.locator("article.w:not([aria-busy]) .w-foot:not(.waiting)").first.wait_for()
    for part in (f"Board {IMAGE}", SVG, SCRIPT, IMAGE, SHORT):
        shown(page, part)
    for chart in page.locator("article.w").all():
        chart.hover()
        assert page.evaluate(FOUND) == []
    settle(page)
    page.get_by_role("button", name="YAML").click()
    page.locator('[role="dialog"]').wait_for()
    shown(page, "kind")


def test_a_pipelines_page_shows_texts_as_texts(page: Page, attacked: Attacked) -> None:
    page.goto(f"{attacked.url}/pipeline?slug=attacked")
    settle(page)
    shown(page, f"Words {SCRIPT}")
    for tab in page.get_by_role("tab").all():
        tab.click()
        settle(page)
        assert page.evaluate(FOUND) == []


def test_a_dead_letter_shows_texts_as_texts(page: Page, attacked: Attacked) -> None:
    page.goto(f"{attacked.url}/dead-letters")
    settle(page)
    page.get_by_role("button", name="Payload").first.click()
    page.locator('[role="dialog"] textarea').wait_for()
    shown(page, "onerror")


def test_every_page_of_the_navigation(page: Page, attacked: Attacked) -> None:
    """Whatever pages there are: a new one is looked at as well."""
    page.goto(attacked.url)
    settle(page)
    links = page.locator('[data-testid="stSidebar"] a[href]')
    # What is drawn last: the pages for whoever may administer.
    page.locator(".st-key-nav a", has_text="Settings").wait_for(timeout=60_000)
    addresses = {link.get_attribute("href") or "" for link in links.all()}
    inner = sorted(a for a in addresses if "sign-out" not in a)
    assert len(inner) >= 5
    for address in inner:
        page.goto(address if address.startswith("http") else f"{attacked.url}/{address.lstrip('/')}")
        if page.locator("#root").count():  # the app's; one's own account is a page of forms
            settle(page)
        assert page.evaluate(FOUND) == [], address


@pytest.mark.parametrize("payload", [SCRIPT, IMAGE])
def test_no_address_puts_a_script_into_a_page(page: Page, attacked: Attacked, payload: str) -> None:
    """What stands in the address, signed in or not."""
    from urllib.parse import quote

    attack = quote(payload, safe="")
    for path in (
        f"/sign-in?next=/{attack}",
        f"/dashboard?slug={attack}",
        f"/pipeline?slug={attack}",
        f"/docs/{attack}",
    ):
        page.goto(attacked.url + path)
        assert page.evaluate(FOUND) == [], path
    stranger = page.context.browser
    assert stranger is not None
    context = stranger.new_context(bypass_csp=True)
    visit = context.new_page()
    for path in (f"/{attack}", f"/sign-in?next=/{attack}", f"/sign-in/{attack}", f"/link/{attack}"):
        visit.goto(attacked.url + path)
        assert visit.evaluate(FOUND) == [], path
    context.close()
