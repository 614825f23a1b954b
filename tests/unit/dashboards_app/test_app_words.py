"""What the pages say: numbers and times in words, problems for people, markup only of our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from dashboards_app import ui
from dashboards_app.client import Problem, _problem
from dashboards_app.pages.dead_letters import indented


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (8553, "8,553"), (336776, "337 k"), (1_234_567, "1.23 M"),
     (2.5, "2.50"), (-250_000, "−250 k")],
)  # fmt: skip
def test_counts(value: float | None, shown: str) -> None:
    assert ui.count(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.021, "21 ms"), (4.2, "4.2 s"), (61, "61 s"), (600, "10 min"), (9000, "2.5 h")],
)
def test_seconds(value: float | None, shown: str) -> None:
    assert ui.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0/s"), (0.5, "30/min"), (12.44, "12.4/s"), (1500, "1,500/s"), (None, "–")]
)
def test_rates(value: float | None, shown: str) -> None:
    assert ui.rate(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (999, "999 B"), (2_500_000, "2.5 MB"), (500 * 10**9, "500.0 GB")]
)
def test_sizes_are_what_limits_were_set_to(value: float | None, shown: str) -> None:
    assert ui.size(value) == shown


def test_ages() -> None:
    now = datetime.now(UTC)
    assert ui.ago(None) == "never"
    assert ui.ago((now - timedelta(seconds=200)).isoformat()) == "3 min ago"
    assert ui.ago((now - timedelta(days=9)).isoformat()) == "9 d ago"
    assert ui.ago((now + timedelta(seconds=5)).isoformat()) == "just now"


def test_markup_from_data_is_only_text() -> None:
    assert "<script>" not in ui.badge("<script>", "good", hint='"><script>')
    assert "<b>" not in ui.facts([("<b>", "1")])


def test_problems_have_words_and_fields() -> None:
    answer = httpx.Response(
        422,
        json={"title": "The dashboard is not valid", "detail": "Look.", "code": "invalid_dashboard",
              "errors": [{"field": "widgets.0.type", "message": "is unknown", "line": 7}]},
    )  # fmt: skip
    found = _problem(answer)
    assert (found.status, found.code, found.errors) == (
        422,
        "invalid_dashboard",
        ("widgets.0.type (line 7): is unknown",),
    )
    assert _problem(httpx.Response(502, text="<html>")).title == "Error 502"
    assert _problem(httpx.Response(500, json=[])).detail == ""


def test_payloads_are_indented_only_if_they_are_json() -> None:
    assert indented('{"a":1}') == '{\n  "a": 1\n}'
    assert indented('{"a":') == '{"a":'


def test_a_problem_passes_through_context_managers() -> None:
    @contextmanager
    def passed() -> Iterator[None]:
        yield

    with pytest.raises(Problem, match="Nothing here"), passed():
        raise Problem(404, "Nothing here")


def test_a_page_whose_session_has_ended_says_why_and_leads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(ui.st, "html", shown.append)
    ui.problem(Problem(401, "Nobody is signed in", "The session has ended; sign in again.", "not_signed_in"))
    assert len(shown) == 1
    assert "another workspace" in shown[0] and "href='/sign-in'" in shown[0]
