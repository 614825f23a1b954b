"""A real browser for tests and screenshots: how it is started, how one signs in, what a canvas shows."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

_ROOT = """
  const host = [...document.querySelectorAll('*')].find((e) => e.shadowRoot?.querySelector('.grid-stack'));
  const root = host?.shadowRoot;
"""
_LAYOUT = f"""() => {{ {_ROOT}
  return Object.fromEntries([...root.querySelectorAll('.grid-stack-item')].map((item) => {{
    const {{ id, x, y, w, h }} = item.gridstackNode;
    return [id, {{ x, y, w, h }}];
  }}));
}}"""
_DRAWN = f"""() => {{ {_ROOT}
  const waiting = [...(root?.querySelectorAll('article.w[aria-busy]') ?? [])];
  return root && waiting.every((w) => w.getBoundingClientRect().top > innerHeight);
}}"""


def sign_in(page: Page, url: str, email: str, password: str) -> None:
    """Through the form, as a person does; ends on the page that asked for it."""
    page.goto(f"{url}/sign-in")
    page.locator("input[name=email]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url(lambda address: "/sign-in" not in address)


def open_dashboard(page: Page, url: str, slug: str, query: str = "") -> None:
    """Open the dashboard and wait until its first widget with data has drawn and changes arrive live."""
    page.goto(f"{url}/dashboard?slug={slug}{query}")
    page.locator(".live[data-state=live]").wait_for()
    page.locator("article.w:not([aria-busy]) .w-foot:not(.waiting)").first.wait_for()


def wait_until_drawn(page: Page) -> None:
    """Until no widget in sight waits for its first answer."""
    page.wait_for_function(_DRAWN)


def layout(page: Page) -> dict[str, dict[str, Any]]:
    """Where every widget is on the board."""
    found: dict[str, dict[str, Any]] = page.evaluate(_LAYOUT)
    return found
