"""What the page Health makes of an answer: nothing of it is taken for markup, charts show what is known."""

from typing import Any
from urllib.parse import unquote

import pytest
from streamlit.testing.v1 import AppTest

from dashboards_app.client import Problem
from dashboards_app.pages import health
from dashboards_app.pages.health import _card, _findings, _headline, _runs, sparkline


def stage(**changes: Any) -> dict[str, Any]:
    found = {
        "key": "loading", "title": "Loading", "about": "Rows", "state": "critical", "trend": "rows",
        "figures": [
            {"key": "rows", "label": "Rows", "value": 4.5, "unit": "per_s"},
            {"key": "full", "label": "Full", "value": 0.004, "unit": "ratio"},
            {"key": "lag", "label": "Behind", "value": None, "unit": "seconds"},
        ],
        "findings": [], "history": [1.0, 2.0],
    }  # fmt: skip
    return {**found, **changes}


def test_words_are_escaped_and_commands_are_code() -> None:
    finding = {
        "state": "critical",
        "words": "<script>x</script> & more",
        "advice": "Start `sluiceway up <x>`.",
    }
    html = _findings([stage(findings=[finding])])
    assert "<script>" not in html and "&lt;script&gt;x&lt;/script&gt; &amp; more" in html
    assert "<code>sluiceway up &lt;x&gt;</code>" in html
    head = _headline({"state": "ok", "words": "<b>", "at": "2026-11-21T14:03:00+00:00"})
    assert "&lt;b&gt;" in head and "14:03:00 UTC" in head


def test_the_most_serious_finding_is_first_and_none_is_nothing() -> None:
    def one(state: str) -> dict[str, str]:
        return {"state": state, "words": state, "advice": ""}

    html = _findings([stage(findings=[one("unknown"), one("warning")]), stage(findings=[one("critical")])])
    assert html.index(">critical<") < html.index(">warning<") < html.index(">unknown<")
    assert _findings([stage(), stage()]) == ""


def test_a_card_shows_its_trend_large_and_the_rest_small() -> None:
    html = _card(stage(), 5.0)
    assert html.index("4.5/s") < html.index("<dl>") < html.index("&lt; 1%")
    assert html.count("4.5/s") == 1 and "<dd>–</dd>" in html and "Broken" in html


def test_charts_have_gaps_where_nothing_is_known() -> None:
    assert _runs([1, 2, None, 3, None, 4, 5]) == [[(0, 1), (1, 2)], [(5, 4), (6, 5)]]
    picture = unquote(sparkline([1, 2, None, 4, 5], "Rows, the last 1 min"))
    assert picture.count("<polyline") == 2 and "aria-label='Rows, the last 1 min'" in picture
    assert "polyline" not in unquote(sparkline([None, 3.0, None], "Rows"))
    assert "not enough yet" in sparkline([], "Rows")


def test_a_line_that_never_changes_and_one_of_zeros_are_lines() -> None:
    for history in ([5.0] * 4, [0.0] * 4, [-1.0, 1.0]):
        assert "nan" not in sparkline(history, "x").lower()
        assert "polyline" in unquote(sparkline(history, "x"))


class NotYet:
    def get(self, _path: str) -> None:
        raise Problem(503, "Not available just now", "Not measured yet.", "unavailable")


def _page() -> None:
    import streamlit as st

    from dashboards_app.pages import health

    health.show()
    st.write("the rest")


def test_before_the_first_sample_the_page_says_so_and_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "client", NotYet)
    page = AppTest.from_function(_page, default_timeout=120).run()
    assert not page.exception
    shown = " ".join(str(each.proto) for each in page.get("html"))
    assert "Not available just now" in shown and "Not measured yet." in shown
    assert page.markdown[-1].value == "the rest"
