"""`python -m tests.support.screenshots`: pictures of a running platform for the documentation.

Signs in to `--url` and writes one PNG a picture into `--into`. The same pictures are taken by the tests, so
what the documentation shows is what runs.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.browser import CHROMIUM, CHROMIUM_ARGUMENTS, sign_in, wait_until_drawn
from tests.support.crew import fill

ROOT = Path(__file__).parents[2]
SETTLE_MS = 900


@dataclass(frozen=True)
class Picture:
    """One page in one window.

    `open_card`: the widget whose provenance card is shown; `press`: buttons, by name, that lead to a dialog.
    """

    name: str
    path: str
    width: int = 1440
    height: int = 1000
    scheme: Literal["light", "dark"] = "light"
    open_card: str | None = None
    press: tuple[str, ...] = ()
    signed_in: bool = True


PICTURES = (
    Picture("flights-operations-light", "/dashboard?slug=flights-operations", height=1130),
    Picture("flights-operations-dark", "/dashboard?slug=flights-operations", height=1130, scheme="dark"),
    Picture("flights-operations-phone", "/dashboard?slug=flights-operations", width=390, height=844),
    Picture("provenance", "/dashboard?slug=flights-operations", height=760, open_card="departures"),
    Picture("platform-health", "/dashboard?slug=platform-health", height=1080, scheme="dark"),
    Picture("pipelines", "/pipelines", height=620),
    Picture("dashboards", "/", height=600),
    Picture("health", "/health", height=900),
)
# Of a workspace that `tests.support.crew` has filled.
ADMINISTRATION = (
    Picture("members", "/members", height=600),
    Picture("member-removed", "/members", height=760, press=("More", "Remove from workspace")),
    Picture("teams", "/members?view=teams", height=600),
    Picture("roles", "/members?view=roles", height=900),
    Picture("sessions", "/members?view=sessions", height=760),
    Picture("access-rules", "/rules", height=600),
    Picture("keys", "/keys", height=600),
    Picture("audit", "/audit", height=820),
    Picture("usage", "/usage", height=780),
    Picture("single-sign-on", "/settings?view=sign-in", height=760),
    Picture("account", "/account", height=1100),
    Picture("sign-in", "/sign-in", height=860, signed_in=False),
)


def take(
    browser: Browser, url: str, email: str, password: str, into: Path, pictures: Sequence[Picture] = PICTURES
) -> list[Path]:
    """Every picture as a file; returns their paths."""
    into.mkdir(parents=True, exist_ok=True)
    context = browser.new_context()
    sign_in(context.new_page(), url, email, password)
    state = context.storage_state()
    context.close()
    found = []
    for picture in pictures:
        window = browser.new_context(
            storage_state=state if picture.signed_in else None,
            viewport={"width": picture.width, "height": picture.height},
            color_scheme=picture.scheme,
        )
        page = window.new_page()
        page.set_default_timeout(60_000)
        page.goto(url + picture.path)
        _wait(page, picture)
        found.append(into / f"{picture.name}.png")
        page.screenshot(path=found[-1])
        window.close()
    return found


def _wait(page: Page, picture: Picture) -> None:
    if "slug=" in picture.path:
        page.locator(".live[data-state=live]").wait_for()
        wait_until_drawn(page)
    elif page.locator("#root").count():  # the app's; the others are there as soon as they are loaded
        page.locator(".sw-heading h1").wait_for()
        _quiet(page)
    for name in picture.press:
        page.get_by_text(name, exact=True).last.click()
        page.wait_for_timeout(SETTLE_MS)
        _quiet(page)
    if picture.open_card:
        page.locator(f'[data-widget="{picture.open_card}"] .w-foot').click()
        page.locator(".prov").wait_for()
    page.wait_for_timeout(SETTLE_MS)


def _quiet(page: Page) -> None:
    """Until the app's script is through, and no part of the page waits for its own."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--email", required=True)
    parser.add_argument("--password", help="default: read from standard input")
    parser.add_argument(
        "--fill",
        action="store_true",
        help="put people, keys and rules into the workspace first, and show them",
    )
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "screenshots")
    arguments = parser.parse_args()
    password = arguments.password or sys.stdin.readline().rstrip("\n")
    pictures: tuple[Picture, ...] = PICTURES
    if arguments.fill:
        fill(arguments.url, arguments.email, password)
        pictures += ADMINISTRATION
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_ARGUMENTS)
        for path in take(browser, arguments.url, arguments.email, password, arguments.into, pictures):
            print(path)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
