"""Texts from data in places where the app's framework reads Markdown or an address."""

import pytest
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml

from dashboards_app import ui
from tests.support.attacks import SCRIPTS, TRAVERSALS


@pytest.mark.parametrize(
    "text",
    [*SCRIPTS, "a_b_c", "**x** `y` ![i](https://evil.example/i.png)", "[a](b) # ~~c~~", "1. <b>", "\\*"],
)
def test_a_name_is_shown_as_it_is(text: str) -> None:
    assert MarkdownIt("js-default").renderInline(ui.plain(text)) == escapeHtml(text)


@pytest.mark.parametrize(
    "slug", [*TRAVERSALS, "../keys", "a/b", "a?x=1", "a#b", "A", "", "-a", "a" * 64, "ä"]
)
def test_an_address_names_a_dashboard_or_nothing(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui.st, "query_params", {"slug": slug})
    assert ui.chosen() is None


def test_a_slug_in_the_address_is_the_one_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui.st, "query_params", {"slug": "nyc-flights"})
    assert ui.chosen() == "nyc-flights"
