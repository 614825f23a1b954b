"""Fixtures of the browser tests: the running platform with real flights in it, and a signed-in browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dashboards_app.canvas.build import build
from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from tests.support.browser import CHROMIUM, CHROMIUM_ARGUMENTS, sign_in
from tests.support.platform import RunningPlatform, flights, health, running_platform

TEST_KEY = "a key for tests only, long enough to pass"
expect.set_options(timeout=30_000)


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A module's browser. While it is open this thread counts as inside an event loop, and tests of other
    folders that start one would fail: it must not outlive the module."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def session_state(browser: Browser, platform: RunningPlatform) -> Any:
    """The cookies of someone who signed in once."""
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, platform.url, platform.email, platform.password)
    state = context.storage_state()
    context.close()
    return state


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
def page(open_context: Callable[..., BrowserContext]) -> Page:
    """A signed-in page of a laptop's size."""
    return open_context().new_page()
