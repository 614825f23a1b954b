"""Scripts in every text that a person or a sender can enter, on every page, in a real browser.

The browser is told to ignore the Content-Security-Policy, so that a script which got into a page would run:
what is tested is that none gets in. In a workspace of its own, so that other tests see nothing of it.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from sluiceway.identity.keys import create_key
from sluiceway.identity.service import create_user
from sluiceway.infra.database import Role
from tests.support.attacks import SCRIPTS
from tests.support.browser import sign_in
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser

SCRIPT, IMAGE, SVG, FRAME, LINK, TEMPLATE = SCRIPTS
EMAIL, PASSWORD = "mallory@example.com", "a passphrase that nobody guesses 71"
SHORT = "<b data-xss>"
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

PIPELINE = {
    "kind": "Pipeline",
    "name": "attacked",
    "title": f"Title {IMAGE}",
    "description": f"Words {SCRIPT} {FRAME} {LINK}",
    "event": {"id": "id", "time": "at"},
    "fields": [
        {
            "name": "shop",
            "type": "string",
            "role": "dimension",
            "title": SVG,
            "description": f"{IMAGE} {TEMPLATE}",
        },
        {"name": "note", "type": "string", "title": FRAME[:80], "description": SCRIPT},
        {"name": "amount", "type": "number", "role": "measure", "unit": SHORT, "title": IMAGE},
        {"name": "must", "type": "integer", "required": True},
    ],
}
COUNT: dict[str, Any] = {"pipeline": "attacked", "measures": [{"agg": "sum", "field": "amount"}]}
DASHBOARD = {
    "kind": "Dashboard",
    "name": "attacked-board",
    "title": f"Board {IMAGE}",
    "description": f"About {SCRIPT} {LINK}",
    "time": {"last": "7d"},
    "widgets": [
        {
            "id": "stat", "type": "stat", "title": SVG, "description": IMAGE, "query": COUNT,
            "chart": {"unit": SHORT},
        },
        {
            "id": "line", "type": "line", "title": IMAGE,
            "query": {**COUNT, "dimensions": ["shop"], "grain": "1h"},
            "chart": {"series": "shop", "x_title": SVG, "y_title": IMAGE},
        },
        {"id": "bar", "type": "bar", "title": SCRIPT, "query": {**COUNT, "dimensions": ["shop"]}},
        {
            "id": "rows", "type": "table", "title": FRAME[:120],
            "query": {"pipeline": "attacked", "rows": ["shop", "note"]},
            "chart": {"columns": [{"name": "note", "title": IMAGE, "unit": SHORT}]},
        },
        {"id": "words", "type": "text", "title": LINK[:120], "text": "\n\n".join(["# Words", *SCRIPTS])},
    ],
}  # fmt: skip
SUITE = {
    "kind": "Suite",
    "name": "attacked-suite",
    "title": IMAGE,
    "description": SCRIPT,
    "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "shop"}}],
}


def events() -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    good = [
        {
            "id": f"{n} {text}",
            "at": now,
            "shop": text,
            "note": f"{text} {SCRIPTS[n - 1]}",
            "amount": n,
            "must": 1,
        }
        for n, text in enumerate(SCRIPTS)
    ]
    return [*good, {"id": f"dead {IMAGE}", "at": now, "shop": SCRIPT, "must": f"{IMAGE} {SVG}"}]


@pytest.fixture(scope="module")
def attacked(platform: RunningPlatform) -> RunningPlatform:
    """A workspace whose every text is an attack, entered as its people and senders would."""
    with platform.database.engine(Role.OWNER).begin() as connection:
        workspace_id = connection.exec_driver_sql(
            "INSERT INTO app.workspaces (organization_id, slug, name)"
            " VALUES (1, 'attacked', %(name)s) RETURNING id",
            {"name": f"Room {IMAGE}"},
        ).scalar_one()
    with platform.database.transaction(Role.APP, workspace_id=workspace_id) as connection:
        create_user(connection, EMAIL, f"Mallory {IMAGE}", PASSWORD, "owner", workspace_id)
        ingest = create_key(connection, workspace_id, f"Key {SVG}", ["ingest"])
        create_key(connection, workspace_id, LINK[:100], ["read"])
    headers = {"X-Sluiceway-Request": "1", "Origin": platform.url}
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
                return platform
            assert time.monotonic() < end, f"{rows} rows and {len(letters)} dead letters are there"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def window(browser: Browser, attacked: RunningPlatform) -> Iterator[BrowserContext]:
    """A browser window in which any script that gets into a page runs."""
    context = browser.new_context(bypass_csp=True, viewport={"width": 1366, "height": 1800})
    context.set_default_timeout(60_000)
    sign_in(context.new_page(), attacked.url, EMAIL, PASSWORD)
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


def test_a_script_that_gets_in_would_be_found(page: Page, attacked: RunningPlatform) -> None:
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
        ("/sign-out", EMAIL),
    ],
)
def test_no_page_runs_what_a_text_says(page: Page, attacked: RunningPlatform, path: str, part: str) -> None:
    page.goto(attacked.url + path)
    if path != "/sign-out":
        settle(page)
    shown(page, part)


def test_the_board_draws_texts_as_texts(page: Page, attacked: RunningPlatform) -> None:
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


def test_a_pipelines_page_shows_texts_as_texts(page: Page, attacked: RunningPlatform) -> None:
    page.goto(f"{attacked.url}/pipeline?slug=attacked")
    settle(page)
    shown(page, f"Words {SCRIPT}")
    for tab in page.get_by_role("tab").all():
        tab.click()
        settle(page)
        assert page.evaluate(FOUND) == []


def test_a_dead_letter_shows_texts_as_texts(page: Page, attacked: RunningPlatform) -> None:
    page.goto(f"{attacked.url}/dead-letters")
    settle(page)
    page.get_by_role("button", name="Payload").first.click()
    page.locator('[role="dialog"] textarea').wait_for()
    shown(page, "onerror")


def test_every_page_of_the_navigation(page: Page, attacked: RunningPlatform) -> None:
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
def test_no_address_puts_a_script_into_a_page(page: Page, attacked: RunningPlatform, payload: str) -> None:
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
