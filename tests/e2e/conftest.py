"""Fixtures of the browser tests: the running platform with real flights in it, and a signed-in browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from dashboards_app.canvas.build import build
from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from tests.support.browser import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.support.platform import RunningPlatform, flights, health, running_platform

TEST_KEY = "a key for tests only, long enough to pass"
expect.set_options(timeout=30_000)


class Chromium:
    """The browser of all tests here, started when it is first asked for. Close it."""

    def __init__(self) -> None:
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def browser(self) -> Browser:
        if self._browser is None:
            if not CHROMIUM.exists():
                pytest.skip(f"{CHROMIUM} is not installed: apt-get install chromium")
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(
                executable_path=str(CHROMIUM), args=CHROMIUM_ARGUMENTS
            )
        return self._browser

    def close(self) -> None:
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()
        self._browser = self._playwright = None


_CHROMIUM = Chromium()


@pytest.fixture(scope="session")
def platform(
    cluster: Any,
    gold_template: tuple[str, Path],
    secret_key: SecretKey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningPlatform]:
    """Web and loader with two days of flights and an hour of health reports, loaded by the loader."""
    build()
    url = cluster.create(gold_template[0])
    database = Database(url, secret_key)
    try:
        with running_platform(database, url, TEST_KEY, tmp_path_factory.mktemp("platform")) as running:
            departures, reports = flights(2), health(60)
            running.send("nyc-flights", departures)
            running.send("platform-health", reports)
            running.wait_for_rows("nyc-flights", len(departures))
            running.wait_for_rows("platform-health", len(reports))
            yield running
    finally:
        database.dispose()
        cluster.drop(url)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """While a browser is open this thread counts as inside an event loop, and tests of other folders that
    start one would fail: it does not outlive the tests here."""
    yield
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        _CHROMIUM.close()


@pytest.fixture(scope="module")
def browser() -> Browser:
    """One for all modules; what they share of it is closed with each."""
    return _CHROMIUM.browser()


@pytest.fixture(scope="module")
def session_state(platform: RunningPlatform) -> Any:
    """The cookies of someone who has signed in: by the API, the form has tests of its own."""
    answer = httpx.post(
        f"{platform.url}/v1/session",
        json={"email": platform.email, "password": platform.password},
        headers={"X-Sluiceway-Request": "1", "Origin": platform.url},
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
    return {
        "origins": [],
        "cookies": [
            {
                "name": cookie.name, "value": cookie.value, "domain": "127.0.0.1", "path": cookie.path,
                "expires": cookie.expires or -1, "httpOnly": True, "secure": False, "sameSite": "Lax",
            }
            for cookie in answer.cookies.jar
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def window(browser: Browser, session_state: Any) -> Iterator[BrowserContext]:
    """A signed-in window of a laptop's size: a module's pages fetch the app's scripts once."""
    context = browser.new_context(storage_state=session_state, viewport={"width": 1366, "height": 900})
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def open_context(browser: Browser, session_state: Any) -> Iterator[Callable[..., BrowserContext]]:
    """Makes signed-in browser windows that share nothing; all are closed at the end."""
    made: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        options.setdefault("viewport", {"width": 1366, "height": 900})
        made.append(browser.new_context(storage_state=session_state, **options))
        made[-1].set_default_timeout(20_000)
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    """A signed-in page in the module's window."""
    found = window.new_page()
    yield found
    found.close()
