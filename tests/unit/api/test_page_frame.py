"""The one frame of the pages that the API serves itself."""

import pytest

from api.pages import reference, shell
from tests.support.attacks import SCRIPTS

DOCUMENT = {"tags": [], "info": {"description": "Words."}, "paths": {}, "components": {"schemas": {}}}
PAGES = {
    "split": lambda text: shell.page(text, "<h1>Content</h1>"),
    "account": lambda text: shell.account(text, "<h1>Content</h1>", text, here="/account/data", theme="dark"),
    "linked": lambda text: shell.linked(text, text, text, "/assets/canvas/link.js"),
    "reference": lambda text: reference.render(DOCUMENT),
}


@pytest.mark.parametrize("kind", PAGES)
def test_every_page_has_the_same_head(kind: str) -> None:
    page = PAGES[kind]("Words")
    head, _, body = page.partition("<body")
    assert body.startswith(f' class="{kind}">') and "{{" not in page
    for part in (
        '<html lang="en"',
        "viewport",
        "color-scheme",
        'name="robots" content="noindex',
        "page.css?v=",
    ):
        assert head.count(part) == 1, part
    assert head.count("<script") == (kind != "reference") and "<style" not in page
    assert page.count("<!doctype html>") == page.count("<main") == page.count("</html>") == 1


@pytest.mark.parametrize("text", [*SCRIPTS, "{{content}}", "{{body}}", '" onload="x'])
def test_a_text_is_shown_as_it_is(text: str) -> None:
    """Neither markup nor the name of a place is read in what comes from outside."""
    for kind in ("split", "account", "linked"):
        page = PAGES[kind](text)
        for markup in ("<script>", "<img src=x", "<svg", "<iframe", '" onload="x'):
            assert markup not in page, f"{kind}: {markup}"
        assert page.count("<h1>Content</h1>") == (kind != "linked"), kind


def test_the_account_says_where_one_is_and_has_the_colours_one_prefers() -> None:
    page = PAGES["account"]("Words")
    assert '<html lang="en" data-theme="dark">' in page
    assert '<a href="/account/data" aria-current=page>Your data</a>' in page
    assert page.count("aria-current") == 1
    assert 'data-theme="system"' in PAGES["split"]("Words")
